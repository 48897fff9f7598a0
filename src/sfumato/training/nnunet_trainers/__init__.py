"""Trainers for nnU-Net v2, which finds them where the variable `nnUNet_extTrainer` says: at `folder`.

nnU-Net imports the files of that folder one by one and by themselves, so they hold nothing but trainers.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import MissingExtraError, StorageError
from ...segmenters.state import read_checkpoint, read_object
from ..duo.widened import narrowed_state

folder = Path(__file__).resolve().parent
"""The value of `nnUNet_extTrainer`."""
CHECKPOINTS = "checkpoint_final.pth", "checkpoint_best.pth"
DESCRIPTIONS = "plans.json", "dataset.json", "dataset_fingerprint.json"


def export_results(results: Path | str, out: Path | str) -> list[Path]:
    """A results folder of a DUO trainer as the stock trainer would have left it: nobody needs sfumato to use it.

    The noise head's channels are cut off and the trainer's name is changed; logits stay what they were. The state of
    the optimiser is left out, as it fits no other network.

    Args:
        results: `nnUNetTrainerDUO__nnUNetPlans__3d_fullres`, say, with `plans.json` and `fold_0`; its checkpoints are
            read by torch's restricted unpickler, which runs nothing from them.
        out: gets the same files.

    Returns:
        The checkpoints written.

    Raises:
        StorageError: no checkpoints, or weights that are not the stock network's with more outputs.
        MissingExtraError: nnU-Net is not installed.
    """
    results, out = Path(results), Path(out)
    found = [p for name in CHECKPOINTS for p in sorted(results.glob(f"fold_*/{name}"))]
    if not found:
        raise StorageError(f"{results}: no checkpoints, expected fold_0/{CHECKPOINTS[0]}.")
    written = []
    for path in found:
        checkpoint = read_checkpoint(path, allow_pickle=True)
        plain = _stock_network(results, checkpoint["init_args"]["configuration"])
        kept = {k: v for k, v in checkpoint.items() if k not in ("optimizer_state", "grad_scaler_state")}
        kept |= {
            "network_weights": narrowed_state(checkpoint["network_weights"], plain),
            "trainer_name": "nnUNetTrainer",
        }
        target = out / path.relative_to(results)
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.save(kept, target)
        written.append(target)
    for name in DESCRIPTIONS:
        if (results / name).exists():
            shutil.copyfile(results / name, out / name)
    return written


def _stock_network(results: Path, configuration: str) -> nn.Module:
    try:
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
        from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
    except ImportError as error:
        raise MissingExtraError("nnunetv2", "nnunet", "exporting an nnU-Net results folder") from error
    dataset: dict[str, Any] = read_object(results / "dataset.json")
    plans = PlansManager(read_object(results / "plans.json"))
    chosen = plans.get_configuration(configuration)
    channels = determine_num_input_channels(plans, chosen, dataset)
    heads = plans.get_label_manager(dataset).num_segmentation_heads
    return nnUNetTrainer.build_network_architecture(plans, chosen, channels, heads, False)
