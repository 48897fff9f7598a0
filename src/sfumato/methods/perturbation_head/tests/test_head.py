from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from sfumato.errors import InputError, TapError
from sfumato.heads.crops import Crop
from sfumato.methods.perturbation_head import (
    METHOD,
    PerturbationHead,
    PerturbationHeadConfig,
)
from sfumato.methods.perturbation_head import (
    head as head_module,
)
from sfumato.methods.perturbation_head.fit import crop_losses
from sfumato.methods.perturbation_head.reference import reference_forward, reference_parameters
from sfumato.types import Batch, Kind, Link, Segmentation

TABLES = "hadamard", "reference"
WIDTHS = {"coarse": 5, "fine": 4}


def make(config: PerturbationHeadConfig | None = None, classes: int = 3, dims: int = 2, seed: int = 0):
    """A head with larger probes than a fresh one has, so that no map is close to zero."""
    torch.manual_seed(seed)
    head = PerturbationHead(config or PerturbationHeadConfig(width=6), WIDTHS, classes, dims).eval()
    with torch.no_grad():
        head.raw_scale.normal_()
        head.ranking_extra.fill_(0.3)
    return head


def segmentation(grid=(8, 10), classes: int = 3, rows: int = 2, seed: int = 1, link: Link = Link.SOFTMAX):
    g = torch.Generator().manual_seed(seed)
    coarse = tuple(-(-n // 2) for n in grid)
    features = {
        "coarse": torch.randn(rows, 5, *coarse, generator=g),
        "fine": torch.randn(rows, 4, *grid, generator=g),
    }
    return Segmentation(3 * torch.randn(rows, classes, *grid, generator=g), link, features)


def estimate(head: PerturbationHead, found: Segmentation):
    batch = Batch(torch.zeros(found.logits.shape[0], 1, *found.logits.shape[2:]))
    return head.estimate(batch, replace(found, features=head.respond(batch, found)))


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("aleatoric", [True, False])
def test_the_fast_path_equals_its_slow_twin(table, classes, aleatoric):
    config = PerturbationHeadConfig.paper(width=6, patterns=table, aleatoric=aleatoric)
    head, found = make(config, classes), segmentation(classes=classes)
    with torch.no_grad():
        fused = head.fusion([found.features[t] for t in WIDTHS])
        slow = reference_forward(fused, found.logits, reference_parameters(head), head.patterns)
        responses = head.responses(found)
        fast = head.maps(found.logits.flatten(2), *(v.flatten(2) for v in responses.values()))
    pairs = {
        "epi": fast.epistemic, "res": fast.residual, "U_cal": fast.calibration, "T": fast.temperature,
        "U_rnk": fast.ranking, "A": fast.anchor, "w": fast.weight, "m": fast.margin, "H": fast.entropy,
        "delta": fast.delta,
    }  # fmt: skip
    if aleatoric:
        pairs["ale"] = fast.aleatoric
    assert ("ale" in slow) == aleatoric
    for name, value in pairs.items():
        torch.testing.assert_close(
            value.reshape(slow[name].shape), slow[name], rtol=2e-6, atol=2e-6, msg=name
        )
    assert slow["perturbed"].shape == (len(head.patterns), *found.logits.shape)
    assert slow["epi"].max() > 0.01


@pytest.mark.parametrize("grid", [(7, 10), (5, 8, 6), (16, 3, 9)])
def test_maps_lie_on_the_grid_of_the_logits(grid):
    head = make(dims=len(grid))
    uncertainty = estimate(head, segmentation(grid))
    assert set(uncertainty.maps) == set(METHOD.maps)
    for value in (*uncertainty.maps.values(), uncertainty.temperature):
        assert value.shape == (2, *grid)
        assert torch.isfinite(value).all()
        assert not value.requires_grad


def test_features_coarser_than_the_logits_are_resized():
    found = segmentation((8, 8))
    coarse = {"coarse": found.features["coarse"], "fine": torch.randn(2, 4, 4, 4)}
    assert estimate(make(), replace(found, features=coarse)).temperature.shape == (2, 8, 8)


def test_pieces_of_any_size_give_the_same_maps(monkeypatch):
    head, found = make(), segmentation((8, 10))
    whole = estimate(head, found)
    monkeypatch.setattr(head_module, "CHUNK", 13)
    pieces = estimate(head, found)
    for kind, value in whole.maps.items():
        torch.testing.assert_close(pieces.maps[kind], value, rtol=1e-6, atol=1e-6)


def test_slabs_with_half_precision_responses():
    head, found = make(dims=3), segmentation((6, 5, 8), rows=1)
    batch = Batch(torch.zeros(1, 1, 6, 5, 8))
    responses = head.respond(batch, found)
    whole = head.estimate(batch, replace(found, features=responses))
    parts = []
    for start in (0, 4):
        slab = {k: v[:, :, start : start + 4].half() for k, v in responses.items()}
        parts.append(
            head.estimate(batch, Segmentation(found.logits[:, :, start : start + 4], found.link, slab))
        )
    for kind, value in whole.maps.items():
        joined = torch.cat([part.maps[kind] for part in parts], dim=1)
        assert joined.dtype == torch.float32
        torch.testing.assert_close(joined, value, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("table", TABLES)
def test_autocast_reaches_the_convolutions_only(dtype, table):
    head, found = make(PerturbationHeadConfig(width=6, patterns=table)), segmentation()
    z, v = found.logits.flatten(2), torch.randn(2, 8, 80)
    ale = torch.randn(2, 1, 80)
    with torch.no_grad():
        plain = head.maps(z, v, ale)
        with torch.autocast("cpu", dtype=dtype):
            cast = head.maps(z, v, ale)
            low = head.maps(z.to(dtype), v.to(dtype), ale.to(dtype))
    assert torch.equal(plain.epistemic, cast.epistemic)
    assert low.epistemic.dtype == torch.float32
    relative = (low.epistemic - plain.epistemic).abs().mean() / plain.epistemic.mean()
    assert relative < (1e-2 if dtype is torch.float16 else 3e-2)  # what rounding the inputs costs


def test_rows_do_not_see_each_other():
    head, found = make(), segmentation(rows=3)
    together = estimate(head, found)
    for row in range(3):
        one = Segmentation(
            found.logits[row : row + 1], found.link, {k: v[row : row + 1] for k, v in found.features.items()}
        )
        for kind, value in estimate(head, one).maps.items():
            torch.testing.assert_close(value[0], together.maps[kind][row], rtol=1e-5, atol=1e-6)


def test_a_constant_on_all_logits_changes_nothing():
    head, found = make(), segmentation()
    one, other = estimate(head, found), estimate(head, replace(found, logits=found.logits + 7.5))
    for kind, value in one.maps.items():
        torch.testing.assert_close(value, other.maps[kind], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.temperature, other.temperature, rtol=1e-5, atol=1e-5)


def test_permuting_the_classes_changes_no_map():
    head, found = make(), segmentation()
    one = estimate(head, found)
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        head.readout.weight.copy_(head.readout.weight[order])
    other = estimate(head, replace(found, logits=found.logits[:, order]))
    for kind, value in one.maps.items():
        torch.testing.assert_close(value, other.maps[kind], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [PerturbationHeadConfig.paper(width=6), PerturbationHeadConfig(width=6)])
def test_tempering_keeps_labels_and_order_and_softens(config):
    head, found = make(config), segmentation()
    warmth = estimate(head, found).temperature
    tempered, raw = found.probability(warmth), found.probability()
    assert warmth.min() >= 1  # the global temperature of a fresh head is 1
    assert torch.equal(tempered.argsort(1), raw.argsort(1))
    assert (tempered.amax(1) <= raw.amax(1) + 1e-6).all()


def test_a_silent_calibration_branch_leaves_the_probability_alone():
    head, found = make(), segmentation()
    with torch.no_grad():
        head.calibration.weight.zero_()
        head.calibration.bias.fill_(-200.0)
    assert torch.equal(estimate(head, found).temperature, torch.ones(2, 8, 10))


def test_no_probes_means_only_the_logits_speak():
    config = PerturbationHeadConfig.paper(width=6, aleatoric=False)
    head, found = make(config), segmentation()
    with torch.no_grad():
        head.readout.weight.zero_()
    other = replace(found, features=segmentation(seed=9).features)
    one, two = estimate(head, found), estimate(head, other)
    assert one.maps[Kind.EPISTEMIC].max() < 1e-12
    torch.testing.assert_close(one.maps[Kind.RANKING], two.maps[Kind.RANKING])


def test_one_sigmoid_logit_is_two_classes():
    found = segmentation(classes=1, link=Link.SIGMOID)
    both = Segmentation(found.full_logits(), Link.SOFTMAX, found.features)
    head = make(classes=2)
    for kind, value in estimate(head, found).maps.items():
        torch.testing.assert_close(value, estimate(head, both).maps[kind])


@pytest.mark.parametrize(
    "config",
    [
        PerturbationHeadConfig.paper(width=6),
        PerturbationHeadConfig.paper(width=6, patterns="hadamard", aleatoric=False),
        PerturbationHeadConfig.paper(width=6, epistemic="first_order", residual="expected", centred=True),
        PerturbationHeadConfig(width=6, fusion="reference"),
        PerturbationHeadConfig(width=6),
    ],
    ids=["paper", "hadamard", "closed_form", "light", "robust"],
)
def test_every_tensor_but_the_shift_gets_a_gradient(config):
    head, found = make(config), segmentation(rows=1)
    if head.combiner is not None:  # its hidden layers are silent until the last one has moved
        nn.init.normal_(head.combiner.last.weight)
    label = torch.where(torch.rand(1, 8, 10) < 0.3, 0, found.labels())
    terms = crop_losses(head, [Crop(found, label)], torch.device("cpu"), torch.Generator().manual_seed(0))
    terms["total"].backward()
    for name, parameter in head.named_parameters():
        if name == "ranking_shift":
            assert not parameter.requires_grad
        else:
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().max() > 0, name


def test_every_loss_ignores_the_shift():
    config = PerturbationHeadConfig.paper(width=6)
    head, found = make(config), segmentation(rows=1)
    head.ranking_shift.requires_grad_(True)
    label = torch.where(torch.rand(1, 8, 10) < 0.3, 0, found.labels())
    crop_losses(head, [Crop(found, label)], torch.device("cpu"), torch.Generator())["total"].backward()
    assert head.ranking_shift.grad.abs() < 1e-6


def test_unlabelled_voxels_do_not_count():
    head, found = make(PerturbationHeadConfig.paper(width=6)), segmentation(rows=1)
    label = torch.where(torch.rand(1, 8, 10) < 0.3, 0, found.labels())
    half = label.clone()
    half[:, 4:] = -1

    def losses(y, logits):
        crop = Crop(replace(found, logits=logits), y)
        return crop_losses(head, [crop], torch.device("cpu"), torch.Generator().manual_seed(0))["total"]

    changed = found.logits.clone()
    changed[:, :, 4:] = 5.0
    assert torch.equal(losses(half, found.logits), losses(half, changed))
    assert not torch.equal(losses(label, found.logits), losses(half, found.logits))


def test_missing_taps_and_responses_are_refused():
    head, found = make(), segmentation()
    batch = Batch(torch.zeros(2, 1, 8, 10))
    with pytest.raises(TapError, match="'coarse': none"):
        head.respond(batch, replace(found, features={}))
    tokens = {**found.features, "coarse": torch.zeros(2, 20, 5)}
    with pytest.raises(TapError, match=r"shape \(2, 20, 5\)"):
        head.respond(batch, replace(found, features=tokens))
    with pytest.raises(InputError, match="probe responses"):
        head.estimate(batch, found)


def test_class_scaling_of_one_and_zero_changes_nothing():
    torch.manual_seed(3)
    config = PerturbationHeadConfig(width=4, probes=2, hidden=4)
    plain = PerturbationHead(config, {"a": 4}, classes=3, dims=2).eval()
    scaled = PerturbationHead(replace(config, class_scaling=True), {"a": 4}, classes=3, dims=2).eval()
    scaled.load_state_dict(plain.state_dict())
    z, v, ale = torch.randn(2, 3, 50), torch.randn(2, 2, 50), torch.randn(2, 1, 50)
    torch.testing.assert_close(scaled.maps(z, v, ale).ranking, plain.maps(z, v, ale).ranking)


def test_class_scaling_moves_the_ranking_alone():
    torch.manual_seed(3)
    config = PerturbationHeadConfig(width=4, probes=2, hidden=4, class_scaling=True)
    head = PerturbationHead(config, {"a": 4}, classes=3, dims=2).eval()
    z, v, ale = torch.randn(2, 3, 50), torch.randn(2, 2, 50), torch.randn(2, 1, 50)
    before = head.maps(z, v, ale)
    head.class_bias.copy_(torch.tensor([2.0, 0.0, 0.0]))  # the network gives the first class too seldom
    after = head.maps(z, v, ale)
    for name in ("epistemic", "residual", "temperature"):
        assert torch.equal(getattr(after, name), getattr(before, name)), name
    first = z.argmax(dim=1) == 0
    assert (after.ranking < before.ranking)[first].all()
    assert (after.ranking >= before.ranking)[~first].all()


def test_heads_saved_without_class_scaling_load():
    head = PerturbationHead(PerturbationHeadConfig(width=4, probes=2), {"a": 4}, classes=3, dims=2)
    state = {k: v for k, v in head.state_dict().items() if not k.startswith("class_")}
    head.load_state_dict(state)
    assert head.class_scale.tolist() == [1.0, 1.0, 1.0]
