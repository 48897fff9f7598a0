"""Exact ranking metrics: golden numbers, slow twins, second opinions, and what must never change them."""

from dataclasses import asdict
from fractions import Fraction
from itertools import groupby, permutations
from math import fsum

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma
from sklearn.metrics import average_precision_score, roc_auc_score

from sfumato.errors import InputError
from sfumato.metrics import risk_coverage_curve, selective
from sfumato.metrics import tie_groups as groups_module
from sfumato.metrics.buckets import bucketed_keys
from sfumato.metrics.harmonic import harmonic_gap, weighted_gap
from sfumato.metrics.keys import order_bits, sorted_keys
from sfumato.metrics.selective import perfect_aurc
from sfumato.metrics.tie_groups import areas, tie_groups

voxels = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30)
few_voxels = st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6)


def split(case):
    return np.array([c[0] for c in case], float), np.array([c[1] for c in case])


def same(first, second):
    np.testing.assert_equal(asdict(first), asdict(second))


def rational_twin(case):
    """AUROC, AUPRC, AURC and AUGRC by their definitions, in exact rationals."""
    count, wrong = len(case), sum(e for _, e in case)
    table = [
        (len(g), sum(e for _, e in g)) for _, g in groupby(sorted(case), lambda c: c[0]) for g in [list(g)]
    ]
    seen = errors = Fraction(0)
    pairs = aurc = augrc = precision = Fraction(0)
    for size, bad in table:
        pairs += bad * (seen - errors + Fraction(size - bad, 2))
        precision += bad * Fraction(wrong - errors, count - seen)
        for j in range(1, size + 1):
            among = errors + Fraction(j * bad, size)
            aurc += among / (seen + j)
            augrc += among / count
        seen, errors = seen + size, errors + bad
    right = count - wrong
    return (
        pairs / (wrong * right) if wrong and right else float("nan"),
        precision / wrong if wrong else float("nan"),
        aurc / count,
        augrc / count,
    )


@settings(max_examples=150, deadline=None)
@given(voxels)
def test_agrees_with_exact_rationals(case):
    result = selective(*split(case))
    found = result.auroc, result.auprc, result.aurc, result.augrc
    np.testing.assert_allclose(found, [float(v) for v in rational_twin(case)], rtol=1e-13, atol=0)


@settings(max_examples=25, deadline=None)
@given(few_voxels)
def test_ties_are_the_mean_over_all_orderings(case):
    scores, errors = split(case)
    by_order = []
    for p in permutations(range(len(case))):
        order = list(p)
        if all(np.diff(scores[order]) >= 0):
            e = errors[order].astype(float)
            k = np.arange(1, len(e) + 1)
            ranked = (np.cumsum(1 - e) * e).sum() / max(e.sum() * (1 - e).sum(), 1)
            by_order.append((ranked, (np.cumsum(e) / k).mean(), (np.cumsum(e) / len(e)).mean()))
    auroc, aurc, augrc = np.mean(by_order, axis=0)
    result = selective(scores, errors)
    assert (result.aurc, result.augrc) == pytest.approx((aurc, augrc), abs=1e-12)
    if 0 < errors.sum() < len(errors):
        assert result.auroc == pytest.approx(auroc, abs=1e-12)


