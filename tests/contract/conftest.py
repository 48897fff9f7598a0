"""Every method on every kind of tiny segmenter that it supports, fitted once per session.

A method on a promptable network (`spec.prompt`) runs on the setups of that prompt. A new type of prompt needs a
setup here, and a world: its segmenters and its labelled, prompted cases.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.datasets.synthetic import make_phantoms
from sfumato.interfaces import FitContext, Method, MethodSpec, Segmenter
from sfumato.registry import get_method, list_methods
from sfumato.segmenters import FrozenSegmenter
from sfumato.segmenters.promptable.prompted_segmenter import PromptedSegmenter
from sfumato.segmenters.promptable.tiny import PhantomPromptable
from sfumato.types import Batch, SpatialPrompt, TextPrompt

from .reading import reading_segmenter, told_phantoms


@dataclass(frozen=True)
class Setup:
    """A kind of segmenter: its axes, and the prompt that it needs."""

    dims: int
    prompt: type | None = None


SETUPS = {
    "softmax_2d": Setup(2),
    "sigmoid_2d": Setup(2),
    "softmax_3d": Setup(3),
    "clicked_2d": Setup(2, SpatialPrompt),
    "told_2d": Setup(2, TextPrompt),
}
# Tests of one pair go to one worker, so that nothing is fitted twice.
PAIRS = [
    pytest.param((method, name), id=f"{method}-{name}", marks=pytest.mark.xdist_group(f"{method}-{name}"))
    for method in list_methods()
    for name, setup in SETUPS.items()
    if setup.dims in get_method(method).spatial_dims and setup.prompt is get_method(method).prompt
]


@dataclass(frozen=True)
class World:
    """What a setup's methods are fitted and tried on.

    Args:
        segmenter: gives a fresh copy of the network.
        members: further networks of the same task.
        cases: (count, seed) -> labelled cases of one row each, prompted where the setup is.
    """

    segmenter: Callable[[], Segmenter]
    members: Callable[[], tuple[Segmenter, ...]]
    cases: Callable[[int, int], list[Batch]]


@dataclass(frozen=True, repr=False)
class Fitted:
    """A method fitted on phantoms, and cases that neither it nor its segmenter has seen."""

    world: World
    spec: MethodSpec
    method: Method
    segmenter: Segmenter
    before: dict[str, Tensor]
    context: FitContext
    fitting: list[Batch]
    calibration: list[Batch]
    test: list[Batch]

    def state(self) -> dict[str, Tensor]:
        """The weights of the segmenter now."""
        return state_of(self.segmenter)


def state_of(segmenter: Segmenter) -> dict[str, Tensor]:
    """A copy of the weights; a network without a module has none that could change."""
    if not isinstance(segmenter, FrozenSegmenter):
        return {}
    return {k: v.clone() for k, v in segmenter.module.state_dict().items()}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that ask for `fitted` run for every pair of method and segmenter."""
    if "fitted" in metafunc.fixturenames:
        metafunc.parametrize("fitted", PAIRS, indirect=True, scope="session")


@pytest.fixture(scope="session")
def worlds(tiny_segmenter, tiny_members, phantoms) -> dict[str, World]:
    """The world of each setup."""

    def of_images(name: str) -> World:
        return World(
            lambda: tiny_segmenter(name), lambda: tiny_members(name), lambda n, seed: phantoms(name, n, seed)
        )

    made = {
        None: of_images,
        SpatialPrompt: lambda name: World(
            lambda: PromptedSegmenter(PhantomPromptable(side=64), channels=1),
            lambda: (PromptedSegmenter(PhantomPromptable(side=128), channels=1),),
            clicked_phantoms,
        ),
        TextPrompt: lambda name: World(reading_segmenter, lambda: (), told_phantoms),
    }
    return {name: made[setup.prompt](name) for name, setup in SETUPS.items()}


def clicked_phantoms(count: int, seed: int) -> list[Batch]:
    """Pictures in [0, 1], each with a click somewhere in its object, often near the edge."""
    generator = torch.Generator().manual_seed(seed)
    cases = []
    for phantom in make_phantoms(count, 2, seed, noise=0.25, grid=(48, 64)):
        image = torch.from_numpy(phantom.image).add(1).div(3).clamp(0, 1)
        label = torch.from_numpy(phantom.label).long()
        places = label.nonzero()
        place = places[torch.randint(0, len(places), (1,), generator=generator)].float()
        prompt = SpatialPrompt(place[None], torch.ones(1, 1, dtype=torch.long))
        cases.append(Batch(image[None], prompt, label[None]))
    return cases


def joined(cases: list[Batch]) -> Batch:
    """Cases of one row each as one batch, without labels."""
    return Batch(torch.cat([case.image for case in cases]), joined_prompts([case.prompt for case in cases]))


def joined_prompts(prompts: list[Any]) -> Any:
    """Prompts of one row each as one; all of one type, or all None."""
    if isinstance(prompts[0], TextPrompt):
        return TextPrompt(tuple(sentence for prompt in prompts for sentence in prompt.sentences))
    if isinstance(prompts[0], SpatialPrompt):
        coordinates, signs = (torch.cat([getattr(p, n) for p in prompts]) for n in ("coordinates", "signs"))
        return SpatialPrompt(coordinates, signs)
    return None


@pytest.fixture(scope="session")
def fitted(request: pytest.FixtureRequest, worlds) -> Fitted:
    """The pair of the running test."""
    name, setup = request.param
    spec, world = get_method(name), worlds[setup]
    segmenter = world.segmenter()
    before = state_of(segmenter)
    fitting, calibration = world.cases(6, 11), world.cases(4, 12)
    assert spec.fit is not None
    # A promptable method's ladder is optional for it, but there is one here.
    context = FitContext(device="cpu", networks=world.members() if spec.networks or spec.prompt else ())
    method = spec.fit(spec.tiny, segmenter, fitting, calibration, context)
    return Fitted(world, spec, method, segmenter, before, context, fitting, calibration, world.cases(6, 13))


@pytest.fixture
def batch(fitted: Fitted) -> Batch:
    """Three test images in one batch, without labels."""
    return joined(fitted.test[:3])
