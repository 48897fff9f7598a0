"""Filters: exact counts, who may go, and the files they write."""

from __future__ import annotations

import csv
import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from sfumato.errors import ConfigError, DatasetError, UnknownNameError
from sfumato.runs.difficulty.decisions import FilterRule, decide
from sfumato.runs.difficulty.filter import filter_index
from sfumato.runs.difficulty.shards import write_parquet
from sfumato.runs.difficulty.split_files import read_split_file
from sfumato.runs.difficulty.table import INDEX_COLUMNS, empty_row, index_schema


def row(number: int, value: float, **changes: Any) -> dict[str, Any]:
    name = f"case{number:03d}"
    said = {"case": name, "patient": name, "status": "ok", "difficulty": value, "auv": value, "axis": "D"}
    return empty_row(INDEX_COLUMNS) | said | changes


def rows(count: int) -> list[dict[str, Any]]:
    """Values 0, 1/count, ... in an order that is not that of the names."""
    return [row(i, ((7 * i) % count) / count) for i in range(count)]


def write(folder: Path, content: list[dict[str, Any]]) -> Path:
    write_parquet(folder / "index.parquet", content, index_schema())
    return folder / "index.parquet"


def kept(decisions: Any) -> set[str]:
    return {d.case for d in decisions if d.kept}


@pytest.mark.parametrize(
    ("count", "keep"), [(131, "0.95"), (131, "0.9"), (10, "0.95"), (100, "0.07"), (30, "1")]
)
def test_as_many_stay_as_the_share_says(count, keep):
    wanted = math.ceil(Fraction(keep) * count)
    content = rows(count)
    stays = kept(decide(content, FilterRule(keep=keep)))
    easiest = sorted(content, key=lambda r: r["difficulty"])[:wanted]
    assert stays == {r["case"] for r in easiest}


@pytest.mark.parametrize("drop", [0, 1, 12])
def test_as_many_go_as_are_named(drop):
    assert len(kept(decide(rows(13), FilterRule(drop=drop)))) == 13 - drop


def test_more_than_all_cannot_go():
    with pytest.raises(ConfigError, match="--drop 13, expected from 0 to 12"):
        decide(rows(13), FilterRule(drop=13))


def test_ties_stay_unless_the_count_must_be_exact():
    content = [row(i, v) for i, v in enumerate((0.1, 0.2, 0.2, 0.9, 0.9, 0.9))]
    assert len(kept(decide(content, FilterRule(keep="0.6")))) == 6
    assert len(kept(decide(content, FilterRule(keep="0.6", exact=True)))) == 4


def test_flagged_cases_go_first_and_say_why():
    content = [
        *rows(8),
        row(8, math.nan, status="empty"),
        row(9, math.nan, status="error", message="case009: torn."),
    ]
    decisions = {d.case: d for d in decide(content, FilterRule(drop=2))}
    assert {name for name, d in decisions.items() if not d.kept} == {"case008", "case009"}
    assert decisions["case009"].reason == "case009: torn."
    assert "without content" in decisions["case008"].reason
    assert [decisions[n].flagged for n in ("case008", "case009", "case000")] == ["empty", "error", ""]


def test_what_was_not_judged_is_kept_and_does_not_count():
    content = [*rows(10), *(row(i, math.nan) for i in range(10, 15))]
    decisions = decide(content, FilterRule(keep="0.9"))
    assert sum(not d.kept for d in decisions) == 1
    assert all(d.kept and "No value in difficulty" in d.reason for d in decisions[10:])
    with pytest.raises(ConfigError, match="no case has a value in 'label_score'"):
        decide(content, FilterRule(by="label"))


def test_a_patient_goes_only_with_all_their_cases():
    content = [row(i, i / 10, patient=f"p{i // 2}") for i in range(10)]
    assert kept(decide(content, FilterRule(drop=1))) == {r["case"] for r in content}
    assert kept(decide(content, FilterRule(drop=2))) == {f"case{i:03d}" for i in range(8)}
    reasons = {d.case: d.reason for d in decide(content, FilterRule(drop=1))}
    assert "another case of the patient stays" in reasons["case009"]
    assert len(kept(decide(content, FilterRule(drop=1, by_patient=False)))) == 9


