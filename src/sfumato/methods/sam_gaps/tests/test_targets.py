from __future__ import annotations

import math

import pytest
import torch

from sfumato.methods.sam_gaps.coding import GAPS, MASK_IOU, decode, encode, head_names
from sfumato.methods.sam_gaps.targets import head_targets, prompt_targets

LADDER = ("small", "large")
NAMES = head_names(LADDER)


def slow_targets(records, row: int, choice: str) -> dict[str, float]:
    """Section 4, one row at a time."""
    iou = records.iou[row].tolist()
    estimates = records.inputs.estimates[row].tolist()
    pick = max(range(3), key=lambda j: (estimates[j], -j))
    if choice == "best":
        rungs, dense = records.rung_best[row].tolist(), float(records.dense_best[row])
        reached, from_rung = max(iou), rungs[0]
    else:
        rungs, dense = records.rung_own[row].tolist(), float(records.dense_own[row])
        reached, from_rung = iou[pick], iou[pick]
    return {
        "iou_small": rungs[0],
        "iou_large": rungs[1],
        "iou_dense_prompt": dense,
        "model_gap": rungs[1] - from_rung,
        "prompt_gap": dense - reached,
        "task_gap": max(iou) - iou[pick],
    }


@pytest.mark.parametrize("choice", ["own", "best"])
def test_targets_equal_their_slow_twin(phantom_records, choice):
    records = phantom_records(20, 3)
    found = prompt_targets(records, LADDER, choice)
    for row in range(len(records)):
        for name, value in slow_targets(records, row, choice).items():
            assert float(found[name][row]) == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize("choice", ["own", "best"])
def test_the_task_gap_is_never_negative_and_0_only_where_the_pick_is_as_good_as_the_best(
    phantom_records, choice
):
    records = phantom_records(200, 5)
    gap = prompt_targets(records, LADDER, choice)["task_gap"]
    same = records.of(records.own()) == records.of(records.best())
    assert gap.min() >= 0
    assert torch.equal(gap == 0, same)
    assert 0 < same.sum() < len(records)


def test_as_published_all_networks_of_one_prompt_have_one_model_gap(phantom_records):
    records = phantom_records(50, 6)
    published = prompt_targets(records, LADDER, "best")["model_gap"].reshape(-1, 2)
    assert torch.equal(published[:, 0], published[:, 1])
    own = prompt_targets(records, LADDER, "own")["model_gap"].reshape(-1, 2)
    assert (own[:, 1] == 0).all()  # from the last network, it gains nothing
    assert own[:, 0].abs().max() > 0.1


@pytest.mark.parametrize(("value", "back"), [(-0.7, -0.5), (-0.5, -0.5), (0, 0), (0.3, 0.3), (0.8, 0.5)])
def test_coded_as_published_gaps_come_back_but_for_saturation(value, back):
    values = torch.full((1, len(NAMES)), float(value))
    again = decode(encode(values, NAMES, 0.5), NAMES, 0.5)[0]
    for name, told in zip(NAMES, again.tolist(), strict=True):
        wanted = back if name in GAPS else min(max(value, 0), 1)
        assert told == pytest.approx(wanted, abs=1e-6), name


def test_a_wide_range_keeps_rare_large_gaps():
    coded = encode(torch.full((1, len(NAMES)), 0.8), NAMES, 1.0)
    assert decode(coded, NAMES, 1.0)[0].tolist() == pytest.approx([0.8] * len(NAMES), abs=1e-6)
    assert coded.min() >= 0
    assert coded.max() <= 1


def test_every_mask_teaches_its_own_iou_and_only_the_pick_teaches_the_rest(phantom_records):
    records = phantom_records(30, 7)
    by_prompt = prompt_targets(records, LADDER, "own")
    found = head_targets(records, NAMES, by_prompt)
    assert torch.equal(found[:, :, NAMES.index(MASK_IOU)], records.iou)
    pick = records.own()
    for i, name in enumerate(NAMES):
        if name == MASK_IOU:
            continue
        for row in range(len(records)):
            for j in range(3):
                value = float(found[row, j, i])
                if j == pick[row]:
                    assert value == pytest.approx(float(by_prompt[name][row]))
                else:
                    assert math.isnan(value), (name, row, j)


def test_a_network_that_was_not_asked_leaves_its_targets_open(phantom_records):
    records = phantom_records(4, 8)
    records.rung_own[:, 1] = float("nan")
    found = prompt_targets(records, LADDER, "own")
    assert found["iou_large"].isnan().all()
    assert found["model_gap"].isnan().all()
    assert found["task_gap"].isfinite().all()
