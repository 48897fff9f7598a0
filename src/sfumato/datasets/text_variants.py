"""Other words for a case: the same said differently, something that contradicts it, and typing errors.

They test what a text-guided network makes of its text: it should not mind paraphrases and typing errors, and where its
result follows a contradiction, the text and not the image said where the object is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import numpy as np

from ..errors import ConfigError, InputError

NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
CLAIMS: Mapping[str, Mapping[str, str]] = {
    "position": {
        "left": "left",
        "right": "right",
        **dict.fromkeys(("top", "upper"), "top"),
        **dict.fromkeys(("bottom", "lower"), "bottom"),
        **dict.fromkeys(("center", "centre", "central", "middle"), "centre"),
    },
    "laterality": {
        **dict.fromkeys(("unilateral", "one-sided"), "unilateral"),
        **dict.fromkeys(("bilateral", "two-sided"), "bilateral"),
    },
    "number": {
        **{str(i): word for i, word in enumerate(NUMBERS, 1)},
        **dict(zip(NUMBERS, NUMBERS, strict=True)),
        "single": "one",
    },
    "size": {
        **dict.fromkeys(("small", "little"), "small"),
        **dict.fromkeys(("medium", "medium-sized"), "medium"),
        **dict.fromkeys(("large", "big"), "large"),
    },
}
"""Attribute -> word -> what it claims; in the order in which contradictions are looked for."""
PHRASES = (
    (r"located in", "found in"),
    (r"of the image", "of the picture"),
    (r"infected area(s?)", r"area\1 of infection"),
    (r"pulmonary infection", "infection of the lung"),
    (r"colonic polyp(s?)", r"polyp\1 of the colon"),
    (r"unilateral", "one-sided"),
    (r"bilateral", "two-sided"),
    (r"one", "a single"),
    (r"small", "little"),
    (r"medium", "medium-sized"),
    (r"large", "big"),
    (r"circle", "circular"),
    (r"triangular", "three-cornered"),
    (r"top", "upper"),
    (r"bottom", "lower"),
    (r"cent(?:er|re)", "middle"),
)
"""Whole words and what may stand for them, which leaves every claim as it is."""
KEYS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
LEAST_LETTERS = 4
"""Shorter words are not misspelt, as one letter more or less often makes another word of them."""
WORD = re.compile(r"[a-z0-9]+(?:-[a-z]+)*")


def claims(sentence: str) -> dict[str, frozenset[str]]:
    """What a sentence says of position, laterality, number and size; attributes it is silent about are left out.

    Example:
        >>> claims("One small polyp, located in the upper part")["position"]
        frozenset({'top'})
    """
    words = WORD.findall(sentence.lower())
    found = {key: frozenset(said[w] for w in words if w in said) for key, said in CLAIMS.items()}
    return {key: values for key, values in found.items() if values}


def contradiction(sentence: str, others: Iterable[str], generator: np.random.Generator) -> str:
    """A sentence, written of another case, that cannot be true of this one.

    Two sentences contradict each other in an attribute that both mention, without a value in common. Those that do so
    in position come before those that do in laterality, number or size alone. Of these one is drawn evenly; how often
    or in which order the others come does not matter.

    Args:
        sentence: of this case.
        others: of other cases.
        generator: draws.

    Raises:
        InputError: no other sentence contradicts it.

    Example:
        >>> others = ["one large polyp, at the left", "one small polyp, at the bottom right"]
        >>> contradiction("one small polyp, at the right", others, np.random.default_rng(0))
        'one large polyp, at the left'
    """
    mine = claims(sentence)
    candidates = sorted(set(others))
    for attribute in mine:
        values = [claims(other).get(attribute) for other in candidates]
        wrong = [o for o, v in zip(candidates, values, strict=True) if v and not v & mine[attribute]]
        if wrong:
            return wrong[int(generator.integers(len(wrong)))]
    raise InputError(
        f"{sentence!r}: none of {len(candidates)} other sentences contradicts it, expected one of another position, "
        "laterality, number or size; give sentences of more cases."
    )


def swap_sides(sentence: str) -> str:
    """Left for right and right for left, as a mirrored image needs; a contradiction of an image that is not.

    Example:
        >>> swap_sides("Left lung, and the lower right")
        'Right lung, and the lower left'
    """
    other = {"left": "right", "right": "left"}
    return re.sub(
        r"\b(left|right)\b",
        lambda match: _cased(other[match.group().lower()], match.group()),
        sentence,
        flags=re.IGNORECASE,
    )


def paraphrases(sentence: str) -> tuple[str, ...]:
    """The same in other words: one sentence for every phrase that can be replaced, and one with all of them.

    Returns:
        Distinct sentences that make the same claims; none where no phrase is known.

    Example:
        >>> paraphrases("one small flat polyp")
        ('a single small flat polyp', 'one little flat polyp', 'a single little flat polyp')
    """
    found, everything = [], sentence
    for phrase, substitute in PHRASES:
        found.append(_replace(sentence, phrase, substitute))
        everything = _replace(everything, phrase, substitute)
    return tuple(dict.fromkeys(other for other in (*found, everything) if other != sentence))


def misspelt(sentence: str, generator: np.random.Generator, words: int = 1) -> str:
    """Typing errors, one in each of some words: a letter lost, doubled, hit beside its key, or swapped with the next.

    First letters stay, as do words of fewer than four letters.

    Args:
        sentence: to misspell.
        generator: draws the words and the errors.
        words: how many, at most all that are long enough.

    Raises:
        ConfigError: a number below 1.

    Example:
        >>> misspelt("one small polyp", np.random.default_rng(1)) != "one small polyp"
        True
        >>> misspelt("one to two", np.random.default_rng(1))
        'one to two'
    """
    if words < 1:
        raise ConfigError(f"words={words}, expected 1 or more to misspell.")
    long = list(re.finditer(rf"[^\W\d_]{{{LEAST_LETTERS},}}", sentence))
    chosen = generator.choice(len(long), min(words, len(long)), replace=False) if long else ()
    for index in sorted(chosen, reverse=True):  # from the end, so that the places before it stay true
        start, end = long[index].span()
        sentence = sentence[:start] + _mistyped(sentence[start:end], generator) + sentence[end:]
    return sentence


def _mistyped(word: str, generator: np.random.Generator) -> str:
    at = int(generator.integers(1, len(word)))
    before, letter, after = word[:at], word[at], word[at + 1 :]
    near = "".join(
        k
        for row in KEYS
        for k in row
        if letter.lower() in row and abs(row.index(letter.lower()) - row.index(k)) == 1
    )
    outcomes = [before + after, before + letter * 2 + after]
    if near:
        outcomes.append(before + near[int(generator.integers(len(near)))] + after)
    if after and after[0] != letter:
        outcomes.append(before + after[0] + letter + after[1:])
    return outcomes[int(generator.integers(len(outcomes)))]


def _replace(sentence: str, phrase: str, substitute: str) -> str:
    # A hyphen binds: the "one" of "one-sided" is no number.
    return re.sub(
        rf"(?<![\w-]){phrase}(?![\w-])",
        lambda match: _cased(match.expand(substitute), match.group()),
        sentence,
        flags=re.IGNORECASE,
    )


def _cased(word: str, like: str) -> str:
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word.capitalize() if like[0].isupper() else word
