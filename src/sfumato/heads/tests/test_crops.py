from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import InputError
from sfumato.heads.crops import FeatureSource, cut, strides_of
from sfumato.types import Batch, Link, Segmentation


def pyramid(grid: tuple[int, ...]) -> Segmentation:
    """Features that hold their own position: the index of the fine voxel at which their coarse voxel begins."""
    index = torch.arange(int(np.prod(grid)), dtype=torch.float32).reshape(1, 1, *grid)
    halves = index[(..., *(slice(None, None, 2) for _ in grid))]
    quarters = index[(..., *(slice(None, None, 4) for _ in grid))]
    return Segmentation(index, Link.SOFTMAX, {"half": halves, "quarter": quarters, "full": index})


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.tuples(*[st.integers(1, 5)] * 2), st.tuples(*[st.integers(1, 24)] * 2))
def test_crops_of_all_resolutions_lie_over_each_other(seed, quads, patch):
    grid = tuple(4 * q for q in quads)
    label = torch.randint(-1, 3, (1, *grid), generator=torch.Generator().manual_seed(seed))
    label[0, 0, 0] = 0
    crop = cut(pyramid(grid), 0, label, patch, np.random.default_rng(seed))
    full, half, quarter = (crop.segmentation.features[k] for k in ("full", "half", "quarter"))
    assert torch.equal(full[..., ::2, ::2], half)
    assert torch.equal(full[..., ::4, ::4], quarter)
    assert torch.equal(crop.segmentation.logits, full)
    assert torch.equal(label.flatten()[full.long().flatten()], crop.label.flatten())
    sides = tuple(crop.label.shape[1:])
    assert all(s <= max(p, 4) and s <= n for s, p, n in zip(sides, patch, grid, strict=True))
    assert (crop.label >= 0).any()


def test_features_that_do_not_divide_the_grid_are_never_cut():
    features = {"odd": torch.zeros(1, 1, 4, 5), "full": torch.zeros(1, 1, 7, 10)}
    assert strides_of(features, (7, 10)) == [0, 2]
    found = Segmentation(torch.zeros(1, 2, 7, 10), Link.SOFTMAX, features)
    crop = cut(found, 0, torch.ones(1, 7, 10, dtype=torch.int64), (4, 4), np.random.default_rng(0))
    assert crop.label.shape == (1, 7, 4)
    assert crop.segmentation.features["odd"].shape == (1, 1, 4, 2)


def source(segmenter, cases, **changes) -> FeatureSource:
    arguments = {"patch": (16, 16), "batch_size": 2, "seed": 0, "limit": 1e9}
    return FeatureSource(segmenter(), cases, **(arguments | changes))


def equal(one, other) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a.label, b.label) and torch.equal(a.segmentation.logits, b.segmentation.logits)
        for a, b in zip(one, other, strict=True)
    )


def test_a_step_depends_on_the_seed_and_the_step_alone(segmenter, cases):
    first, again, other = (source(segmenter, cases(5, 1), seed=s) for s in (0, 0, 1))
    later = first.crops(4)
    first.crops(0)
    assert equal(later, first.crops(4))
    assert equal(later, again.crops(4))
    assert not equal(later, other.crops(4))


def test_an_epoch_draws_every_row_once(segmenter, cases):
    drawn = source(segmenter, cases(3, 1, rows=2), batch_size=4)
    assert drawn.steps_per_epoch == 2
    rows = [r for step in range(2) for r in drawn._drawn(step)]
    assert sorted(rows) == [(i, r) for i in range(3) for r in range(2)]


def test_features_are_computed_once_within_the_limit_and_again_beyond(segmenter, cases):
    data = cases(3, 1)
    roomy, tight = source(segmenter, data), source(segmenter, data, limit=0)
    calls = {"roomy": 0, "tight": 0}
    for name, drawn in (("roomy", roomy), ("tight", tight)):
        plain = drawn.segmenter.segment

        def counted(batch, plain=plain, name=name):
            calls[name] += 1
            return plain(batch)

        drawn.segmenter.segment = counted
        for step in range(4):
            drawn.crops(step)
    assert calls["roomy"] == 3
    assert calls["tight"] > 3
    assert equal(roomy.crops(1), tight.crops(1))


def test_rows_without_labels_are_left_out(segmenter, cases):
    case = cases(1, 1, rows=2)[0]
    case.label[1] = -1
    assert source(segmenter, [case]).rows == [(0, 0)]
    case.label[0] = -1
    with pytest.raises(InputError, match="No labelled voxel"):
        source(segmenter, [case])
    with pytest.raises(InputError, match="Case 1 carries no label"):
        source(segmenter, [*cases(1, 1), Batch(case.image)])
