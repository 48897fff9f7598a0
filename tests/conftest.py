"""What many tests share: where the labelled data lie, tiny trained segmenters, phantom cases."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sfumato.datasets.synthetic import GRIDS, make_phantoms
from sfumato.segmenters import FrozenSegmenter, build_preset, wrap
from sfumato.types import Batch, Link

torch.set_num_threads(1)

DATA_SETS = "acdc", "chasedb1", "dsb2018", "hippocampus_msd"
"""Folders by which a data folder is recognised; any one is enough."""


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The labelled data sets: `SFUMATO_DATA`, or `../shared/data` beside the checkout; skips without them."""
    named = os.environ.get("SFUMATO_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not any((folder / name).is_dir() for name in DATA_SETS):
        pytest.skip(
            f"no labelled data sets in {folder}; set SFUMATO_DATA to the folder that holds {DATA_SETS[0]}"
        )
    return folder


@dataclass(frozen=True)
class TinySetup:
    """A kind of segmenter that the contract is tested on."""

    name: str
    spatial_dims: int
    classes: int
    link: Link
    steps: int

    @property
    def preset(self) -> str:
        """Our own network, so that a saved method can be built again by name."""
        return f"resunet{self.spatial_dims}d"


SETUPS = {
    s.name: s
    for s in (
        TinySetup("softmax_2d", 2, 3, Link.SOFTMAX, 100),
        TinySetup("sigmoid_2d", 2, 2, Link.SIGMOID, 60),
        TinySetup("softmax_3d", 3, 2, Link.SOFTMAX, 60),
    )
}
WIDTHS = (4, 8)


def phantom_batches(setup: TinySetup, count: int, seed: int, rows: int = 1) -> list[Batch]:
    """Labelled cases of `rows` phantoms each, a function of the seed alone."""
    drawn = make_phantoms(count * rows, setup.spatial_dims, seed, setup.classes, noise=0.45)
    parts = [drawn[i : i + rows] for i in range(0, len(drawn), rows)]
    return [
        Batch(
            torch.from_numpy(np.stack([p.image for p in part])),
            label=torch.from_numpy(np.stack([p.label for p in part]).astype(np.int64)),
        )
        for part in parts
    ]


@pytest.fixture(scope="session")
def phantoms() -> Callable[..., list[Batch]]:
    """`phantoms(setup name, count, seed, rows=1)` gives labelled batches."""

    def make(name: str, count: int, seed: int, rows: int = 1) -> list[Batch]:
        return phantom_batches(SETUPS[name], count, seed, rows)

    return make


@pytest.fixture(scope="session")
def tiny_segmenter(phantoms) -> Callable[..., FrozenSegmenter]:
    """`tiny_segmenter(setup name, seed=0)` gives a freshly wrapped copy of a small network, trained on phantoms."""
    states: dict[tuple[str, int], dict[str, torch.Tensor]] = {}

    def make(name: str, seed: int = 0) -> FrozenSegmenter:
        setup = SETUPS[name]
        if (name, seed) not in states:
            states[name, seed] = _trained_state(setup, seed)
        module = _network(setup)
        module.load_state_dict(states[name, seed])
        return wrap(
            module,
            setup.classes,
            spatial_dims=setup.spatial_dims,
            link=setup.link,
            divisor=2,
            window=GRIDS[setup.spatial_dims],
            source=f"preset:{setup.preset}",
            arguments={"widths": list(WIDTHS)},
        )

    return make


@pytest.fixture(scope="session")
def tiny_members(tiny_segmenter) -> Callable[[str], tuple[FrozenSegmenter, ...]]:
    """`tiny_members(setup name)` gives two further networks of the same task, trained from other seeds."""
    return lambda name: tuple(tiny_segmenter(name, seed) for seed in (1, 2))


def _network(setup: TinySetup) -> torch.nn.Module:
    return build_preset(setup.preset, 1, 1 if setup.link is Link.SIGMOID else setup.classes, widths=WIDTHS)


def _trained_state(setup: TinySetup, seed: int) -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = _network(setup).train()
        optimiser = torch.optim.Adam(module.parameters(), 2e-2)
        cases = phantom_batches(setup, 12, seed=1, rows=2)
        for step in range(setup.steps):
            batch = cases[step % len(cases)]
            assert batch.label is not None
            logits = module(batch.image)
            if setup.link is Link.SIGMOID:
                loss = F.binary_cross_entropy_with_logits(logits[:, 0], batch.label.float())
            else:
                loss = F.cross_entropy(logits, batch.label)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return module.state_dict()
