"""Free scores by loops over masks, and the linear control against another library."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from sfumato.errors import ConfigError, InputError
from sfumato.interfaces import FitContext
from sfumato.methods.sam_gaps.baselines import PENALTIES, fit_linear_heads, free_scores
from sfumato.methods.sam_gaps.coding import GAPS, MASK_IOU, head_names
from sfumato.methods.sam_gaps.collect import describe
from sfumato.methods.sam_gaps.config import SamGapsConfig
from sfumato.methods.sam_gaps.features import hypothesis_features
from sfumato.methods.sam_gaps.shape import stability_score
from sfumato.methods.sam_gaps.training import set_weights
from sfumato.segmenters.promptable.tiny import PhantomPromptable
from sfumato.types import SpatialPrompt

SETTINGS = SamGapsConfig(ladder=("small", "large"), token_width=16)
CONTEXT = FitContext(device="cpu")


def test_free_scores_are_of_the_own_pick_and_higher_is_worse():
    plane = torch.full((1, 64, 64), 0.2)
    plane[:, 20:44, 20:44] = 0.8
    network = PhantomPromptable()
    decoded = network.decode(network.encode(plane), SpatialPrompt.of_points([[(30, 30, 1)], [(5, 5, 1)]]))
    inputs = describe(decoded, "point", 0)
    found = free_scores(inputs)
    own = decoded.own_pick()
    for row in range(2):
        ranked = sorted(decoded.estimates[row].tolist(), reverse=True)
        assert float(found["sam_score"][row]) == pytest.approx(1 - ranked[0])
        assert float(found["disagreement"][row]) == pytest.approx(1 - ranked[0] + ranked[1])
        stability = stability_score(decoded.logits[row, own[row]])
        assert float(found["instability"][row]) == pytest.approx(1 - float(stability), abs=0.05)
    assert ((found["random"] >= 0) & (found["random"] < 1)).all()
    assert torch.equal(found["random"], free_scores(inputs)["random"])
    assert not torch.equal(found["random"], free_scores(inputs, seed=1)["random"])


@pytest.mark.parametrize("offset", [0.05, 1.0, 3.0])
def test_stability_by_counting(offset):
    logits = 3 * torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))
    for i in range(2):
        values = logits[i].flatten().tolist()
        expected = sum(v > offset for v in values) / sum(v > -offset for v in values)
        assert float(stability_score(logits, offset)[i]) == pytest.approx(expected)
    assert float(stability_score(torch.full((4, 4), -9.0))) == 0
    assert float(stability_score(torch.full((4, 4), 9.0))) == 1


def test_the_linear_control_is_another_library_s_ridge(phantom_records):
    records = phantom_records(60, 0)
    settings = replace(SETTINGS, validation=0.0)
    heads = fit_linear_heads(records, settings, CONTEXT, penalties=[0.05])
    features = heads.standard(hypothesis_features(records.inputs, settings), records.inputs.rung)
    weights = set_weights(records.sets).repeat_interleave(3).double().numpy()
    ridge = Ridge(alpha=0.05 * weights.sum(), solver="cholesky")
    ridge.fit(features.flatten(0, 1).double().numpy(), records.iou.flatten().numpy(), sample_weight=weights)
    column = heads.weights[:, head_names(settings.ladder).index(MASK_IOU)].numpy()
    np.testing.assert_allclose(column[:-1], ridge.coef_, atol=1e-6)
    assert column[-1] == pytest.approx(float(ridge.intercept_), abs=1e-6)


def test_it_tells_new_pictures_what_tokens_tell_and_nothing_else(phantom_records):
    shares = []
    for told in (True, False):
        heads = fit_linear_heads(phantom_records(400, 0, told=told), SETTINGS, CONTEXT)
        fresh = phantom_records(200, 1, told=told)
        found = heads.outputs(fresh.inputs)
        error = (found[MASK_IOU] - fresh.iou).square().mean()
        shares.append(float(1 - error / fresh.iou.var(unbiased=False)))
        assert heads.penalty in PENALTIES
        for name, values in found.items():
            low = -SETTINGS.gap_range if name in GAPS else 0
            assert low <= float(values.min()) <= float(values.max()) <= 1
    assert shares[0] > 0.9
    assert shares[1] < shares[0] - 0.1


def test_what_it_cannot_use_is_refused(phantom_records):
    records = phantom_records(10, 0)
    with pytest.raises(InputError, match="No fitting records"):
        fit_linear_heads(records[:0], SETTINGS, CONTEXT)
    with pytest.raises(ConfigError, match="2"):
        fit_linear_heads(records, replace(SETTINGS, ladder=("one",)), CONTEXT)
    with pytest.raises(InputError, match="above 0"):
        fit_linear_heads(records, SETTINGS, CONTEXT, penalties=[0.0])