def classes(number: int, first: float, second: float) -> dict[str, Any]:
    own = {"classes": ["liver", "tumour"], "class_status": ["ok", "ok"], "class_auv": [first, second]}
    return row(number, 0.5, **own)


E9 = [
    classes(i, *v)
    for i, v in enumerate(((0.1, 0.9), (0.2, 0.3), (0.95, 0.2), (0.5, 0.5), (0.4, 0.1)), start=1)
]
"""Worked example E9: a share of 0.8."""


@pytest.mark.parametrize(
    ("policy", "target", "stays"),
    [("any", (), {1, 2, 3, 4, 5}), ("all", (), {2, 4, 5}), ("target", ("tumour",), {2, 3, 4, 5})],
)
def test_policies_of_classes(policy, target, stays):
    decisions = decide(E9, FilterRule(keep="0.8", policy=policy, classes=target))
    assert kept(decisions) == {f"case{i:03d}" for i in stays}


def test_pairs_name_the_classes_to_ignore(tmp_path):
    index = write(tmp_path, E9)
    rule = FilterRule(keep="0.8", policy="pairs")
    summary = filter_index(index, tmp_path / "pairs.csv", rule)
    with (tmp_path / "pairs.csv").open(encoding="utf-8", newline="") as file:
        gone = {(r["case"], r["class"]) for r in csv.DictReader(file) if r["kept"] == "False"}
    assert gone == {("case001", "tumour"), ("case003", "liver")}
    assert summary.kept == (5,)
    with pytest.raises(ConfigError, match="no splits file can say"):
        filter_index(index, tmp_path / "splits.json", rule)


def test_flagged_cases_fail_every_class():
    content = [*E9, row(6, math.nan, status="error", message="torn")]
    assert "case006" not in kept(decide(content, FilterRule(keep="0.8", policy="any")))


def test_strata_are_filtered_by_themselves():
    content = [row(i, i / 20, spacing=[1.0 if i < 10 else 3.0]) for i in range(20)]
    gone = {d.case for d in decide(content, FilterRule(keep="0.9", stratify="spacing")) if not d.kept}
    assert gone == {"case009", "case019"}


def test_only_training_cases_go(tmp_path):
    """P22, ours."""
    content = rows(40)
    names = [r["case"] for r in content]
    splits = {"train": names[:20], "calibration": names[20:30], "test": names[30:]}
    (tmp_path / "splits.json").write_text(json.dumps(splits))
    summary = filter_index(
        write(tmp_path, content), tmp_path / "out.json", FilterRule(keep="0.8"), tmp_path / "splits.json"
    )
    written = json.loads((tmp_path / "out.json").read_text())
    assert (written["calibration"], written["test"]) == (splits["calibration"], splits["test"])
    assert len(written["train"]) == 16 == summary.kept[0]
    assert [n for n in splits["train"] if n in written["train"]] == written["train"]
    assert summary.kept_share == 0.8


def test_splits_that_the_index_knows_are_used(tmp_path):
    content = [r | {"split": "train" if i < 10 else "test"} for i, r in enumerate(rows(20))]
    filter_index(write(tmp_path, content), tmp_path / "out.json", FilterRule(keep="0.5"))
    written = json.loads((tmp_path / "out.json").read_text())
    assert len(written["train"]) == 5
    assert written["test"] == [f"case{i:03d}" for i in range(10, 20)]


def nnunet(names: list[str], folds: int = 5) -> list[dict[str, list[str]]]:
    parts = [names[i::folds] for i in range(folds)]
    return [{"train": sorted(set(names) - set(part)), "val": part[::-1]} for part in parts]


def test_nnunets_file_loses_training_cases_alone(tmp_path):
    """P22, nnU-Net's: every fold by itself, validation lists and their order untouched, the original kept."""
    content = rows(50)
    folds = nnunet([r["case"] for r in content])
    path = tmp_path / "splits_final.json"
    original = json.dumps(folds, indent=4)
    path.write_text(original)
    summary = filter_index(write(tmp_path, content), path, FilterRule(keep="0.9"))
    written = json.loads(path.read_text())
    assert [fold["val"] for fold in written] == [fold["val"] for fold in folds]
    for number, (before, after) in enumerate(zip(folds, written, strict=True)):
        values = {r["case"]: r["difficulty"] for r in content}
        assert after["train"] == [
            c for c in before["train"] if c in set(sorted(before["train"], key=values.__getitem__)[:36])
        ]
        assert summary.kept[number] == 36
    assert summary.backup == tmp_path / "splits_final.json.backup"
    assert summary.backup.read_text() == original
    again = filter_index(tmp_path / "index.parquet", path, FilterRule(keep="0.9"), summary.backup)
    assert json.loads(path.read_text()) == written
    assert again.backup is None


