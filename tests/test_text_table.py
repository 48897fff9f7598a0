"""Images with sentences: four layouts, what does not fit in them, and parts by patient."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sfumato.datasets import make_phantoms, read_text_table, write_phantoms
from sfumato.errors import ConfigError, DatasetError, UnknownNameError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def lvit(folder: Path, parts: dict[str, list[tuple[str, str, str]]], prefix: str = "") -> Path:
    """Rows of mask name, image file and sentence for each part."""
    for part, rows in parts.items():
        inside = folder / f"{part}_Folder"
        for name, image, _ in rows:
            touch(inside, f"img/{image}", f"labelcol/{name}")
        lines = [f'{name.removeprefix(prefix)},"{text}"' for name, _, text in rows]
        body = "\r\n".join(["Image,Description", *lines]) + "\r\n"
        (inside / f"{part}_text.csv").write_text(body, encoding="utf-8-sig", newline="")
    return folder


PARTS = {
    "Train": [("mask_a_1.png", "a_1.png", "left lung"), ("mask_b_1.png", "b_1.png", "unknown")],
    "Val": [("c_mask_1.png", "c_mask_1.jpg", "right lung")],
    "Test": [("d_1.png", "d_1.tif", " both\tlungs ")],
}


# ---- layouts


@pytest.mark.parametrize("prefix", ["", "mask_"])
def test_lvit_with_and_without_the_prefix_in_its_rows(tmp_path, prefix):
    table = read_text_table(lvit(tmp_path, PARTS, prefix), patient_pattern=r"(.)_")
    assert list(table.cases) == ["a_1", "b_1", "c_mask_1", "d_1"]
    assert [table.sentence(name) for name in table.cases] == ["left lung", None, "right lung", "both lungs"]
    case = table.cases["a_1"].case
    assert case.images == (tmp_path / "Train_Folder/img/a_1.png",)
    assert case.label == tmp_path / "Train_Folder/labelcol/mask_a_1.png"
    assert [c.case.patient for c in table.cases.values()] == ["a", "b", "c", "d"]
    assert table.published_splits().to_json() == {
        "train": ["a_1", "b_1"],
        "calibration": ["c_mask_1"],
        "test": ["d_1"],
    }


def test_a_workbook_gives_the_same_table(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    folder = lvit(tmp_path, PARTS)
    from_csv = read_text_table(folder)
    for part, rows in PARTS.items():
        book = openpyxl.Workbook()
        for row in (("Image", "Description"), *((name, text) for name, _, text in rows)):
            book.active.append(row)
        sheet = folder / f"{part}_Folder/{part}_text.csv"
        book.save(sheet.with_suffix(".xlsx"))
        sheet.unlink()
    assert read_text_table(folder) == from_csv


def test_ariadnes_thread(tmp_path):
    touch(tmp_path, "Train/Images/a.png", "Train/GTs/mask_a.png", "Test/Images/b.png", "Test/GTs/mask_b.png")
    for part, name in (("train", "a"), ("test", "b")):
        touch(tmp_path, f"prompt/{part}.csv")
        (tmp_path / f"prompt/{part}.csv").write_text(f"Image,Description\nmask_{name}.png,lung {name}\n")
    table = read_text_table(tmp_path)
    assert [(n, table.sentence(n), c.split) for n, c in table.cases.items()] == [
        ("a", "lung a", "train"),
        ("b", "lung b", "test"),
    ]


def prompted(folder: Path, parts: dict[str, list[int]]) -> Path:
    for part, numbers in parts.items():
        rows = [
            {
                "img_name": f"{n}.png",
                "mask_name": f"{n}.png",
                "prompts": {"p0": "", "p1": " polyp ", "p2": [f"{n} a", f"{n} b"]},
            }
            for n in numbers
        ]
        (folder / f"{part}.json").write_text(json.dumps(rows))
        touch(folder, *(f"{kind}/{n}.png" for kind in ("images", "masks") for n in numbers))
    return folder


def test_prompts_in_levels_and_frames_by_sequence(tmp_path):
    (tmp_path / "SEQUENCES.txt").write_text("1 1 3\n2 4 9\n")
    table = read_text_table(prompted(tmp_path, {"train": [1, 3], "val": [4], "test": [9]}))
    assert table.levels == ("p0", "p1", "p2")
    assert table.cases["9"].sentences == {"p1": ("polyp",), "p2": ("9 a", "9 b")}
    assert (table.sentence("9", "p0"), table.sentence("9", "p2")) == (None, "9 a")
    assert [c.case.patient for c in table.cases.values()] == ["sequence_1"] * 2 + ["sequence_2"] * 2
    with pytest.raises(DatasetError, match="'sequence_2' is in both calibration and test"):
        table.published_splits()
    assert table.published_splits(allow_leaks=True).calibration == ("4",)
    with pytest.raises(ConfigError, match="expected one of p0, p1, p2"):
        table.sentence("9")
    with pytest.raises(UnknownNameError, match="level of detail called 'p3'"):
        table.sentence("9", "p3")
    with pytest.raises(UnknownNameError, match="case called '10'"):
        table.sentence("10", "p1")


def test_a_frame_of_no_sequence_and_prompts_of_another_form(tmp_path):
    prompted(tmp_path, {"train": [1, 5]})
    (tmp_path / "SEQUENCES.txt").write_text("1 1 3\n")
    with pytest.raises(DatasetError, match="5: a frame of 0 sequences"):
        read_text_table(tmp_path)
    (tmp_path / "SEQUENCES.txt").write_text("1 1\n")
    with pytest.raises(DatasetError, match="SEQUENCE FIRST LAST"):
        read_text_table(tmp_path)
    (tmp_path / "SEQUENCES.txt").unlink()
    for wrong in (
        "{}",
        '[{"img_name": "1.png"}]',
        '[{"img_name": "1.png", "mask_name": "1.png", "prompts": {"p": 3}}]',
    ):
        (tmp_path / "train.json").write_text(wrong)
        with pytest.raises(DatasetError, match="entry 1 is"):
            read_text_table(tmp_path)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_table_beside_images_and_masks(tmp_path, dims):
    write_phantoms(tmp_path, make_phantoms(3, spatial_dims=dims, seed=0))
    body = "image;text;patient;split\nphantom_000;a disk;x;train\nphantom_001;NaN;x;valid\nphantom_002;two;y;test\n"
    (tmp_path / "texts.csv").write_text(body)
    table = read_text_table(tmp_path)
    assert [table.sentence(name) for name in table.cases] == ["a disk", None, "two"]
    assert [(c.case.patient, c.split) for c in table.cases.values()] == [
        ("x", "train"),
        ("x", "calibration"),
        ("y", "test"),
    ]
    dataset = table.dataset()
    assert (dataset.label_values[0], dataset.cases["phantom_000"]) == (
        "background",
        table.cases["phantom_000"].case,
    )
    assert read_text_table(tmp_path / "texts.csv") == table


def test_a_table_of_paths_names_cases_by_what_differs(tmp_path):
    touch(tmp_path, *(f"scans/{p}/{k}.nii.gz" for p in ("p1", "p2") for k in ("t1", "seg")))
    rows = [
        f"scans/{p}/t1.nii.gz,scans/{p}/seg.nii.gz,{side}" for p, side in (("p1", "left"), ("p2", "right"))
    ]
    (tmp_path / "mine.csv").write_text("\n".join(["Image,Mask,Text", *rows]))
    table = read_text_table(tmp_path / "mine.csv")
    assert list(table.cases) == ["p1_t1", "p2_t1"]
    assert table.cases["p2_t1"].case.label == tmp_path / "scans/p2/seg.nii.gz"


# ---- what does not fit


def test_all_rows_and_files_without_a_partner_are_named_at_once(tmp_path):
    folder = lvit(tmp_path, PARTS)
    touch(folder, "Train_Folder/img/extra.png", "Test_Folder/labelcol/alone.png")
    (folder / "Train_Folder/img/b_1.png").unlink()
    (folder / "Val_Folder/labelcol/c_mask_1.png").unlink()
    with pytest.raises(DatasetError) as error:
        read_text_table(folder)
    phrases = str(error.value).split("left out: ")[1].rstrip(".").split("; ")
    assert sorted(phrases) == [
        "Test_Folder/labelcol/alone.png has no row",
        "Train_Folder/img/extra.png has no row",
        "Train_text.csv row 3 (mask_b_1.png) has no file in img",
        "Val_text.csv row 2 (c_mask_1.png) has no file in labelcol",
    ]
    table = read_text_table(folder, allow_unmatched=True)
    assert list(table.cases) == ["a_1", "d_1"]
    assert sorted(table.problems) == sorted(phrases)


def test_tables_of_ones_own_name_what_they_miss(tmp_path):
    touch(tmp_path, "images/a.png", "masks/a.png", "images/b.png", "masks/b.png")
    (tmp_path / "texts.csv").write_text("image,text\na.png,one\nc.png,two\n,three\n")
    with pytest.raises(
        DatasetError, match=r"row 3 \(c.png\) has no case; .*row 4 \(no name\) has no case; b has no row"
    ):
        read_text_table(tmp_path)
    (tmp_path / "texts.csv").write_text("image,mask,text\nimages/a.png,masks/z.png,one\nimages/b.png,,two\n")
    with pytest.raises(DatasetError, match=r"row 2 \(z.png\) has no such image file; texts.csv row 3"):
        read_text_table(tmp_path)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("image,text\na.png,one\na,two\n", r"\['a'\] have several rows"),
        ("image,text,split\na.png,one,dev\n", "the split 'dev'"),
        ("image,text\n", "a has no row"),
    ],
)
def test_rows_that_contradict_each_other(tmp_path, body, said):
    touch(tmp_path, "images/a.png", "masks/a.png")
    (tmp_path / "texts.csv").write_text(body)
    with pytest.raises(DatasetError, match=said):
        read_text_table(tmp_path)


def test_folders_that_are_no_such_data_set(tmp_path):
    with pytest.raises(DatasetError, match="no such folder or file"):
        read_text_table(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="no sentences in a layout"):
        read_text_table(tmp_path)
    with pytest.raises(ConfigError, match="patient pattern"):
        read_text_table(tmp_path, patient_pattern="no group")
    touch(tmp_path, "Train_Folder/img/a.png")
    with pytest.raises(DatasetError, match=r"expected Train_Folder/Train_text.csv or .xlsx"):
        read_text_table(tmp_path)
    touch(tmp_path, "Train_Folder/Train_text.csv", "Train_Folder/Train_text.xlsx")
    with pytest.raises(DatasetError, match="remove one"):
        read_text_table(tmp_path)


def test_without_a_part_to_calibrate_a_fifth_of_the_training_patients_is_drawn(tmp_path):
    train = [(f"p{i}_{j}.png", f"p{i}_{j}.png", "x") for i in range(10) for j in range(2)]
    folder = lvit(tmp_path, {"Train": train, "Test": [("t_1.png", "t_1.png", "x")]})
    table = read_text_table(folder, patient_pattern=r"(\w+)_")
    splits = table.published_splits(seed=1)
    patients = {
        part: {table.cases[n].case.patient for n in splits[part]} for part in ("train", "calibration")
    }
    assert (len(patients["train"]), len(patients["calibration"])) == (8, 2)
    assert not patients["train"] & patients["calibration"]
    assert table.published_splits(seed=1) == splits != table.published_splits(seed=2)
