"""What is new in a sentence: misspelt, foreign, empty, too long."""

from __future__ import annotations

import json

import pytest

from sfumato.errors import StorageError
from sfumato.methods.text_guided.vocabulary import Vocabulary, words_of

SENTENCES = [
    "one small pink round polyp, located in center of the image",
    "two medium yellow oval polyp, located in left, top left of the image",
    "one large white circle polyp, located in bottom right of the image",
    None,
    "unknown",
    "",
]


@pytest.fixture(scope="module")
def known():
    return Vocabulary.of(SENTENCES)


def test_words_are_counted_once_per_sentence_and_missing_text_is_not(known):
    assert known.sentences == 3
    assert known.words["polyp"] == 3
    assert known.words["left"] == 1  # twice in one sentence
    assert "unknown" not in known.words
    assert known.longest == max(len(words_of(s)) for s in SENTENCES[:3])


def test_training_sentences_and_other_cases_and_orders_have_nothing_new(known):
    for sentence in (SENTENCES[0], SENTENCES[1].upper(), "polyp: pink, one; small!", "3 polyp"):
        check = known.check(sentence)
        assert (check.unseen, check.share, check.unlike, check.warnings) == ((), 0.0, False, ())


def test_a_typing_error_is_told_with_the_word_it_may_be(known):
    check = known.check("one smal pink rouund polyp")
    assert check.meant == {"smal": "small", "rouund": "round"}
    assert check.share == pytest.approx(2 / 5)
    assert not check.unlike
    assert check.warnings[0] == "No training sentence has 'smal'; was 'small' meant?"


def test_short_words_are_new_without_a_guess(known):
    check = known.check("ein small polyp")
    assert (check.unseen, check.meant) == (("ein",), {})


def test_a_new_word_is_told(known):
    check = known.check("one small pink pedunculated polyp")
    assert check.unseen == ("pedunculated",)
    assert not check.unlike
    assert "'pedunculated'" in check.warnings[0]


@pytest.mark.parametrize(
    "sentence",
    [
        "ein kleiner rosa Polyp, unten rechts im Bild",
        "un petit polype rose, en bas à droite",
        "右下に小さなポリープ",
        "маленький розовый полип справа внизу",
        "bilateral pulmonary infection of both lungs",
    ],
)
def test_another_language_or_subject_is_told(known, sentence):
    check = known.check(sentence)
    assert check.unlike
    assert any("another language or subject" in warning for warning in check.warnings)


@pytest.mark.parametrize("sentence", [None, "", "  ", "unknown", "NaN"])
def test_missing_text_is_not_new(known, sentence):
    check = known.check(sentence)
    assert not check.unseen
    assert not check.unlike
    assert len(check.warnings) == (sentence is not None)


def test_signs_alone_are_unlike_any_sentence(known):
    assert known.check("?!").unlike


def test_what_the_encoder_says_is_told(known):
    said = known.check(SENTENCES[0], truncated=True, unknown=0.75).warnings
    assert any("too long" in warning for warning in said)
    assert any("75%" in warning for warning in said)


def test_a_network_that_was_trained_without_sentences_says_so():
    check = Vocabulary.of([None, "unknown"]).check("one polyp")
    assert check.share == 1
    assert "without sentences" in check.warnings[0]


def test_it_comes_back_from_json(known):
    assert Vocabulary.from_json(json.loads(json.dumps(known.to_json()))) == known
    with pytest.raises(StorageError, match="train again"):
        Vocabulary.from_json({"words": ["one"]})
