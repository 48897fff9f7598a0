from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.measures.entropy import entropy, log_doubt, margin
from sfumato.methods.perturbation_head import maps as m
from sfumato.methods.perturbation_head.patterns import hadamard_patterns, make_patterns

LOGITS = torch.tensor([2.0, 1.0, 0.0]).reshape(1, 3, 1)
PROBES = torch.tensor([1.0, 2.0]).reshape(1, 2, 1)
SCALES = torch.tensor([0.1, 0.1])
READOUT = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
TWO = torch.tensor([[1, -1], [-1, 1]], dtype=torch.int8)

seeds = st.integers(0, 10_000)
quick = settings(max_examples=25, deadline=None)


def close(value, expected, tolerance=1e-5):
    assert float(value) == pytest.approx(expected, abs=tolerance, rel=0)


def draw(seed: int, classes: int = 3, probes: int = 8, voxels: int = 40, size: float = 1.0):
    """Random logits, responses, scales and readout, in float64 unless a test casts them."""
    g = torch.Generator().manual_seed(seed)
    z = 3 * torch.randn(1, classes, voxels, generator=g, dtype=torch.double)
    v = size * torch.randn(1, probes, voxels, generator=g, dtype=torch.double)
    sigma = 0.05 + torch.rand(probes, generator=g, dtype=torch.double)
    return z, v, sigma, torch.randn(classes, probes, generator=g, dtype=torch.double)


def stacked_epistemic(z, v, sigma, w, patterns):
    """All perturbed softmaxes at once, then the population variance."""
    q = [torch.softmax(z + torch.einsum("cr,brn->bcn", w * (sigma * s), v), 1) for s in patterns.to(z.dtype)]
    return torch.stack(q).var(0, unbiased=False).sum(1)


def test_golden_numbers_of_one_voxel():
    p = torch.softmax(LOGITS, 1)
    assert p.flatten().tolist() == pytest.approx([0.6652410, 0.2447285, 0.0900306], abs=1e-6)
    gap = margin(p)
    close(gap, 0.4205125)
    weight = m.ambiguity(gap, 4.0)
    close(weight, 0.1859923)
    close(entropy(p), 0.8323956)
    h_n = m.normalised_entropy(p)
    close(h_n, 0.7576791)
    cal, zero = torch.full((1, 1), math.log(2)), torch.zeros(1, 1)
    warmth = m.temperature(cal)
    close(warmth, 1.3012099)
    tempered = torch.softmax(LOGITS / warmth.unsqueeze(1), 1).flatten()
    assert tempered.tolist() == pytest.approx([0.5956922, 0.2762230, 0.1280849], abs=1e-6)
    start = m.anchor(zero, zero, cal, h_n, weight)
    close(start, 0.5070593)
    close(m.ranking(start, weight, torch.tensor(1.0), torch.tensor(0.0), torch.tensor(0.0)), 0.6745967)


def test_golden_numbers_of_two_probes():
    delta = m.perturbation(PROBES, READOUT * SCALES)
    assert delta.flatten().tolist() == pytest.approx([0.1, 0.2, 0.3])
    close(m.residual(delta), 0.0466667)
    close(m.residual(delta, centred=True), 0.0066667)
    close(m.expected_residual(PROBES, SCALES, READOUT), 0.0333333)
    close(m.expected_residual(PROBES, SCALES, READOUT, centred=True), 0.0111111)
    epi = m.epistemic(LOGITS, PROBES, SCALES, READOUT, TWO)
    close(epi, 0.00635465, 1e-7)
    close(m.epistemic(LOGITS, PROBES, SCALES, READOUT, hadamard_patterns(2)), 0.00377989, 1e-7)
    close(m.epistemic_first_order(LOGITS, PROBES, SCALES, READOUT), 0.00379896, 1e-7)
    p = torch.softmax(LOGITS, 1)
    weight, cal = m.ambiguity(margin(p), 4.0), torch.full((1, 1), math.log(2))
    start = m.anchor(epi, m.residual(delta), cal, m.normalised_entropy(p), weight)
    close(start, 0.5361991)
    close(m.ranking(start, weight, torch.tensor(1.0), torch.tensor(0.0), torch.tensor(0.0)), 0.7059558)


@pytest.mark.parametrize("name", ["hadamard", "reference"])
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_streaming_agrees_with_stacking(name, classes):
    z, v, sigma, w = (t.float() for t in draw(1, classes=classes))
    patterns = make_patterns(name, 8)
    whole = m.epistemic(z, v, sigma, w, patterns)
    torch.testing.assert_close(whole, stacked_epistemic(z, v, sigma, w, patterns), rtol=0, atol=1e-6)
    pieces = [m.epistemic(z[..., i : i + 7], v[..., i : i + 7], sigma, w, patterns) for i in range(0, 40, 7)]
    torch.testing.assert_close(whole, torch.cat(pieces, 1), rtol=0, atol=1e-6)


