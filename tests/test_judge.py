"""One method on one case: the numbers are what the metrics say, and survive being stored."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from sfumato.errors import InputError
from sfumato.imaging import Geometry, Image
from sfumato.metrics import dice_per_class, region_masks, selective
from sfumato.metrics.calibration import brier, negative_log_likelihood, reliability
from sfumato.pipeline.result import CaseResult
from sfumato.registry import get_method
from sfumato.runs.assess import read_truth
from sfumato.runs.compare.store import load_judgement, save_judgement
from sfumato.runs.compare.tables import markdown_table, number, span
from sfumato.runs.judge import METRICS, Truth, error_map, judge
from sfumato.runs.plain import plain
from sfumato.runs.pooled import pooled_metrics
from sfumato.types import Kind


def case_of(seed: int = 0, grid=(10, 12, 8), classes: int = 3) -> tuple[CaseResult, Truth]:
    """A plausible result of softmax and a label that differs from it here and there."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(classes, *grid)).astype(np.float32)
    logits[0] += 1.5
    probability = np.exp(logits) / np.exp(logits).sum(0)
    label = probability.argmax(0)
    flipped = rng.random(grid) < 0.2
    label = np.where(flipped, rng.integers(classes, size=grid), label)
    image = Image(np.zeros((1, *grid), np.float32), Geometry(grid, np.eye(4)), "case")
    doubt = 1 - probability.max(0)
    entropy = -(probability * np.log(probability)).sum(0)
    maps = {Kind.PREDICTIVE: entropy, Kind.ERROR: doubt}
    names = ("background", *(f"organ{i}" for i in range(1, classes)))
    scores = {Kind.PREDICTIVE: 0.5, Kind.ERROR: 0.25}
    result = CaseResult(image, names, probability.argmax(0).astype(np.uint8), probability, maps, scores, {})
    return result, Truth("case", f"patient{seed}", label.astype(np.int16), (), (1.0, 1.0, 1.0))


@pytest.fixture
def method():
    return SimpleNamespace(spec=get_method("softmax"))


def test_numbers_are_what_the_metrics_say(method):
    result, truth = case_of()
    judged = judge(method, result, truth, {})
    wrong = result.segmentation != truth.label
    for region, mask in region_masks(result.segmentation, truth.label).items():
        found = judged.content["regions"][region]
        exact = selective(result.maps[Kind.PREDICTIVE][mask], wrong[mask])
        assert found["auroc"] == exact.auroc
        assert found["aurc"] == exact.aurc
        inside = result.probability[:, mask]
        assert found["ece"] == pytest.approx(reliability(inside.max(0), ~wrong[mask]).ece, abs=1e-8)
        assert found["brier"] == pytest.approx(brier(inside, truth.label[mask]), abs=1e-8)
        assert found["nll"] == pytest.approx(negative_log_likelihood(inside, truth.label[mask]), abs=1e-7)
        error = result.maps[Kind.ERROR][mask]
        assert found["error_ece"] == pytest.approx(reliability(error, wrong[mask]).ece, abs=1e-8)
    dice = dice_per_class(result.segmentation, truth.label, 3)
    assert judged.content["dice"] == dice.tolist() == judged.content["own_dice"]
    assert judged.content["risk"] == pytest.approx(1 - dice.mean())
    assert judged.content["relabelled"] == 0
    assert judged.content["case_score"] == 0.25


def test_a_probability_that_prefers_another_label_is_counted_not_followed(method):
    result, truth = case_of()
    other = np.roll(result.probability, 1, axis=0)
    judged = judge(method, replace(result, probability=other), truth, {})
    assert judged.content["relabelled"] == result.segmentation.size
    assert judged.content["dice"] == judge(method, result, truth, {}).content["dice"]
    assert judged.content["own_dice"] != judged.content["dice"]


def test_without_an_error_map_the_label_s_own_probability_speaks():
    result, _ = case_of()
    without = replace(result, maps={Kind.PREDICTIVE: result.maps[Kind.PREDICTIVE]})
    np.testing.assert_allclose(error_map(without), result.maps[Kind.ERROR], atol=1e-6)


