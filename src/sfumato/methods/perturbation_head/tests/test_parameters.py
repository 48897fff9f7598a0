from __future__ import annotations

import math

import pytest
import torch

from sfumato.errors import TapError
from sfumato.methods.perturbation_head import PerturbationHead, PerturbationHeadConfig

EXPERIMENT = {
    "upsamples.1.conv_block:input": 256,
    "upsamples.2.conv_block:input": 128,
    "output_block:input": 32,
}


@pytest.mark.parametrize(("classes", "expected"), [(3, 124_360), (4, 124_368), (5, 124_376)])
def test_the_paper_setting_has_the_papers_parameters(classes, expected):
    head = PerturbationHead(PerturbationHeadConfig.paper(), EXPERIMENT, classes, dims=3)
    assert sum(p.numel() for p in head.parameters()) == expected
    frozen = [name for name, p in head.named_parameters() if not p.requires_grad]
    assert frozen == ["ranking_shift"]


def test_initial_weights_are_within_their_bounds():
    torch.manual_seed(0)
    head = PerturbationHead(PerturbationHeadConfig.paper(), EXPERIMENT, 3, dims=3)
    bounds = {
        "fusion.projections.0.weight": 0.0625,
        "fusion.projections.1.weight": 0.0884,
        "fusion.projections.2.weight": 0.1768,
        "fusion.first.weight": 0.0196,
        "fusion.second.weight": 0.0340,
        "probes.weight": 0.1768,
        "aleatoric.weight": 0.1768,
        "readout.weight": 0.3536,
        "calibration.weight": 0.5774,
    }
    state = head.state_dict()
    for name, bound in bounds.items():
        largest = float(state[name].abs().max())
        assert largest <= bound + 5e-5, name
        assert largest > 0.5 * bound or state[name].numel() < 8, name
    assert math.isclose(float(state["raw_scale"][0]), -2.2522, abs_tol=5e-5)


def test_no_fusion_takes_one_tap():
    with pytest.raises(TapError, match="one tap"):
        PerturbationHead(PerturbationHeadConfig(fusion="none"), {"a": 3, "b": 4}, 2, 2)
