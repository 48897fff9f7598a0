"""What people hand in: every mistake gets one sentence that names the case, what came and what to do.

The table goes from a file to a training sample, or through the door that the mistake comes in by.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as PillowImage

from sfumato.datasets import Case, make_phantoms, open_dataset, write_phantoms
from sfumato.errors import DatasetError, GeometryError, InputError, StorageError
from sfumato.imaging import read_image, read_label
from sfumato.pipeline.samples import gather_samples, read_sample
from sfumato.pipeline.windows import blended_slabs, plan_windows
from sfumato.runs.train import TrainConfig, train_segmenter
from sfumato.segmenters.spec import SegmenterSpec
from sfumato.storage import load_tensors
from sfumato.training.samples import PatchSampler

SHAPE = (12, 16, 20)
SHEARED = np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], float)


def spec_of(dims=3, channels=1, classes=3) -> SegmenterSpec:
    names = ("background", *(f"class {n}" for n in range(1, classes)))
    return SegmenterSpec("preset:test", dims, channels, names, (16,) * dims)


def save(
    path: Path, array, affine=None, change: Callable[[nib.Nifti1Header], None] = lambda header: None
) -> Path:
    image = nib.Nifti1Image(np.asarray(array), np.eye(4) if affine is None else affine)
    change(image.header)
    nib.save(image, path)
    return path


def image_array(seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def label_array() -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[3:8, 4:9, 5:12] = 1
    label[5:7, 6:8, 7:9] = 2
    return label


def case(folder: Path, image=None, label=None, image_affine=None, label_affine=None) -> Case:
    image = save(folder / "case.nii.gz", image_array() if image is None else image, image_affine)
    labels = save(folder / "case_label.nii.gz", label_array() if label is None else label, label_affine)
    return Case("case", "case", (image,), labels)


def with_voxels(array: np.ndarray, value, count: int) -> np.ndarray:
    array = array.copy()
    array.reshape(-1)[:count] = value
    return array


def truncated(path: Path, keep: float = 0.6) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    return path


def text_as(path: Path) -> Path:
    path.write_text("This is not an image. " * 40)
    return path


def typed(path: Path, kind) -> Path:
    return save(path, np.zeros(SHAPE, kind))


def contradictory(header: nib.Nifti1Header) -> None:
    moved = np.eye(4)
    moved[0, 3] = 12
    header.set_sform(np.eye(4), 1)
    header.set_qform(moved, 1)


def contradictory_file(path: Path) -> Path:
    image = nib.Nifti1Image(image_array(), None)
    contradictory(image.header)
    path.write_bytes(nib.Nifti1Image(image_array(), None, image.header).to_bytes())
    return path


def picture(path: Path, mode="L") -> Path:
    PillowImage.new(mode, (20, 16)).save(path)
    return path


def data_set(folder: Path, count=4) -> Path:
    write_phantoms(folder, make_phantoms(count, 3, 0))
    return folder


def broken(folder: Path, name: str, content: str) -> Path:
    data_set(folder)
    (folder / name).write_text(content)
    return folder


def twice(folder: Path) -> Path:
    data_set(folder)
    save(folder / "images" / "phantom_001.nii", image_array())
    return folder


def pickled(path: Path) -> Path:
    torch.save({"weight": torch.zeros(3)}, path)
    return path


SAMPLE_MISTAKES = {
    "NaN voxels": (
        lambda t: case(t, with_voxels(image_array(), np.nan, 3)),
        InputError,
        "case: 3 of 3840 voxels are NaN or infinite, expected finite numbers; clean the image first",
    ),
    "infinite voxels": (
        lambda t: case(t, with_voxels(image_array(), np.inf, 1)),
        InputError,
        "case: 1 of 3840 voxels",
    ),
    "too large for float32": (
        lambda t: case(t, with_voxels(image_array().astype(np.float64), 1e300, 2)),
        InputError,
        "case: 2 of 3840 voxels are NaN or infinite",
    ),
    "empty label": (
        lambda t: case(t, label=np.zeros(SHAPE, np.uint8)),
        InputError,
        "case: the label holds nothing but background, expected background and one more class",
    ),
    "single class": (
        lambda t: case(t, label=np.ones(SHAPE, np.uint8)),
        InputError,
        "case: the label holds nothing but class 1",
    ),
    "NaN in the label": (
        lambda t: case(t, label=with_voxels(label_array().astype(np.float32), np.nan, 5)),
        InputError,
        "case: 5 of 3840 voxels are NaN",
    ),
    "values not in the list": (
        lambda t: case(t, label=with_voxels(label_array(), 77, 1)),
        InputError,
        r"case: label values \[77\] are not in the data set's list \[0, 1, 2\]; correct the label, or pass --instances",
    ),
    "a probability as label": (
        lambda t: case(t, label=label_array() * 0.3),
        InputError,
        "case: the label file case_label.nii.gz has values that are not whole numbers",
    ),
    "too many channels": (
        lambda t: case(t, np.zeros((*SHAPE, 2), np.float32)),
        InputError,
        "case: 2 channels, expected 1; check",
    ),
    "label of another shape": (
        lambda t: case(t, label=label_array()[:-1]),
        InputError,
        r"case: the label's grid is \(11, 16, 20\), expected the image's \(12, 16, 20\)",
    ),
    "label elsewhere": (
        lambda t: case(t, label_affine=np.diag([-1.0, -1, 1, 1])),
        InputError,
        "case: the label lies up to 37.2 mm away from the image, expected less than half a voxel",
    ),
    "sheared image": (
        lambda t: case(t, image_affine=SHEARED),
        GeometryError,
        "case.nii.gz: the grid axes are sheared .*; pass --resample",
    ),
    "no label": (
        lambda t: Case("case", "case", case(t).images),
        InputError,
        "case: no label, expected one for fitting",
    ),
    "a picture for a 3-D network": (
        lambda t: Case("case", "case", (picture(t / "case.png"),), picture(t / "label.png")),
        InputError,
        r"case: a 2-D picture of \(16, 20\), expected a volume for this 3-D network; use a 2-D segmenter",
    ),
    "no file": (
        lambda t: Case("case", "case", (t / "gone.nii.gz",), case(t).label),
        InputError,
        "gone.nii.gz: there is no such file; check the path",
    ),
}

FILE_MISTAKES = {
    "truncated .nii.gz": (
        lambda t: truncated(save(t / "case.nii.gz", image_array())),
        "not a readable NIfTI file",
    ),
    "truncated .nii": (lambda t: truncated(save(t / "case.nii", image_array())), "not a readable NIfTI file"),
    "truncated .png": (
        lambda t: truncated(_saved_noise(t / "case.png")),
        "not a readable picture",
    ),
    "truncated .tif": (lambda t: truncated(_saved_noise(t / "case.tif")), "not a readable picture"),
    "text as .nii.gz": (lambda t: text_as(t / "case.nii.gz"), "not a readable NIfTI file"),
    "text as .nii": (lambda t: text_as(t / "case.nii"), "not a readable NIfTI file"),
    "text as .png": (lambda t: text_as(t / "case.png"), "not a readable picture"),
    "text as .tiff": (lambda t: text_as(t / "case.tiff"), "not a readable picture"),
    "empty file": (lambda t: _empty(t / "case.nii.gz"), "not a readable NIfTI file"),
    "a folder": (lambda t: _folder(t / "case.nii.gz"), "not a readable NIfTI file"),
    "unknown suffix": (
        lambda t: text_as(t / "case.mha"),
        r"not an image we read; expected a name ending in \.nii\.gz, \.nii, \.png",
    ),
    "complex voxels": (
        lambda t: typed(t / "case.nii", np.complex64),
        "voxels are of type complex64, expected numbers",
    ),
    "RGB voxels": (
        lambda t: typed(t / "case.nii", [("R", "u1"), ("G", "u1"), ("B", "u1")]),
        r"voxels are of type .*'R'.*, expected numbers",
    ),
    "complex pixels": (
        lambda t: _complex_tiff(t / "case.tif"),
        "pixels are of type complex64, expected real numbers",
    ),
    "qform against sform": (
        lambda t: contradictory_file(t / "case.nii"),
        "qform and sform disagree by 12.00 mm",
    ),
    "time series of channels": (
        lambda t: save(t / "case.nii", np.zeros((3, 4, 5, 2, 2), np.int16)),
        r"5 axes, expected 3 \(a volume\) or 4",
    ),
    "no voxels": (lambda t: _hollow(t / "case.nii"), r"a grid of \(12, 0, 20\), expected voxels"),
}

SET_MISTAKES = {
    "no folder": (lambda t: t / "gone", "gone: there is no such folder"),
    "empty folder": (
        lambda t: t,
        "not a data set we know; expected images and masks, or imagesTr and labelsTr",
    ),
    "folder without images": (lambda t: _folders(t, "images", "masks"), "images: no image in it"),
    "duplicate case": (twice, "phantom_001: two files, phantom_001.nii and phantom_001.nii.gz"),
    "broken dataset.json": (
        lambda t: broken(t, "dataset.json", '{"labels": '),
        "dataset.json: not a readable",
    ),
    "dataset.json of another kind": (
        lambda t: broken(t, "dataset.json", '["liver"]'),
        "dataset.json: not a readable",
    ),
    "splits.json with an unknown case": (
        lambda t: broken(t, "splits.json", '{"train": ["phantom_009"], "calibration": [], "test": []}'),
        "splits.json: 1 cases are not in the data set, the first is 'phantom_009'",
    ),
    "splits.json with a case twice": (
        lambda t: broken(
            t,
            "splits.json",
            json.dumps({"train": ["phantom_001"], "calibration": ["phantom_001"], "test": []}),
        ),
        "phantom_001: patient 'phantom_001' is in both train and calibration, .*; move the case",
    ),
    "too few patients": (lambda t: data_set(t, 2), "2 patients, expected at least 3"),
}


def _saved_noise(path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    tifffile.imwrite(path, noise, photometric="rgb") if path.suffix == ".tif" else PillowImage.fromarray(
        noise
    ).save(path)
    return path


def _empty(path: Path) -> Path:
    path.touch()
    return path


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _folders(path: Path, *names: str) -> Path:
    for name in names:
        (path / name).mkdir()
    return path


def _complex_tiff(path: Path) -> Path:
    tifffile.imwrite(path, np.zeros((5, 6), np.complex64))
    return path


def _hollow(path: Path) -> Path:
    data = bytearray(save(path, image_array()).read_bytes())
    data[44:46] = b"\0\0"  # dim[2]
    path.write_bytes(data)
    return path


def is_one_sentence(message: str) -> bool:
    return (
        "\n" not in message
        and "Traceback" not in message
        and message.rstrip()[-1] in ".?"
        and len(message) < 600
    )


@pytest.mark.parametrize("mistake", SAMPLE_MISTAKES)
def test_a_case_that_cannot_be_fitted_on(tmp_path, mistake):
    make, kind, message = SAMPLE_MISTAKES[mistake]
    bad = make(tmp_path)
    with pytest.raises(kind, match=message) as caught:
        read_sample(bad, spec_of())
    assert is_one_sentence(str(caught.value))


@pytest.mark.parametrize("mistake", SAMPLE_MISTAKES)
def test_the_other_cases_go_on(tmp_path, mistake):
    folders = tmp_path / "good", tmp_path / "bad"
    for folder in folders:
        folder.mkdir()
    bad = SAMPLE_MISTAKES[mistake][0](folders[1])
    found = gather_samples([bad, case(folders[0])], spec_of())
    assert len(found.samples) == 1
    assert len(found.problems) == 1


@pytest.mark.parametrize("mistake", FILE_MISTAKES)
@pytest.mark.parametrize("read", [read_image, read_label])
def test_a_file_that_cannot_be_read(tmp_path, mistake, read):
    make, message = FILE_MISTAKES[mistake]
    path = make(tmp_path)
    with pytest.raises(InputError, match=f"{path.name}: .*{message}|{path.name}: {message}") as caught:
        read(path)
    assert is_one_sentence(str(caught.value))


@pytest.mark.parametrize("mistake", SET_MISTAKES)
def test_a_data_set_that_cannot_be_used(tmp_path, mistake):
    make, message = SET_MISTAKES[mistake]
    with pytest.raises(DatasetError, match=message) as caught:
        open_dataset(make(tmp_path)).splits()
    assert is_one_sentence(str(caught.value))


def test_a_missing_pair_leaves_the_others(tmp_path):
    data_set(tmp_path)
    (tmp_path / "masks" / "phantom_002.nii.gz").unlink()
    (tmp_path / "images" / "phantom_003.nii.gz").unlink()
    dataset = open_dataset(tmp_path)
    assert list(dataset.cases) == ["phantom_000", "phantom_001"]
    assert dataset.problems == (
        "phantom_002: an image without a mask of its name; the case is left out.",
        "phantom_003: a mask without an image of its name; it is left out.",
    )


def test_resample_accepts_what_it_can_repair(tmp_path):
    sheared = case(tmp_path, image_affine=SHEARED, label_affine=SHEARED)
    sample = read_sample(sheared, spec_of(), resample=True)
    assert sample.label.shape != SHAPE  # seen on an orthogonal grid
    assert set(np.unique(sample.label)) == {0, 1, 2}
    assert read_image(contradictory_file(tmp_path / "b.nii"), resample=True).geometry.affine[0, 3] == 0


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 1, 1), (40, 3, 2)])
def test_images_smaller_than_the_patch_and_the_window_work(tmp_path, shape):
    label = np.zeros(shape, np.uint8)
    label.reshape(-1)[: label.size // 2 + 1] = 1
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    if label.min() == label.max():
        label_case = gather_samples([case(tmp_path)], spec_of()).samples[0]
        sample = type(label_case)(image[None], label.astype(np.int16), "case", "case")
    else:
        sample = read_sample(case(tmp_path, image, label), spec_of())
    batch = PatchSampler([sample], (16, 16, 16), 2, foreground=0.5).batch(0)
    assert batch.image.shape == (2, 1, 16, 16, 16)
    assert batch.label is not None
    assert int(batch.label.max()) == 1
    plan = plan_windows(shape, (16, 16, 16), 4)
    slabs = [slab["logits"] for _, slab in blended_slabs(sample.image, plan, lambda w: {"logits": w})]
    torch.testing.assert_close(
        torch.cat(slabs, 1 + plan.axis), torch.from_numpy(sample.image), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([], "The training split is empty, expected at least one case"),
        (["phantom_000"], "All training cases are of one patient; add others, or pass --validation 0"),
    ],
)
def test_a_split_that_cannot_be_trained_on(tmp_path, train, message):
    splits = {"train": train, "calibration": ["phantom_001"], "test": ["phantom_002"]}
    broken(tmp_path / "data", "splits.json", json.dumps(splits))
    with pytest.raises(DatasetError, match=message):
        train_segmenter(tmp_path / "data", tmp_path / "out", TrainConfig("resunet3d", {"widths": (4, 8)}))


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_a_pickled_checkpoint_is_not_loaded(tmp_path, name):
    with pytest.raises(StorageError, match=f"{name}: ") as caught:
        load_tensors(pickled(tmp_path / name))
    assert is_one_sentence(str(caught.value))


def test_a_pickle_bomb_does_not_go_off(tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "exploded",)

    (tmp_path / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(StorageError):
        load_tensors(tmp_path / "model.safetensors")
    assert not (tmp_path / "exploded").exists()
