"""What hangs on the words, with a network that is scripted word by word."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

from sfumato.decision import Decision
from sfumato.errors import ConfigError
from sfumato.imaging import Geometry, Image
from sfumato.methods.text_guided.training_text import TrainingText
from sfumato.pipeline import text_answer
from sfumato.pipeline.result import CaseResult
from sfumato.pipeline.text_answer import TextOptions, answer_text, left_out

from .scripted import METHOD, SENTENCE, SIDE, Scripted, foreground


@pytest.fixture
def scripted(monkeypatch) -> Scripted:
    network = Scripted()
    monkeypatch.setattr(text_answer, "predict_image", network)
    return network


@pytest.fixture(scope="module")
def method():
    return METHOD


@pytest.fixture(scope="module")
def picture() -> Image:
    return Image(np.zeros((1, SIDE, SIDE), np.uint8), Geometry((SIDE, SIDE)), "discs")


@pytest.fixture(scope="module")
def training() -> TrainingText:
    small, large = ({"size": {word}} for word in ("small", "large"))
    rows = [("one small disc, left", small, 0.04 + 0.01 * i) for i in range(10)]
    return TrainingText.of(rows + [("one large disc, right", large, 0.15 + 0.01 * i) for i in range(10)])


def test_sentence_nothing_a_paraphrase_and_every_word_are_asked_once(scripted, method, picture):
    answer = answer_text(method, picture, SENTENCE, options=TextOptions(variants=("a  disc",)))
    paraphrase = "a single little disc, left"
    words = ["small disc, left", "one disc, left", "one small left", "one small disc,"]
    assert scripted.asked == [SENTENCE, None, paraphrase, "a disc", *words]
    assert [v.text for v in answer.variants] == ["no sentence", paraphrase, "a disc"]
    assert [w.text for w in answer.words] == ["one", "small", "disc", "left"]


def test_the_word_that_moves_the_mask_is_the_one_that_says_where(scripted, method, picture):
    words = {w.text: w for w in answer_text(method, picture, SENTENCE).words}
    assert {text: w.moved for text, w in words.items()} == {"one": 0, "small": 0, "disc": 0, "left": 1}
    change = words["left"].shift
    np.testing.assert_allclose(change, foreground(SENTENCE) - foreground("one small disc"), atol=1e-6)


def test_maps_are_means_over_variants(scripted, method, picture):
    answer = answer_text(method, picture, SENTENCE, options=TextOptions(words=False))
    texts = [v.text if v.text != "no sentence" else None for v in answer.variants]
    expected = np.mean([np.abs(foreground(t) - foreground(SENTENCE)) for t in texts], axis=0)
    np.testing.assert_allclose(answer.shift, expected, atol=1e-6)
    asked = np.stack([foreground(t) for t in (SENTENCE, *texts)]).astype(np.float64)
    binary = lambda p: -(p * np.log(p) + (1 - p) * np.log(1 - p))
    np.testing.assert_allclose(answer.image_doubt, binary(asked).mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(answer.wording + answer.image_doubt, binary(asked.mean(axis=0)), atol=1e-6)
    assert answer.words == ()


def test_where_the_sentence_decides_that_is_said(scripted, method, picture, training):
    answer = answer_text(method, picture, SENTENCE, options=TextOptions(training, words=False))
    assert answer.contradiction.followed == ("left",)
    assert answer.contradiction.score == pytest.approx(0.5)
    assert answer.contradiction.warnings[0] in answer.result.warnings


def test_a_sentence_in_doubt_is_never_accepted(scripted, method, picture, training, monkeypatch):
    accepted = Decision("accept", score=0.1, threshold=0.2, reason="Small.")

    def deciding(*given, **named):
        return replace(scripted(*given, **named), decision=accepted)

    monkeypatch.setattr(text_answer, "predict_image", deciding)
    options = TextOptions(training, words=False)
    decided = answer_text(method, picture, SENTENCE, options=options).result.decision
    assert decided is not None
    assert (decided.verdict, decided.score) == ("review", 0.1)
    assert decided.reason.startswith("Small. Yet sentence and image disagree")
    assert answer_text(method, picture, "one small disc", options=options).result.decision == accepted


def test_a_size_that_the_mask_does_not_have_is_said(scripted, method, picture, training):
    answer = answer_text(method, picture, "one small large disc, right", options=TextOptions(training))
    assert answer.contradiction.broken == ()  # of two sizes none is judged
    assert (
        answer_text(
            method, picture, "one large disc, left", options=TextOptions(training)
        ).contradiction.broken
        == ()
    )
    small = {"size": {"small"}}
    narrow = TrainingText.of([("one small disc", small, 0.01)] * 10)
    assert answer_text(method, picture, SENTENCE, options=TextOptions(narrow)).contradiction.broken == (
        "small",
    )


def test_the_patients_left_is_the_pictures_right(scripted, method, picture):
    answer = answer_text(method, picture, SENTENCE, options=TextOptions(sides="patient", words=False))
    assert answer.contradiction.broken == ("left",)
    with pytest.raises(ConfigError, match="expected one of image, patient"):
        TextOptions(sides="doctor")


@pytest.mark.parametrize("turned", ["RAS", "LPS", "PIR"])
def test_volumes_know_the_patients_left_however_they_are_stored(monkeypatch, method, turned):
    """A ball on the patient's left, whatever the axes of the file."""
    where = np.zeros((20, 16, 12), np.float32)
    where[2:6, 6:10, 4:8] = 0.9  # low R index in RAS+: left
    image = nib.as_closest_canonical(nib.Nifti1Image(where, np.eye(4)))
    there = nib.orientations.ornt_transform(
        nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(turned)
    )
    stored = image.as_reoriented(there)
    p = np.asarray(stored.dataobj, np.float32)
    case = Image(p[None], Geometry(p.shape, stored.affine), "ball")
    result = CaseResult(
        case, ("background", "ball"), (p > 0.5).astype(np.uint8), np.stack([1 - p, p]), {}, {}, {}
    )
    monkeypatch.setattr(text_answer, "predict_image", lambda *_, **__: result)
    assert answer_text(method, case, "ball on the left").contradiction.broken == ()
    assert answer_text(method, case, "ball on the right").contradiction.broken == ("right",)
    assert answer_text(method, case, "ball in the upper part").contradiction.broken == ()
    assert answer_text(method, case, "ball on the left").words == ()


