from __future__ import annotations

import pytest
import torch

from sfumato.heads.temperature import TEMPERATURES, fit_temperature


def sample(temperature: float, count: int = 20_000, classes: int = 3):
    """Logits that are right after division by `temperature`, with labels drawn accordingly."""
    g = torch.Generator().manual_seed(0)
    z = 4 * torch.randn(classes, count, generator=g)
    probability = torch.softmax(z / temperature, 0)
    return z, torch.multinomial(probability.T, 1, generator=g)[:, 0]


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_is_found_on_both_sides_of_one(temperature):
    z, y = sample(temperature)
    found = fit_temperature([z[:, :5000], z[:, 5000:]], [y[:5000], y[5000:]])
    assert found == pytest.approx(temperature, rel=0.05)

    def likelihood(t):
        return float(-torch.log_softmax(z.double() / t, 0).gather(0, y[None]).mean())

    assert likelihood(found) <= min(likelihood(found * 1.01), likelihood(found / 1.01))


def test_separable_and_hopeless_sets_stay_within_bounds():
    z = torch.tensor([[5.0, -5.0], [-5.0, 5.0]])
    assert fit_temperature([z], [torch.tensor([0, 1])]) == pytest.approx(TEMPERATURES[0], rel=1e-3)
    assert fit_temperature([z], [torch.tensor([1, 0])]) == pytest.approx(TEMPERATURES[1], rel=1e-3)
