"""The SEU loss against the published table, loops, NumPy, MONAI and its own identities."""

from __future__ import annotations

import cmath
import itertools
import math
from typing import get_args

import numpy as np
import pytest
import torch

from sfumato.errors import ConfigError, InputError, UnknownNameError
from sfumato.methods.text_guided.losses import SeuLoss, class_planes, dice_loss, spectral_loss
from sfumato.methods.text_guided.uncertainty_loss import TERMS, UncertaintyTerm, uncertainty_loss
from sfumato.metrics import brier, negative_log_likelihood

SIDE = 224
DISK = ((torch.arange(SIDE)[:, None] - 112) ** 2 + (torch.arange(SIDE)[None] - 112) ** 2 <= 40**2).double()
EMPTY, FULL = torch.zeros(SIDE, SIDE).double(), torch.ones(SIDE, SIDE).double()
LEFT = torch.where(torch.arange(SIDE) < SIDE // 2, FULL, EMPTY)
SMALL = torch.tensor(
    [[0.9, 0.8, 0.1, 0.1], [0.7, 0.6, 0.2, 0.1], [0.1, 0.2, 0.1, 0.0], [0.0, 0.1, 0.1, 0.1]],
    dtype=torch.float64,
)
BLOCK = torch.zeros(4, 4).double()
BLOCK[:2, :2] = 1

# P, Y, L_Dice, L_F, one-sided and binary entropy, the totals with either (the paper's formulas in exact arithmetic)
TABLE = {
    "half, empty": (FULL / 2, EMPTY, 1.0, 0.25, 0.3465736, 0.6931472, 1.1096574, 1.1443147),
    "half, full": (FULL / 2, FULL, 0.3333333, 0.25, 0.3465736, 0.6931472, 0.4429907, 0.4776480),
    "half, left": (FULL / 2, LEFT, 0.5, 0.25, 0.3465736, 0.6931472, 0.6096574, 0.6443147),
    "disk": (DISK, DISK, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "rolled": (DISK.roll((50, 30), (0, 1)), DISK, 0.8374129, 0.0, 0.0, 0.0, 0.8374129, 0.8374129),
    "nothing": (EMPTY, DISK, 1.0, 0.1001475, 0.0, 0.0, 1.0300442, 1.0300442),
    "everything": (FULL, DISK, 0.8179381, 0.8998525, 0.0, 0.0, 1.0878938, 1.0878938),
    "inverse": (1 - DISK, DISK, 1.0, 0.6395281, 0.0, 0.0, 1.1918584, 1.1918584),
    "soft": (0.05 + 0.9 * DISK, DISK, 0.2080904, 0.0025, 0.1396659, 0.1985152, 0.2228070, 0.2286919),
    "quarter": (FULL / 4, DISK, 0.8569924, 0.1125737, 0.3465736, None, 0.9254219, None),
    "small": (SMALL, BLOCK, 0.2682927, 0.0269115, 0.2072094, 0.3569269, 0.2970871, 0.3120588),
}


def logits_of(probability: torch.Tensor) -> torch.Tensor:
    """One logit per voxel of one row; 0 and 1 become logits of -45 and 45."""
    return probability.logit().clamp(-45, 45)[None, None]


def drawn(shape: tuple[int, ...], seed: int = 0, scale: float = 2.0) -> torch.Tensor:
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labels(shape: tuple[int, ...], classes: int = 2, seed: int = 1, unknown: bool = False) -> torch.Tensor:
    low = -1 if unknown else 0
    return torch.randint(low, classes, shape, generator=torch.Generator().manual_seed(seed))


# ---- the table


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("term", ["one_sided", "entropy"])
def test_table(name: str, term: UncertaintyTerm):
    p, y, dice, spectral, one_sided, binary, total, binary_total = TABLE[name]
    doubt, whole = (one_sided, total) if term == "one_sided" else (binary, binary_total)
    found = SeuLoss(term, smoothing=1e-6)(logits_of(p), y.long()[None])
    expected = {"total": whole, "dice": dice, "spectral": spectral, "uncertainty": doubt}
    for key, value in expected.items():
        if value is not None:
            assert found[key].item() == pytest.approx(value, abs=6e-8), key


def test_table_disks_are_the_described_ones():
    rolled = TABLE["rolled"][0]
    assert (int(DISK.sum()), int((DISK * rolled).sum())) == (5025, 817)


def test_published_form_is_the_tables():
    found = SeuLoss.published()(logits_of(SMALL), BLOCK.long()[None])
    assert found["total"].item() == pytest.approx(0.2970871, abs=6e-8)


def test_published_entropy_gradient():
    p = torch.tensor([0.1, 1 / math.e, 0.6], dtype=torch.float64)
    z = p.logit()[None, None].requires_grad_()
    uncertainty_loss(z, torch.zeros(1, 3).long(), "one_sided").backward()
    assert z.grad is not None
    slope = 3 * z.grad[0, 0] / (p * (1 - p))
    assert slope.tolist() == pytest.approx([1.3026, 0.0, -0.4892], abs=1e-4)


# ---- slow twins


def spectrum_by_loops(values: torch.Tensor) -> dict[tuple[int, ...], float]:
    """Magnitudes of the orthonormal discrete Fourier transform, term by term."""
    sides = values.shape
    grid = list(itertools.product(*map(range, sides)))
    magnitude = {}
    for u in grid:
        turns = lambda x, u=u: sum(a * b / n for a, b, n in zip(u, x, sides, strict=True))
        terms = [values[x].item() * cmath.exp(-2j * math.pi * turns(x)) for x in grid]
        magnitude[u] = abs(sum(terms)) / math.sqrt(len(grid))
    return magnitude


@pytest.mark.parametrize(
    ("channels", "grid"), [(1, (4, 5)), (1, (5, 4)), (3, (3, 4)), (1, (2, 3, 4)), (2, (2, 2, 3))]
)
@pytest.mark.parametrize("unknown", [False, True])
def test_all_terms_by_loops(channels: int, grid: tuple[int, ...], unknown: bool):
    classes = max(channels, 2)
    z, y = drawn((2, channels, *grid)), labels((2, *grid), classes, unknown=unknown)
    voxels = list(itertools.product(*map(range, grid)))
    dice, spectral, doubt = [], [], {term: [] for term in TERMS}
    for row in range(2):
        counted = [x for x in voxels if y[row][x] >= 0]
        shown, wanted = torch.zeros(classes, *grid).double(), torch.zeros(classes, *grid).double()
        found: dict[str, list[float]] = {term: [] for term in TERMS}
        for x in counted:
            at = z[(row, slice(None), *x)].tolist()
            odds = [1.0, math.exp(at[0])] if channels == 1 else [math.exp(v) for v in at]
            p = [o / sum(odds) for o in odds]
            label = int(y[row][x])
            for c in range(classes):
                shown[(c, *x)], wanted[(c, *x)] = p[c], float(c == label)
            entropy = -sum(q * math.log(q) for q in p)
            found["entropy"].append(entropy)
            found["one_sided"].append(-sum(q * math.log(q + 1e-8) for q in p[-channels:]))
            found["entropy_where_right"].append(entropy if p[label] == max(p) else 0.0)
            found["brier"].append(sum((q - (c == label)) ** 2 for c, q in enumerate(p)))
            found["log_score"].append(-math.log(p[label]))
        for c in range(classes - channels, classes):
            a, b = shown[c], wanted[c]
            dice.append(1 - (2 * float((a * b).sum()) + 1) / (float(a.sum()) + float(b.sum()) + 1))
            one, two = spectrum_by_loops(a), spectrum_by_loops(b)
            spectral.append(sum((one[u] - two[u]) ** 2 for u in one) / len(counted))
        for term, values in found.items():
            doubt[term].append(sum(values) / len(counted))
    for term in get_args(UncertaintyTerm):
        answer = SeuLoss(term)(z, y)
        assert answer["dice"].item() == pytest.approx(np.mean(dice), abs=1e-12)
        assert answer["spectral"].item() == pytest.approx(np.mean(spectral), abs=1e-12)
        assert answer["uncertainty"].item() == pytest.approx(np.mean(doubt[term]), abs=1e-12)
        total = np.mean(dice) + 0.3 * np.mean(spectral) + 0.1 * np.mean(doubt[term])
        assert answer["total"].item() == pytest.approx(total, abs=1e-12)


# ---- second opinions


@pytest.mark.needs_monai
@pytest.mark.parametrize(("channels", "grid"), [(1, (9, 7)), (4, (6, 5)), (3, (4, 5, 6))])
def test_dice_is_monais(channels: int, grid: tuple[int, ...]):
    losses = pytest.importorskip("monai.losses")
    z, y = drawn((3, channels, *grid)), labels((3, *grid), max(channels, 2))
    one, several = channels == 1, channels > 1
    criterion = losses.DiceLoss(sigmoid=one, softmax=several, to_onehot_y=several, smooth_nr=1, smooth_dr=1)
    expected = criterion(z, y.unsqueeze(1))
    assert SeuLoss()(z, y)["dice"].item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("grid", [(6, 8), (7, 9), (8, 1), (1, 1), (3, 4, 5)])
def test_spectral_is_numpys_full_spectrum(grid: tuple[int, ...]):
    p, y = drawn((2, 2, *grid)).sigmoid(), drawn((2, 2, *grid), seed=1).sigmoid().round()
    axes = tuple(range(2, p.dim()))
    one, two = (np.abs(np.fft.fftn(x.numpy(), axes=axes, norm="ortho")) for x in (p, y))
    assert spectral_loss(p, y).item() == pytest.approx(((one - two) ** 2).mean(), abs=1e-14)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_scores_are_the_metrics(channels: int):
    z, y = drawn((1, channels, 40)), labels((1, 40), max(channels, 2))
    p = z.sigmoid() if channels == 1 else z.softmax(1)
    p = torch.cat([1 - p, p], 1)[0] if channels == 1 else p[0]
    expected = {"brier": brier(p.numpy(), y[0].numpy())}
    expected["log_score"] = negative_log_likelihood(p.numpy(), y[0].numpy())
    expected["entropy"] = torch.distributions.Categorical(probs=p.T).entropy().mean().item()
    for term, value in expected.items():
        assert uncertainty_loss(z, y, term).item() == pytest.approx(value, abs=1e-6), term  # type: ignore[arg-type]


# ---- identities


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("grid", [(12, 9), (4, 6, 5)])
def test_spectral_identities(seed: int, grid: tuple[int, ...]):
    p, y = drawn((2, 1, *grid), seed).sigmoid(), labels((2, 1, *grid), seed=seed).double()
    axes = tuple(range(2, p.dim()))
    value = spectral_loss(p, y).item()
    assert 0 <= value <= (p - y).square().mean().item()
    assert value >= (p.mean(axes) - y.mean(axes)).square().mean().item()
    moved = p.roll(tuple(range(3, 3 + len(axes))), axes)
    assert spectral_loss(moved, y).item() == pytest.approx(value, abs=1e-12)
    assert spectral_loss(p.flip(axes), y).item() == pytest.approx(value, abs=1e-12)
    assert spectral_loss(torch.full_like(p, 0.3), y.mean(axes, keepdim=True).expand_as(y)).item() == (
        pytest.approx((0.3 - y.mean(axes)).square().mean().item(), abs=1e-12)
    )


@pytest.mark.parametrize("known_share", [0.3, 0.8])
def test_spectral_bound_holds_over_known_voxels(known_share: float):
    p, y = drawn((1, 1, 10, 9)).sigmoid(), labels((1, 1, 10, 9)).double()
    known = drawn((1, 10, 9), seed=3).sigmoid() < known_share
    error = (p - y).square()[:, 0][known].mean().item()
    assert 0 < spectral_loss(p, y, known).item() <= error


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_entropies_stay_in_their_range(channels: int):
    z, y = drawn((2, channels, 500), scale=6.0), labels((2, 500), max(channels, 2))
    classes = max(channels, 2)
    assert 0 <= uncertainty_loss(z, y, "entropy").item() <= math.log(classes)
    assert uncertainty_loss(z * 0, y, "entropy").item() == pytest.approx(math.log(classes))
    assert uncertainty_loss(z, y, "entropy_where_right").item() <= uncertainty_loss(z, y, "entropy").item()
    if channels == 1:
        assert -1e-8 <= uncertainty_loss(z, y, "one_sided").item() <= 1 / math.e


def test_two_classes_are_one_logit():
    z, y = drawn((2, 1, 6, 5)), labels((2, 6, 5), unknown=True)
    pair = torch.cat([torch.zeros_like(z), z], 1)
    for term in ("entropy", "entropy_where_right", "brier", "log_score"):
        assert uncertainty_loss(pair, y, term).item() == pytest.approx(uncertainty_loss(z, y, term).item())


@pytest.mark.parametrize("term", get_args(UncertaintyTerm))
def test_perfect_and_empty_cost_nothing(term: UncertaintyTerm):
    y = torch.stack([labels((6, 6)), torch.zeros(6, 6).long()])
    z = torch.where(y == 1, 45.0, -45.0)[:, None].double()
    for value in SeuLoss(term)(z, y).values():
        assert value.item() == pytest.approx(0, abs=2e-8)


@pytest.mark.parametrize("term", get_args(UncertaintyTerm))
@pytest.mark.parametrize("channels", [1, 3])
def test_rows_do_not_see_each_other(term: UncertaintyTerm, channels: int):
    z, y = drawn((3, channels, 5, 6)), labels((3, 5, 6), max(channels, 2), unknown=True)
    loss = SeuLoss(term)
    together, apart = loss(z, y), [loss(z[i : i + 1], y[i : i + 1]) for i in range(3)]
    turned = loss(z.flip(0), y.flip(0))
    for name, value in together.items():
        assert value.item() == pytest.approx(np.mean([one[name].item() for one in apart]))
        assert value.item() == pytest.approx(turned[name].item())


@pytest.mark.parametrize("term", get_args(UncertaintyTerm))
@pytest.mark.parametrize("channels", [1, 3])
def test_unknown_voxels_do_not_count(term: UncertaintyTerm, channels: int):
    y = labels((2, 5, 6), max(channels, 2), unknown=True)
    z = drawn((2, channels, 5, 6)).requires_grad_()
    before = SeuLoss(term)(z, y)["total"]
    before.backward()
    unknown = (y < 0).unsqueeze(1).expand_as(z)
    assert z.grad is not None
    assert z.grad[unknown].abs().max().item() == 0 < z.grad[~unknown].abs().max().item()
    after = SeuLoss(term)(torch.where(unknown, -z, z), y)["total"]
    assert after.item() == before.item()


def test_row_without_a_known_voxel_costs_nothing():
    found = SeuLoss()(drawn((1, 1, 4, 4)), torch.full((1, 4, 4), -1))
    assert [value.item() for value in found.values()] == [0, 0, 0, 0]


def expected_loss(term: UncertaintyTerm, share: float) -> np.ndarray:
    """Mean of a term over many voxels of which `share` are foreground, for every constant p of a fine grid."""
    y = (torch.arange(100) < round(100 * share)).long()[None].expand(199, -1)
    p = torch.linspace(0.005, 0.995, 199, dtype=torch.float64)
    z = p.logit()[:, None, None].expand(-1, 1, 100)
    return np.array([uncertainty_loss(z[i : i + 1], y[i : i + 1], term).item() for i in range(len(p))])


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_proper_scores_are_lowest_at_the_truth_and_entropies_are_not(share: float):
    p = np.linspace(0.005, 0.995, 199)
    for term in ("brier", "log_score"):
        assert p[expected_loss(term, share).argmin()] == pytest.approx(share)
    for term in ("one_sided", "entropy", "entropy_where_right"):
        assert abs(p[expected_loss(term, share).argmin()] - share) > 0.05


def test_only_the_published_and_full_entropy_reward_confident_errors():
    y = torch.ones(1, 1).long()
    for term in get_args(UncertaintyTerm):
        doubtful, sure = (
            uncertainty_loss(torch.tensor([[[z]]]).double(), y, term).item() for z in (-1.5, -9.0)
        )
        assert (sure < doubtful) == (term in ("one_sided", "entropy")), term


# ---- gradients and number formats


@pytest.mark.parametrize("term", get_args(UncertaintyTerm))
@pytest.mark.parametrize(("channels", "grid"), [(1, (4, 5)), (3, (4, 4)), (1, (2, 3, 4)), (2, (2, 2, 3))])
def test_gradients_are_right(term: UncertaintyTerm, channels: int, grid: tuple[int, ...]):
    z = drawn((2, channels, *grid), scale=1.0).requires_grad_()
    y = labels((2, *grid), max(channels, 2), unknown=True)
    assert torch.autograd.gradcheck(lambda z: SeuLoss(term)(z, y)["total"], (z,))


@pytest.mark.parametrize("term", get_args(UncertaintyTerm))
@pytest.mark.parametrize("channels", [1, 2])
def test_gradients_stay_finite(term: UncertaintyTerm, channels: int):
    p = torch.tensor([1e-12, 0.5, 1 - 1e-12], dtype=torch.float64)
    for fill, label in itertools.product([*p.logit().tolist(), -200.0, 200.0], (0, 1)):
        z = torch.full((1, channels, 8, 8), 0.0)
        z[:, -1] = fill
        z.requires_grad_()
        loss = SeuLoss(term, smoothing=1e-6)(z, torch.full((1, 8, 8), label))["total"]
        loss.backward()
        assert z.grad is not None
        assert loss.isfinite()
        assert z.grad.isfinite().all()


def test_a_voxel_of_smoothing_keeps_the_gradient_of_an_empty_target_tame():
    p = torch.full((1, 1, 1, 1), 1e-6).double().requires_grad_()
    for smoothing, slope in ((1e-6, 2.5e5), (1.0, 1.0)):
        p.grad = None
        dice_loss(p, torch.zeros_like(p), smoothing=smoothing).backward()
        assert p.grad is not None
        assert p.grad.item() == pytest.approx(slope, rel=1e-5)


@pytest.mark.parametrize("term", get_args(UncertaintyTerm))
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_autocast_changes_nothing(term: UncertaintyTerm, kind: torch.dtype):
    y = labels((2, 14, 14))
    z = drawn((2, 1, 14, 14)).to(kind).requires_grad_()  # a side that is no power of two
    expected = SeuLoss(term)(z.detach().float(), y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = SeuLoss(term)(z, y)
    assert {name: value.item() for name, value in found.items()} == {n: v.item() for n, v in expected.items()}
    assert found["total"].dtype == torch.float32
    found["total"].backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_single_precision_agrees_with_double():
    z, y = drawn((2, 3, 32, 31)), labels((2, 32, 31), 3)
    for term in get_args(UncertaintyTerm):
        single, double = SeuLoss(term)(z.float(), y), SeuLoss(term)(z, y)
        for name in double:
            assert single[name].item() == pytest.approx(double[name].item(), rel=1e-5)


# ---- settings and errors


def test_terms_are_the_declared_ones():
    assert set(TERMS) == set(get_args(UncertaintyTerm))


def test_weights_and_forms_are_used():
    z, y = drawn((1, 1, 6, 6)), labels((1, 6, 6))
    found = SeuLoss("brier", spectral_weight=2.0, uncertainty_weight=0.0, smoothing=3.0)(z, y)
    assert found["total"].item() == pytest.approx((found["dice"] + 2 * found["spectral"]).item())
    assert found["dice"].item() == pytest.approx(
        dice_loss(z.sigmoid(), y.double()[:, None], smoothing=3.0).item()
    )
    assert SeuLoss.honest()(z, y)["uncertainty"].item() == found["uncertainty"].item()


def test_planes_of_one_channel_and_of_several():
    y = torch.tensor([[0, 1, 2, -1]])
    planes, known = class_planes(y, 3)
    assert planes[0].tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert known.tolist() == [[True, True, True, False]]


def test_what_does_not_fit_is_named():
    z = torch.zeros(1, 1, 4, 4)
    with pytest.raises(InputError, match=r"\(1, 5, 4\).*\(1, 1, 4, 4\)"):
        SeuLoss()(z, torch.zeros(1, 5, 4).long())
    with pytest.raises(InputError, match=r"from 0 to 2.* 2 classes of 1 channel"):
        SeuLoss()(z, torch.tensor([0, 2]).repeat(8).reshape(1, 4, 4))
    with pytest.raises(InputError, match="from -2 to -2"):
        SeuLoss()(z, torch.full((1, 4, 4), -2))
    with pytest.raises(ConfigError, match=r"smoothing=-1, expected 0 or more"):
        SeuLoss(smoothing=-1)
    with pytest.raises(ConfigError, match="spectral_weight=nan"):
        SeuLoss(spectral_weight=math.nan)
    with pytest.raises(UnknownNameError, match=r"uncertainty term called 'entropi'.*'entropy'"):
        SeuLoss("entropi")  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="uncertainty term called 'score'"):
        uncertainty_loss(z, torch.zeros(1, 4, 4).long(), "score")  # type: ignore[arg-type]
