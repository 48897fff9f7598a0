"""What a network's training sentences were like, kept as `sentences.json` beside its weights; sentences by image."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ...datasets import TextTable
from ...datasets.binary_mask import read_binary_mask
from ...datasets.spreadsheet import read_sheet
from ...datasets.text_variants import claims
from ...errors import DatasetError
from ...imaging import stem_of
from ...methods.text_guided.training_text import TrainingText
from ...storage import SEGMENTER_FOLDER, read_json, write_json

SENTENCES_FILE = "sentences.json"


def learn_sentences(table: TextTable, names: Iterable[str], level: str | None = None) -> TrainingText:
    """Words and sizes of training cases, whose masks are read.

    Args:
        table: of the data set.
        names: of the training cases alone.
        level: of detail, where there are several.

    Raises:
        InputError: a mask that cannot be read.
        UnknownNameError: no such case or level.
    """
    cases = []
    for name in names:
        sentence, label = table.sentence(name, level), table.cases[name].case.label
        share = float((read_binary_mask(label, name).array > 0).mean()) if label is not None else 0.0
        cases.append((sentence, claims(sentence) if sentence and label is not None else {}, share))
    return TrainingText.of(cases)


def write_sentences(folder: Path, training: TrainingText) -> None:
    """Write `sentences.json` into a segmenter's folder."""
    write_json(folder / SENTENCES_FILE, training.to_json())


def read_sentences(folder: Path) -> TrainingText | None:
    """Of a segmenter's folder, or of a method's that holds its segmenter; None where nothing was written down.

    Raises:
        StorageError: damaged.
    """
    for place in (folder / SENTENCES_FILE, folder / SEGMENTER_FOLDER / SENTENCES_FILE):
        if place.exists():
            return TrainingText.from_json(read_json(place))
    return None


def read_texts(path: Path) -> dict[str, str]:
    """Sentences by the name of their image, from a table with the columns `image` and `text`.

    Raises:
        DatasetError: not such a table, or two rows for one image.
        MissingExtraError: a workbook, and openpyxl is not installed.
    """
    texts: dict[str, str] = {}
    for row in read_sheet(path, ("image", "text")):
        name = stem_of(Path(row.cells["image"]))
        if name in texts:
            raise DatasetError(f"{path.name}: two rows for {name}, expected one an image; remove one.")
        texts[name] = row.cells["text"]
    return texts