@quick
@given(
    seeds, st.integers(2, 6), st.sampled_from(["hadamard", "reference"]), st.sampled_from([0.1, 1.0, 100.0])
)
def test_ranges(seed, classes, name, size):
    z, v, sigma, w = draw(seed, classes=classes, size=size)
    epi = m.epistemic(z, v, sigma, w, make_patterns(name, 8))
    assert epi.min() >= 0
    assert epi.max() <= 1 - 1 / classes + 1e-9
    p = torch.softmax(z, 1)
    gap = margin(p)
    weight = m.ambiguity(gap, 4.0)
    assert gap.min() >= 0
    assert gap.max() <= 1
    assert weight.min() >= math.exp(-4) - 1e-12
    assert weight.max() <= 1
    assert float(entropy(p).min()) >= 0
    assert float(entropy(p).max()) <= math.log(classes) + 1e-9
    assert m.residual(m.perturbation(v, w * sigma)).min() >= 0
    assert m.temperature(torch.rand(1, 5)).min() >= 1


@quick
@given(seeds, st.floats(-50, 50))
def test_a_constant_on_all_logits_changes_nothing(seed, constant):
    z, v, sigma, w = draw(seed)
    patterns = hadamard_patterns(8)
    for function in (
        lambda x: m.epistemic(x, v, sigma, w, patterns),
        log_doubt,
        lambda x: margin(torch.softmax(x, 1)),
    ):
        torch.testing.assert_close(function(z + constant), function(z), rtol=1e-9, atol=1e-9)


@quick
@given(seeds)
def test_a_class_constant_perturbation_is_seen_by_the_plain_residual_only(seed):
    z, v, sigma, w = draw(seed)
    shifted = w + torch.randn(1, 8, dtype=torch.double, generator=torch.Generator().manual_seed(seed))
    patterns = hadamard_patterns(8)
    one, other = m.epistemic(z, v, sigma, w, patterns), m.epistemic(z, v, sigma, shifted, patterns)
    torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
    first, second = m.perturbation(v, w * sigma), m.perturbation(v, shifted * sigma)
    torch.testing.assert_close(
        m.residual(first, centred=True), m.residual(second, centred=True), rtol=1e-9, atol=1e-9
    )
    assert (m.residual(first) - m.residual(second)).abs().max() > 1e-6


@quick
@given(seeds)
def test_permuting_classes_or_probes_changes_no_map(seed):
    z, v, sigma, w = draw(seed)
    patterns = make_patterns("reference", 8)
    classes, probes = torch.randperm(3), torch.randperm(8)
    one = m.epistemic(z, v, sigma, w, patterns)
    torch.testing.assert_close(one, m.epistemic(z[:, classes], v, sigma, w[classes], patterns))
    again = m.epistemic(z, v[:, probes], sigma[probes], w[:, probes], patterns[:, probes])
    torch.testing.assert_close(one, again)
    delta = m.perturbation(v, w * sigma)
    torch.testing.assert_close(m.perturbation(v, (w * sigma)[classes]), delta[:, classes])
    torch.testing.assert_close(m.perturbation(v[:, probes], (w * sigma)[:, probes]), delta)


@quick
@given(seeds)
def test_the_sign_of_the_responses_does_not_matter(seed):
    z, v, sigma, w = draw(seed)
    assert torch.equal(m.residual(m.perturbation(v, w * sigma)), m.residual(m.perturbation(-v, w * sigma)))
    patterns = hadamard_patterns(8)
    torch.testing.assert_close(m.epistemic(z, v, sigma, w, patterns), m.epistemic(z, -v, sigma, w, patterns))


def test_no_readout_or_no_response_means_no_energy():
    z, v, sigma, w = draw(3)
    for response, readout in ((torch.zeros_like(v), w), (v, torch.zeros_like(w))):
        assert m.epistemic(z, response, sigma, readout, hadamard_patterns(8)).max() < 1e-30
        assert m.epistemic_first_order(z, response, sigma, readout).max() == 0
        assert m.residual(m.perturbation(response, readout * sigma)).max() == 0
        assert m.expected_residual(response, sigma, readout).max() == 0


def test_small_scales_reach_the_first_order_form():
    z, v, sigma, w = draw(4)
    deviations = []
    for shrink in (1e-1, 1e-2, 1e-3):
        sampled = m.epistemic(z, v, shrink * sigma, w, hadamard_patterns(8))
        closed = m.epistemic_first_order(z, v, shrink * sigma, w)
        deviations.append(float((sampled / closed - 1).abs().max()))
    assert deviations[0] > deviations[1] > deviations[2]
    assert deviations[2] < 1e-3


def test_small_scales_with_the_reference_table_follow_its_covariance():
    z, v, sigma, w = draw(5)
    patterns = make_patterns("reference", 8).double()
    centred = patterns - patterns.mean(0)
    covariance = centred.T @ centred / 8
    p = torch.softmax(z, 1)
    slopes = torch.einsum("bcn,cr->bcrn", p, w) - torch.einsum("bcn,bdn,dr->bcrn", p, p, w)
    steps = slopes * (1e-4 * sigma[:, None] * v)[:, None]
    expected = torch.einsum("bcrn,rs,bcsn->bn", steps, covariance, steps)
    sampled = m.epistemic(z, v, 1e-4 * sigma, w, make_patterns("reference", 8))
    torch.testing.assert_close(sampled, expected, rtol=1e-2, atol=1e-18)


def test_scales_have_a_floor_and_start_at_a_tenth():
    assert (m.probe_scales(torch.tensor([-1e4, -50.0])) >= m.SCALE_FLOOR).all()
    close(m.probe_scales(torch.tensor([math.log(math.expm1(0.1))])), 0.100001, 1e-7)