@pytest.mark.parametrize("sentence", [None, "", " unknown. ", "NaN"])
def test_without_a_sentence_the_image_alone_is_segmented(scripted, method, picture, training, sentence):
    answer = answer_text(method, picture, sentence, options=TextOptions(training))
    assert scripted.asked == [None]
    assert answer.sentence is None
    assert answer.shift.max() == answer.wording.max() == 0
    assert answer.image_doubt.max() > 0
    assert answer.variants == answer.words == answer.result.warnings[1:] == ()
    assert any("empty" in warning for warning in answer.result.warnings) == (sentence is not None)


def test_misspelt_foreign_and_long_sentences_are_told(scripted, method, picture, training):
    warnings = lambda text: (
        answer_text(method, picture, text, options=TextOptions(training, words=False)).result.warnings
    )
    assert any("was 'small' meant" in w for w in warnings("one smal disc, left"))
    assert any("another language" in w for w in warnings("eine kleine Scheibe links"))
    assert any("too long" in w for w in warnings("disc " * 21))
    assert warnings("one disc, right") == ()


def test_without_a_record_of_the_training_new_words_are_not_told(scripted, method, picture):
    answer = answer_text(method, picture, "eine kleine Scheibe", options=TextOptions(words=False))
    assert answer.check.unseen == ()
    assert any("not recorded" in warning for warning in answer.result.warnings)


def test_a_network_that_reads_no_sentences_is_refused(scripted, picture):
    blind = SimpleNamespace(name="softmax", segmenter=SimpleNamespace())
    with pytest.raises(ConfigError, match="reads no sentences"):
        answer_text(blind, picture, SENTENCE)


def test_words_are_left_out_with_their_place_and_signs_are_no_words():
    assert left_out("disc") == []
    assert [word for word, _ in left_out("one (round) disc - left")] == ["one", "round", "disc", "left"]
    assert left_out("disc, left disc") == [
        ("disc", "left disc"),
        ("left", "disc, disc"),
        ("disc", "disc, left"),
    ]
