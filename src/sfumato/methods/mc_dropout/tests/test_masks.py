from __future__ import annotations

import pytest
import torch
from torch import nn

from sfumato.methods.mc_dropout.masks import SATURATION, drop, drop_alpha, drop_as, layer_rate


class DropPath(nn.Module):
    """As timm's, by name."""

    def __init__(self, drop_prob):
        super().__init__()
        self.drop_prob = drop_prob


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_kept_entries_are_scaled_and_the_mean_stays():
    value = torch.randn(2, 50, 20, 20, generator=generator()) + 3
    found = drop(value, 0.25, value.shape, generator(1))
    kept = found != 0
    torch.testing.assert_close(found[kept], value[kept] / 0.75)
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.01)
    assert float(found.mean()) == pytest.approx(float(value.mean()), abs=0.05)


def test_channels_fall_out_whole():
    found = drop(torch.ones(3, 40, 5, 6), 0.5, (3, 40), generator())
    flat = found.flatten(2)
    assert ((flat == 0).all(dim=2) | (flat == 2).all(dim=2)).all()
    assert 20 < int((flat[..., 0] == 0).sum()) < 100


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Dropout(0.4), (4, 6, 5, 5)),
        (nn.Dropout2d(0.4), (4, 6)),
        (nn.Dropout3d(0.4), (4, 6)),
        (DropPath(0.4), (4,)),
    ],
)
def test_each_layer_drops_as_it_does_while_training(layer, shape):
    value = torch.randn(4, 6, 5, 5, generator=generator())
    torch.testing.assert_close(drop_as(layer, value, generator(3)), drop(value, 0.4, shape, generator(3)))


@pytest.mark.parametrize("layer", [nn.AlphaDropout(0.3), nn.FeatureAlphaDropout(0.3)])
def test_alpha_dropout_keeps_mean_and_variance_and_writes_what_torch_writes(layer):
    value = torch.randn(100, 200, 4, 4, generator=generator())
    found = drop_as(layer, value, generator(1))
    assert float(found.mean()) == pytest.approx(0, abs=0.02)
    assert float(found.std()) == pytest.approx(1, abs=0.02)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = layer.train()(value)
    # Dropped entries have one value, the same in both; kept ones are the same line of the input.
    assert float(found.mode().values.flatten().mode().values) == pytest.approx(
        float(theirs.mode().values.flatten().mode().values), abs=1e-5
    )


def test_everything_dropped_is_zero():
    value = torch.ones(1, 3, 2)
    assert drop(value, 1.0, value.shape, generator()).abs().max() == 0
    assert drop_alpha(value, 1.0, value.shape, generator()).abs().max() == 0


def test_alpha_dropout_of_nothing_is_nothing():
    value = torch.randn(1, 3, 4, generator=generator())
    torch.testing.assert_close(drop_alpha(value, 0.0, value.shape, generator()), value)
    assert pytest.approx(-1.0507009873554805 * 1.6732632423543772) == SATURATION


def test_rates_of_layers():
    layers = [
        nn.Dropout(0.1),
        nn.Dropout3d(0.2),
        nn.AlphaDropout(0.3),
        DropPath(0.4),
        DropPath(None),
        nn.ReLU(),
    ]
    assert [layer_rate(layer) for layer in layers] == [0.1, 0.2, 0.3, 0.4, 0.0, 0.0]
