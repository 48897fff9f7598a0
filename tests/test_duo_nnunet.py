"""The DUO trainer inside nnU-Net: a whole tiny training, its checkpoints, and the export to the stock trainer."""

from __future__ import annotations

import csv
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.datasets.synthetic import make_phantoms
from sfumato.errors import ConfigError, StorageError
from sfumato.storage import load_segmenter
from sfumato.training.duo.widened import hide_extra_outputs, narrowed_state
from sfumato.training.nnunet_trainers import export_results, folder
from sfumato.types import Batch

pytestmark = [pytest.mark.needs_nnunet, pytest.mark.filterwarnings("ignore")]  # nnU-Net's own

CASES = tuple(f"case_{i}" for i in range(5))
PATCH = [8, 12, 16]
ARCHITECTURE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 3,
        "features_per_stage": [4, 6, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * 3,
        "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2]],
        "n_conv_per_stage": [1, 1, 1],
        "n_conv_per_stage_decoder": [1, 1],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}
PLANS = {
    "dataset_name": "Dataset999_Tiny",
    "plans_name": "nnUNetPlans",
    "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "image_reader_writer": "SimpleITKIO",
    "label_manager": "LabelManager",
    "experiment_planner_used": "ExperimentPlanner",
    "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
    "original_median_shape_after_transp": [12, 16, 20],
    "foreground_intensity_properties_per_channel": {},
    "configurations": {
        "3d_fullres": {
            "data_identifier": "tiny",
            "preprocessor_name": "DefaultPreprocessor",
            "batch_size": 2,
            "patch_size": PATCH,
            "median_image_size_in_voxels": [12.0, 16.0, 20.0],
            "spacing": [1.0, 1.0, 1.0],
            "normalization_schemes": ["ZScoreNormalization"],
            "use_mask_for_norm": [False],
            "batch_dice": False,
            "architecture": ARCHITECTURE,
        }
    },
}
DATASET = {
    "channel_names": {"0": "phantom"},
    "labels": {"background": 0, "one": 1, "two": 2},
    "numTraining": len(CASES),
    "file_ending": ".nii.gz",
}


def find(name: str):
    """As nnU-Net finds external trainers, without first importing all of its own and what those need."""
    search = pytest.importorskip("nnunetv2.utilities.find_class_by_name").recursive_find_python_class
    from nnunetv2.paths import nnUNet_extTrainer

    for place in nnUNet_extTrainer.get().split(os.pathsep):
        found = search(place, name, None, base_folder=place, cleanup_imports_from_base_folder=True)
        if found is not None:
            return found
    from nnunetv2.training.nnUNetTrainer import nnUNetTrainer

    return getattr(nnUNetTrainer, name)


@pytest.fixture
def nnunet(tmp_path, monkeypatch):
    """A preprocessed data set of phantoms; `nnunet(trainer name, **changes of dataset.json)` gives a trainer."""
    datasets = pytest.importorskip("nnunetv2.training.dataloading.nnunet_dataset")
    base = tmp_path / "preprocessed" / PLANS["dataset_name"]
    (base / "tiny").mkdir(parents=True)
    for case, phantom in zip(CASES, make_phantoms(len(CASES), 3, seed=3, classes=3), strict=True):
        label = phantom.label[None].astype(np.int8)
        places = {c: np.argwhere(label == c) for c in (1, 2)}
        datasets.nnUNetDatasetBlosc2.save_case(
            phantom.image, label, {"class_locations": places}, str(base / "tiny" / case)
        )
    for name, content in (
        ("splits_final.json", [{"train": list(CASES[:4]), "val": [CASES[4]]}]),
        ("dataset_fingerprint.json", {}),
        ("dataset.json", DATASET),
        ("nnUNetPlans.json", PLANS),
    ):
        (base / name).write_text(json.dumps(content))
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    monkeypatch.setenv("nnUNet_extTrainer", str(folder))
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")

    def make(name: str = "nnUNetTrainerDUO", configuration: dict | None = None, **changes):
        plans = json.loads(json.dumps(PLANS)) | {"continue_training": False}
        plans["configurations"]["3d_fullres"] |= configuration or {}
        trainer = find(name)(plans, "3d_fullres", 0, DATASET | changes, torch.device("cpu"))
        trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 2, 2, 1
        return trainer

    return make


def batch(keys=(CASES[2], CASES[0]), seed=0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 3, (2, 1, *PATCH), generator=generator).float()
    data = torch.randn(2, 1, *PATCH, generator=generator)
    return {"data": data, "target": [target, target[:, :, ::2, ::2, ::2]], "keys": list(keys)}


def image() -> torch.Tensor:
    return torch.randn(1, 1, *PATCH, generator=torch.Generator().manual_seed(7))


