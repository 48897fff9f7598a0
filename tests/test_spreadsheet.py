"""Tables as people save them: byte order marks, line ends, delimiters, workbooks, and what is refused."""

from __future__ import annotations

import csv
import sys
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.datasets.spreadsheet import read_sheet
from sfumato.errors import DatasetError, MissingExtraError

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=30)
ROWS = [
    ("Image", "Description"),
    ("a.png", "One small, flat polyp."),
    ("12", ""),
    ("c.png", 'a "large" one; round'),
]
CLEAN = [{"image": image, "text": text} for image, text in ROWS[1:]]


def written(path, encoding="utf-8", delimiter=",", line_end="\n", rows=ROWS):
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator=line_end).writerows(rows)
    return path


def workbook(path, rows):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


def cells(path):
    return [dict(row.cells) for row in read_sheet(path, ("image", "text"))]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_a_csv_file_reads_alike_however_it_was_saved(tmp_path, encoding, delimiter, line_end):
    assert cells(written(tmp_path / "t.csv", encoding, delimiter, line_end)) == CLEAN


def test_a_workbook_reads_as_the_csv_file_does(tmp_path):
    assert cells(workbook(tmp_path / "t.xlsx", [*ROWS[:2], (12, None), ROWS[3]])) == CLEAN


def test_a_name_that_a_workbook_keeps_as_a_fraction_is_whole(tmp_path):
    workbook(tmp_path / "from.xlsx", [("image", "text"), (12, "flat"), (1.5, "round")])
    with (
        zipfile.ZipFile(tmp_path / "from.xlsx") as source,
        zipfile.ZipFile(tmp_path / "t.xlsx", "w") as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name).replace(b"<v>12</v>", b"<v>12.0</v>"))
    assert [row["image"] for row in cells(tmp_path / "t.xlsx")] == ["12", "1.5"]


def test_pandas_reads_the_same(tmp_path):
    pandas = pytest.importorskip("pandas")
    for path in (written(tmp_path / "t.csv", "utf-8-sig", ",", "\r\n"), workbook(tmp_path / "t.xlsx", ROWS)):
        read = pandas.read_csv if path.suffix == ".csv" else pandas.read_excel
        frame = read(path, dtype=str, keep_default_na=False)
        assert [list(row.values()) for row in cells(path)] == frame.values.tolist()


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=30)


@REPEATABLE
@given(st.lists(st.tuples(st.from_regex(r"[a-z]{1,8}\.png", fullmatch=True), TEXT), min_size=1, max_size=6))
def test_any_text_survives_but_for_its_spaces(tmp_path_factory, rows):
    path = written(tmp_path_factory.getbasetemp() / "any.csv", rows=[("image", "text"), *rows])
    assert cells(path) == [{"image": image, "text": " ".join(text.split())} for image, text in rows]


def test_headers_are_compared_trimmed_and_in_lower_case_and_others_left_alone(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(" IMAGE ,age, description\n\na.png,61,flat\n,,\nb.png\n", encoding="utf-8")
    rows = read_sheet(path, ("image", "text"))
    assert [(row.number, dict(row.cells)) for row in rows] == [
        (3, {"image": "a.png", "text": "flat"}),
        (5, {"image": "b.png", "text": ""}),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "an empty table"),
        ("image,age\na.png,61\n", "no column 'text'"),
        ("image,text,Description\na.png,b,c\n", "two columns for 'text'"),
        ("image,text\na.png,small, flat\n", "row 2 has 3 cells, expected 2"),
        ('image,text\na.png,"never closed\n', "quotes around text"),
    ],
)
def test_what_is_no_such_table_is_refused(tmp_path, content, said):
    path = tmp_path / "t.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DatasetError, match=said):
        read_sheet(path, ("image", "text"))


def test_what_cannot_be_decoded_is_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes("image,text\na.png,über\n".encode("latin-1"))
    with pytest.raises(DatasetError, match="expected UTF-8"):
        read_sheet(tmp_path / "t.csv", ("image", "text"))
    pytest.importorskip("openpyxl")
    (tmp_path / "t.xlsx").write_bytes(b"image,text\n")
    with pytest.raises(DatasetError, match="not a readable workbook"):
        read_sheet(tmp_path / "t.xlsx", ("image", "text"))


def test_a_workbook_without_openpyxl_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "t.xlsx").touch()
    with pytest.raises(MissingExtraError, match=r"sfumato\[text\]"):
        read_sheet(tmp_path / "t.xlsx", ("image", "text"))
