"""What the tests of all adapters share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sfumato.errors import SfumatoError
from sfumato.segmenters import FrozenSegmenter, build_preset, wrap
from sfumato.storage import load_segmenter, save_segmenter
from sfumato.types import Batch


def random_image(shape: tuple[int, ...], channels: int = 1) -> torch.Tensor:
    """One image of Gaussian noise, always the same."""
    return torch.randn((1, channels, *shape), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def image() -> Callable[..., torch.Tensor]:
    """`image(grid, channels=1)`."""
    return random_image


@pytest.fixture(scope="session")
def refused() -> Callable[..., None]:
    """`refused(message, kind of error, source, **options)`: loading fails with one sentence."""

    def check(message: str, kind: type[SfumatoError], source: str | Path, **options) -> None:
        with pytest.raises(kind, match=message) as caught:
            load_segmenter(source, **options)
        assert "\n" not in str(caught.value)

    return check


@pytest.fixture(scope="session")
def survives_saving() -> Callable[..., None]:
    """`survives_saving(segmenter, folder, grid)`: save, load as a method's folder does, compare every number."""

    def check(
        segmenter: FrozenSegmenter, folder: Path, shape: tuple[int, ...], allow_pickle: bool = False
    ) -> None:
        save_segmenter(folder, segmenter.module, segmenter.spec)
        again = load_segmenter(folder, allow_pickle=allow_pickle)
        assert again.spec == segmenter.spec
        batch = Batch(random_image(shape, segmenter.spec.channels))
        before, after = segmenter.segment(batch), again.segment(batch)
        assert torch.equal(before.logits, after.logits)
        assert list(before.features) == list(after.features)
        assert all(torch.equal(before.features[name], after.features[name]) for name in before.features)

    return check


@pytest.fixture(scope="session")
def saved_preset() -> Callable[[Path], FrozenSegmenter]:
    """`saved_preset(folder)`: a tiny network of ours, saved there."""

    def make(folder: Path) -> FrozenSegmenter:
        torch.manual_seed(0)
        network = build_preset("resunet2d", 1, 3, widths=(4, 6))
        segmenter = wrap(network, 3, spatial_dims=2, source="preset:resunet2d", arguments={"widths": [4, 6]})
        save_segmenter(folder, segmenter.module, segmenter.spec)
        return segmenter

    return make