def test_a_whole_training_can_be_exported_and_needs_nothing_but_nnunet(nnunet, tmp_path, monkeypatch):
    trainer = nnunet()
    trainer.run_training()
    results = tmp_path / "results" / PLANS["dataset_name"] / "nnUNetTrainerDUO__nnUNetPlans__3d_fullres"
    assert not list(results.glob("fold_0/checkpoint_latest*"))
    rows = list(csv.DictReader((results / "fold_0/annotation_bias.csv").read_text().splitlines()))
    assert [row["case"] for row in rows] == [case for case in CASES[:4] for _ in range(2)]
    assert [row["class"] for row in rows[:2]] == ["one", "two"]
    trainer.network.eval()
    trainer.set_deep_supervision_enabled(False)
    with torch.no_grad():
        expected = trainer.network(image())
    assert expected.shape == (1, 3, *PATCH)

    written = export_results(results, tmp_path / "stock")
    assert tmp_path / "stock/fold_0/checkpoint_final.pth" in written
    from nnunetv2.inference import predict_from_raw_data

    monkeypatch.setattr(predict_from_raw_data, "recursive_find_trainer_class_by_name", find)
    for place in (tmp_path / "stock", results):
        predictor = predict_from_raw_data.nnUNetPredictor(device=torch.device("cpu"))
        predictor.initialize_from_trained_model_folder(str(place), (0,), "checkpoint_final.pth")
        predictor.network.load_state_dict(predictor.list_of_parameters[0])
        assert predictor.trainer_name == ("nnUNetTrainerDUO" if place == results else "nnUNetTrainer")
        with torch.no_grad():
            # A convolution with fewer outputs may round its sums in another order.
            torch.testing.assert_close(predictor.network.eval()(image()), expected, rtol=1e-5, atol=1e-6)
        wide = trainer.network.state_dict()
        for weight, value in predictor.network.state_dict().items():
            assert torch.equal(value, wide[weight][: len(value)]), weight
    segmenter = load_segmenter(tmp_path / "stock", allow_pickle=True)
    # Ours reads the axes the other way round (see the adapter), so it is asked the other way round.
    logits = segmenter.segment(Batch(image().permute(0, 1, 4, 3, 2))).logits.permute(0, 1, 4, 3, 2)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)


def test_a_step_is_duos_and_validation_is_nnunets(nnunet):
    trainer = nnunet()
    trainer.initialize()
    trainer.current_epoch = 1
    stock = nnunet("nnUNetTrainer")
    stock.initialize()
    trainer.network.train()
    wide = trainer.network(batch()["data"])
    assert [head.shape[1] for head in wide] == [5, 5]
    logits, noise = wide[0][:, :3], wide[0][:, 3:]
    labels = batch()["target"][0][:, 0].long()
    expected = trainer.loss.duo(logits, labels, noise, torch.tensor([2, 0]), 0.5)["total"].item()
    before = trainer.loss.duo.coefficients.raw.detach().clone()
    assert trainer.train_step(batch())["loss"] == pytest.approx(expected, rel=1e-6)
    moved = (trainer.loss.duo.coefficients.raw.detach() != before).any(1)
    assert moved[[0, 2]].all()
    trainer.network.eval()
    with torch.no_grad():
        heads = trainer.network(batch()["data"])
        found = trainer.validation_step(batch())
        assert [head.shape[1] for head in heads] == [3, 3]
        assert found["loss"] == pytest.approx(stock.loss(heads, batch()["target"]).item(), rel=1e-6)
    assert len(found["tp_hard"]) == 2


def test_the_table_is_optimised_without_weight_decay(nnunet):
    trainer = nnunet()
    trainer.initialize()
    network, table = trainer.optimizer.param_groups
    assert [p is trainer.loss.duo.coefficients.raw for p in table["params"]] == [True]
    assert (network["weight_decay"], table["weight_decay"]) == (3e-5, 0.0)
    trainer.lr_scheduler.step(1)
    assert table["lr"] == network["lr"] < 1e-2


def test_resuming_restores_the_table_bit_by_bit(nnunet, tmp_path):
    first, second = nnunet(), nnunet()
    first.initialize()
    first.current_epoch = 1
    first.train_step(batch())
    path = str(tmp_path / "checkpoint_latest.pth")
    first.save_checkpoint(path)
    assert not any("coefficients" in name for name in first.network.state_dict())
    second.load_checkpoint(path)
    assert second.current_epoch == 2
    assert torch.equal(second.loss.duo.coefficients.raw, first.loss.duo.coefficients.raw)
    first.current_epoch = 2
    losses = []
    for trainer in (first, second):
        trainer.num_epochs = 5
        trainer.network.train()
        losses.append([trainer.train_step(batch(seed=s))["loss"].item() for s in (1, 2)])
    assert losses[0] == losses[1]
    assert torch.equal(second.loss.duo.coefficients.raw, first.loss.duo.coefficients.raw)
    for one, other in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_coefficients_that_do_not_belong_to_the_checkpoint_are_refused(nnunet, tmp_path):
    trainer = nnunet()
    trainer.initialize()
    path = tmp_path / "checkpoint_best.pth"
    trainer.save_checkpoint(str(path))
    trainer.cases = ("another", *trainer.cases[1:])
    trainer.save_checkpoint(str(tmp_path / "other.pth"))
    (tmp_path / "other_duo.safetensors").rename(tmp_path / "checkpoint_best_duo.safetensors")
    with pytest.raises(StorageError, match="expected epoch 1 and the 4 training cases of fold 0"):
        nnunet().load_checkpoint(str(path))
    (tmp_path / "checkpoint_best_duo.safetensors").unlink()
    with pytest.raises(
        StorageError, match=r"checkpoint_best_duo.safetensors: not readable .*, expected the coeff"
    ):
        nnunet().load_checkpoint(str(path))


