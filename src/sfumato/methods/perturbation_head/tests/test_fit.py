from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from sfumato.errors import ConfigError, InputError, UnknownNameError
from sfumato.heads.crops import FeatureSource
from sfumato.interfaces import FitContext, Method
from sfumato.measures.entropy import entropy
from sfumato.methods.perturbation_head import METHOD, PerturbationHeadConfig
from sfumato.methods.perturbation_head.fit import choose_voxels
from sfumato.metrics import selective
from sfumato.types import Batch, Kind

CONTEXT = FitContext(device="cpu")
SMALL = PerturbationHeadConfig(
    width=8, probes=4, hidden=8, epochs=10, folds=0, batch_size=2, learning_rate=5e-3, pairs=4096, correlation=0.25,
    pairwise=0.25, tail=0.25, anchor=0.05, plain=0.25, easy_share=0.25, fusion="reference"
)  # fmt: skip
"""Every loss at work, four steps per epoch."""


def fit(config, segmenter, cases, context=CONTEXT) -> Method:
    return METHOD.fit(config, segmenter, cases(8, 1), cases(6, 2), context)


@pytest.fixture(scope="module")
def fitted(segmenter, cases) -> Method:
    return fit(SMALL, segmenter(), cases)


def judged(method: Method, cases: list[Batch]) -> dict[str, float]:
    """AUROC and AURC of maps and of the plain entropy, and the likelihoods, pooled over held-out cases."""
    columns: dict[str, list[np.ndarray]] = {}
    for case in cases:
        prediction = method.predict(Batch(case.image))
        found = {k.value: v for k, v in prediction.uncertainty.maps.items()}
        found["entropy"] = entropy(prediction.segmentation.probability())
        found["wrong"] = prediction.segmentation.labels() != case.label
        for name, p in (
            ("raw", prediction.segmentation.probability()),
            ("tempered", prediction.probability()),
        ):
            found[name] = -p.gather(1, case.label[:, None])[:, 0].clamp_min(1e-12).log()
        for name, value in found.items():
            columns.setdefault(name, []).append(value.numpy().ravel())
    pooled = {k: np.concatenate(v) for k, v in columns.items()}
    result = {k: float(pooled[k].mean()) for k in ("raw", "tempered", "wrong")}
    for name in ("entropy", "ranking", "error"):
        measured = selective(pooled[name], pooled["wrong"])
        result |= {f"{name} auroc": measured.auroc, f"{name} aurc": measured.aurc}
    result["gap"] = float(abs(pooled["error"].mean() - pooled["wrong"].mean()))
    return result


def test_the_head_learns_to_rank_mistakes_that_entropy_cannot_see(fitted, segmenter, cases):
    held_out = cases(6, 3)
    after = judged(fitted, held_out)
    before = judged(METHOD.build(SMALL, segmenter()), held_out)
    assert after["entropy auroc"] < 0.7
    assert after["ranking auroc"] > max(0.9, after["entropy auroc"] + 0.1, before["ranking auroc"] + 0.1)
    assert after["ranking aurc"] < min(after["entropy aurc"], before["ranking aurc"])
    assert after["error auroc"] == pytest.approx(after["ranking auroc"], abs=5e-3)
    assert after["tempered"] < after["raw"]
    assert after["gap"] < 0.03  # the mean chance of error is the error rate


def test_the_paper_setting_learns_too_and_never_sharpens(segmenter, cases):
    config = PerturbationHeadConfig.paper(width=8, probes=8, epochs=10, learning_rate=5e-3)
    method = fit(config, segmenter(), cases)
    after = judged(method, cases(6, 3))
    assert after["ranking auroc"] > after["entropy auroc"] + 0.05
    assert method.estimator.global_temperature == 1
    assert method.predict(cases(1, 3)[0]).uncertainty.temperature.min() >= 1
    assert method.estimator.ranking_shift == 0


@pytest.mark.parametrize("arguments", [{"dims": 3, "classes": 2}, {"classes": 2, "sigmoid": True}])
def test_other_dimensions_and_links(arguments, segmenter, cases):
    shape = {"dims": arguments.get("dims", 2), "classes": 2, "side": 12}
    config = replace(SMALL, epochs=1, patch=(8,) * shape["dims"])
    method = METHOD.fit(config, segmenter(**arguments), cases(2, 1, **shape), cases(2, 2, **shape), CONTEXT)
    uncertainty = method.predict(cases(1, 3, **shape)[0]).uncertainty
    assert set(uncertainty.maps) == set(METHOD.maps)
    assert set(uncertainty.scores) == set(METHOD.scores)
    assert 0 <= uncertainty.maps[Kind.ERROR].min() <= uncertainty.maps[Kind.ERROR].max() <= 1


def test_the_same_seed_gives_the_same_head(segmenter, cases):
    config = replace(SMALL, epochs=1)
    one, same, other = (
        fit(config, segmenter(), cases, replace(CONTEXT, seed=s)).estimator for s in (0, 0, 1)
    )
    assert all(torch.equal(v, same.state_dict()[k]) for k, v in one.state_dict().items())
    assert not torch.equal(one.probes.weight, other.probes.weight)


