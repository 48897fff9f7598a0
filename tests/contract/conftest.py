"""Every method on every kind of tiny segmenter that it supports, fitted once per session."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from sfumato.interfaces import FitContext, Method, MethodSpec
from sfumato.registry import get_method, list_methods
from sfumato.segmenters import FrozenSegmenter
from sfumato.types import Batch

SETUPS = {"softmax_2d": 2, "sigmoid_2d": 2, "softmax_3d": 3}
"""Names of the tiny segmenters, and their axes."""
# Tests of one pair go to one worker, so that nothing is fitted twice.
PAIRS = [
    pytest.param((method, setup), id=f"{method}-{setup}", marks=pytest.mark.xdist_group(f"{method}-{setup}"))
    for method in list_methods()
    for setup, dims in SETUPS.items()
    if dims in get_method(method).spatial_dims
]


@dataclass(frozen=True, repr=False)
class Fitted:
    """A method fitted on phantoms, and cases that neither it nor its segmenter has seen."""

    setup: str
    spec: MethodSpec
    method: Method
    segmenter: FrozenSegmenter
    before: dict[str, Tensor]
    context: FitContext
    fitting: list[Batch]
    calibration: list[Batch]
    test: list[Batch]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that ask for `fitted` run for every pair of method and segmenter."""
    if "fitted" in metafunc.fixturenames:
        metafunc.parametrize("fitted", PAIRS, indirect=True, scope="session")


@pytest.fixture(scope="session")
def fitted(request: pytest.FixtureRequest, tiny_segmenter, tiny_members, phantoms) -> Fitted:
    """The pair of the running test."""
    name, setup = request.param
    spec = get_method(name)
    segmenter = tiny_segmenter(setup)
    before = {k: v.clone() for k, v in segmenter.module.state_dict().items()}
    fitting, calibration = phantoms(setup, 6, seed=11, rows=1), phantoms(setup, 4, seed=12, rows=1)
    assert spec.fit is not None
    context = FitContext(device="cpu", networks=tiny_members(setup) if spec.networks else ())
    method = spec.fit(spec.tiny, segmenter, fitting, calibration, context)
    test = phantoms(setup, 6, seed=13, rows=1)
    return Fitted(setup, spec, method, segmenter, before, context, fitting, calibration, test)


@pytest.fixture
def batch(fitted: Fitted) -> Batch:
    """Three test images in one batch, without labels."""
    return Batch(torch.cat([case.image for case in fitted.test[:3]]))
