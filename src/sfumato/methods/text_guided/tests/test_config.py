"""Settings that do not fit together are refused, with the setting's name."""

from dataclasses import asdict

import pytest

from sfumato.errors import ConfigError, UnknownNameError
from sfumato.methods.text_guided.config import TextGuidedConfig


@pytest.mark.parametrize(
    "name", ["image_encoder", "profile", "mixer", "fusion", "merge", "norm", "uncertainty"]
)
def test_a_choice_is_one_of_the_known(name):
    with pytest.raises(UnknownNameError, match=f"There is no {name} called 'nothing'"):
        TextGuidedConfig(**{name: "nothing"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("classes", 0),
        ("channels", 0),
        ("text_length", 0),
        ("state", 0),
        ("text_dropout", 1.0),
        ("dropout", -0.1),
        ("spectral_weight", -1.0),
        ("uncertainty_weight", float("nan")),
        ("smoothing", -1e-6),
        ("mixed_tokens", ()),
        ("mixed_tokens", (24, 12, 9, 9, 9)),
        ("mixed_tokens", (24, 0)),
        ("expansion", 2),
        ("expansion", 3),
    ],
)
def test_a_number_out_of_range_is_named(name, value):
    with pytest.raises(ConfigError, match=f"{name}="):
        TextGuidedConfig(**{name: value})


def test_halves_that_multiply_need_twice_the_width():
    with pytest.raises(ConfigError, match="expansion=1 with merge='product', expected 2"):
        TextGuidedConfig(merge="product")


@pytest.mark.parametrize("make", [TextGuidedConfig, TextGuidedConfig.paper, TextGuidedConfig.released])
def test_changes_win_and_json_gives_it_back(make):
    config = make(text_length=30, mixed_tokens=[4, 3])
    assert (config.text_length, config.mixed_tokens) == (30, (4, 3))
    assert TextGuidedConfig(**asdict(config)) == config
