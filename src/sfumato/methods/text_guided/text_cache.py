"""States of sentences that were encoded before, in memory and, with a folder, on disk."""

from __future__ import annotations

import hashlib
import os
import sys
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...errors import StorageError

SUFFIX = ".text.safetensors"
FORMAT = "1"


@dataclass(frozen=True)
class TextFeatures:
    """What an encoder made of sentences, on the CPU.

    Args:
        states: last hidden state of every token, float32; padding has states too.
        keep: tokens that are no padding; [CLS] and [SEP] at least, so that no row is without any.
        present: False for a missing sentence, whose states are those of an empty one.
        truncated: the sentence had more tokens than were kept.
        unknown: share of the sentence's word pieces, kept or not, that the vocabulary does not have, in [0, 1].
    """

    states: Float[Tensor, "sentences length width"]
    keep: Bool[Tensor, "sentences length"]
    present: Bool[Tensor, "sentences"]
    truncated: Bool[Tensor, "sentences"]
    unknown: Float[Tensor, "sentences"]

    def __len__(self) -> int:
        return len(self.states)

    def rows(self, index: Sequence[int]) -> TextFeatures:
        """These rows, in this order; a row may come often."""
        chosen = torch.tensor(index, dtype=torch.long)
        return TextFeatures(*(value[chosen] for value in self._values()))

    @staticmethod
    def joined(parts: Sequence[TextFeatures]) -> TextFeatures:
        """All rows of at least one part, one after the other."""
        columns = zip(*(part._values() for part in parts), strict=True)
        return TextFeatures(*(torch.cat(column) for column in columns))

    def _values(self) -> tuple[Tensor, ...]:
        return self.states, self.keep, self.present, self.truncated, self.unknown


class TextCache:
    """One row of features per sentence, exact to the bit; a file's name tells of its sentence no more than a digest.

    Args:
        key: identity of the encoder: weights, vocabulary and length. Another encoder's files are not found.
        folder: made if needed; several processes and encoders may share it. None keeps everything in memory alone.
        say: receives a line when a file is damaged and its sentence will be encoded again; by default on standard
            error.

    Raises:
        StorageError: the folder cannot be made.

    Example:
        >>> one = torch.ones(1)
        >>> row = TextFeatures(torch.rand(1, 3, 4), torch.ones(1, 3) > 0, one > 0, one < 0, one)
        >>> cache = TextCache("encoder a")
        >>> cache.put("one round polyp", row)
        >>> torch.equal(cache.find("one round polyp").states, row.states), cache.find("no polyp") is None
        (True, True)
    """

    def __init__(
        self,
        key: str,
        folder: Path | str | None = None,
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
    ):
        self.key, self.say = key, say
        self.folder = None if folder is None else Path(folder)
        self._rows: dict[str, TextFeatures] = {}
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageError(f"{folder}: not a folder for texts ({error}); name another.") from error

    def find(self, sentence: str) -> TextFeatures | None:
        """The row of a sentence, if there is one."""
        if sentence not in self._rows and self.folder is not None:
            row = self._read(self._place(self.folder, sentence))
            if row is not None:
                self._rows[sentence] = row
        return self._rows.get(sentence)

    def put(self, sentence: str, row: TextFeatures) -> None:
        """Keep a row.

        Raises:
            StorageError: the folder cannot be written.
        """
        self._rows[sentence] = row
        if self.folder is not None:
            self._write(self._place(self.folder, sentence), row)

    def _place(self, folder: Path, sentence: str) -> Path:
        return folder / (hashlib.sha256(f"{self.key}\n{sentence}".encode()).hexdigest() + SUFFIX)

    def _read(self, place: Path) -> TextFeatures | None:
        try:
            with safe_open(place, framework="pt") as file:
                said = file.metadata() or {}
                values = {name: file.get_tensor(name) for name in TextFeatures.__dataclass_fields__}
            if (said.get("format"), said.get("encoder")) != (FORMAT, self.key):
                raise ValueError(f"format {said.get('format')} of {said.get('encoder')}")
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, ValueError) as error:
            self.say(f"{place}: not a text of {self.key} ({error}); its sentence is encoded again.")
            return None
        return TextFeatures(**values)

    def _write(self, place: Path, row: TextFeatures) -> None:
        values = {name: getattr(row, name).contiguous() for name in TextFeatures.__dataclass_fields__}
        part = place.with_name(f"{place.name}.{uuid.uuid4().hex}.part")
        try:
            save_file(values, part, {"format": FORMAT, "encoder": self.key})
            part.chmod(0o644)  # safetensors makes files that only their owner reads
            os.replace(part, place)
        except (OSError, SafetensorError) as error:
            part.unlink(missing_ok=True)
            raise StorageError(
                f"{self.folder}: texts cannot be kept there ({error}); name another folder."
            ) from error
