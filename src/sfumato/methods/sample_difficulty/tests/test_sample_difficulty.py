"""The registered method: its score, its range, its blocks, and what it leaves alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.errors import ConfigError, InputError, UnknownNameError
from sfumato.interfaces import FitContext, ScoresGrids
from sfumato.methods.sample_difficulty import METHOD, SampleDifficulty, SampleDifficultyConfig
from sfumato.methods.sample_difficulty.reference import (
    reference_difficulty,
    reference_matrix,
    reference_scale,
)
from sfumato.segmenters import FrozenSegmenter, wrap
from sfumato.types import Batch, Kind, Link, Segmentation

AXES = {"softmax_2d": "H", "sigmoid_2d": "H", "softmax_3d": "D"}
CPU = FitContext(device="cpu")


def tiny(setup: str) -> FrozenSegmenter:
    """A seeded convolution, a window of 16 (2-D) or 8 (3-D)."""
    dims, classes, sigmoid = (3 if "3d" in setup else 2), 3 - ("sigmoid" in setup), "sigmoid" in setup
    with torch.random.fork_rng():
        torch.manual_seed(0)
        convolution = torch.nn.Conv3d if dims == 3 else torch.nn.Conv2d
        network = convolution(1, 1 if sigmoid else classes, 3, padding=1)
    link, side = (Link.SIGMOID if sigmoid else Link.SOFTMAX), (8 if dims == 3 else 16)
    return wrap(network, classes, spatial_dims=dims, link=link, window=(side,) * dims, divisor=1)


def images(setup: str, count: int, seed: int) -> list[Batch]:
    """Noise of different smoothness, so that scales differ, with labels."""
    generator = torch.Generator().manual_seed(seed)
    grid = (8, 8, 8) if "3d" in setup else (16, 16)
    found = []
    for i in range(count):
        noise = torch.randn(1, 1, *grid, generator=generator)
        smooth = noise.mean(dim=-1, keepdim=True).expand_as(noise)
        label = torch.randint(2, (1, *grid), generator=generator)
        found.append(Batch(torch.lerp(noise, smooth, i / count), label=label))
    return found


def fitted(setup: str, **settings):
    cases = images(setup, 7, seed=31)
    return METHOD.fit(SampleDifficultyConfig(**settings), tiny(setup), cases[:4], cases[4:], CPU), cases


def slow_scale(logits: torch.Tensor, link: Link, axis: str) -> float:
    maps = logits if link is Link.SIGMOID else logits[1:]
    volumes = maps.unsqueeze(1) if maps.dim() == 3 else maps
    return sum(reference_scale(reference_matrix(v.double().numpy(), axis)) for v in volumes)


@pytest.mark.parametrize("setup", AXES)
def test_the_score_is_the_auv_of_the_class_logits(setup):
    method, cases = fitted(setup)
    found = [float(method.predict(Batch(c.image)).uncertainty.scores[Kind.ALEATORIC]) for c in cases]
    link = method.segmenter.spec.link
    slow = [slow_scale(method.segmenter.segment(c).logits[0], link, AXES[setup]) for c in cases]
    assert found == pytest.approx(reference_difficulty(slow), abs=1e-6)
    assert (min(found), max(found)) == pytest.approx((0, 1), abs=1e-6)
    assert isinstance(method.estimator, SampleDifficulty)
    assert isinstance(method.estimator, ScoresGrids)
    assert method.estimator.reference.count == len(cases)


def test_labels_play_no_part():
    segmenter, cases = tiny("softmax_2d"), images("softmax_2d", 4, seed=33)
    swapped = [replace(c, label=2 - c.label) for c in cases]
    bare = [replace(c, label=None) for c in cases]
    ranges = [
        METHOD.fit(METHOD.tiny, segmenter, part[:2], part[2:], CPU).estimator.reference
        for part in (cases, swapped, bare)
    ]
    assert ranges[0] == ranges[1] == ranges[2]


def test_padding_of_a_fitting_case_does_not_count():
    segmenter, (case, other) = tiny("softmax_2d"), images("softmax_2d", 2, seed=34)
    padded = replace(case, label=case.label.clone())
    padded.label[:, :6], padded.label[..., -3:] = -1, -1
    method = METHOD.fit(METHOD.tiny, segmenter, [padded], [other], CPU)
    logits = segmenter.segment(case).logits[0]
    scales = [method.estimator.scale(v, Link.SOFTMAX) for v in (logits[:, 6:, :-3], logits)]
    whole = method.estimator.scale(segmenter.segment(other).logits[0], Link.SOFTMAX)
    ends = sorted(np.log([scales[0], whole]))
    assert (method.estimator.reference.low, method.estimator.reference.high) == pytest.approx(ends)
    assert scales[0] != pytest.approx(scales[1], rel=1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        {"convention": "amplitude"},
        {"centre": "row"},
        {"aggregate": "mean_present"},
        {"aggregate": ("class 2",)},
        {"axis": "W"},
        {"range": "percentile", "percentiles": (10, 90)},
    ],
    ids=str,
)
def test_every_setting_does_something(settings):
    # The rows of a picture have the singular values of its columns, so axes differ in volumes alone.
    setup = "softmax_3d" if "axis" in settings else "softmax_2d"
    plain, cases = fitted(setup)
    changed, _ = fitted(setup, **settings)
    assert changed.estimator.reference != plain.estimator.reference
    found = changed.predict(Batch(cases[0].image)).uncertainty.scores[Kind.ALEATORIC]
    assert 0 <= float(found) <= 1


def test_logits_without_a_scale_are_the_hardest():
    estimator = METHOD.build(METHOD.tiny, constant_segmenter()).estimator
    estimator.fit([0.2, 0.4])
    empty = Segmentation(torch.zeros(1, 3, 8, 8), Link.SOFTMAX)
    broken = Segmentation(torch.full((1, 3, 8, 8), torch.nan), Link.SOFTMAX)
    for segmentation in (empty, broken):
        assert estimator.grid_scores(Batch(torch.zeros(1, 1, 8, 8)), segmentation)[Kind.ALEATORIC].item() == 1


def test_a_case_larger_than_the_window_is_scored_by_blocks():
    # Two blocks of 8 x 8, the right one without foreground: only the left one counts.
    estimator = METHOD.build(METHOD.tiny, constant_segmenter()).estimator
    estimator.fit([0.1, 1.6])
    generator = torch.Generator().manual_seed(0)
    left, right = torch.randn(2, 3, 8, 8, generator=generator)
    left[1, 0, 0] = 9.0
    right[0] = 9.0
    grid = torch.cat([left, right], dim=2)[None]
    scores = {}
    for name, logits in {"both": grid, "left": left[None], "right": right[None]}.items():
        batch = Batch(torch.zeros(1, 1, *logits.shape[2:]))
        found = estimator.grid_scores(batch, Segmentation(logits, Link.SOFTMAX))
        scores[name] = float(found[Kind.ALEATORIC])
    assert scores["both"] == scores["left"] != scores["right"]
    flat = grid.clone()
    flat[:, 0] = 99.0  # nothing is predicted anywhere: blocks count alike
    both = estimator.grid_scores(Batch(torch.zeros(1, 1, 8, 16)), Segmentation(flat, Link.SOFTMAX))
    assert float(both[Kind.ALEATORIC]) == pytest.approx((scores["left"] + scores["right"]) / 2, abs=1e-6)


@pytest.mark.parametrize("grid", [(8, 8), (20, 8), (9, 17), (5, 30)])
def test_blocks_have_one_size_and_cover_the_grid(grid):
    estimator = METHOD.build(METHOD.tiny, constant_segmenter()).estimator
    seen = np.zeros(grid, dtype=int)
    sizes = set()
    for place in estimator._places(grid):
        seen[place] += 1
        sizes.add(seen[place].shape)
    assert seen.min() >= 1
    assert sizes == {tuple(min(n, 8) for n in grid)}


def test_mistakes_are_our_errors():
    segmenter = constant_segmenter()
    with pytest.raises(InputError, match="got no cases"):
        METHOD.fit(METHOD.tiny, segmenter, [], [], CPU)
    with pytest.raises(InputError, match="None of 2 cases has a scale"):
        METHOD.fit(METHOD.tiny, segmenter, [Batch(torch.zeros(2, 1, 8, 8))], [], CPU)
    with pytest.raises(ConfigError, match="axis='D' for a 2-D segmenter"):
        METHOD.build(SampleDifficultyConfig(axis="D"), segmenter)
    with pytest.raises(UnknownNameError, match="tumour"):
        METHOD.build(SampleDifficultyConfig(aggregate=("tumour",)), segmenter)
    with pytest.raises(UnknownNameError, match="no convention"):
        SampleDifficultyConfig(convention="squared")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="no aggregate"):
        SampleDifficultyConfig(aggregate="max")
    with pytest.raises(ConfigError, match="two rising numbers"):
        SampleDifficultyConfig(percentiles=(50.0, 50.0))


def test_one_case_gives_no_spread_and_says_so():
    said: list[str] = []
    case = images("softmax_2d", 1, seed=36)
    context = FitContext(device="cpu", say=said.append)
    method = METHOD.fit(METHOD.tiny, tiny("softmax_2d"), case, [], context)
    assert any("same scale" in line for line in said)
    assert method.predict(Batch(case[0].image)).uncertainty.scores[Kind.ALEATORIC].item() == 0


def constant_segmenter() -> FrozenSegmenter:
    """Three classes, a window of 8 x 8, logits that are 0 everywhere."""
    network = torch.nn.Conv2d(1, 3, 1)
    torch.nn.init.zeros_(network.weight)
    torch.nn.init.zeros_(network.bias)
    return wrap(network, 3, spatial_dims=2, window=(8, 8), divisor=1)
