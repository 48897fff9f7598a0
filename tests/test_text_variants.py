"""Contradictions contradict, paraphrases claim the same, and a typing error is one error."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.datasets.text_variants import CLAIMS, claims, contradiction, misspelt, paraphrases, swap_sides
from sfumato.errors import ConfigError, InputError

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=60)
LUNG = "Bilateral pulmonary infection, two infected areas, upper left lung and upper right lung."
POLYP = "one small white polyp, located in bottom right of the image"
SENTENCES = st.builds(
    "{} {} {} polyp, located in {} of the image".format,
    st.sampled_from(["one", "two", "three"]),
    st.sampled_from(["small", "medium", "large"]),
    st.sampled_from(["round", "oval"]),
    st.sampled_from(["top", "bottom", "left", "right", "center", "top left", "bottom right"]),
)
SEEDS = st.integers(0, 2**32 - 1)


def edits(first: str, second: str) -> int:
    """Letters lost, added, replaced or swapped with the next: the optimal string alignment distance."""
    table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
    table[:, 0], table[0] = range(len(first) + 1), range(len(second) + 1)
    for i in range(1, len(first) + 1):
        for j in range(1, len(second) + 1):
            costs = [
                table[i - 1, j] + 1,
                table[i, j - 1] + 1,
                table[i - 1, j - 1] + (first[i - 1] != second[j - 1]),
            ]
            if i > 1 and j > 1 and first[i - 1] == second[j - 2] and first[i - 2] == second[j - 1]:
                costs.append(table[i - 2, j - 2] + 1)
            table[i, j] = min(costs)
    return int(table[-1, -1])


def test_claims():
    assert claims(LUNG) == {
        "position": {"top", "left", "right"},
        "laterality": {"bilateral"},
        "number": {"two"},
    }
    assert claims("Two colonic polyps. One large polyp on the top center.")["number"] == {"one", "two"}
    assert claims("a lump, alone and brighter than its surround") == {}


@REPEATABLE
@given(SENTENCES, st.lists(SENTENCES, max_size=8), SEEDS)
def test_a_contradiction_shares_no_value_of_an_attribute_with_the_sentence(sentence, others, seed):
    def disjoint(other, attribute):
        mine, theirs = claims(sentence).get(attribute), claims(other).get(attribute)
        return bool(mine) and bool(theirs) and all(value not in theirs for value in mine)

    ranked = [[o for o in others if disjoint(o, attribute)] for attribute in CLAIMS]
    allowed = next((found for found in ranked if found), None)
    if allowed is None:
        with pytest.raises(InputError, match="none of"):
            contradiction(sentence, others, np.random.default_rng(seed))
    else:
        drawn = contradiction(sentence, others, np.random.default_rng(seed))
        assert drawn in allowed
        assert drawn == contradiction(sentence, others[::-1] * 2, np.random.default_rng(seed))


def test_contradictions_are_drawn_evenly_from_distinct_sentences():
    others = [
        "one polyp at the left",
        *["one polyp at the top left"] * 9,
        "one polyp at the right",
        "a polyp",
    ]
    generator = np.random.default_rng(0)
    drawn = [contradiction("one polyp at the right", others, generator) for _ in range(400)]
    counts = {sentence: drawn.count(sentence) for sentence in set(drawn)}
    assert set(counts) == {"one polyp at the left", "one polyp at the top left"}
    assert min(counts.values()) > 160  # a fair coin stays above with 4 standard deviations


def test_other_attributes_serve_where_positions_agree():
    others = [POLYP, POLYP.replace("small", "large"), POLYP.replace("one", "two")]
    drawn = {contradiction(POLYP, others, np.random.default_rng(seed)) for seed in range(20)}
    assert drawn == {others[2]}


@REPEATABLE
@given(SENTENCES)
def test_swapped_sides_mirror_the_position_and_swap_back(sentence):
    mirrored = swap_sides(sentence)
    assert swap_sides(mirrored) == sentence
    sides = {"left": "right", "right": "left"}
    assert claims(mirrored)["position"] == {sides.get(value, value) for value in claims(sentence)["position"]}


def test_swapped_sides_keep_capitals_and_other_words():
    assert swap_sides("LEFT-sided; leftover on the Right") == "RIGHT-sided; leftover on the Left"


@pytest.mark.parametrize("sentence", [LUNG, POLYP, "One large, smooth colonic polyp on the top center."])
def test_paraphrases_differ_and_claim_the_same(sentence):
    found = paraphrases(sentence)
    assert len(set(found)) == len(found) > 2
    assert sentence not in found
    assert all(claims(other) == claims(sentence) for other in found)
    assert all(other[0].isupper() == sentence[0].isupper() for other in found)


def test_paraphrases_of_unknown_words_and_parts_of_words():
    assert paraphrases("a flat lesion, alone, someone's stop") == ()


@REPEATABLE
@given(SENTENCES, SEEDS, st.integers(1, 12))
def test_each_misspelt_word_has_one_typing_error_behind_its_first_letter(sentence, seed, words):
    wrong = misspelt(sentence, np.random.default_rng(seed), words)
    assert wrong == misspelt(sentence, np.random.default_rng(seed), words)
    before, after = re.findall(r"\w+", sentence), re.findall(r"\w+", wrong)
    errors = [edits(one, other) for one, other in zip(before, after, strict=True)]
    long = [len(word) >= 4 for word in before]
    assert sum(errors) == min(words, sum(long))
    assert all(error <= eligible for error, eligible in zip(errors, long, strict=True))
    assert [word[0] for word in after] == [word[0] for word in before]


def test_every_kind_of_typing_error_occurs():
    generator = np.random.default_rng(0)
    seen = {misspelt("polyp", generator) for _ in range(300)}
    assert {"plyp", "pollyp", "poylp"} <= seen
    assert any(len(word) == 5 and sorted(word) != sorted("polyp") for word in seen)


def test_nothing_to_misspell():
    assert misspelt("one to six", np.random.default_rng(0)) == "one to six"
    with pytest.raises(ConfigError, match="words=0"):
        misspelt("polyp", np.random.default_rng(0), words=0)