def test_nnunets_own_reader_takes_the_file(tmp_path):
    load = pytest.importorskip("batchgenerators.utilities.file_and_folder_operations").load_json
    content = rows(20)
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps(nnunet([r["case"] for r in content])))
    filter_index(write(tmp_path, content), path, FilterRule(keep="0.8"))
    assert [sorted(fold) for fold in load(path)] == [["train", "val"]] * 5


def test_nnunets_file_is_never_made_up(tmp_path):
    with pytest.raises(ConfigError, match="no such file to shorten"):
        filter_index(write(tmp_path, rows(5)), tmp_path / "splits_final.json", FilterRule())


def test_no_fold_is_shortened_away(tmp_path):
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps([{"train": ["a", "b"], "val": ["c"]}, {"train": ["c"], "val": ["a"]}]))
    file = read_split_file(path)
    with pytest.raises(DatasetError, match="1 training lists, expected 2"):
        file.with_training([["a"]])
    with pytest.raises(DatasetError, match="nothing is left to train on in fold 1"):
        file.with_training([["a"], []])
    with pytest.raises(DatasetError, match="'x' was no training case of fold 0"):
        file.with_training([["x"], ["c"]])


def test_an_older_backup_is_never_overwritten(tmp_path):
    index, path = write(tmp_path, rows(20)), tmp_path / "splits.json"
    filter_index(index, path, FilterRule(keep="0.9"))
    first = path.read_text()
    said: list[str] = []
    for name in ("splits.json.backup", "splits.json.backup2"):
        summary = filter_index(index, path, FilterRule(keep="0.9"), say=said.append)
        assert summary.backup == tmp_path / name
    assert (tmp_path / "splits.json.backup").read_text() == first
    assert "was filtered before" in said[0]


def test_a_trial_writes_nothing(tmp_path):
    index = write(tmp_path, rows(20))
    before = sorted(tmp_path.iterdir())
    summary = filter_index(index, tmp_path / "new/splits.json", FilterRule(keep="0.9"), dry_run=True)
    assert sorted(tmp_path.iterdir()) == before
    assert (summary.kept, summary.written) == ((18,), ())


def test_decisions_lie_beside_the_splits(tmp_path):
    filter_index(write(tmp_path, rows(20)), tmp_path / "splits.json", FilterRule(keep="0.9"))
    with (tmp_path / "splits.decisions.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 20
    gone = [r for r in table if r["kept"] == "False"]
    assert len(gone) == 2
    assert all(float(r["value"]) > float(r["threshold"]) and "against a limit" in r["reason"] for r in gone)


def test_cases_that_the_index_does_not_have_stay(tmp_path):
    names = [*(r["case"] for r in rows(10)), "stranger"]
    (tmp_path / "in.json").write_text(json.dumps({"train": names, "calibration": [], "test": []}))
    index = write(tmp_path, rows(10))
    summary = filter_index(index, tmp_path / "out.json", FilterRule(keep="0.5"), tmp_path / "in.json")
    assert summary.unknown == ("stranger",)
    assert "stranger" in json.loads((tmp_path / "out.json").read_text())["train"]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"by": "dificulty"}, "did you mean 'difficulty'"),
        ({"by": "thumbnail"}, "column to filter by"),
        ({"policy": "some"}, "Known: all, any, global"),
        ({"stratify": "site"}, "column to stratify by"),
    ],
)
def test_unknown_names(rule, said):
    with pytest.raises(UnknownNameError, match=said):
        FilterRule(**rule)


@pytest.mark.parametrize("keep", ["0", "1.5", "many"])
def test_shares_that_are_none(keep):
    with pytest.raises(ConfigError, match="expected a number"):
        FilterRule(keep=keep)


@pytest.mark.parametrize("content", ["{}", "[]", '[{"train": []}]', "no json"])
def test_files_that_hold_no_splits(tmp_path, content):
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(DatasetError, match="expected"):
        read_split_file(tmp_path / "splits.json")
