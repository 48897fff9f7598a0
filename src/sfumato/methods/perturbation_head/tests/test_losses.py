from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.methods.perturbation_head import PerturbationHead, PerturbationHeadConfig
from sfumato.methods.perturbation_head import losses as L
from sfumato.methods.perturbation_head.reference import reference_pairwise

SCORE = torch.tensor([1.0, 2.0, 3.0, 4.0])
LAST = torch.tensor([False, False, False, True])
NAMES = "likelihood", "correlation", "pairwise", "tail", "trust", "anchor", "energy", "plain"

quick = settings(max_examples=25, deadline=None)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def close(value, expected, tolerance=1e-6):
    assert float(value) == pytest.approx(expected, abs=tolerance, rel=0)


def test_golden_numbers_of_four_scores():
    assert L.standardise(SCORE).tolist() == pytest.approx(
        [-1.3416396, -0.4472132, 0.4472132, 1.3416396], abs=1e-6
    )
    close(L.error_correlation(SCORE, LAST), 0.4750885)
    close(reference_pairwise(SCORE, LAST), 0.1878131)
    close(L.tail(SCORE, LAST), 6.0317e-6, 1e-9)
    close(L.tail(SCORE, LAST.flip(0)), 0.9816845)
    close(L.anchor_distance(SCORE, torch.tensor([1.0, 2.0, 4.0, 3.0])), 0.1999996)


def test_golden_numbers_of_one_voxel():
    z = torch.tensor([[2.0], [1.0], [0.0]])
    label = torch.tensor([0])
    close(L.likelihood(z, torch.tensor([math.sqrt(1 + math.log(2))]), label), 0.5180313)
    close(L.likelihood(z, torch.ones(1), label), 0.4076060)
    delta = torch.tensor([[0.1], [0.2], [0.3]])
    close(L.trust(z, delta), 0.0467723)
    close(L.confident_energy(torch.tensor([0.0466667]), torch.tensor([0.1859923])), 0.0379870)


def test_drawn_pairs_converge_to_all_pairs():
    score = torch.randn(40, generator=generator(3))
    wrong = torch.arange(40) % 5 == 0
    drawn = [L.pairwise(score, wrong, generator(s), pairs=200) for s in range(300)]
    close(torch.stack(drawn).mean(), float(reference_pairwise(score, wrong)), 5e-3)


def test_pairs_are_drawn_with_the_generator():
    score, wrong = torch.randn(500, generator=generator(1)), torch.arange(500) % 7 == 0
    one, same, other = (L.pairwise(score, wrong, generator(s), pairs=50) for s in (5, 5, 6))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("wrong", [torch.zeros(4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)])
def test_pairwise_is_zero_without_both_sides(wrong):
    assert L.pairwise(SCORE, wrong, generator()) == 0


def test_a_constant_score():
    score, wrong = torch.full((8,), 3.0), torch.arange(8) < 2
    close(L.pairwise(score, wrong, generator()), math.log(2))
    close(L.tail(score, wrong), 0.25)


def test_tail_limits():
    wrong = torch.arange(10) < 3
    close(L.tail(torch.where(wrong, 50.0, 0.0), wrong), 0)
    close(L.tail(torch.where(wrong, -50.0, 0.0), wrong), 1)


@quick
@given(st.integers(0, 10_000), st.floats(0.5, 20), st.floats(-5, 5))
def test_standardised_losses_ignore_scale_and_shift(seed, scale, shift):
    score = torch.randn(200, generator=generator(seed), dtype=torch.double)
    wrong = torch.rand(200, generator=generator(seed + 1)) < 0.2
    other = torch.randn(200, generator=generator(seed + 2), dtype=torch.double)
    moved = scale * score + shift
    for loss in (
        lambda u: L.error_correlation(u, wrong),
        lambda u: L.pairwise(u, wrong, generator(), 500),
        lambda u: L.anchor_distance(u, other),
    ):
        assert float(loss(moved)) == pytest.approx(float(loss(score)), abs=2e-5)
    assert float(L.tail(score + shift, wrong)) == pytest.approx(float(L.tail(score, wrong)), abs=1e-9)
    assert 0 <= float(L.tail(score, wrong)) <= 1


