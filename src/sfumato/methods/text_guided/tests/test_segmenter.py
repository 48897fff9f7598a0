"""Text-guided networks as segmenters: scaled images, and saved ones that come back."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.errors import ConfigError, StorageError
from sfumato.methods.text_guided import METHOD, segmenter
from sfumato.methods.text_guided.image_encoder import build_image_encoder
from sfumato.methods.text_guided.model import TextGuidedNetwork
from sfumato.methods.text_guided.segmenter import WholeImageNetwork, make_segmenter, rebuild_segmenter, scaled
from sfumato.segmenters.spec import SegmenterSpec
from sfumato.storage import load_method, load_segmenter_folder, save_method, save_segmenter
from sfumato.types import Batch, Link, TextPrompt

CLASSES = ("background", "disc")


@pytest.mark.parametrize("size", [(5, 7), (40, 33), (13, 90)])
def test_scaling_is_that_of_another_library(size):
    picture = np.random.default_rng(0).random((20, 30), np.float32)
    expected = np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR))
    found = scaled(torch.from_numpy(picture)[None, None], size)[0, 0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_image_of_the_network_s_side_is_left_alone(tiny_network):
    network, image = tiny_network(), torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    whole = WholeImageNetwork(network, 64)
    with torch.no_grad():
        assert torch.equal(whole(image), network(image))
        wide = scaled(image, (50, 90))
        torch.testing.assert_close(whole(wide), scaled(network(scaled(wide, (64, 64))), (50, 90)))


def test_the_passport(tiny_network, tiny_encoder):
    one = make_segmenter(tiny_network(), tiny_encoder(), CLASSES, (0, 255), 64)
    assert (one.spec.link, one.spec.divisor, one.spec.channels) == (Link.SIGMOID, 1, 3)
    assert one.spec.label_values == (0, 255)
    assert one.segment(Batch(torch.zeros(1, 3, 41, 37))).logits.shape == (1, 1, 41, 37)
    three = make_segmenter(tiny_network(classes=3), tiny_encoder(), (*CLASSES, "ring"), side=64)
    assert three.spec.link is Link.SOFTMAX
    assert json.loads(json.dumps(three.spec.to_json()))["arguments"]["config"]["mixed_tokens"] == [5, 4, 3]


def test_what_does_not_fit_together_is_refused(tiny_network, tiny_encoder):
    with pytest.raises(ConfigError, match="of 9 tokens, 12 wide, expected 6 and 12"):
        make_segmenter(tiny_network(), tiny_encoder(length=9), CLASSES)
    with pytest.raises(ConfigError, match="3 class names"):
        make_segmenter(tiny_network(), tiny_encoder(), (*CLASSES, "ring"))
    with pytest.raises(ConfigError, match="side=16"):
        WholeImageNetwork(tiny_network(), 16)


@pytest.fixture
def saved(tiny_network, tiny_encoder, tmp_path, monkeypatch):
    """A network that can be built by its settings alone, and its folder."""
    encoder, config = tiny_encoder(), tiny_network().config
    monkeypatch.setattr(segmenter, "build_text_encoder", lambda name, length: tiny_encoder(length=length))
    torch.manual_seed(4)
    network = TextGuidedNetwork(build_image_encoder("efficientnet_lite0", "random"), config, encoder.width)
    made = make_segmenter(network, encoder, CLASSES, side=64)
    save_segmenter(tmp_path / "saved", made.module, made.spec)
    return made, tmp_path / "saved"


def test_a_saved_segmenter_comes_back_with_its_reader(saved):
    made, folder = saved
    loaded = load_segmenter_folder(folder)
    image = torch.randn(2, 3, 50, 60, generator=torch.Generator().manual_seed(2))
    batch = Batch(image, TextPrompt(("disc on the left", "a disc")))
    assert torch.equal(loaded.segment(batch).logits, made.segment(batch).logits)
    assert loaded.spec == SegmenterSpec.from_json(json.loads(json.dumps(made.spec.to_json())))
    names = set(made.module.state_dict())
    assert not [n for n in names if "position" in n or "word" in n]  # the language model stays where it is


def test_another_language_model_of_that_name_is_refused(saved, tiny_encoder, monkeypatch):
    _, folder = saved
    other = lambda name, length: tiny_encoder(seed=1, length=length)
    monkeypatch.setattr(segmenter, "build_text_encoder", other)
    with pytest.raises(StorageError, match="is not the one of the training"):
        load_segmenter_folder(folder)


@pytest.mark.parametrize("change", [{"no_such_setting": 1}, {"mixer": "magic"}, {"classes": 0}])
def test_settings_of_another_version_are_refused(saved, change):
    spec = saved[0].spec
    arguments = dict(spec.arguments) | {"config": spec.arguments["config"] | change}
    content = spec.to_json() | {"arguments": arguments}
    with pytest.raises(StorageError, match="train it again"):
        rebuild_segmenter(SegmenterSpec.from_json(content))


def test_a_method_belongs_to_its_language_model(saved, tiny_encoder, tmp_path):
    made, _ = saved
    save_method(tmp_path / "method", METHOD.build(METHOD.config(), made))
    assert load_method(tmp_path / "method").name == "text_guided"
    other = make_segmenter(made.module.network, tiny_encoder(seed=1), CLASSES, side=64)
    with pytest.raises(StorageError, match="was fitted on another segmenter"):
        load_method(tmp_path / "method", segmenter=other)