def test_voxels_to_ignore_are_ignored(nnunet):
    trainer = nnunet(labels=DATASET["labels"] | {"ignore": 3})
    trainer.initialize()
    trainer.network.train()
    given = batch()
    given["target"][0][:, :, :4] = 3
    heads = trainer.network(given["data"])
    labels = given["target"][0][:, 0].long()
    labels[labels == 3] = -1
    index = torch.tensor([2, 0])
    expected = trainer.loss.duo(heads[0][:, :3], labels, heads[0][:, 3:], index, 0.0)["total"].item()
    assert trainer.train_step(given)["loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("name", "channels"), [("nnUNetTrainerDUO_weights", 3), ("nnUNetTrainerDUO_denoise", 5)]
)
def test_one_idea_alone(nnunet, name, channels):
    trainer = nnunet(name)
    trainer.initialize()
    trainer.network.train()
    assert trainer.network(batch()["data"])[0].shape[1] == channels
    assert np.isfinite(trainer.train_step(batch())["loss"])


def test_what_it_does_not_support_is_refused(nnunet):
    regions = {"background": 0, "whole": [1, 2], "core": 2}
    with pytest.raises(ConfigError, match="nnUNetTrainerDUO does not support region-based labels"):
        nnunet(labels=regions, regions_class_order=[1, 2])
    with pytest.raises(ConfigError, match="does not support cascades"):
        nnunet(configuration={"previous_stage": "3d_fullres"})


def test_several_gpus_are_refused(nnunet, monkeypatch):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(ConfigError, match="does not support several GPUs"):
        nnunet()


def test_its_constructor_is_nnunets(nnunet):
    """nnU-Net stores the arguments by their names, to build the trainer again."""
    names = [
        list(inspect.signature(type(t).__init__).parameters) for t in (nnunet(), nnunet("nnUNetTrainer"))
    ]
    assert names[0] == names[1]


def test_a_trainer_of_ones_own_inherits_from_it(nnunet, tmp_path, monkeypatch):
    own = tmp_path / "own"
    own.mkdir()
    (own / "strong.py").write_text(
        "from sfumato.training.duo import DuoConfig\n"
        "from sfumato.training.nnunet_trainers.nnUNetTrainerDUO import nnUNetTrainerDUO\n\n\n"
        "class nnUNetTrainerDUO_strong(nnUNetTrainerDUO):\n    duo = DuoConfig(alpha=2.0)\n"
    )
    monkeypatch.setenv("nnUNet_extTrainer", str(own))
    assert nnunet("nnUNetTrainerDUO_strong").duo.alpha == 2.0


def test_the_folder_is_told_without_importing_nnunet():
    code = "import sys; from sfumato.training.nnunet_trainers import folder; print(folder, 'nnunetv2' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert said.stdout.split() == [str(folder), "False"]
    assert (Path(said.stdout.split()[0]) / "nnUNetTrainerDUO.py").is_file()


# ---- extra outputs


def test_extra_outputs_show_in_training_only():
    wide = hide_extra_outputs(nn.Conv2d(2, 5, 1), outputs=3)
    plain = nn.Conv2d(2, 3, 1)
    plain.load_state_dict(narrowed_state(wide.state_dict(), plain))
    given = torch.randn(1, 2, 4, 4)
    torch.testing.assert_close(wide.eval()(given), plain(given))
    torch.testing.assert_close(wide.train()(given)[:, :3], plain(given))
    assert set(wide.state_dict()) == {"weight", "bias"}


def test_what_is_no_wider_copy_is_refused(tmp_path):
    with pytest.raises(StorageError, match="weight do not fit the plain network"):
        narrowed_state(nn.Conv2d(2, 5, 1, bias=False).state_dict(), nn.Conv2d(3, 3, 1, bias=False))
    with pytest.raises(StorageError, match="bias do not fit"):
        narrowed_state(nn.Conv2d(2, 5, 1, bias=False).state_dict(), nn.Conv2d(2, 3, 1))
    with pytest.raises(StorageError, match=r"no checkpoints, expected fold_0/checkpoint_final\.pth"):
        export_results(tmp_path, tmp_path / "out")
