"""Prompts drawn from masks, and prompts read from files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sfumato.datasets.prompt_file import ObjectPrompt, check_prompts, parse_box, parse_point, read_prompts
from sfumato.datasets.prompts import (
    centre_point,
    draw_prompts,
    interior_point,
    jittered_box,
    misplaced_box,
    objects_of,
    outside_point,
    sample_points,
    tight_box,
)
from sfumato.errors import ConfigError, InputError
from sfumato.methods.sam_gaps.records import PROMPT_KINDS


def blobs(seed, count=20):
    """Random unions of rectangles, some thin, some touching the edge."""
    draw = np.random.default_rng(seed)
    for _ in range(count):
        mask = np.zeros((24, 31), bool)
        for _ in range(draw.integers(1, 4)):
            row, column = draw.integers(0, 22), draw.integers(0, 29)
            mask[row : row + draw.integers(1, 12), column : column + draw.integers(1, 12)] = True
        yield mask


def deepest_slow(mask):
    """Largest distance to a pixel outside, the plane's surroundings included, by looking at every pair."""
    padded = np.pad(mask, 1)
    outside = np.argwhere(~padded) - 1
    depths = [np.sqrt(((outside - place) ** 2).sum(axis=1).min()) for place in np.argwhere(mask)]
    return max(depths)


@pytest.mark.parametrize("seed", range(3))
def test_clicks_lie_inside_and_outside_as_they_say(seed):
    for mask in blobs(seed):
        prompts, kinds = draw_prompts(mask, np.random.default_rng(seed))
        assert set(kinds) == set(PROMPT_KINDS)
        for row in range(len(prompts)):
            for (r, c), sign in zip(
                prompts.coordinates[row].long().tolist(), prompts.signs[row].tolist(), strict=True
            ):
                assert sign == -1 or mask[r, c] == bool(sign)
        outside = outside_point(mask, np.random.default_rng(seed))
        assert outside is None or not mask[outside]


def test_the_interior_point_is_the_deepest():
    for mask in blobs(4, 8):
        row, column = interior_point(mask)
        outside = np.argwhere(~np.pad(mask, 1)) - 1
        depth = np.sqrt(((outside - (row, column)) ** 2).sum(axis=1).min())
        assert mask[row, column]
        assert depth == pytest.approx(deepest_slow(mask))


def test_the_interior_point_of_a_ring_lies_on_it():
    rows, columns = np.mgrid[:41, :41]
    radius = np.hypot(rows - 20, columns - 20)
    ring = (radius > 8) & (radius < 18)
    assert ring[interior_point(ring)]
    assert ring[centre_point(ring)]


def test_a_small_object_is_not_eroded_and_a_tiny_one_gives_every_click():
    mask = np.zeros((16, 16), bool)
    mask[4:7, 5:8] = True
    assert centre_point(mask) == (5, 6)
    assert {tuple(p) for p in sample_points(mask, 9, np.random.default_rng(0))} == {
        tuple(p) for p in np.argwhere(mask)
    }
    tiny = np.zeros((16, 16), bool)
    tiny[4, 5:7] = True
    clicks = sample_points(tiny, 8, np.random.default_rng(0))
    assert clicks.shape == (8, 2)
    assert tiny[tuple(clicks.T)].all()


def test_clicks_keep_off_the_border_where_they_can():
    mask = np.zeros((16, 16), bool)
    mask[2:11, 3:12] = True
    clicks = sample_points(mask, 25, np.random.default_rng(0))
    assert clicks.min(axis=0).tolist() == [4, 5]
    assert clicks.max(axis=0).tolist() == [8, 9]


@pytest.mark.parametrize("amount", [0.0, 0.1, 0.5, 3.0])
def test_a_loose_box_stays_in_the_plane_and_over_the_object(amount):
    draw = np.random.default_rng(1)
    for mask in blobs(5):
        tight, loose = tight_box(mask), jittered_box(mask, draw, amount)
        middle = tight.mean(axis=0)
        assert (loose[0] <= middle).all()
        assert (loose[1] >= middle).all()
        assert (loose >= 0).all()
        assert (loose <= np.array(mask.shape) - 1).all()
        assert amount or (loose == tight).all()


def test_a_misplaced_box_stays_in_the_plane_and_misses_much_of_the_object():
    draw, overlaps = np.random.default_rng(1), []
    for mask in (mask for seed in range(5) for mask in blobs(seed)):
        box = misplaced_box(mask, draw)
        assert (box >= 0).all()
        assert (box <= np.array(mask.shape) - 1).all()
        assert (box[1] - box[0] >= 1).all()
        tight = tight_box(mask)
        shared = (np.minimum(box[1], tight[1]) - np.maximum(box[0], tight[0]) + 1).clip(min=0).prod()
        areas = [(b[1] - b[0] + 1).prod() for b in (box, tight)]
        overlaps.append(shared / (sum(areas) - shared))
    assert min(overlaps) < 0.2
    assert np.median(overlaps) < 0.6


