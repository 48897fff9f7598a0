"""Which masks become labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import ConfigError, InputError
from sfumato.methods.sam_gaps.pseudo_labels import (
    annotation_order,
    coverage_curve,
    keep,
    loss_weights,
    threshold_for_mean_iou,
)

masks = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 10)), min_size=1, max_size=25)


def columns(rows):
    return tuple(np.array(column, float) / 10 for column in zip(*rows, strict=True))


@settings(max_examples=60, deadline=None)
@given(masks)
def test_the_curve_is_what_thresholds_keep(rows):
    quality, iou = columns(rows)
    curve = coverage_curve(quality, iou)
    assert curve.threshold.tolist() == sorted(set(quality), reverse=True)
    assert (np.diff(curve.coverage) > 0).all()  # raising the threshold never keeps more
    assert curve.coverage[-1] == 1
    for threshold, coverage, mean in zip(curve.threshold, curve.coverage, curve.iou, strict=True):
        kept = keep(torch.from_numpy(quality), threshold).numpy()
        assert coverage == pytest.approx(kept.mean())
        assert mean == pytest.approx(iou[kept].mean())


@settings(max_examples=40, deadline=None)
@given(masks)
def test_with_a_perfect_score_stricter_is_never_worse(rows):
    _, iou = columns(rows)
    assert (np.diff(coverage_curve(iou, iou).iou) <= 1e-12).all()


@settings(max_examples=60, deadline=None)
@given(masks, st.floats(0, 1))
def test_the_threshold_keeps_most_of_what_is_good_enough(rows, wanted):
    quality, iou = columns(rows)
    threshold = threshold_for_mean_iou(quality, iou, wanted)
    fine = [t for t in set(quality) if iou[quality >= t].mean() >= wanted - 1e-9]
    assert threshold == (min(fine) if fine else float("inf"))


def test_weights_have_mean_one():
    quality = torch.tensor([0.9, 0.3, 0.6, 0.05])
    found = loss_weights(quality, 0.2)
    assert float(found.mean()) == pytest.approx(1)
    assert float(found[3]) == 0
    assert float(found[0] / found[1]) == pytest.approx(3)
    assert loss_weights(quality, 2.0).tolist() == [0] * 4


def test_the_worst_are_drawn_first():
    quality = torch.tensor([0.5, 0.9, 0.5, 0.1])
    assert annotation_order(quality).tolist() == [3, 0, 2, 1]


def test_what_cannot_be_used_is_refused():
    with pytest.raises(InputError, match="as many of each"):
        coverage_curve(np.ones(2), np.ones(3))
    with pytest.raises(InputError, match="all finite"):
        coverage_curve(np.array([np.nan]), np.ones(1))
    with pytest.raises(ConfigError, match="from 0 to 1"):
        threshold_for_mean_iou(np.ones(2), np.ones(2), 1.2)
