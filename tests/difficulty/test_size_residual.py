"""What a case's size explains of its scale is taken out; what its label says of its size is not asked."""

from __future__ import annotations

import numpy as np
import pytest

from sfumato.runs.difficulty.size_residual import SIZES, add_size_residual, size_columns
from sfumato.runs.difficulty.table import empty_row


def cases(count: int = 30, axis: str = "D", segmenters: bool = True) -> list[dict]:
    """Scales that follow the size exactly, S = 0.01 size^0.4."""
    rng = np.random.default_rng(0)
    rows = []
    for size in np.exp(rng.uniform(3, 8, count)):
        row = empty_row() | {"status": "ok", "axis": axis, "convention": "energy", "slices": 12}
        row |= {"energy": 0.01 * size**0.4, "foreground_voxels": int(rng.integers(1, 999))}
        row |= {"voxels": 1000, "predicted_voxels": size - 1} if segmenters else {"voxels": size}
        rows.append(row)
    return rows


def residuals(rows: list[dict], reference: list[dict]) -> np.ndarray:
    add_size_residual(rows, {name: size_columns(reference)[name] for name in SIZES})
    return np.array([row["size_residual"] for row in rows])


@pytest.mark.parametrize("segmenters", [True, False])
def test_a_pure_effect_of_size_leaves_nothing(segmenters):
    rows = cases(segmenters=segmenters)
    assert np.allclose(residuals(rows, rows), 0, atol=1e-9)


def test_a_scale_halved_is_ln_2_harder_whatever_the_others_are():
    reference, rows = cases(), cases()
    rows[4]["energy"] /= 2
    assert residuals(rows, reference)[4] == pytest.approx(np.log(2))
    assert residuals(rows[4:5], reference)[0] == pytest.approx(np.log(2))


def test_the_label_s_size_changes_nothing():
    rows, other = cases(), cases()
    for row in other:
        row["foreground_voxels"] = 1
    assert residuals(rows, rows).tolist() == residuals(other, other).tolist()


def test_pictures_and_volumes_have_lines_of_their_own():
    volumes, pictures = cases(), cases(axis="H")
    for row in pictures:
        row["energy"] *= 7
    assert np.allclose(residuals([*volumes, *pictures], [*volumes, *pictures]), 0, atol=1e-9)


def test_it_is_undefined_without_a_line_or_a_prediction():
    few = cases(4)
    assert np.isnan(residuals(few, few)).all()
    rows = cases()
    rows[2] |= {"predicted_voxels": float("nan")}
    rows[3] |= {"status": "error", "energy": float("nan")}
    assert np.isnan(residuals(rows, cases())).nonzero()[0].tolist() == [2, 3]
