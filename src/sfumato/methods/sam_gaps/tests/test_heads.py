from __future__ import annotations

import pytest
import torch
from torch import nn

from sfumato.methods.sam_gaps.coding import GAPS
from sfumato.methods.sam_gaps.config import SamGapsConfig
from sfumato.methods.sam_gaps.features import feature_width
from sfumato.methods.sam_gaps.heads import HeadBank


def separate(bank: HeadBank) -> list[nn.Sequential]:
    """The heads of the published form as plain modules of another library's making."""
    heads = []
    for i in range(len(bank.names)):
        layers: list[nn.Module] = []
        for weight, bias in zip(bank.weights, bank.biases, strict=True):
            linear = nn.Linear(*weight.shape[1:])
            with torch.no_grad():
                linear.weight.copy_(weight[i].T)
                linear.bias.copy_(bias[i, 0])
            layers += [linear, nn.ReLU()]
        heads.append(nn.Sequential(*layers[:-1], nn.Sigmoid()))
    return heads


@pytest.fixture
def bank() -> HeadBank:
    torch.manual_seed(0)
    return HeadBank(SamGapsConfig.published()).eval()


def test_a_bank_equals_separate_heads(bank):
    features = 2 * torch.randn(7, 3, 512, generator=torch.Generator().manual_seed(1))
    found = bank(features)
    assert found.shape == (7, 3, 9)
    for i, (name, head) in enumerate(zip(bank.names, separate(bank), strict=True)):
        wanted = head(features)[..., 0] - (0.5 if name in GAPS else 0)
        torch.testing.assert_close(found[..., i], wanted, rtol=0, atol=1e-6)


def test_published_heads_have_525_825_parameters_each(bank):
    assert sum(p.numel() for p in bank.parameters()) == 9 * 525_825
    assert bank.names == (
        "iou_tiny", "iou_small", "iou_base_plus", "iou_large", "iou_dense_prompt", "iou_unsupervised", "model_gap",
        "prompt_gap", "task_gap",
    )  # fmt: skip


def test_iou_heads_stay_in_0_to_1_and_gaps_within_their_range(bank):
    found = bank(1e3 * torch.randn(50, 3, 512, generator=torch.Generator().manual_seed(2)))
    for i, name in enumerate(bank.names):
        low, high = (-0.5, 0.5) if name in GAPS else (0.0, 1.0)
        assert low <= found[..., i].min() < found[..., i].max() <= high


def test_members_answer_with_their_mean():
    torch.manual_seed(0)
    settings = SamGapsConfig(ladder=("a",), token_width=8, hidden=(12, 6), members=3)
    bank = HeadBank(settings).eval()
    features = torch.randn(5, 3, feature_width(settings))
    means = []
    for member in range(3):
        x = features
        for i, (weight, bias) in enumerate(zip(bank.weights, bank.biases, strict=True)):
            x = x @ weight[member] + bias[member]
            x = x if i == len(bank.weights) - 1 else x.clamp(min=0)
        means.append(torch.sigmoid(x))
    wanted = torch.stack(means).mean(dim=0)
    found = bank(features)
    for i, name in enumerate(bank.names):
        value = 2 * wanted[..., i] - 1 if name in GAPS else wanted[..., i]
        torch.testing.assert_close(found[..., i], value, rtol=0, atol=1e-6)


def test_autocast_does_not_round_heads(bank):
    features = torch.randn(200, 1, 512, generator=torch.Generator().manual_seed(3))
    plain = bank(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = bank(features)
    assert cast.dtype == torch.float32
    assert torch.equal(cast, plain)
    gap = bank.names.index("model_gap")
    rounded = nn.Sequential(*list(separate(bank)[gap])).bfloat16()(features.bfloat16())
    assert 2 * rounded.unique().numel() < plain[..., gap].unique().numel()  # why they must not be rounded


def test_a_row_does_not_depend_on_the_others(bank):
    features = torch.randn(6, 3, 512, generator=torch.Generator().manual_seed(4))
    alone = torch.cat([bank(features[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(bank(features), alone, rtol=0, atol=1e-6)


def test_noise_and_dropout_are_for_fitting_only():
    torch.manual_seed(0)
    settings = SamGapsConfig(ladder=("a",), token_width=8, hidden=(12,), input_noise=0.5)
    bank = HeadBank(settings)
    features = torch.randn(5, 3, feature_width(settings))
    assert not torch.equal(bank(features), bank(features))
    bank.eval()
    assert torch.equal(bank(features), bank(features))
