"""What a trained network's sentences were like: kept beside its weights, to judge sentences by that come later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import StorageError
from .contradiction import Claims, size_ranges
from .vocabulary import Vocabulary


@dataclass(frozen=True)
class TrainingText:
    """Words and sizes of the training cases.

    Args:
        vocabulary: of their sentences.
        sizes: size word -> share of the grid, from and to, that it stood for; see `size_ranges`.
    """

    vocabulary: Vocabulary
    sizes: Mapping[str, tuple[float, float]]

    @staticmethod
    def of(cases: Sequence[tuple[str | None, Claims, float]]) -> TrainingText:
        """Learn from training cases alone.

        Args:
            cases: sentence, what it claims, and the share of the grid that the true mask covers.

        Example:
            >>> case = ("one small polyp", {"size": {"small"}}, 0.05)
            >>> TrainingText.of([case] * 10).sizes
            {'small': (0.05, 0.05)}
        """
        vocabulary = Vocabulary.of([sentence for sentence, _, _ in cases])
        return TrainingText(vocabulary, size_ranges([(claims, share) for _, claims, share in cases]))

    def to_json(self) -> dict[str, Any]:
        """Plain types only."""
        return {"vocabulary": self.vocabulary.to_json(), "sizes": {w: list(r) for w, r in self.sizes.items()}}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> TrainingText:
        """The inverse of `to_json`.

        Raises:
            StorageError: other content.
        """
        try:
            sizes = {str(word): (float(low), float(high)) for word, (low, high) in content["sizes"].items()}
            return TrainingText(Vocabulary.from_json(content["vocabulary"]), sizes)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StorageError(
                f"Sentences of the training with {error!r}, expected words and sizes; train again to write them."
            ) from error
