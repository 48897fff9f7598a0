from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from sfumato.errors import ConfigError, StorageError
from sfumato.methods.sam_gaps.coding import GAPS
from sfumato.methods.sam_gaps.config import SamGapsConfig
from sfumato.methods.sam_gaps.heads import HeadBank
from sfumato.methods.sam_gaps.published import GENERATIONS, read_published

NAMES = HeadBank(SamGapsConfig.published()).names
CHECKPOINTS = {"sam2.0": "facebook/sam2-hiera-tiny", "sam2.1": "facebook/sam2.1-hiera-tiny"}
GOLDEN = {
    "iou_tiny": ".525256 .531066 .560240 .554426 .511699 .523745 .531417 .563025 .579623 .496017",
    "iou_small": ".523689 .529871 .559675 .549624 .513438 .522896 .522034 .527644 .572596 .488784",
    "iou_base_plus": ".506551 .514239 .551622 .530261 .496780 .504063 .500761 .500844 .552840 .477815",
    "iou_large": ".512262 .521811 .565050 .540535 .500521 .506143 .520303 .571624 .564677 .487207",
    "iou_unsupervised": ".505494 .509641 .522463 .500256 .496134 .508451 .493685 .451299 .544042 .462588",
    "iou_dense_prompt": ".536314 .537023 .550445 .560286 .528825 .527629 .532483 .555020 .585882 .495095",
    "model_gap": ".506299 .508901 .516706 .507700 .508204 .506831 .508125 .511996 .506516 .509834",
    "prompt_gap": ".508112 .505211 .495489 .510141 .505572 .516911 .515043 .512037 .519083 .511083",
    "task_gap": ".529859 .555440 .623633 .522518 .555944 .526900 .571457 .693431 .516739 .553640",
}
"""Section 13: raw sigmoid outputs on zero, S, 4S, A and B, for 2.0 and then for 2.1."""


class Head(nn.Module):
    """A head as the authors' files have it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(512, 512), nn.Linear(512, 512), nn.Linear(512, 1)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x))
        return torch.sigmoid(self.layers[-1](x))[..., 0]


@pytest.fixture
def written(tmp_path) -> dict[str, Head]:
    """Nine random heads, written to `tmp_path`; one under its other name."""
    torch.manual_seed(0)
    heads = {name: Head() for name in NAMES}
    for name, head in heads.items():
        file = "unsupervised_iou" if name == "iou_unsupervised" else name
        torch.save(head.state_dict(), tmp_path / f"{file}.pth")
    return heads


def test_a_bank_of_files_answers_as_the_heads_do(written, tmp_path):
    gaps = read_published(tmp_path, "sam2.1", CHECKPOINTS["sam2.1"])
    features = torch.randn(4, 3, 512, generator=torch.Generator().manual_seed(1))
    found = gaps.bank(features)
    for i, name in enumerate(NAMES):
        wanted = written[name](features) - (0.5 if name in GAPS else 0)
        torch.testing.assert_close(found[..., i], wanted, rtol=0, atol=1e-6)


def test_the_convention_is_kept_with_them(written, tmp_path):
    config = read_published(tmp_path, "sam2.0", CHECKPOINTS["sam2.0"]).config
    assert (config.convention, config.gap_range, config.features) == ("published", 0.5, "pairs")


@pytest.mark.parametrize(
    ("generation", "checkpoint"),
    [
        ("sam2.0", CHECKPOINTS["sam2.1"]),
        ("sam2.1", CHECKPOINTS["sam2.0"]),
        ("sam2.1", "facebook/sam-vit-huge"),
        ("sam2.2", CHECKPOINTS["sam2.1"]),
    ],
)
def test_heads_of_another_network_are_refused(written, tmp_path, generation, checkpoint):
    with pytest.raises(ConfigError, match="expected"):
        read_published(tmp_path, generation, checkpoint)


def test_what_is_missing_or_something_else_is_refused(written, tmp_path):
    gap = tmp_path / "task_gap.pth"
    for content, message in (
        ({"layers.0.weight": torch.zeros(3, 3)}, "expected the published head"),
        ([1, 2], "holds list"),
    ):
        torch.save(content, gap)
        with pytest.raises(StorageError, match=message):
            read_published(tmp_path, "sam2.1", CHECKPOINTS["sam2.1"])
    torch.save(nn.Linear(1, 1), gap)
    with pytest.raises(StorageError, match="without running code"):
        read_published(tmp_path, "sam2.1", CHECKPOINTS["sam2.1"])
    gap.unlink()
    with pytest.raises(StorageError, match="the head task_gap is missing"):
        read_published(tmp_path, "sam2.1", CHECKPOINTS["sam2.1"])


def golden_inputs() -> torch.Tensor:
    sine = torch.tensor([math.sin(i) for i in range(512)])
    first, second = sine.clone(), sine.clone()
    first[256:], second[:256] = 0, 0
    return torch.stack([torch.zeros(512), sine, 4 * sine, first, second])


@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_authors_files_give_the_golden_numbers(generation):
    folder = os.environ.get("SFUMATO_USAM_HEADS")
    if not folder:
        pytest.skip(
            "the authors' files are not at hand; SFUMATO_USAM_HEADS names a folder with sam2.0 and sam2.1"
        )
    gaps = read_published(Path(folder) / generation, generation, CHECKPOINTS[generation])
    found = gaps.bank.coded(golden_inputs())
    first = 5 * GENERATIONS.index(generation)
    for i, name in enumerate(NAMES):
        wanted = [float(v) for v in GOLDEN[name].split()[first : first + 5]]
        assert found[:, i].tolist() == pytest.approx(wanted, abs=2e-5), name
