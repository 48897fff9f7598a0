"""Which words a network was trained with, and what in a sentence it has never met.

A frozen language model has states for any text, also for words and languages that the segmenter never learned to use:
nothing fails, the mask is just worth less. So what is new in a sentence is said.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from ...errors import StorageError
from ...types import is_missing

WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
LIKENESS = 0.8
"""Words this alike, by twice their common letters over all (Ratcliff and Obershelp), may be one misspelt."""
LEAST_LETTERS = 4
"""Shorter words are like too many others for a guess."""
FOREIGN = 0.5
"""From this share of words that are neither known nor nearly so, a sentence reads like another language or subject."""
RARE = 0.5
"""From this share of word pieces that the language model does not have, it reads nothing of the sentence."""


@dataclass(frozen=True)
class SentenceCheck:
    """What is new in a sentence.

    Args:
        unseen: words that no training sentence has, in order.
        meant: of these, the known word that it may be misspelt for.
        share: of the sentence's words that are unseen, in [0, 1]; 0 without words.
        unlike: it reads like another language or subject than the training's sentences.
        warnings: one sentence each for people.
    """

    unseen: tuple[str, ...]
    meant: Mapping[str, str]
    share: float
    unlike: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Vocabulary:
    """Words of the training's sentences, in lower case, with the number of sentences that have them.

    Args:
        words: word -> sentences.
        sentences: there were, those with missing text left out.
        longest: words of the longest one.

    Example:
        >>> known = Vocabulary.of(["one small polyp", "two round polyps", "unknown"])
        >>> known.sentences, known.check("One smal polyp").warnings
        (2, ("No training sentence has 'smal'; was 'small' meant?",))
    """

    words: Mapping[str, int]
    sentences: int
    longest: int

    @staticmethod
    def of(sentences: Iterable[str | None]) -> Vocabulary:
        """Count the words of sentences; those that stand for missing text are left out."""
        said = [words_of(s) for s in sentences if s is not None and not is_missing(s)]
        counted = Counter(word for words in said for word in set(words))
        return Vocabulary(dict(sorted(counted.items())), len(said), max(map(len, said), default=0))

    def check(self, sentence: str | None, truncated: bool = False, unknown: float = 0.0) -> SentenceCheck:
        """What is new in a sentence; nothing is in a missing one.

        Args:
            sentence: to check.
            truncated: the encoder cut it, see `TextFeatures`.
            unknown: share of word pieces that the encoder does not have, see `TextFeatures`.
        """
        if sentence is None or is_missing(sentence):
            note = () if sentence is None else ("The sentence is empty: the image is segmented without one.",)
            return SentenceCheck((), {}, 0.0, False, note)
        if not self.sentences:
            note = (
                "The network was trained without sentences: what this one does to the mask is not known.",
            )
            return SentenceCheck(tuple(dict.fromkeys(words_of(sentence))), {}, 1.0, True, note)
        words = words_of(sentence)
        unseen = tuple(dict.fromkeys(w for w in words if w not in self.words and not w.isdecimal()))
        long = [w for w in unseen if len(w) >= LEAST_LETTERS]
        near = {w: get_close_matches(w, self.words, n=1, cutoff=LIKENESS) for w in long}
        meant = {word: found[0] for word, found in near.items() if found}
        share = sum(w in unseen for w in words) / max(len(words), 1)
        foreign = sum(w in unseen and w not in meant for w in words) >= FOREIGN * len(words)
        warnings = _warnings(unseen, meant, foreign, truncated, unknown)
        return SentenceCheck(unseen, meant, share, foreign, warnings)

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        return {"words": dict(self.words), "sentences": self.sentences, "longest": self.longest}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Vocabulary:
        """The inverse of `to_json`.

        Raises:
            StorageError: other content.
        """
        try:
            words = {str(word): int(count) for word, count in content["words"].items()}
            return Vocabulary(words, int(content["sentences"]), int(content["longest"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StorageError(
                f"A vocabulary with {error!r}, expected words with numbers; train again to write it."
            ) from error


def words_of(sentence: str) -> list[str]:
    """Words in lower case; a hyphen binds.

    Example:
        >>> words_of("One-sided, 2 infected areas: naïve.")
        ['one-sided', '2', 'infected', 'areas', 'naïve']
    """
    return WORD.findall(sentence.lower())


def _warnings(
    unseen: tuple[str, ...], meant: Mapping[str, str], unlike: bool, truncated: bool, unknown: float
) -> tuple[str, ...]:
    said = [f"No training sentence has {word!r}; was {other!r} meant?" for word, other in meant.items()]
    new = [repr(word) for word in unseen if word not in meant]
    if unlike:
        said.append(
            "The sentence reads like another language or subject than those of the training, so what it does to the "
            f"mask is not to be relied on; new are {', '.join(new) or 'its signs'}."
        )
    elif new:
        said.append(
            f"No training sentence has {', '.join(new)}: what such words do to the mask is not known."
        )
    return (*said, *reading_warnings(truncated, unknown))


def reading_warnings(truncated: bool, unknown: float) -> tuple[str, ...]:
    """What the language model itself says of a sentence, one sentence each; arguments as for `Vocabulary.check`."""
    said = []
    if unknown >= RARE:
        said.append(f"The language model has no word pieces for {unknown:.0%} of the sentence.")
    if truncated:
        said.append("The sentence is too long and its end was not read; say less.")
    return tuple(said)
