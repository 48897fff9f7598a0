"""Names in a table and the files they mean, and words that stand for no text."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfumato.datasets.text_entries import Files
from sfumato.datasets.text_table import is_missing
from sfumato.errors import DatasetError
from sfumato.methods.text_guided import text_encoder


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


@pytest.mark.parametrize(
    ("files", "name", "found"),
    [
        (("mask_a.png",), "mask_a.png", "mask_a.png"),
        (("a.png",), "mask_a.png", "a.png"),
        (("mask_a.png",), "a.png", "mask_a.png"),
        (("a.png", "mask_a.png"), "mask_a.png", "mask_a.png"),
        (("a_mask_b.png",), "a_mask_b.png", "a_mask_b.png"),
        (("ab.png",), "amask_b.png", None),
        (("a.tif",), "mask_a.png", "a.tif"),
        (("a.nii.gz",), "a", "a.nii.gz"),
        (("a.tif", "a.png"), "a.png", "a.png"),
        (("a.txt", ".a.png"), "a.png", None),
    ],
)
def test_names_are_matched_exactly_then_by_prefix_then_by_stem(tmp_path, files, name, found):
    touch(tmp_path, *files)
    taken = Files(tmp_path).take(name)
    assert (taken.name if taken else None) == found


def test_a_stem_with_two_files_is_not_guessed(tmp_path):
    touch(tmp_path, "a.tif", "a.jpg")
    with pytest.raises(DatasetError, match=r"a\.jpg and a\.tif"):
        Files(tmp_path).take("a.png")


@pytest.mark.parametrize("text", [None, "", "  ", "NaN", "nan", "Unknown", "unknown.", "N/A", "None"])
def test_missing_text(text):
    assert is_missing(text)


@pytest.mark.parametrize("text", ["no polyp", "unknown polyp", "0"])
def test_text_that_is_not_missing(text):
    assert not is_missing(text)


def test_the_encoder_takes_the_same_words_for_no_text():
    assert text_encoder.is_missing is is_missing
