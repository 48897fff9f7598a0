"""Images, their masks and what was written about them: one sentence a case, or several levels of detail.

A sentence that was written from the mask is a hint of where the object lies. What the hint is worth is measured with
texts left out, contradicted and misspelt: see `text_variants`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigError, DatasetError, UnknownNameError
from ..types import is_missing
from .folder import Case, Dataset, check_pattern
from .splits import PATIENT_PATTERN, SPLIT_NAMES, SplitName, Splits, check_no_leak, out_of_fold, patient_of
from .text_entries import Entry, Found
from .text_layouts import find_entries


@dataclass(frozen=True)
class TextCase:
    """A case and its sentences.

    Args:
        case: name, patient, image files and label map.
        sentences: level -> its wordings, one or more; a level without text is left out.
        split: the part that the data set itself puts the case in.
    """

    case: Case
    sentences: Mapping[str, tuple[str, ...]]
    split: SplitName | None = None


@dataclass(frozen=True)
class TextTable:
    """Cases by name.

    Args:
        folder: where they lie.
        cases: sorted by name.
        levels: of detail, sorted; one, called `text`, where the table has but one column of text.
        label_values: value in the label files -> class name, where that is declared.
        problems: one phrase for each row or file without a partner, where those were allowed.
    """

    folder: Path
    cases: Mapping[str, TextCase]
    levels: tuple[str, ...]
    label_values: Mapping[int, str]
    problems: tuple[str, ...] = ()

    def sentence(self, name: str, level: str | None = None) -> str | None:
        """The first wording of a case at a level, or None where its text is missing.

        Args:
            name: of the case.
            level: may be left out where there is but one.

        Raises:
            UnknownNameError: no such case or level.
            ConfigError: no level, where there are several.
        """
        if level is None and len(self.levels) != 1:
            raise ConfigError(f"No level of detail given, expected one of {', '.join(self.levels)}.")
        level = level or self.levels[0]
        if level not in self.levels:
            raise UnknownNameError("level of detail", level, self.levels)
        if name not in self.cases:
            raise UnknownNameError("case", name, self.cases)
        wordings = self.cases[name].sentences.get(level, ())
        return wordings[0] if wordings else None

    def dataset(self) -> Dataset:
        """The same cases without their text; its `splits` are made by patient."""
        cases = {name: case.case for name, case in self.cases.items()}
        return Dataset(self.folder, cases, self.label_values, self.problems)

    def published_splits(self, seed: int = 0, allow_leaks: bool = False) -> Splits:
        """The parts in which the data set comes; without one for calibration, a fifth of the training patients is.

        Args:
            seed: draws those patients.
            allow_leaks: accept patients in two parts, to compare with results that were got so.

        Raises:
            DatasetError: a case without a part, no part to train or test with, or a patient in two; then
                `dataset().splits()` makes splits by patient.
        """
        parts: dict[SplitName, list[str]] = {name: [] for name in SPLIT_NAMES}
        for name, case in self.cases.items():
            if case.split is None:
                raise DatasetError(f"{name}: in no part of the data set; make splits by patient instead.")
            parts[case.split].append(name)
        if not parts["train"] or not parts["test"]:
            raise DatasetError(
                f"{self.folder}: {len(parts['train'])} training and {len(parts['test'])} test cases, expected some of "
                "both; make splits by patient instead."
            )
        patients = {name: case.case.patient for name, case in self.cases.items()}
        if not parts["calibration"]:
            folds = out_of_fold([patients[name] for name in parts["train"]], 5, seed)
            pairs = list(zip(parts["train"], folds, strict=True))
            parts["calibration"] = [name for name, fold in pairs if fold == 0]
            parts["train"] = [name for name, fold in pairs if fold != 0]
        splits = Splits(*(tuple(parts[name]) for name in SPLIT_NAMES))
        if not allow_leaks:
            check_no_leak(splits, patients)
        return splits


def read_text_table(
    path: str | Path, patient_pattern: str = PATIENT_PATTERN, allow_unmatched: bool = False
) -> TextTable:
    """Read a data set of images with sentences.

    Args:
        path: a folder in one of the layouts of `text_layouts`, or a table of one's own, `.csv` or `.xlsx`, with the
            columns `image` and `text` (or `Description`) and perhaps `mask`, `patient` and `split`.
        patient_pattern: regular expression whose first group names the patient in a case's name, where neither a
            column nor a list of video sequences does.
        allow_unmatched: leave out rows without files and files without rows, instead of refusing the table.

    Raises:
        DatasetError: an unknown layout, an unreadable table, two rows for one case, no case, or rows and files without
            a partner, of which all are named.
        ConfigError: a pattern that is not a regular expression with a group.
        MissingExtraError: a workbook, and openpyxl is not installed.

    Example:
        >>> import tempfile
        >>> from sfumato.datasets import make_phantoms, write_phantoms
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_phantoms(folder, make_phantoms(2, spatial_dims=2, seed=0))
        >>> _ = (folder / "texts.csv").write_text("image,text\\nphantom_000,one bright disk\\nphantom_001,unknown\\n")
        >>> table = read_text_table(folder)
        >>> table.sentence("phantom_000"), table.sentence("phantom_001")
        ('one bright disk', None)
    """
    path = Path(path)
    check_pattern(patient_pattern)
    found = find_entries(path, patient_pattern)
    _check(path, found, allow_unmatched)
    cases = {
        entry.name: TextCase(_case(entry, patient_pattern), _written(entry), entry.split)
        for entry in sorted(found.entries, key=lambda entry: entry.name)
    }
    levels = tuple(sorted({level for entry in found.entries for level in entry.sentences}))
    folder = path.parent if path.is_file() else path
    return TextTable(folder, cases, levels, found.label_values, tuple(found.unmatched))


def _check(path: Path, found: Found, allow_unmatched: bool) -> None:
    twice = [name for name, count in Counter(entry.name for entry in found.entries).items() if count > 1]
    if twice:
        raise DatasetError(
            f"{path}: {twice} have several rows, expected one a case; remove or rename the others."
        )
    if found.unmatched and not allow_unmatched:
        raise DatasetError(
            f"{path}: {len(found.unmatched)} rows or files have no partner, expected a row, an image and a mask for "
            f"each case; correct them, or allow unmatched ones to be left out: {'; '.join(found.unmatched)}."
        )
    if not found.entries:
        raise DatasetError(f"{path}: no row that has its image and its mask, expected at least one.")


def _case(entry: Entry, patient_pattern: str) -> Case:
    return Case(
        entry.name, entry.patient or patient_of(entry.name, patient_pattern), entry.images, entry.label
    )


def _written(entry: Entry) -> dict[str, tuple[str, ...]]:
    """The levels that have text, with spaces as a person types them."""
    cleaned = {
        level: tuple(" ".join(wording.split()) for wording in wordings if not is_missing(wording))
        for level, wordings in entry.sentences.items()
    }
    return {level: wordings for level, wordings in cleaned.items() if wordings}
