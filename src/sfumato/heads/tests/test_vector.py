from __future__ import annotations

import pytest
import torch

from sfumato.heads import vector
from sfumato.heads.vector import RIDGE, fit_vector_scaling, log_likelihood


def sample(scale, bias, count=40_000):
    """Logits that are right after scaling, with labels drawn accordingly."""
    g = torch.Generator().manual_seed(0)
    z = 3 * torch.randn(len(scale), count, generator=g)
    probability = torch.softmax(torch.tensor(scale)[:, None] * z + torch.tensor(bias)[:, None], 0)
    return z, torch.multinomial(probability.T, 1, generator=g)[:, 0]


def test_known_parameters_are_found():
    scale, bias = [0.5, 1.0, 1.5], [0.8, 0.0, -0.8]
    z, y = sample(scale, bias)
    found, shift = fit_vector_scaling([z[:, :100], z[:, 100:]], [y[:100], y[100:]])
    assert found.tolist() == pytest.approx(scale, abs=0.05)
    assert shift.tolist() == pytest.approx(bias, abs=0.08)
    assert float(shift.sum()) == pytest.approx(0, abs=1e-6)  # a common bias changes nothing and stays at 0


def test_the_gradient_is_zero_there():
    z, y = sample([0.7, 1.2], [0.3, -0.3], 2000)
    scale, bias = fit_vector_scaling([z], [y])
    # By hand: d/dw_c = mean (p_c - [y = c]) z_c + 2 ridge (w_c - 1), d/db_c = mean (p_c - [y = c]) + 2 ridge b_c.
    p = torch.softmax(scale[:, None] * z.double() + bias[:, None], 0)
    rest = p - torch.nn.functional.one_hot(y, 2).T
    assert float(((rest * z).mean(1) + 2 * RIDGE * (scale - 1)).abs().max()) < 1e-6
    assert float((rest.mean(1) + 2 * RIDGE * bias).abs().max()) < 1e-6


def test_chunks_and_cases_change_nothing(monkeypatch):
    z, y = sample([0.7, 1.2, 1.0], [0.0, 0.3, -0.3], 3000)
    whole = fit_vector_scaling([z], [y])
    monkeypatch.setattr(vector, "CHUNK", 700)
    parts = fit_vector_scaling([z[:, :1100], z[:, 1100:]], [y[:1100], y[1100:]])
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_separable_sets_stay_finite():
    z = torch.tensor([[5.0, -5.0], [-5.0, 5.0]])
    scale, bias = fit_vector_scaling([z], [torch.tensor([0, 1])])
    assert torch.isfinite(scale).all()
    assert torch.isfinite(bias).all()


def test_the_likelihood_is_a_sum_over_voxels():
    z, y = torch.tensor([[1.0, 2.0], [0.0, -1.0]]).double(), torch.tensor([0, 1])
    w, b = torch.tensor([2.0, 1.0]).double(), torch.tensor([0.0, 0.5]).double()
    expected = torch.tensor([[2.0, 0.5], [4.0, -0.5]]).softmax(1)[[0, 1], [0, 1]].log().sum()
    assert float(log_likelihood(z, y, w, b)) == pytest.approx(float(expected), abs=1e-6)
