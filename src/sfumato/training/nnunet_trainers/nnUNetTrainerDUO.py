"""DUO as a trainer of nnU-Net v2 (2.8 or newer): `nnUNetv2_train ... -tr nnUNetTrainerDUO`.

nnU-Net imports this file by itself, without its package, hence the full names. What is not named here is nnU-Net's:
data, augmentation, schedule, validation with its own loss, prediction.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sfumato.errors import ConfigError, StorageError
from sfumato.training.duo import DuoConfig, DuoLoss
from sfumato.training.duo.coefficients import CoefficientTable, write_annotation_bias
from sfumato.training.duo.widened import hide_extra_outputs


class TrainingLoss(nn.Module):
    """DUO while `now` says which cases are being trained on, nnU-Net's own loss otherwise.

    Args:
        stock: nnU-Net's, for validation.
        duo: for training.
        ignored: value of voxels whose class is unknown.
    """

    def __init__(self, stock: nn.Module, duo: DuoLoss, ignored: int | None):
        super().__init__()
        self.stock = stock
        self.duo = duo
        self.ignored = ignored
        self.now: tuple[Tensor, float] | None = None

    def forward(self, output: Tensor | list[Tensor], target: Tensor | list[Tensor]) -> Tensor:
        """Of logits (batch, channels, *grid) and classes (batch, 1, *grid), or lists of them, finest first."""
        if self.now is None:
            return self.stock(output, target)
        index, progress = self.now
        heads = list(output) if isinstance(output, list | tuple) else [output]
        targets = list(target) if isinstance(target, list | tuple) else [target]
        labels = [self._labels(t) for t in targets]
        logits = 1 + self.duo.classes
        noise = heads[0][:, logits:] if heads[0].shape[1] > logits else None
        # As in nnU-Net, the coarsest head does not count.
        coarse = [(h[:, :logits], y) for h, y in list(zip(heads, labels, strict=True))[1:-1]]
        return self.duo(heads[0][:, :logits], labels[0], noise, index, progress, coarse)["total"]

    def _labels(self, target: Tensor) -> Tensor:
        classes = target[:, 0].long()
        return classes if self.ignored is None else classes.masked_fill(classes == self.ignored, -1)


class nnUNetTrainerDUO(nnUNetTrainer):
    """nnU-Net with DUO (Li et al., arXiv 2604.10963); set `duo` in a subclass for other settings.

    The network has extra channels for the noise head, which come out in training only. The coefficients of the cases
    lie beside each checkpoint, not in it: their number means nothing at prediction.

    Raises:
        ConfigError: region-based labels, a cascade, or several GPUs.
    """

    duo = DuoConfig()

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),
    ):
        super().__init__(plans, configuration, fold, dataset_json, device)
        refused = {
            "region-based labels": self.label_manager.has_regions,
            "cascades": self.is_cascaded,
            "several GPUs": self.is_ddp,
        }
        for what, present in refused.items():
            if present:
                raise ConfigError(
                    f"{type(self).__name__} does not support {what}; train {configuration} with nnUNetTrainer."
                )
        self.cases: tuple[str, ...] = ()

    @classmethod
    def build_network_architecture(  # type: ignore[override]
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """The plans' network with `num_output_channels` outputs and the noise head's; also called at prediction."""
        network = nnUNetTrainer.build_network_architecture(
            plans_manager,
            configuration_manager,
            num_input_channels,
            num_output_channels + cls.duo.noise_channels(num_output_channels - 1),
            enable_deep_supervision,
        )
        return hide_extra_outputs(network, num_output_channels)

    def initialize(self) -> None:
        """Network, optimiser and loss; the table of coefficients joins the optimiser, without weight decay."""
        super().initialize()
        self.cases = tuple(sorted(str(case) for case in self.do_split()[0]))
        classes = self.label_manager.num_segmentation_heads - 1
        duo = DuoLoss(classes, self.duo, len(self.cases)).to(self.device)
        self.loss = TrainingLoss(self.loss, duo, self.label_manager.ignore_label)  # type: ignore[arg-type]
        parameters = list(duo.parameters())
        if parameters:
            self.optimizer.add_param_group({"params": parameters, "weight_decay": 0.0})  # type: ignore[union-attr]

    def train_step(self, batch: dict) -> dict:
        """nnU-Net's step, with a loss that knows which cases are in the batch."""
        index = self._case_index(batch["keys"])
        self.loss.now = index, self.current_epoch / self.num_epochs  # type: ignore[union-attr]
        try:
            return super().train_step(batch)
        finally:
            self.loss.now = None  # type: ignore[union-attr]

    def _case_index(self, keys: Sequence[str]) -> Tensor:
        positions = {case: i for i, case in enumerate(self.cases)}
        return torch.tensor([positions[str(key)] for key in keys], device=self.device)

    def save_checkpoint(self, filename: str) -> None:
        """nnU-Net's checkpoint, and the coefficients beside it."""
        if self.local_rank == 0 and not self.disable_checkpointing:
            meta = {"epoch": str(self.current_epoch + 1), "cases": json.dumps(self.cases)}
            tensors = {k: v.detach().cpu().contiguous() for k, v in self._duo_loss().state_dict().items()}
            save_file(tensors, coefficients_path(filename), metadata=meta)
        super().save_checkpoint(filename)

    def load_checkpoint(self, filename_or_checkpoint: dict | str) -> None:
        """Both files.

        Raises:
            StorageError: coefficients that are missing, or of another epoch or other cases.
        """
        super().load_checkpoint(filename_or_checkpoint)
        path = coefficients_path(str(filename_or_checkpoint))
        try:
            with safe_open(path, framework="pt") as file:
                meta: dict[str, Any] = file.metadata() or {}
                tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            raise StorageError(
                f"{path}: not readable ({error}), expected the coefficients of the checkpoint beside it."
            ) from error
        if meta.get("epoch") != str(self.current_epoch) or json.loads(meta["cases"]) != list(self.cases):
            raise StorageError(
                f"{path}: of epoch {meta.get('epoch')} and other cases than the checkpoint, expected epoch "
                f"{self.current_epoch} and the {len(self.cases)} training cases of fold {self.fold}."
            )
        self._duo_loss().load_state_dict(tensors)

    def on_train_end(self) -> None:
        """nnU-Net's, and what was learnt about the labels as `annotation_bias.csv`."""
        super().on_train_end()
        out = Path(str(self.output_folder))
        coefficients_path(str(out / "checkpoint_latest.pth")).unlink(missing_ok=True)
        table = self._duo_loss().coefficients
        if isinstance(table, CoefficientTable):
            names = {
                int(value): name for name, value in self.dataset_json["labels"].items() if name != "ignore"
            }
            classes = [names[value] for value in sorted(names) if value > 0]
            write_annotation_bias(out / "annotation_bias.csv", table, self.cases, classes)

    def _duo_loss(self) -> DuoLoss:
        assert isinstance(self.loss, TrainingLoss)
        return self.loss.duo


class nnUNetTrainerDUO_weights(nnUNetTrainerDUO):
    """Class weights only: no label is corrected and the network has no noise head."""

    duo = DuoConfig(denoise=False)


class nnUNetTrainerDUO_denoise(nnUNetTrainerDUO):
    """Corrected labels only: all classes weigh the same."""

    duo = DuoConfig(weights="none")


def coefficients_path(checkpoint: str) -> Path:
    """Where the coefficients of a checkpoint lie.

    Example:
        >>> coefficients_path("fold_0/checkpoint_final.pth").as_posix()
        'fold_0/checkpoint_final_duo.safetensors'
    """
    path = Path(checkpoint)
    return path.with_name(f"{path.stem}_duo.safetensors")
