"""The DUO loss: worked examples, its slow twin, other libraries' losses, gradients along every path, extreme inputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from sfumato.errors import ConfigError, InputError, UnknownNameError
from sfumato.measures.spectrum import logit_scale
from sfumato.training.config import TrainerConfig
from sfumato.training.duo import DuoConfig, DuoLoss
from sfumato.training.duo.class_loss import class_losses, class_planes, one_vs_rest
from sfumato.training.duo.coefficients import (
    CoefficientTable,
    PooledCoefficients,
    annotation_bias,
    standardised,
    write_annotation_bias,
)
from sfumato.training.duo.loss import class_weights, purified_labels
from sfumato.training.duo.reference import slow_duo_loss
from sfumato.training.loop import _learning_rate
from sfumato.types import Link

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=25)
GRIDS = {2: (5, 6), 3: (3, 4, 5)}


def drawn(seed: int, dims: int = 2, classes: int = 2, batch: int = 2, link: Link = Link.SOFTMAX, unknown=0.1):
    """Logits, labels, noise logits and index, all in double precision."""
    generator = torch.Generator().manual_seed(seed)
    grid, channels = GRIDS[dims], classes + (link is Link.SOFTMAX)
    logits = torch.randn(batch, channels, *grid, generator=generator, dtype=torch.float64) * 2
    labels = torch.randint(0, classes + 1, (batch, *grid), generator=generator)
    labels[torch.rand(batch, *grid, generator=generator) < unknown] = -1
    noise = torch.randn(batch, classes, *grid, generator=generator, dtype=torch.float64)
    return logits, labels, noise, torch.arange(batch)


# ---- worked examples (Li et al. leave none; these were computed by hand from the formulas)


def test_weights_of_given_scales():
    scale = torch.tensor([[0.0, 0.134, 0.427, 0.558, 1.0]], dtype=torch.float64)
    half = [1.0, 0.937207, 0.824063, 0.781861, 0.666667]
    one = [1.0, 0.881834, 0.700771, 0.641849, 0.5]
    assert class_weights(scale, DuoConfig()).flatten().tolist() == pytest.approx(half, abs=5e-7)
    assert class_weights(scale, DuoConfig(alpha=1.0)).flatten().tolist() == pytest.approx(one, abs=5e-7)
    middle = class_weights(scale[:, 1:4], DuoConfig(normalise=True)).flatten().tolist()
    assert middle == pytest.approx([1.105575, 0.972104, 0.922321], abs=5e-7)


def test_standardising_four_numbers():
    values = standardised(torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64))
    assert values.tolist() == pytest.approx([-1.069045, -0.534522, 0.0, 1.603567], abs=1e-6)


def test_two_classes_on_four_voxels():
    """One sample, two independent sigmoid classes on a 2 x 2 grid, budget 1."""
    logits = torch.tensor([[[[2.0, -1.0], [1.0, -2.0]], [[3.0, 0.0], [0.0, 1.0]]]], dtype=torch.float64)
    planes = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]]], dtype=torch.float64)
    noise = torch.tensor([0.2, 0.1], dtype=torch.float64).reshape(1, 2, 1, 1).expand_as(logits)
    target = purified_labels(planes, torch.tensor([[1.0, -1.0]]), noise, 1.0)
    expected = torch.tensor([[[[0.8, 0.0], [0.8, 0.0]], [[1.0, 0.1], [0.1, 0.1]]]], dtype=torch.float64)
    torch.testing.assert_close(target, expected)
    scale = logit_scale(logits)
    assert scale.flatten().tolist() == pytest.approx([0.468996, 0.468996], abs=5e-7)
    weight = class_weights(scale, DuoConfig())
    assert weight.flatten().tolist() == pytest.approx([0.810046, 0.810046], abs=5e-7)
    known = torch.ones(1, 2, 2, dtype=torch.bool)
    entropy, dice = class_losses(one_vs_rest(logits, Link.SIGMOID), target, known)
    assert entropy.flatten().tolist() == pytest.approx([0.370095, 0.662036], abs=5e-7)
    assert dice.flatten().tolist() == pytest.approx([0.283619, 0.434846], abs=5e-7)
    weighted = weight * (0.5 * dice + 0.5 * entropy)
    assert weighted.flatten().tolist() == pytest.approx([0.264769, 0.444263], abs=5e-7)
    assert weighted.sum().item() == pytest.approx(0.709032, abs=5e-7)
    assert weighted.mean().item() == pytest.approx(0.354516, abs=5e-7)


def test_the_poly_schedule_of_the_recipe():
    config = TrainerConfig(epochs=100, learning_rate=0.01, schedule="poly", warmup=0)
    rates = [_learning_rate(config, epoch, 100) for epoch in (0, 25, 50, 75, 99)]
    assert rates == pytest.approx([0.01, 0.0077189, 0.00535887, 0.00287175, 0.00015849], abs=5e-8)


# ---- slow twin and second opinions


@pytest.mark.parametrize("link", list(Link))
@pytest.mark.parametrize(("dims", "classes", "batch"), [(2, 1, 1), (2, 2, 2), (3, 3, 2), (3, 1, 3)])
@pytest.mark.parametrize("change", [{}, {"normalise": True, "alpha": 2.0}, {"weights": "none", "beta": 0.2}])
def test_it_is_its_slow_twin(link, dims, classes, batch, change):
    config = DuoConfig(**change)
    loss = DuoLoss(classes, config, samples=batch, link=link, seed=3).double()
    logits, labels, noise, index = drawn(7, dims, classes, batch, link)
    found = loss(logits, labels.clone(), noise, index)["total"].item()
    table = loss.coefficients.raw.detach().numpy()
    slow = slow_duo_loss(logits.numpy(), labels.numpy(), noise.numpy(), table, config, link)
    assert found == pytest.approx(slow, rel=1e-6)  # the labels' planes are float32


@pytest.mark.needs_monai
@pytest.mark.parametrize("dims", [2, 3])
def test_without_its_own_ideas_it_is_torchs_cross_entropy_and_monais_dice(dims):
    losses = pytest.importorskip("monai.losses")
    logits, labels, _, _ = drawn(1, dims, 3, 2, Link.SIGMOID, unknown=0)
    loss = DuoLoss(3, DuoConfig(alpha=0.0, rho=0.0, denoise=False), link=Link.SIGMOID)
    found = loss(logits, labels)
    planes = class_planes(labels, 3).double()
    entropy = F.binary_cross_entropy_with_logits(logits, planes)
    dice = losses.DiceLoss(sigmoid=True, smooth_nr=1e-5, smooth_dr=1e-5)(logits, planes)
    assert found["cross_entropy"].item() == pytest.approx(entropy.item(), rel=1e-6)
    assert found["dice"].item() == pytest.approx(dice.item(), rel=1e-6)
    assert found["total"].item() == pytest.approx((0.5 * dice + 0.5 * entropy).item(), rel=1e-6)


def test_with_two_softmax_classes_it_is_the_softmax_cross_entropy():
    """Each of the two one-vs-rest terms is then the cross-entropy itself."""
    logits, labels, _, _ = drawn(2, classes=1, unknown=0.2)
    loss = DuoLoss(1, DuoConfig(alpha=0.0, beta=0.0, denoise=False))
    expected = F.cross_entropy(logits, labels, ignore_index=-1, reduction="none").sum((1, 2))
    expected = (expected / (labels >= 0).sum((1, 2))).mean()
    assert loss(logits, labels)["total"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_denoising_with_nothing_to_spend_changes_nothing():
    logits, labels, noise, index = drawn(4)
    off = DuoLoss(2, DuoConfig(denoise=False))(logits, labels)["total"]
    idle = DuoConfig(rho=0.0, noise_penalty=0.0)
    torch.testing.assert_close(DuoLoss(2, idle, samples=2)(logits, labels, noise, index)["total"], off)


# ---- log-odds


@given(classes=st.integers(2, 8), scale=st.sampled_from([1.0, 30.0, 1e4]), seed=st.integers(0, 99))
@REPEATABLE
def test_log_odds_are_those_of_the_softmax(classes, scale, seed):
    logits = torch.randn(2, classes, 3, 4, generator=torch.Generator().manual_seed(seed)) * scale
    logits = logits.clamp(-1e4, 1e4).requires_grad_()
    odds = one_vs_rest(logits, Link.SOFTMAX)
    F.softplus(odds).sum().backward()
    assert odds.isfinite().all()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    torch.testing.assert_close(odds.sigmoid(), logits.softmax(1), atol=2e-6, rtol=0)
    exact = logits.detach().double()
    masked = [
        exact[:, c] - exact[:, [k for k in range(classes) if k != c]].logsumexp(1) for c in range(classes)
    ]
    torch.testing.assert_close(odds.double(), torch.stack(masked, 1), rtol=1e-5, atol=1e-5)


# ---- properties


@given(
    scale=st.lists(st.floats(0, 1, allow_subnormal=False), min_size=2, max_size=6, unique=True),
    alpha=st.floats(0.01, 4),
)
@REPEATABLE
def test_weights_lie_in_their_range_and_fall_with_the_scale(scale, alpha):
    ordered = torch.tensor([sorted(scale)], dtype=torch.float64)
    weight = class_weights(ordered, DuoConfig(alpha=alpha))
    assert (weight <= 1).all()
    assert (weight >= 1 / (1 + alpha) - 1e-12).all()
    assert (weight.diff() <= 0).all()
    apart = ordered.diff() > 1e-9
    assert (weight.diff()[apart] < 0).all()
    assert (class_weights(ordered, DuoConfig(alpha=0.0)) == 1).all()


def test_random_weights_are_the_same_weights_elsewhere():
    scale = torch.rand(4, 5, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(1)
    shuffled = class_weights(scale, DuoConfig(weights="random"))
    weight = class_weights(scale, DuoConfig())
    assert not torch.equal(shuffled, weight)
    assert torch.equal(shuffled.flatten().sort().values, weight.flatten().sort().values)
    torch.manual_seed(1)
    assert torch.equal(shuffled, class_weights(scale, DuoConfig(weights="random")))


@given(
    sign=st.sampled_from([-1.0, 1.0]),
    size=st.floats(0, 5),
    budget=st.floats(0, 1),
    seed=st.integers(0, 50),
)
@REPEATABLE
def test_purified_labels_move_one_way_and_stay_labels(sign, size, budget, seed):
    generator = torch.Generator().manual_seed(seed)
    planes = torch.randint(0, 2, (2, 3, 4, 5), generator=generator).float()
    noise = torch.rand(planes.shape, generator=generator)
    found = purified_labels(planes, torch.full((2, 3), sign * size), noise, budget)
    assert ((found >= 0) & (found <= 1)).all()
    assert (sign * (planes - found) >= 0).all()
    assert torch.equal(purified_labels(planes, torch.full((2, 3), sign * size), noise, 0.0), planes)


def test_the_table_keeps_its_moments():
    table = CoefficientTable(7, 3, seed=1)
    optimiser = torch.optim.Adam(table.parameters(), 0.1)
    pull = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    start = standardised(table.raw.detach())
    for step in range(30):
        values = table(torch.arange(7))
        assert abs(values.mean().item()) < 1e-6, step
        assert abs(values.square().mean().item() - 1) < 1e-4, step
        optimiser.zero_grad()
        (values * pull).sum().backward()
        optimiser.step()
    after = standardised(table.raw.detach())
    assert torch.corrcoef(torch.stack([after.flatten(), pull.flatten()]))[0, 1] < -0.9
    assert not torch.allclose(start, after, atol=0.1)


def test_a_table_that_cannot_be_standardised_corrects_nothing():
    logits, labels, noise, index = drawn(5, classes=1, batch=1)
    plain = DuoLoss(1, DuoConfig(denoise=False))(logits, labels)["total"]
    one = DuoLoss(1, DuoConfig(noise_penalty=0.0), samples=1)(logits, labels, noise, index)["total"]
    torch.testing.assert_close(one, plain)
    same = DuoLoss(1, DuoConfig(noise_penalty=0.0), samples=4)
    torch.nn.init.constant_(same.coefficients.raw, 2.0)
    total = same(logits, labels, noise.requires_grad_(), index)["total"]
    torch.testing.assert_close(total, plain)
    total.backward()
    assert same.coefficients.raw.grad.isfinite().all()


# ---- gradients


def gradients(config: DuoConfig, **arguments) -> tuple[Tensor, Tensor, Tensor]:
    logits, labels, noise, index = drawn(11)
    loss = DuoLoss(2, config, samples=6, seed=2).double()
    logits.requires_grad_(), noise.requires_grad_()
    loss(logits, labels, noise, index, **arguments)["total"].backward()
    zero = torch.zeros(1)
    return tuple(p.grad if p.grad is not None else zero for p in (logits, noise, loss.coefficients.raw))  # type: ignore[return-value]


def test_gradients_reach_the_noise_head_and_the_table():
    for gradient in gradients(DuoConfig(noise_penalty=0.0)):
        assert gradient.abs().max() > 1e-6
    for gradient in gradients(DuoConfig(noise_penalty=0.0, beta=1.0)):  # through the Dice loss alone
        assert gradient.abs().max() > 1e-6


@pytest.mark.parametrize("arguments", [{"progress": 0.05}, {"progress": 1.0}])
def test_without_a_budget_they_get_none(arguments):
    """The penalty alone does not move the head either: it has nothing to correct yet."""
    rho = 0.3 if arguments["progress"] < 0.1 else 0.0
    _, noise, table = gradients(DuoConfig(rho=rho, noise_penalty=0.1), **arguments)
    assert not noise.any()
    assert not table.any()


def test_the_penalty_grows_with_the_budget():
    logits, labels, noise, index = drawn(11, unknown=0)
    loss = DuoLoss(2, DuoConfig(noise_penalty=0.5), samples=2).double()
    square = noise.sigmoid().square().mean().item()
    for progress, share in ((0.1, 0.0), (0.2, 0.5), (0.3, 1.0)):
        found = loss(logits, labels, noise, index, progress)["noise"].item()
        assert found == pytest.approx(0.5 * share * square)


def test_no_gradient_passes_the_weight():
    """The gradient is that of a loss whose weights are constants."""
    logits, labels, _, _ = drawn(12, unknown=0)
    config = DuoConfig(alpha=3.0, denoise=False)
    logits.requires_grad_()
    DuoLoss(2, config)(logits, labels)["total"].backward()
    twin = logits.detach().clone().requires_grad_()
    weight = class_weights(logit_scale(twin.detach()[:, 1:]), config)
    planes = class_planes(labels, 2).double()
    target = torch.cat([1 - planes.sum(1, keepdim=True), planes], 1)
    entropy, dice = class_losses(one_vs_rest(twin, Link.SOFTMAX), target, labels >= 0)
    (torch.cat([torch.ones(2, 1), weight], 1) * (0.5 * entropy + 0.5 * dice)).mean().backward()
    torch.testing.assert_close(logits.grad, twin.grad)


def test_the_background_logit_is_trained():
    logits, _, _, _ = drawn(13)
    labels = torch.zeros(2, *GRIDS[2], dtype=torch.long)
    logits.requires_grad_()
    DuoLoss(2, DuoConfig(denoise=False))(logits, labels)["total"].backward()
    assert (logits.grad[:, 0] < 0).all()


@pytest.mark.parametrize("link", list(Link))
@pytest.mark.parametrize("mode", ["table", "pooled"])
def test_gradients_are_those_of_finite_differences(link, mode):
    """Of the differentiable part: with alpha = 0 the loss has no piece that is cut off on purpose."""
    config = DuoConfig(alpha=0.0, mode=mode, noise_penalty=0.1, rho=0.2)
    loss = DuoLoss(2, config, samples=2, link=link, seed=5).double().eval()
    logits, labels, noise, index = drawn(14, link=link)
    if mode == "pooled":
        noise = torch.cat([noise, noise.flip(0) + 0.3], 1)
    parts = [logits.requires_grad_(), noise.requires_grad_()]
    raw = loss.coefficients.raw if mode == "table" else None

    def total(*given: Tensor) -> Tensor:
        if raw is None:
            return loss(given[0], labels, given[1])["total"]
        values = {"coefficients.raw": given[2]}
        arguments = (given[0], labels, given[1], index)
        return torch.func.functional_call(loss, values, arguments, strict=False)["total"]

    inputs = [*parts, *([raw.detach().clone().requires_grad_()] if raw is not None else [])]
    assert torch.autograd.gradcheck(total, inputs)


# ---- what may come in


@pytest.mark.parametrize("link", list(Link))
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("what", ["empty", "full", "unknown", "huge", "constant", "one of each"])
def test_the_loss_and_its_gradients_are_finite(link, dims, what):
    classes, batch = (1, 1) if what == "one of each" else (3, 2)
    logits, labels, noise, index = (
        t.float() if t.is_floating_point() else t for t in drawn(1, dims, classes, batch, link)
    )
    if what == "empty":
        labels = torch.zeros_like(labels)
    elif what == "full":
        labels = torch.ones_like(labels)
    elif what == "unknown":
        labels = torch.full_like(labels, -1)
    elif what == "huge":
        logits, noise = logits.sign() * 1e4, noise.sign() * 1e4
    elif what == "constant":
        logits = torch.zeros_like(logits)
    logits.requires_grad_(), noise.requires_grad_()
    loss = DuoLoss(classes, samples=4, link=link)
    losses = loss(logits, labels, noise, index)
    losses["total"].backward()
    assert all(value.isfinite() for value in losses.values())
    for part in (logits, noise, loss.coefficients.raw):
        assert part.grad is not None
        assert part.grad.isfinite().all()
    if what == "unknown":
        assert losses["total"].item() == 0
        assert not logits.grad.any()


def test_unknown_voxels_count_nowhere():
    logits, labels, noise, index = drawn(15, dims=3, unknown=0.3)
    loss = DuoLoss(2, samples=2).double()
    before = loss(logits, labels, noise, index)
    unknown = (labels < 0).unsqueeze(1)
    after = loss(logits + 50 * unknown, labels, noise - 9 * unknown, index)
    for name, value in before.items():
        torch.testing.assert_close(after[name], value)


def test_a_class_order_and_a_sample_order_do_not_matter():
    logits, labels, noise, index = drawn(16, dims=3, classes=3)
    loss = DuoLoss(3, samples=2).double()
    total = loss(logits, labels, noise, index)["total"]
    torch.testing.assert_close(
        loss(logits.flip(0), labels.flip(0), noise.flip(0), index.flip(0))["total"], total
    )
    turned = DuoLoss(3, samples=2).double()
    turned.coefficients.raw.data = loss.coefficients.raw.data.flip(1)
    swapped = torch.where(labels > 0, 4 - labels, labels)
    logits = torch.cat([logits[:, :1], logits[:, 1:].flip(1)], 1)
    torch.testing.assert_close(turned(logits, swapped, noise.flip(1), index)["total"], total)


def test_under_bfloat16_the_loss_is_computed_in_float32():
    logits, labels, noise, index = (t.bfloat16() if t.is_floating_point() else t for t in drawn(17))
    loss = DuoLoss(2, samples=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = loss(logits.requires_grad_(), labels, noise, index)
    assert losses["total"].dtype == torch.float32
    expected = loss(logits.float(), labels, noise.float(), index)["total"]
    torch.testing.assert_close(losses["total"], expected)
    losses["total"].backward()
    assert logits.grad.dtype == torch.bfloat16


# ---- deep supervision, moving average, pooled coefficients


def test_coarser_heads_keep_their_labels_and_the_weights_of_the_finest():
    logits, labels, noise, index = drawn(18, unknown=0)
    config = DuoConfig(alpha=2.0)
    loss = DuoLoss(2, config, samples=2).double()
    head, coarse_labels = logits[:, :, ::2, ::2] + 1, labels[:, ::2, ::2]
    fine = loss(logits, labels, noise, index)
    both = loss(logits, labels, noise, index, coarse=[(head, coarse_labels)])
    weight = class_weights(logit_scale(logits[:, 1:]), config)
    planes = class_planes(coarse_labels, 2).double()
    target = torch.cat([1 - planes.sum(1, keepdim=True), planes], 1)
    entropy, dice = class_losses(one_vs_rest(head, Link.SOFTMAX), target, coarse_labels >= 0)
    coarse = (torch.cat([torch.ones(2, 1), weight], 1) * (0.5 * entropy + 0.5 * dice)).mean()
    expected = (fine["total"] - fine["noise"] + 0.5 * coarse) / 1.5 + fine["noise"]
    torch.testing.assert_close(both["total"], expected)


def test_the_moving_average_of_the_scale():
    loss = DuoLoss(2, DuoConfig(average=0.5, denoise=False)).double()
    batches = [drawn(seed, unknown=0)[:2] for seed in range(3)]
    scales = [logit_scale(logits[:, 1:]).mean(0) for logits, _ in batches]
    for logits, labels in batches:
        found = loss(logits, labels)["scale"]
    expected = (0.25 * scales[0] + 0.5 * scales[1] + scales[2]) / 1.75
    assert found.item() == pytest.approx(expected.mean().item(), rel=1e-9)
    loss.eval()
    assert loss(*batches[0])["scale"].item() == found.item()
    fresh = DuoLoss(2, DuoConfig(average=0.5, denoise=False)).eval()
    assert fresh(*batches[0])["scale"].item() == pytest.approx(scales[0].mean().item(), rel=1e-6)


def test_pooled_coefficients_are_standardised_by_running_moments():
    pooled = PooledCoefficients()
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        pooled(torch.randn(2, 3, 4, 4, generator=generator) * 8 + 5)
    fresh = torch.randn(500, 3, 4, 4, generator=generator) * 8 + 5
    values = pooled.eval()(fresh)
    assert abs(values.mean().item()) < 0.5
    assert values.square().mean().item() == pytest.approx(1, abs=0.4)
    raw = fresh.mean((2, 3))
    assert torch.corrcoef(torch.stack([values.flatten(), raw.flatten()]))[0, 1] > 0.999999
    single = pooled(fresh[:1])
    torch.testing.assert_close(single, values[:1])  # a row does not depend on the others


def test_the_pooled_mode_needs_no_index():
    logits, labels, noise, _ = drawn(19)
    loss = DuoLoss(2, DuoConfig(mode="pooled"))
    both = torch.cat([noise, noise], 1).requires_grad_()
    loss(logits, labels, both)["total"].backward()
    assert both.grad[:, :2].any()
    assert both.grad[:, 2:].any()


def test_the_warm_up_of_the_budget():
    config = DuoConfig(rho=0.4, warmup_start=0.2, warmup_end=0.6)
    assert [config.noise_budget(p) for p in (0.0, 0.2, 0.4, 0.6, 1.0)] == pytest.approx([0, 0, 0.2, 0.4, 0.4])
    at_once = replace(config, warmup_start=0.0, warmup_end=0.0)
    assert at_once.noise_budget(0.0) == 0.4


# ---- by-product and mistakes


def test_the_annotation_bias_is_a_table(tmp_path):
    table = CoefficientTable(3, 2, seed=1)
    rows = list(annotation_bias(table, ["a", "b", "c"], ["liver", "tumour"]))
    assert [row[:2] for row in rows] == [(case, name) for case in "abc" for name in ("liver", "tumour")]
    values = np.array([row[2] for row in rows])
    raw = table.raw.detach().numpy().ravel()
    np.testing.assert_allclose(values, (raw - raw.mean()) / raw.std(), rtol=1e-5)
    assert all((row[3] == "label shrunk") == (row[2] > 0) for row in rows)
    write_annotation_bias(tmp_path / "bias.csv", table, ["a", "b", "c"], ["liver", "tumour"])
    lines = (tmp_path / "bias.csv").read_text().splitlines()
    assert lines[0] == "case,class,coefficient,reading"
    assert [float(line.split(",")[2]) for line in lines[1:]] == values.tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -1}, "alpha=-1, expected a number from 0"),
        ({"beta": 1.5}, "beta=1.5, expected a number from 0 to 1"),
        ({"rho": "much"}, "rho='much'"),
        ({"average": 1.0}, "average=1.0, expected a number from 0 to below 1"),
        ({"warmup_start": 0.5}, "warmup_start=0.5, expected a number from 0 to warmup_end=0.3"),
        ({"weights": "some"}, "weights='some', expected one of scale, none, random"),
        ({"mode": "row"}, "mode='row'"),
        ({"denoise": 1}, "denoise=1, expected true or false"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        DuoConfig.from_settings(settings)


def test_an_unknown_setting_is_refused():
    with pytest.raises(UnknownNameError, match="no DUO setting called 'alfa'; did you mean 'alpha'"):
        DuoConfig.from_settings({"alfa": 1})


def test_what_does_not_fit_is_refused():
    logits, labels, noise, index = drawn(20)
    loss = DuoLoss(2, samples=2)
    with pytest.raises(InputError, match="2 logits, expected 3 for 2 foreground classes"):
        loss(logits[:, :2], labels, noise, index)
    with pytest.raises(InputError, match="Label 5, expected at most 2"):
        loss(logits, labels.clamp(min=5), noise, index)
    with pytest.raises(InputError, match="0 channels of noise logits, expected 2"):
        loss(logits, labels)
    with pytest.raises(InputError, match="2 channels of noise logits, expected 0"):
        DuoLoss(2, DuoConfig(denoise=False))(logits, labels, noise)
    with pytest.raises(InputError, match="No index of the rows' cases"):
        loss(logits, labels, noise)
    with pytest.raises(InputError, match=r"Cases \[0, 2\], expected positions below 2"):
        loss(logits, labels, noise, torch.tensor([0, 2]))
    with pytest.raises(ConfigError, match="for 0 cases, expected the number of training cases"):
        DuoLoss(2)
    with pytest.raises(ConfigError, match="0 foreground classes"):
        DuoLoss(0)
