from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sfumato.errors import ConfigError, InputError, UnknownNameError
from sfumato.interfaces import FitContext
from sfumato.methods.feature_density import METHOD, FeatureDensityConfig
from sfumato.metrics import selective
from sfumato.types import Batch, Kind

CONTEXT = FitContext(device="cpu")


def fit(segmenter, cases, context=CONTEXT, **changes):
    return METHOD.fit(FeatureDensityConfig(**changes), segmenter(), cases(4, 1), cases(3, 2), context)


def marked(case: Batch) -> Batch:
    """The case with something that no fitting case had: its marks are 20 in one corner."""
    image = case.image.clone()
    image[:, 1, :6, :6] = 20
    return Batch(image, label=case.label)


@pytest.mark.parametrize("covariance", ["tied", "per_class"])
@pytest.mark.parametrize("score", ["predicted", "nearest"])
def test_what_no_case_had_lies_far_away(covariance, score, segmenter, cases):
    method = fit(segmenter, cases, covariance=covariance, score=score)
    found = method.predict(marked(cases(1, 3)[0])).uncertainty.maps[Kind.EPISTEMIC][0]
    assert float(found[1:5, 1:5].min()) > 2 * float(found[8:].max())


def test_it_ranks_mistakes_that_features_tell_of(segmenter, cases):
    # The features carry the mark of a mistake, and marked voxels are rare.
    method, columns, wrong = fit(segmenter, cases), [], []
    for case in cases(4, 3):
        prediction = method.predict(Batch(case.image))
        columns.append(prediction.uncertainty.maps[Kind.RANKING].numpy().ravel())
        wrong.append((prediction.segmentation.labels() != case.label).numpy().ravel())
    assert selective(np.concatenate(columns), np.concatenate(wrong)).auroc > 0.75


def test_the_map_is_the_logarithm_of_the_sum_over_taps(segmenter, cases):
    method, case = fit(segmenter, cases), cases(1, 3)[0]
    segmentation = method.segmenter.segment(case)
    total = torch.zeros_like(segmentation.logits)
    for tap, gaussians in zip(method.estimator.taps, method.estimator.gaussians, strict=True):
        coarse = gaussians(segmentation.features[tap])
        total += F.interpolate(coarse, size=total.shape[2:], mode="bilinear", align_corners=False)
    widths = sum(method.segmenter.widths[tap] for tap in method.estimator.taps)
    expected = (total.gather(1, segmentation.labels()[:, None])[:, 0] / widths).log1p()
    torch.testing.assert_close(method.predict(case).uncertainty.maps[Kind.EPISTEMIC], expected)


def test_taps_are_chosen_by_word_or_name(segmenter, cases):
    assert fit(segmenter, cases).estimator.taps == ("pool", "classifier:input")
    assert fit(segmenter, cases, taps="finest").estimator.taps == ("classifier:input",)
    assert fit(segmenter, cases, taps=("pool",)).estimator.taps == ("pool",)
    with pytest.raises(UnknownNameError, match="classifier:input"):
        fit(segmenter, cases, taps=("classifer:input",))


def test_a_class_that_is_missing_is_said_and_none_at_all_is_refused(segmenter, cases):
    lines: list[str] = []
    two = [replace(c, label=c.label.clamp_max(1)) for c in cases(3, 1)]
    method = METHOD.fit(
        FeatureDensityConfig(), segmenter(), two, cases(2, 2), replace(CONTEXT, say=lines.append)
    )
    assert any("too few voxels of class 2" in line for line in lines)
    assert torch.isfinite(method.predict(cases(1, 3)[0]).uncertainty.maps[Kind.ERROR]).all()
    none = [replace(c, label=torch.full_like(c.label, -1)) for c in cases(2, 1)]
    with pytest.raises(InputError, match="two labelled voxels"):
        METHOD.fit(FeatureDensityConfig(), segmenter(), none, cases(2, 2), CONTEXT)


def test_settings_survive_json():
    for config in (FeatureDensityConfig(), FeatureDensityConfig(taps=("a", "b"))):
        assert FeatureDensityConfig(**json.loads(json.dumps(asdict(config)))) == config


def test_wrong_requests_are_refused(segmenter, cases):
    with pytest.raises(UnknownNameError, match="tied"):
        FeatureDensityConfig(covariance="diagonal")
    with pytest.raises(UnknownNameError, match="finest"):
        FeatureDensityConfig(taps="coarsest")
    with pytest.raises(ConfigError, match="shrinkage=0"):
        FeatureDensityConfig(shrinkage=0)
    with pytest.raises(InputError, match="0 fitting"):
        METHOD.fit(FeatureDensityConfig(), segmenter(), [], cases(1, 2), CONTEXT)
    method, case = METHOD.build(FeatureDensityConfig(), segmenter()), cases(1, 3)[0]
    with pytest.raises(InputError, match="distance"):
        method.estimator.estimate(case, replace(method.segmenter.segment(case), features={}))