def test_the_same_generator_draws_the_same_prompts():
    mask = next(blobs(6))
    first, second, other = (draw_prompts(mask, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert first.coordinates.equal(second.coordinates)
    assert not first.coordinates.equal(other.coordinates)


def test_objects_of_every_mode():
    label = np.zeros((20, 20), int)
    label[:4, :4] = label[10:14, 10:14] = 3
    label[:4, 10:14] = 1
    label[16, 16] = 2
    label[18:, :] = -1
    assert [n for n, _ in objects_of(label, "instances")] == ["1", "3"]
    assert [n for n, _ in objects_of(label, "components", 1)] == ["1.1", "2.1", "3.1", "3.2"]
    for mode in ("instances", "classes", "components"):
        together = np.zeros_like(label, bool)
        for _, mask in objects_of(label, mode, 1):
            assert not (together & mask).any()
            together |= mask
        assert (together == (label > 0)).all()
    with pytest.raises(ConfigError, match="expected one of instances"):
        objects_of(label, "things")  # type: ignore[arg-type]


def test_an_empty_mask_is_refused():
    with pytest.raises(InputError, match="with an object in it"):
        interior_point(np.zeros((4, 4), bool))


def write(folder, content):
    path = folder / "prompts.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_a_prompts_file_is_read(tmp_path):
    objects = [
        {"name": "a", "points": [[1, 2, 1], [3.5, 4, 0]], "slice": 2},
        {"box": [1, 2, 3, 4]},
    ]
    expected = (
        ObjectPrompt("a", ((1.0, 2.0, 1), (3.5, 4.0, 0)), None, 2),
        ObjectPrompt("object_2", (), (1.0, 2.0, 3.0, 4.0)),
    )
    assert read_prompts(write(tmp_path, {"objects": objects})) == {None: expected}
    assert read_prompts(write(tmp_path, {"images": {"x": objects}})) == {"x": expected}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "expected JSON"),
        ([], 'expected {"objects"'),
        ({"objects": []}, "at least one object"),
        ({"images": []}, "expected case"),
        ({"objects": [3]}, "no fields"),
        ({"objects": [{"point": [[1, 2, 1]]}]}, "object 1: has point"),
        ({"objects": [{"points": [[1, 2]]}]}, "1 or 0"),
        ({"objects": [{"points": [[1, 2, 2]]}]}, "1 or 0"),
        ({"objects": [{"points": [[1, float("nan"), 1]]}]}, "1 or 0"),
        ({"objects": [{"points": [[1, 2, 0]]}]}, "no click inside"),
        ({"objects": [{"box": [1, 2, 3]}]}, "row, column, row, column"),
        ({"objects": [{"box": [1, 2, 3, True]}]}, "row, column, row, column"),
        ({"objects": [{"box": [1, 2, 3, 4], "slice": 1.5}]}, "whole number"),
        ({"objects": [{"box": [1, 2, 3, 4], "name": ""}]}, "not empty"),
        ({"objects": [{"name": "a", "box": [1, 2, 3, 4]}] * 2}, "two objects called 'a'"),
    ],
)
def test_a_wrong_prompts_file_is_refused_in_one_sentence(tmp_path, content, said):
    with pytest.raises(InputError) as caught:
        read_prompts(write(tmp_path, content))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("prompt", "planes", "said"),
    [
        (ObjectPrompt("a", ((10.0, 3.0, 1),)), None, "lies outside"),
        (ObjectPrompt("a", ((-1.0, 3.0, 1),)), None, "lies outside"),
        (ObjectPrompt("a", (), (1, 1, 30, 4)), None, "lies outside"),
        (ObjectPrompt("a", (), (1, 1, 1, 4)), None, "no area"),
        (ObjectPrompt("a", ((3.0, 3.0, 1),), None, 2), None, "of a picture"),
        (ObjectPrompt("a", ((3.0, 3.0, 1),)), 5, "say on which"),
        (ObjectPrompt("a", ((3.0, 3.0, 1),), None, 5), 5, "expected 0 to 4"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(prompt, planes, said):
    with pytest.raises(InputError, match=said):
        check_prompts([prompt], (10, 20), planes, "case")
    check_prompts(
        [ObjectPrompt("a", ((9.0, 19.0, 1),), None, None if planes is None else 4)], (10, 20), planes, "case"
    )


@pytest.mark.parametrize("text", ["", "1", "1,2,3", "1,2,+,4", "a,b", "1,nan", "1,2,*"])
def test_a_wrong_point_is_refused(text):
    with pytest.raises(InputError, match="expected ROW,COLUMN"):
        parse_point(text)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,x", "1,2,3,4,5", "1,2,3,inf"])
def test_a_wrong_box_is_refused(text):
    with pytest.raises(InputError, match="expected ROW,COLUMN,ROW,COLUMN"):
        parse_box(text)