@pytest.mark.parametrize("kind", ["continuous", "heavy ties", "both signs", "float64", "integers"])
def test_a_million_voxels_agree_with_scikit_learn(kind):
    random = np.random.default_rng(0)
    n = 1_000_000
    errors = random.random(n) < 0.01
    scores = random.random(n, dtype=np.float32) ** np.where(errors, 0.5, 1).astype(np.float32)
    scores = {
        "continuous": scores,
        "heavy ties": np.round(scores, 2),
        "both signs": scores - np.float32(0.5),
        "float64": -np.log(scores.astype(float) + 1e-300),
        "integers": (scores * 200).astype(np.int16) - 100,
    }[kind]
    result = selective(scores, errors)
    assert result.auroc == pytest.approx(roc_auc_score(errors, scores), abs=1e-12)
    assert result.auprc == pytest.approx(average_precision_score(errors, scores), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(voxels, st.randoms(use_true_random=False))
def test_neither_order_nor_an_increasing_map_changes_a_bit(case, random):
    scores, errors = split(case)
    order = list(range(len(scores)))
    random.shuffle(order)
    first = selective(scores, errors)
    same(first, selective(scores[order], errors[order]))
    for mapped in (
        np.exp(scores) * 1e6,
        scores**3 - 1e9,
        (scores + 3).astype(np.uint8),
        scores.astype(np.float16),
    ):
        same(first, selective(mapped, errors))


@settings(max_examples=60, deadline=None)
@given(voxels, st.integers(1, 9), st.integers(1, 4))
def test_neither_scan_nor_blocks_change_the_groups(case, scan, block):
    scores, errors = split(case)
    whole = next(iter(tie_groups(sorted_keys(scores, errors))), None)
    usual, groups_module.SCAN = groups_module.SCAN, scan
    try:
        parts = list(tie_groups(sorted_keys(scores, errors), block))
    finally:
        groups_module.SCAN = usual
    if whole is None:
        assert not parts
        return
    assert all(len(p.start) == block for p in parts[:-1])
    for name in ("start", "size", "errors", "before"):
        np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))


@settings(max_examples=60, deadline=None)
@given(voxels, st.sampled_from([np.float16, np.float32, np.float64, np.int64]))
def test_compiled_keys_are_the_same(case, dtype):
    pytest.importorskip("numba")
    scores, errors = split(case)
    scores = (scores / 3).astype(dtype) if np.dtype(dtype).kind == "f" else scores.astype(dtype)
    for ours, plain in zip(bucketed_keys(scores, errors), sorted_keys(scores, errors), strict=True):
        np.testing.assert_array_equal(ours, plain)
        assert ours.dtype == plain.dtype


def test_compiled_keys_of_large_and_small_buckets():
    pytest.importorskip("numba")
    random = np.random.default_rng(0)
    errors = random.random(300_000) < 0.1
    # Half the voxels share 16 leading bits with one another, the rest are spread over both signs.
    scores = np.where(
        random.random(300_000) < 0.5, 1 + random.integers(0, 99, 300_000) * 1e-6, random.normal(size=300_000)
    )
    for values in (scores.astype(np.float32), scores):
        same(selective(values, errors, "numba"), selective(values, errors, "numpy"))


@pytest.mark.parametrize("offset", [0, -200_000, -400_000])
def test_scores_beyond_one_chunk_of_either_sign(offset):
    scores = np.arange(400_000, dtype=np.float32) + offset
    errors = np.zeros(len(scores), bool)
    errors[[5, 131_072, 399_999]] = True
    result = selective(scores[::-1], errors[::-1])
    assert result.augrc == pytest.approx((400_000 - 5 + 400_000 - 131_072 + 1) / 400_000**2, rel=1e-14)


@pytest.mark.parametrize(
    "dtype",
    ["float16", "float32", "float64", "int8", "uint8", "int16", "int32", "uint32", "int64", "uint64", ">f4"],
)
def test_keys_keep_the_order_of_every_type(dtype):
    kind = np.dtype(dtype)
    if kind.kind == "f":
        info = np.finfo(kind.newbyteorder("="))
        values = [
            info.min,
            -1,
            -info.tiny,
            -info.smallest_subnormal,
            0,
            info.smallest_subnormal,
            1,
            1 + info.eps,
            info.max,
        ]
    else:
        info = np.iinfo(kind)
        values = sorted(
            {info.min, info.min + 1, 0, 1, 2, info.max - 1, info.max} | ({-1} if kind.kind == "i" else set())
        )
    scores = np.array(values, kind)
    errors = np.arange(len(scores)) % 2 == 1
    expected = selective(np.arange(len(scores)), errors)
    same(selective(scores, errors), expected)
    same(selective(scores[::-1], errors[::-1]), expected)


def test_both_zeros_are_one_score():
    result = selective(np.array([-0.0, 0.0, -0.0, 0.0]), np.array([0, 1, 0, 0]))
    assert (result.auroc, result.aurc) == (0.5, pytest.approx(0.25, abs=1e-15))


