"""One image and a sentence: the segmentation, and what of it hangs on the words.

The image is segmented with the sentence, without it, with variants of it, and with each of its words left out. A
network's attention is no answer to what a word did: it is spread over tokens into which all words are mixed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import nibabel as nib
import numpy as np
import torch

from ..datasets.text_variants import claims, paraphrases
from ..decision import Decision, DecisionRule
from ..errors import ConfigError
from ..imaging import Geometry, Image
from ..interfaces import Method
from ..methods.text_guided.contradiction import Contradiction, find_contradiction
from ..methods.text_guided.sensitivity import TextSensitivity, text_sensitivity
from ..methods.text_guided.training_text import TrainingText
from ..methods.text_guided.vocabulary import SentenceCheck, Vocabulary, reading_warnings
from ..types import TextPrompt, is_missing
from .case import PredictOptions, predict_image
from .result import CaseResult, unit

SIDES = ("image", "patient")
WITHOUT = "no sentence"
NO_RECORD = "Which words the network was trained with was not recorded, so new words are not told."


@dataclass(frozen=True)
class TextOptions:
    """How a sentence is tried out.

    Args:
        training: what the network's sentences were like; None does not tell new words.
        variants: further sentences to try, beside none and a paraphrase.
        sides: whose left a sentence means on pictures, `image` or `patient`; volumes know the patient's.
        words: leave each word out once, on pictures.
    """

    training: TrainingText | None = None
    variants: tuple[str, ...] = ()
    sides: str = "image"
    words: bool = True

    def __post_init__(self) -> None:
        if self.sides not in SIDES:
            raise ConfigError(f"sides={self.sides!r}, expected one of {', '.join(SIDES)}.")


@dataclass(frozen=True)
class Variant:
    """Another sentence, or a word that was left out.

    Args:
        text: the sentence, the word, or `WITHOUT`.
        moved: 1 - Dice between its mask and the sentence's, in [0, 1].
        shift: what it changes in the probability of the foreground, (*grid) float32 in [-1, 1]: with the sentence
            minus with the variant. Kept for words alone.
    """

    text: str
    moved: float
    shift: np.ndarray | None = None


@dataclass(frozen=True)
class TextAnswer:
    """A finished case.

    Args:
        sentence: as it was given, spaces aside; None without one, and then all that follows the result is empty.
        result: with the sentence; its warnings tell of sentence and mask too.
        without: class numbers without a sentence, (*grid).
        shift: see `TextSensitivity.shift`, (*grid) float32.
        wording: `TextSensitivity.words`, nats.
        image_doubt: `TextSensitivity.image`, nats.
        variants: no sentence, a paraphrase where one is known, further ones.
        words: each word left out.
        check: what is new in the sentence.
        contradiction: of sentence and masks.
    """

    sentence: str | None
    result: CaseResult
    without: np.ndarray
    shift: np.ndarray
    wording: np.ndarray
    image_doubt: np.ndarray
    variants: tuple[Variant, ...]
    words: tuple[Variant, ...]
    check: SentenceCheck
    contradiction: Contradiction


Segment = Callable[[str | None], CaseResult]


def answer_text(
    method: Method,
    image: Image,
    sentence: str | None,
    rule: DecisionRule | None = None,
    predict: PredictOptions | None = None,
    options: TextOptions | None = None,
) -> TextAnswer:
    """Segment an image by a sentence and say what of the result hangs on the words.

    Args:
        method: with a segmenter that reads sentences.
        image: as read by `sfumato.imaging.read_image`.
        sentence: None, or one that stands for missing text, segments without.
        rule: accepts the case or sends it to review.
        predict: how windows are run.
        options: see `TextOptions`.

    Raises:
        InputError: an image that does not fit the segmenter.
        ConfigError: a segmenter that reads no sentences.
    """
    options = options or TextOptions()
    said = None if sentence is None or is_missing(sentence) else " ".join(sentence.split())

    def segment(text: str | None) -> CaseResult:
        prompt = None if text is None else TextPrompt((text,))
        return predict_image(method, image, rule, predict, prompt=prompt)

    result = segment(said)
    check = check_sentence(method, sentence, options.training)
    if said is None:
        nothing = np.zeros(result.segmentation.shape, np.float32)
        doubt = _sensitivity(result, [result]).image[0].numpy()
        result = replace(result, warnings=(*result.warnings, *check.warnings))
        none = Contradiction(0.0, (), (), ())
        return TextAnswer(None, result, result.segmentation, nothing, nothing, doubt, (), (), check, none)
    return _with_sentence(segment, said, result, check, options)


def _with_sentence(
    segment: Segment, said: str, result: CaseResult, check: SentenceCheck, options: TextOptions
) -> TextAnswer:
    # Of the paraphrases the last replaces all phrases: the others lie between, and would outvote no sentence at all.
    same = paraphrases(said)[-1:]
    others = list(dict.fromkeys([*same, *(" ".join(v.split()) for v in options.variants)]))
    plain, *answers = [segment(None), *(segment(text) for text in others)]
    found = _sensitivity(result, [plain, *answers])
    variants = tuple(
        Variant(text, float(moved)) for text, moved in zip([WITHOUT, *others], found.moved[:, 0], strict=True)
    )
    geometry = result.image.geometry
    contradiction = find_contradiction(
        claims(said),
        upright(result.segmentation > 0, geometry),
        upright(plain.segmentation > 0, geometry),
        mirrored=is_mirrored(geometry, options.sides),
        sizes=options.training.sizes if options.training else None,
    )
    leave_out = options.words and geometry.dims == 2
    words = tuple(_left_out(segment, result, *pair) for pair in left_out(said)) if leave_out else ()
    warnings = (*result.warnings, *check.warnings, *contradiction.warnings)
    told = replace(result, warnings=warnings, decision=cautious(result.decision, contradiction))
    shift, wording, doubt = (part[0].numpy() for part in (found.shift, found.words, found.image))
    return TextAnswer(
        said, told, plain.segmentation, shift, wording, doubt, variants, words, check, contradiction
    )


def cautious(decision: Decision | None, contradiction: Contradiction) -> Decision | None:
    """A decision for a sentence that may be wrong: its rule was fitted on true ones, and accepts none that is in doubt.

    Example:
        >>> accepted = Decision("accept", score=0.1, threshold=0.2, reason="Expected 1 - Dice is small.")
        >>> broken = Contradiction(0.8, ("left",), (), ("The sentence says left, but the mask lies right.",))
        >>> cautious(accepted, broken).verdict
        'review'
    """
    if decision is None or decision.verdict == "review" or not contradiction.warnings:
        return decision
    reason = f"{decision.reason} Yet sentence and image disagree, and the limit holds for true sentences."
    return replace(decision, verdict="review", reason=reason)


def left_out(sentence: str) -> list[tuple[str, str]]:
    """Every word, and the sentence without it; a sentence of one word has nothing to leave out.

    Example:
        >>> left_out("one polyp, left")
        [('one', 'polyp, left'), ('polyp', 'one left'), ('left', 'one polyp,')]
    """
    parts = sentence.split()
    if len(parts) < 2:
        return []
    named = [(i, re.sub(r"^\W+|\W+$", "", part)) for i, part in enumerate(parts)]
    return [(word, " ".join(parts[:i] + parts[i + 1 :])) for i, word in named if word]


def check_sentence(method: Method, sentence: str | None, training: TrainingText | None) -> SentenceCheck:
    """What is new in a sentence, to the training and to the language model.

    Raises:
        ConfigError: a segmenter that reads no sentences.
    """
    condition = getattr(method.segmenter, "condition", None)
    encoder = getattr(condition, "encoder", None)
    if encoder is None:
        raise ConfigError(
            f"{method.name} runs on a network that reads no sentences, expected one of "
            "`sfumato train --method text_guided`."
        )
    if sentence is None or is_missing(sentence):
        return Vocabulary.of([]).check(sentence)
    features = encoder.encode([sentence])
    truncated, unknown = bool(features.truncated[0]), float(features.unknown[0])
    if training is None:
        return SentenceCheck((), {}, 0.0, False, (NO_RECORD, *reading_warnings(truncated, unknown)))
    return training.vocabulary.check(sentence, truncated, unknown)


def _sensitivity(result: CaseResult, others: Sequence[CaseResult]) -> TextSensitivity:
    probabilities = [torch.from_numpy(unit(r.probability)).unsqueeze(0) for r in (result, *others)]
    return text_sensitivity(probabilities[0], probabilities[1:])


def _left_out(segment: Segment, result: CaseResult, word: str, rest: str) -> Variant:
    other = segment(rest)
    moved = _sensitivity(result, [other]).moved[0, 0]
    return Variant(word, float(moved), unit(other.probability[0]) - unit(result.probability[0]))


def is_mirrored(geometry: Geometry, sides: str) -> bool:
    """Whether a sentence's left is the right of an `upright` mask: in volumes, and where it is the patient's."""
    return geometry.dims == 3 or sides == "patient"


def upright(mask: np.ndarray, geometry: Geometry) -> np.ndarray:
    """A volume with rows from the patient's top down and columns from the right to the left; pictures as they are."""
    if geometry.dims == 2:
        return mask
    seen = nib.orientations.axcodes2ornt(("P", "I", "L"))
    turn = nib.orientations.ornt_transform(nib.orientations.io_orientation(geometry.affine), seen)
    return nib.orientations.apply_orientation(mask, turn)
