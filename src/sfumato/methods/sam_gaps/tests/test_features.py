from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from sfumato.errors import InputError
from sfumato.methods.sam_gaps.config import SamGapsConfig
from sfumato.methods.sam_gaps.features import Standard, feature_width, hypothesis_features, token_pairs
from sfumato.methods.sam_gaps.records import PROMPT_KINDS, SEEN_AS, VISIBLE_KINDS

LADDER = ("small", "large")


def config(**changes) -> SamGapsConfig:
    return SamGapsConfig(**({"ladder": LADDER, "token_width": 16} | changes))


@pytest.mark.parametrize(("convention", "shift"), [("published", 0), ("aligned", 1)])
def test_the_iou_token_comes_first_and_the_mask_token_is_the_one_of_the_convention(
    phantom_records, convention, shift
):
    inputs = phantom_records(5, 1).inputs
    pairs = token_pairs(inputs, convention)
    for row in range(len(inputs)):
        for j in range(3):
            assert torch.equal(pairs[row, j, :16], inputs.iou_token[row])
            assert torch.equal(pairs[row, j, 16:], inputs.mask_tokens[row, j + shift])


@pytest.mark.parametrize("parts", ["pairs", "tokens", "shape", "all"])
def test_the_width_is_what_is_said(phantom_records, parts):
    settings = config(features=parts)
    found = hypothesis_features(phantom_records(5, 1).inputs, settings)
    assert found.shape == (10, 3, feature_width(settings))


def test_published_pairs_are_nothing_but_tokens(phantom_records):
    inputs = phantom_records(5, 1).inputs
    found = hypothesis_features(inputs, SamGapsConfig.published(token_width=16))
    assert torch.equal(found, token_pairs(inputs, "published"))


def test_the_last_features_say_which_hypothesis_prompt_and_network(phantom_records):
    inputs = phantom_records(6, 2).inputs
    found = hypothesis_features(inputs, config())
    said = found[:, :, -(3 + len(VISIBLE_KINDS) + 2) :]
    for row in range(len(inputs)):
        for j in range(3):
            kind = PROMPT_KINDS[int(inputs.kind[row])]
            wanted = torch.zeros(3 + len(VISIBLE_KINDS) + 2)
            wanted[j] = wanted[3 + VISIBLE_KINDS.index(SEEN_AS.get(kind, kind))] = 1
            wanted[3 + len(VISIBLE_KINDS) + int(inputs.rung[row])] = 1
            assert torch.equal(said[row, j], wanted)


def test_heads_are_not_told_how_tight_a_box_is(phantom_records):
    inputs = phantom_records(6, 2).inputs
    found = []
    for kind in ("box", "loose_box", "misplaced_box"):
        inputs.kind[:] = PROMPT_KINDS.index(kind)
        found.append(hypothesis_features(inputs, config()))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_standardised_numbers_equal_another_library_s(phantom_records):
    records, settings = phantom_records(40, 3), config(standardise="global")
    features = hypothesis_features(records.inputs, settings)
    standard = Standard(settings)
    standard.fit(features, records.inputs.rung)
    numbers = features.flatten(0, 1)[:, : standard.numbers].double().numpy()
    wanted = StandardScaler().fit_transform(numbers)
    found = standard(features, records.inputs.rung).flatten(0, 1)[:, : standard.numbers]
    np.testing.assert_allclose(found.numpy(), wanted, atol=2e-5)


def test_each_network_may_have_its_own_statistics(phantom_records):
    records, settings = phantom_records(40, 3), config(standardise="rung")
    records.inputs.iou_token[records.inputs.rung == 1] += 100
    features = hypothesis_features(records.inputs, settings)
    standard = Standard(settings)
    standard.fit(features, records.inputs.rung)
    found = standard(features, records.inputs.rung)
    for rung in (0, 1):
        rows = found[records.inputs.rung == rung][:, :, : standard.numbers].flatten(0, 1)
        torch.testing.assert_close(rows.mean(dim=0), torch.zeros(standard.numbers), atol=1e-4, rtol=0)


def test_a_kind_of_prompt_that_was_never_fitted_moves_nothing(phantom_records):
    records, settings = phantom_records(40, 3), config()
    standard = Standard(settings)
    standard.fit(hypothesis_features(records.inputs, settings), records.inputs.rung)
    unseen = len(PROMPT_KINDS) - 1
    assert not (records.inputs.kind == unseen).any()
    records.inputs.kind[:] = unseen
    found = standard(hypothesis_features(records.inputs, settings), records.inputs.rung)
    kinds = found[:, :, standard.numbers + 3 : standard.numbers + 3 + len(VISIBLE_KINDS)]
    assert (kinds == 0).all()


def test_tokens_of_another_network_are_our_error(phantom_records):
    inputs = phantom_records(3, 1).inputs
    with pytest.raises(InputError, match="Tokens of width 16, expected 256"):
        hypothesis_features(inputs, SamGapsConfig(ladder=LADDER))
    with pytest.raises(InputError, match="rung 1, expected at most 0"):
        hypothesis_features(inputs, config(ladder=("small",)))
