"""The scale S of a map: properties, worked examples, and the singular values of other libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import ConfigError, InputError
from sfumato.measures import spectrum as module
from sfumato.measures.spectrum import gram, logit_scale, spectral_entropy, spectrum

CONVENTIONS = "energy", "amplitude"
SEEDS = st.integers(0, 2**32 - 1)


def scale(maps, convention="energy"):
    return spectral_entropy(spectrum(gram(torch.as_tensor(maps))), convention)


def s(maps, convention="energy") -> float:
    return float(scale(np.asarray(maps, dtype=np.float64), convention))


def twin(matrix: np.ndarray, convention: str = "energy") -> float:
    """Loops over the singular values of numpy's full decomposition."""
    values = [v ** (2 if convention == "energy" else 1) for v in np.linalg.svd(matrix)[1]]
    return -sum(v / sum(values) * math.log(v / sum(values)) for v in values if v > 0) / math.log(len(values))


def draw(seed: int, rows: int, columns: int, offset: float = 0.0) -> np.ndarray:
    """A matrix whose singular values span some decades."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, columns)) * 10.0 ** rng.uniform(-2, 1, (rows, 1)) + offset


def orthogonal(rng: np.random.Generator, side: int) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(side, side)))[0]


shapes = st.tuples(st.integers(2, 9), st.integers(2, 14))


@settings(max_examples=40, deadline=None)
@given(SEEDS, shapes, st.sampled_from(CONVENTIONS))
def test_gram_path_is_the_svd_path_and_in_the_unit_interval(seed, shape, convention):
    matrix = draw(seed, *shape)
    assert s(matrix, convention) == pytest.approx(twin(matrix, convention), abs=1e-8)  # P14
    assert 0 <= s(matrix, convention) <= 1  # P3
    values = torch.linalg.svd(torch.from_numpy(matrix), full_matrices=False)[1]
    assert float(spectral_entropy(values**2, convention)) == pytest.approx(s(matrix, convention), abs=1e-8)


@settings(max_examples=40, deadline=None)
@given(SEEDS, shapes, st.floats(-6, 6), st.sampled_from([-1.0, 1.0]))
def test_unit_rotation_and_transposition_do_not_matter(seed, shape, power, sign):
    matrix, rng = draw(seed, *shape), np.random.default_rng(seed)
    wanted = pytest.approx(s(matrix), abs=1e-9)
    assert s(sign * 10.0**power * matrix) == wanted  # P4
    assert s(orthogonal(rng, shape[0]) @ matrix @ orthogonal(rng, shape[1])) == wanted  # P5
    assert s(matrix[rng.permutation(shape[0])][:, rng.permutation(shape[1])]) == wanted
    assert s(matrix.T) == wanted  # P6


def test_slices_may_be_turned_and_mirrored():
    volume = draw(0, 5, 36).reshape(5, 6, 6)
    for changed in (np.rot90(volume, axes=(1, 2)).copy(), volume[::-1].copy(), volume[..., ::-1].copy()):
        assert s(changed.reshape(5, -1)) == pytest.approx(s(volume.reshape(5, -1)), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(SEEDS, shapes)
def test_energy_is_at_most_amplitude(seed, shape):
    matrix = draw(seed, *shape)
    assert s(matrix) <= s(matrix, "amplitude") + 1e-12  # P12


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize(("equal", "rows"), [(1, 5), (2, 3), (3, 4), (6, 6)])
def test_equal_singular_values(equal, rows, convention):
    matrix = np.zeros((rows, 20))
    matrix[range(equal), range(equal)] = 0.3
    assert s(matrix, convention) == pytest.approx(math.log(equal) / math.log(rows), abs=1e-9)  # P1, P7


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("value", [-7.25, 1e-6, 0.1, 3e5])
def test_rank_one_and_constant_maps(value, convention):
    rng = np.random.default_rng(1)
    assert s(np.full((96, 500), value), convention) == pytest.approx(0, abs=1e-9)  # P2
    assert s(value * np.outer(rng.normal(size=12), rng.normal(size=40)), convention) == pytest.approx(
        0, abs=1e-9
    )


@settings(max_examples=30, deadline=None)
@given(SEEDS, st.integers(2, 6), st.integers(1, 5))
def test_zero_and_repeated_rows(seed, rows, more):
    matrix = draw(seed, rows, 7)
    wide = np.hstack([matrix, np.zeros((rows, 9))])
    tall = np.vstack([matrix, np.zeros((more, 7))])
    repeated = np.repeat(np.hstack([matrix, draw(seed + 1, rows, 30)]), more, axis=0)
    assert s(wide) == pytest.approx(s(matrix), abs=1e-9)  # P8
    side = min(rows + more, 7)
    assert s(tall) == pytest.approx(s(matrix) * math.log(rows) / math.log(side), abs=1e-9)
    once = s(np.hstack([matrix, draw(seed + 1, rows, 30)]))
    assert s(repeated) == pytest.approx(once * math.log(rows) / math.log(rows * more), abs=1e-9)  # P10


def test_a_constant_matters():
    matrix = draw(2, 6, 30)
    assert (
        abs(s(matrix + 10) - s(matrix)) > 0.01
    )  # P11; the row-centred form is tested with the streamed state


def test_any_base_of_the_logarithm():
    p = np.array([0.5, 0.3, 0.2])
    two = -(p * np.log2(p)).sum() / np.log2(3)
    assert float(spectral_entropy(torch.from_numpy(p))) == pytest.approx(two, abs=1e-12)  # P9


def test_worked_examples():
    rng = np.random.default_rng(3)
    assert s(np.eye(4, 16)) == pytest.approx(1, abs=1e-12)  # E1
    assert s(np.outer(rng.normal(size=4), rng.normal(size=16))) == pytest.approx(0, abs=1e-12)
    assert s(np.diag([3, 4])) == pytest.approx(0.942683, abs=5e-7)  # E2
    assert 2 ** s(np.diag([3, 4])) == pytest.approx(1.922100, abs=5e-7)
    assert s(np.diag([3, 4]), "amplitude") == pytest.approx(0.985228, abs=5e-7)
    assert s(np.diag([2, 1, 1])) == pytest.approx(0.789690, abs=5e-7)  # E3
    assert s(np.diag([2, 1, 1]), "amplitude") == pytest.approx(0.946395, abs=5e-7)
    assert s(np.diag([1, 1, 0])) == pytest.approx(0.630930, abs=5e-7)
    z = np.array([[1.0, 1, 1, 1], [1, 1, 0, 0]])  # E4
    assert spectrum(gram(torch.from_numpy(z))).tolist() == pytest.approx([5.236068, 0.763932], abs=5e-7)
    assert s(z) == pytest.approx(0.550048, abs=5e-7)
    assert s(z, "amplitude") == pytest.approx(0.850490, abs=5e-7)
    assert s(z + 10) == pytest.approx(0.006908, abs=5e-7)


@pytest.mark.parametrize("rows", [1, 3, 127, 260])
@pytest.mark.parametrize("columns", [1, 256, 300, 700])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int16])
def test_gram_in_blocks_is_the_product(rows, columns, dtype):
    maps = (torch.randn(2, rows, columns, generator=torch.Generator().manual_seed(4)) * 8).to(dtype)
    small = maps.double() if rows <= columns else maps.double().mT
    wanted = small @ small.mT
    torch.testing.assert_close(gram(maps), wanted, rtol=1e-12, atol=1e-9)
    assert torch.equal(gram(maps)[0], gram(maps[0]))
    assert torch.equal(gram(maps), gram(maps).mT)
    torch.testing.assert_close(module._batched_product(small), wanted, rtol=1e-12, atol=1e-9)


def test_float32_values_of_very_different_size_keep_their_energy():
    # In float32 the Gram matrix of a map under a large constant loses everything but the constant.
    noise = torch.randn(20, 400, generator=torch.Generator().manual_seed(5))
    maps = (noise + 3000).float()
    wanted = twin(maps.double().numpy())
    assert wanted < 1e-5
    assert float(scale(maps)) == pytest.approx(wanted, rel=1e-6)


def test_mixed_precision_and_gradients_do_not_reach_it():
    maps = torch.randn(3, 8, 50, generator=torch.Generator().manual_seed(6), requires_grad=True)
    plain = scale(maps)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(scale(maps), plain)
        assert torch.equal(logit_scale(maps.reshape(1, 3, 8, 5, 10))[0], plain)
    assert not plain.requires_grad


def test_where_it_is_not_defined():
    assert scale(torch.zeros(3, 4)).isnan()
    assert scale(torch.ones(1, 4)).isnan()
    assert gram(torch.zeros(0, 4)).shape == (0, 0)
    assert gram(torch.zeros(3, 0)).shape == (0, 0)
    with pytest.raises(ConfigError, match="convention='entropy'"):
        spectral_entropy(torch.ones(3), "entropy")  # type: ignore[arg-type]


@pytest.mark.parametrize("grid", [(6, 9), (6, 5, 4), (9, 2, 2)])
@pytest.mark.parametrize("chunk", [1, 2, 16])
def test_logit_scale_row_by_row(grid, chunk):
    logits = torch.randn(2, 3, *grid, generator=torch.Generator().manual_seed(7))
    found = logit_scale(logits, chunk)
    for b in range(2):
        for c in range(3):
            wanted = twin(logits[b, c].flatten(1).double().numpy())
            assert float(found[b, c]) == pytest.approx(wanted, abs=1e-9)


def test_logit_scale_where_it_is_not_defined():
    logits = torch.randn(1, 4, 5, 6, generator=torch.Generator().manual_seed(8))
    whole = logit_scale(logits)
    logits[0, 1], logits[0, 2, 0, 0], logits[0, 3, 1, 1] = 0.0, torch.inf, torch.nan
    assert logit_scale(logits)[0].tolist() == [float(whole[0, 0]), 0.0, 0.0, 0.0]
    assert logit_scale(logits[:, :, :1]).tolist() == [[0.0] * 4]
    with pytest.raises(InputError, match="two grid axes"):
        logit_scale(logits[..., 0])