@pytest.mark.parametrize(("steps", "expected"), [(0, 3), (8, 2), (1, 1), (100, 3)])
def test_steps_limit_the_epochs(steps, expected, segmenter, cases, tmp_path):
    config = replace(SMALL, epochs=3, steps=steps)
    fit(config, segmenter(), cases, replace(CONTEXT, folder=tmp_path))
    rows = (tmp_path / "log.csv").read_text().splitlines()[1:]
    assert len(rows) == expected


def test_a_killed_fit_goes_on_to_the_same_head(segmenter, cases, tmp_path, monkeypatch):
    config = replace(SMALL, epochs=3)
    whole = fit(config, segmenter(), cases).estimator.state_dict()

    class Killed(Exception):
        pass

    plain, calls = FeatureSource.crops, []

    def dies(source, step):
        calls.append(step)
        if len(calls) == 7:  # in the second of three epochs of four steps
            raise Killed
        return plain(source, step)

    monkeypatch.setattr(FeatureSource, "crops", dies)
    with pytest.raises(Killed):
        fit(config, segmenter(), cases, replace(CONTEXT, folder=tmp_path))
    resumed = fit(config, segmenter(), cases, replace(CONTEXT, folder=tmp_path)).estimator.state_dict()
    assert len(calls) == 7 + 8  # from the end of the first epoch
    assert all(torch.equal(v, resumed[k]) for k, v in whole.items())


def test_fitting_touches_neither_the_segmenter_nor_the_random_state(segmenter, cases):
    frozen = segmenter()
    before = {k: v.clone() for k, v in frozen.module.state_dict().items()}
    state = torch.random.get_rng_state()
    fit(replace(SMALL, epochs=1), frozen, cases)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in frozen.module.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in frozen.module.parameters())


def test_saving_and_loading_is_exact(fitted, segmenter, cases):
    tensors = load(save({k: v.clone() for k, v in fitted.estimator.state_dict().items()}))
    config = PerturbationHeadConfig(**json.loads(json.dumps(asdict(fitted.config))))
    assert config == fitted.config
    again = METHOD.build(config, segmenter())
    again.estimator.load_state_dict(tensors)
    case = cases(1, 3)[0]
    one, other = fitted.predict(case).uncertainty, again.predict(case).uncertainty
    assert all(torch.equal(v, other.maps[k]) for k, v in one.maps.items())
    assert torch.equal(one.temperature, other.temperature)


def test_the_aleatoric_map_is_declared_only_where_there_is_one(segmenter, cases):
    method = fit(replace(SMALL, aleatoric=False, epochs=1), segmenter(), cases)
    assert Kind.ALEATORIC not in method.spec.maps
    assert set(method.predict(cases(1, 3)[0]).uncertainty.maps) == set(method.spec.maps)


def test_features_beyond_the_limit_are_recomputed_with_the_same_result(segmenter, cases):
    config = replace(SMALL, epochs=1)
    kept, recomputed = (fit(replace(config, cache_gib=g), segmenter(), cases).estimator for g in (1.0, 0.0))
    assert all(torch.equal(v, recomputed.state_dict()[k]) for k, v in kept.state_dict().items())


def test_a_segmenter_that_memorised_the_fitting_cases_is_noticed(segmenter, cases):
    frozen = segmenter()
    seen = [replace(c, label=frozen.segment(c).labels()) for c in cases(3, 1)]
    lines: list[str] = []
    METHOD.fit(replace(SMALL, epochs=1), frozen, seen, cases(3, 2), replace(CONTEXT, say=lines.append))
    assert any("has not seen" in line for line in lines)
    lines.clear()
    METHOD.fit(replace(SMALL, epochs=1), frozen, cases(3, 1), cases(3, 2), replace(CONTEXT, say=lines.append))
    assert not any("has not seen" in line for line in lines)


def test_wrong_requests_are_refused(segmenter, cases):
    with pytest.raises(InputError, match="0 calibration cases"):
        METHOD.fit(SMALL, segmenter(), cases(1, 1), [], CONTEXT)
    with pytest.raises(InputError, match="no label"):
        METHOD.fit(SMALL, segmenter(), [Batch(cases(1, 1)[0].image)], cases(1, 2), CONTEXT)
    with pytest.raises(UnknownNameError, match="learned"):
        PerturbationHeadConfig(combiner="learnt")
    with pytest.raises(ConfigError, match="epochs=0"):
        PerturbationHeadConfig(epochs=0)
    with pytest.raises(ConfigError, match="plain"):
        PerturbationHeadConfig(combiner="paper")
    with pytest.raises(ConfigError, match="easy_share"):
        PerturbationHeadConfig(easy_share=1.5)


def test_easy_voxels_are_thinned_and_stand_for_the_others():
    g = torch.Generator().manual_seed(0)
    label = torch.randint(0, 2, (10_000,), generator=g)
    logits = torch.stack([-8.0 * label, 8.0 * (label - 1.0)])  # all right and sure
    logits[:, :100] = -logits[:, :100] - 8  # these are wrong
    label[100:200] = -1
    index, weights = choose_voxels(logits, label, 0.25, g)
    assert set(range(100)) <= set(index.tolist())
    assert not set(range(100, 200)) & set(index.tolist())
    assert weights[:100].eq(1).all()
    assert float(weights.sum()) == pytest.approx(9900, rel=0.05)
    index, weights = choose_voxels(logits, label, 1.0, g)
    assert len(index) == 9900
    assert weights.eq(1).all()