def test_booleans_and_tensors_are_taken():
    errors = np.array([0, 1, 1, 0])
    assert selective(np.array([False, True, True, False]), errors).auroc == 1
    assert selective(torch.tensor([0.0, 1.0, 1.0, 0.0]), torch.from_numpy(errors)).auroc == 1


def test_types_without_keys_are_refused():
    with pytest.raises(InputError, match="complex"):
        selective(np.zeros(2, complex), np.zeros(2))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_scores_that_are_not_finite_are_refused(bad, dtype):
    with pytest.raises(InputError, match="finite"):
        order_bits(np.array([0, bad], np.float32 if dtype == np.float16 else dtype))
    with pytest.raises(InputError, match="finite"):
        selective(np.array([0, bad], dtype), np.array([0, 1]))


@pytest.mark.parametrize("start", [0, 1, 5, 62, 63, 64, 65, 1000, 10**5, 10**8])
@pytest.mark.parametrize("length", [0, 1, 2, 7, 60, 64, 500, 3000])
def test_harmonic_sums_keep_their_digits(start, length):
    gap = fsum(1 / (start + j) for j in range(1, length + 1))
    weighted = fsum(j / (start + j) for j in range(1, length + 1))
    assert float(harmonic_gap(np.array(start), np.array(length))) == pytest.approx(gap, rel=1e-13, abs=0)
    assert float(weighted_gap(np.array(start), np.array(length))) == pytest.approx(weighted, rel=1e-13, abs=0)


def test_harmonic_sums_of_long_stretches():
    start, length = np.array([0, 3, 64, 10**4]), np.array([10**8, 10**9, 10**7, 10**8])
    gap = digamma(start + length + 1.0) - digamma(start + 1.0)
    np.testing.assert_allclose(harmonic_gap(start, length), gap, rtol=1e-14)
    np.testing.assert_allclose(weighted_gap(start, length), length - start * gap, rtol=1e-13)


def test_the_last_of_a_hundred_million_voxels():
    block = groups_module.TieGroups(*(np.array([v]) for v in (10**8 - 1, 1, 1, 0)))
    auroc, auprc, aurc, augrc = areas(block, 10**8, 1)
    assert (auroc, auprc) == (1, 1)
    assert aurc == pytest.approx(1e-16, rel=1e-13)
    assert augrc == pytest.approx(1e-16, rel=1e-13)


def test_sums_beyond_64_bits_are_exact():
    # One group of each kind: 2^31 wrong voxels above 2^39 right ones, whose pairs do not fit into an int64.
    right, wrong = np.array([2**39, 0]), np.array([0, 2**31])
    auroc, auprc, _, _ = areas(groups_module.TieGroups.from_counts(right, wrong), 2**39 + 2**31, 2**31)
    assert (auroc, auprc) == (1, 1)


@pytest.mark.parametrize(
    ("rate", "area"), [(0.005, 1.2521e-5), (0.01, 5.0168e-5), (0.02, 2.0135e-4), (0.05, 1.2714e-3)]
)
def test_area_of_a_perfect_ranking(rate, area):
    assert float(perfect_aurc(rate)) == pytest.approx(area, rel=5e-5)
    errors = np.arange(200_000) >= 200_000 * (1 - rate)
    assert selective(np.arange(200_000), errors).aurc == pytest.approx(area, rel=2e-2)


def test_a_perfect_ranking_of_errors_alone():
    assert float(perfect_aurc(1.0)) == 1
    assert selective(np.arange(3), np.ones(3)).eaurc == pytest.approx(0, abs=1e-15)


@settings(max_examples=60, deadline=None)
@given(voxels, st.integers(1, 12))
def test_the_curve_by_its_definition(case, points):
    scores, errors = split(case)
    coverage, risk = risk_coverage_curve(scores, errors, points)
    spread = np.array([errors[scores == s].mean() for s in np.sort(scores)])
    reached = np.interp(coverage * len(scores), np.arange(len(scores) + 1), np.append(0, np.cumsum(spread)))
    np.testing.assert_allclose(risk, reached / (coverage * len(scores)), atol=1e-12)


def test_the_curve_of_nothing_is_undefined():
    assert np.isnan(risk_coverage_curve(np.zeros(0), np.zeros(0), 4)[1]).all()