def test_the_anchor_side_gets_no_gradient():
    score, anchor = SCORE.clone().requires_grad_(), torch.tensor([1.0, 2.0, 4.0, 3.0], requires_grad=True)
    L.anchor_distance(score, anchor).backward()
    assert anchor.grad is None
    assert score.grad is not None
    close(L.anchor_distance(3 * SCORE + 1, SCORE), 0)


def test_trust_and_energy_vanish_with_the_perturbation_only():
    z = torch.randn(3, 6, generator=generator(1))
    zero = torch.zeros(3, 6)
    assert L.trust(z, zero) == 0
    assert L.trust(z, zero + 0.1) > 0
    assert L.confident_energy(zero[0], torch.rand(6)) == 0
    assert L.confident_energy(zero[0] + 0.1, torch.rand(6)) > 0
    assert L.confident_energy(zero[0] + 0.1, torch.ones(6)) == 0


def test_weights_count_voxels():
    z = torch.randn(3, 6, generator=generator(2))
    label, warmth = torch.randint(3, (6,), generator=generator(3)), torch.ones(6)
    twice = torch.tensor([0, 1, 1, 2, 2, 2])
    counted = L.likelihood(z[:, :3], warmth[:3], label[:3], torch.tensor([1.0, 2.0, 3.0]))
    close(L.likelihood(z[:, twice], warmth, label[twice]), float(counted))


def columns(config: PerturbationHeadConfig, seed: int = 0, voxels: int = 400):
    torch.manual_seed(seed)
    head = PerturbationHead(config, {"a": 3}, classes=3, dims=2)
    z = 3 * torch.randn(1, 3, voxels)
    label = torch.where(torch.rand(voxels) < 0.2, (z[0].argmax(0) + 1) % 3, z[0].argmax(0))
    return head, z, torch.randn(1, config.probes, voxels), torch.randn(1, 1, voxels), label


def terms_of(config: PerturbationHeadConfig) -> dict[str, float]:
    head, z, v, ale, label = columns(replace(config, plain=0.25))
    maps = head.maps(z, v, ale)
    return {
        k: float(x.detach())
        for k, x in L.head_losses(maps, z, label, config, generator(), head.logistic).items()
    }


def test_the_total_is_the_weighted_sum_and_a_zero_weight_leaves_its_term_out():
    config = PerturbationHeadConfig.paper(combiner="learned", plain=0.25, easy_share=0.5)
    full = terms_of(config)
    assert set(full) == {"total", *NAMES}
    assert full["total"] == pytest.approx(sum(asdict(config)[n] * full[n] for n in NAMES), rel=1e-5)
    for name in NAMES:
        less = terms_of(replace(config, **{name: 0.0}))
        assert name not in less
        assert less["total"] == pytest.approx(full["total"] - asdict(config)[name] * full[name], rel=1e-4)
        double = terms_of(replace(config, **{name: 2 * asdict(config)[name]}))
        assert double["total"] == pytest.approx(full["total"] + asdict(config)[name] * full[name], rel=1e-4)


EXTREMES = {
    "no error": lambda z, label: (z, z[0].argmax(0)),
    "all errors": lambda z, label: (z, (z[0].argmax(0) + 1) % 3),
    "one class only": lambda z, label: (
        torch.zeros_like(z) + torch.tensor([9.0, 0, 0])[None, :, None],
        0 * label,
    ),
    "saturated": lambda z, label: (1e4 * torch.sign(z), label),
    "one voxel": lambda z, label: (z[..., :1], label[:1]),
}


@pytest.mark.parametrize("name", EXTREMES)
@pytest.mark.parametrize(
    "config",
    [PerturbationHeadConfig.paper(combiner="learned", plain=0.25), PerturbationHeadConfig.paper()],
    ids=["robust", "paper"],
)
def test_losses_and_gradients_stay_finite(config, name):
    head, z, v, ale, label = columns(config)
    z, label = EXTREMES[name](z, label)
    v, ale = (t[..., : z.shape[-1]].clone().requires_grad_() for t in (v, ale))
    terms = L.head_losses(head.maps(z, v, ale), z, label, config, generator(), head.logistic)
    assert all(torch.isfinite(t) for t in terms.values()), terms
    terms["total"].backward()
    for tensor in (v, ale, *head.parameters()):
        assert tensor.grad is None or torch.isfinite(tensor.grad).all()
