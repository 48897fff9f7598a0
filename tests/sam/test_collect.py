"""Records of a data set: complete, resumable, and equal to what asking each object by hand gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sfumato.datasets import open_dataset
from sfumato.errors import ConfigError, StorageError
from sfumato.imaging import read_label
from sfumato.methods.sam_gaps.records import PROMPT_KINDS
from sfumato.runs.sam.collect import CollectOptions, collect
from sfumato.runs.sam.record_files import SUFFIX, load_records

OPTIONS = CollectOptions(objects="instances", per_image=2)


@pytest.fixture(scope="module")
def cases(pictures):
    return list(open_dataset(pictures).cases.values())[:4]


@pytest.fixture(scope="module")
def collected(cases, ladder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    return folder, collect(cases, "discs", ladder, folder, OPTIONS)


def test_records_have_every_kind_of_prompt_on_every_rung(collected, cases):
    folder, run = collected
    records = load_records(folder)
    assert run.done == tuple(case.name for case in cases)
    assert not run.failures
    kinds = [PROMPT_KINDS[k] for k in records.inputs.kind.tolist()]
    assert kinds.count("point") == 2 * kinds.count("box")
    assert {(k, r) for k, r in zip(kinds, records.inputs.rung.tolist(), strict=True)} == {
        (k, r) for k in PROMPT_KINDS for r in (0, 1)
    }
    assert set(records.groups) == {case.patient for case in cases}
    assert set(records.sets) == {"discs"}


def test_the_true_iou_is_that_of_masks_compared_by_hand(collected, cases, ladder, pictures):
    from sfumato.datasets.prompts import centre_point
    from sfumato.runs.sam.planes import read_planes
    from sfumato.types import SpatialPrompt

    records = load_records(collected[0], [cases[0].name])
    name = records.objects[0]
    truth = read_label(cases[0].label).array == int(name.split("#")[1])
    plane = read_planes(cases[0].images).plane(0)
    for rung, network in enumerate(ladder.rungs):
        click = SpatialPrompt.of_points([[(*centre_point(truth), 1)]])
        decoded = network.decode(network.encode(plane), click)
        masks = decoded.masks()[0].numpy()
        expected = [(m & truth).sum() / (m | truth).sum() for m in masks]
        row = next(
            i for i in range(len(records)) if records.objects[i] == name and records.inputs.rung[i] == rung
        )
        assert records.iou[row].tolist() == pytest.approx(expected)
        assert records.rung_own[row, rung] == pytest.approx(expected[int(decoded.own_pick())])


def test_a_second_run_keeps_everything_and_other_settings_keep_nothing(collected, cases, ladder, tmp_path):
    folder, _ = collected
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = collect(cases, "discs", ladder, folder, OPTIONS)
    assert (again.done, again.kept) == ((), tuple(case.name for case in cases))
    assert before == {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    first = cases[:1]
    collect(first, "discs", ladder, tmp_path, OPTIONS)
    assert collect(first, "discs", ladder, tmp_path, replace(OPTIONS, seed=1)).done
    assert collect(first, "other", ladder, tmp_path, replace(OPTIONS, seed=1)).done


def test_half_a_file_is_collected_again_and_comes_out_the_same(collected, cases, ladder, tmp_path):
    collect(cases[:1], "discs", ladder, tmp_path, OPTIONS)
    path = tmp_path / f"{cases[0].name}{SUFFIX}"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StorageError, match="collect them again"):
        load_records(tmp_path)
    assert collect(cases[:1], "discs", ladder, tmp_path, OPTIONS).done
    one, all_ = load_records(tmp_path), load_records(collected[0], [cases[0].name])
    for name, array in one.to_arrays().items():
        np.testing.assert_array_equal(array, all_.to_arrays()[name])


def test_a_case_that_cannot_be_read_is_reported_and_the_others_go_on(cases, ladder, tmp_path):
    broken = replace(cases[0], name="broken", label=cases[0].images[0].with_name("missing.png"))
    run = collect([broken, cases[1]], "discs", ladder, tmp_path, OPTIONS)
    assert run.done == (cases[1].name,)
    assert len(run.failures) == 1
    assert "missing.png" in run.failures[0]


def test_fewer_prompts_per_object_keep_the_click_at_the_centre(cases, ladder, tmp_path):
    collect(cases[:2], "discs", ladder, tmp_path / "few", replace(OPTIONS, per_object=2))
    collect(cases[:2], "discs", ladder, tmp_path / "one", replace(OPTIONS, per_object=1))
    few, one = load_records(tmp_path / "few"), load_records(tmp_path / "one")
    assert len(few) == 2 * len(one)
    assert (one.inputs.kind == 0).all()
    assert torch.equal(few.iou[few.inputs.rung == 0][::2], one.iou[one.inputs.rung == 0])


def test_options_without_sense_are_refused():
    with pytest.raises(ConfigError, match="per_image=0"):
        CollectOptions(per_image=0)