def test_unknown_voxels_count_nowhere(method):
    result, truth = case_of()
    unknown = truth.label.copy()
    unknown[:5] = -1
    judged = judge(method, result, replace(truth, label=unknown), {})
    assert judged.content["regions"]["whole"]["count"] == int((unknown >= 0).sum())


def test_several_readers_are_each_judged_by(method):
    result, truth = case_of()
    readers = (truth.label, case_of(seed=1)[1].label)
    content = judge(method, result, replace(truth, readers=readers), {}).content
    near = region_masks(result.segmentation, truth.label)["near"]
    ranks = result.maps[Kind.PREDICTIVE][near]
    aurocs = [selective(ranks, (result.segmentation != r)[near]).auroc for r in readers]
    assert content["readers"]["auroc_mean_of_readers_near"] == pytest.approx(np.mean(aurocs))
    assert judge(method, result, truth, {}).content["readers"] is None


def test_a_stored_judgement_comes_back_whole(method, tmp_path):
    judged = judge(method, *case_of(), {"method": {"cpu": 1.0}})
    save_judgement(tmp_path / "a" / "case.npz", judged, {"method": "x"})
    again = load_judgement(tmp_path / "a" / "case.npz", {"method": "x"})
    assert again is not None
    assert again.content == judged.content
    for group in ("histograms", "calibration", "errors"):
        mine, theirs = getattr(judged, group), getattr(again, group)
        assert set(mine) == set(theirs)
        assert all(mine[region] == theirs[region] for region in mine)
    assert again.filtered == judged.filtered
    assert load_judgement(tmp_path / "a" / "case.npz", {"method": "y"}) is None
    assert load_judgement(tmp_path / "nothing.npz", {}) is None
    assert not list(tmp_path.rglob("*.part"))


def test_pooled_numbers_are_those_of_all_voxels_together(method):
    cases = [case_of(seed) for seed in range(4)]
    judged = [judge(method, *case, {}) for case in cases]
    pooled = pooled_metrics(judged, "whole", seed=0, resamples=40)
    scores = np.concatenate([r.maps[Kind.PREDICTIVE].ravel() for r, _ in cases])
    wrong = np.concatenate([(r.segmentation != t.label).ravel() for r, t in cases])
    exact = selective(scores, wrong)
    for metric in ("auroc", "auprc", "aurc", "eaurc", "augrc"):
        entry = pooled[metric]
        assert abs(entry["value"] - getattr(exact, metric)) <= entry["bound"] + 1e-12
        assert entry["low"] <= entry["value"] <= entry["high"]
    nll = np.concatenate(
        [-np.log(np.take_along_axis(r.probability, t.label[None].astype(int), 0)).ravel() for r, t in cases]
    )
    assert pooled["nll"]["value"] == pytest.approx(nll.mean(), abs=1e-6)
    assert set(pooled) == set(METRICS)
    without = pooled_metrics(judged, "whole", seed=0, resamples=0)
    assert without["auroc"]["value"] == pooled["auroc"]["value"]
    assert np.isnan(without["auroc"]["low"])


def test_a_case_without_label_is_one_sentence():
    image = Image(np.zeros((1, 4, 4), np.float32), Geometry((4, 4)), "case")
    case = SimpleNamespace(name="lonely", label=None, readers=(), patient="p")
    with pytest.raises(InputError, match="lonely: no label"):
        read_truth(case, image, SimpleNamespace())


def test_undefined_numbers_are_said_and_json_has_no_nan():
    assert plain({"a": [np.float64("nan"), np.int64(3)], 1: (float("inf"), "x")}) == {
        "a": [None, 3],
        "1": [None, "x"],
    }
    assert number(None) == "undefined"
    assert span({"mean": None, "low": None, "high": None}) == "undefined"
    table = markdown_table(["a", "b"], [["1", "2"], ["3", "4"]])
    assert [line.count("|") for line in table.splitlines()] == [3] * 4
