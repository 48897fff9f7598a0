import pytest
import torch
from torch import nn

from sfumato.errors import ConfigError, InputError, TapError, UnknownNameError
from sfumato.segmenters import Preprocessing, build_preset, wrap
from sfumato.segmenters.extractors import (
    FeatureExtractor,
    ModuleExtractor,
    SegmenterExtractor,
    load_extractor,
    segmenter_maps,
)
from sfumato.segmenters.pinned import weights_sha256
from sfumato.storage import save_segmenter
from sfumato.types import Batch


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def segmenter(dims: int = 2, channels: int = 1, normalisation: str = "zscore"):
    torch.manual_seed(0)
    module = build_preset(f"resunet{dims}d", channels, 3, widths=(4, 8))
    how = Preprocessing(normalisation=normalisation)  # type: ignore[arg-type]
    return wrap(
        module,
        3,
        spatial_dims=dims,
        channels=channels,
        window=(32,) * dims,
        preprocessing=how,
        source=f"preset:resunet{dims}d",
        arguments={"widths": [4, 8]},
    )


def test_features_are_the_segmenters_taps_and_logits():
    network = segmenter()
    extractor = SegmenterExtractor(network)
    slices = drawn(2, 1, 16, 24)
    found = extractor.features(slices)
    centred = (slices - slices.mean(dim=(2, 3), keepdim=True)) / slices.std(
        dim=(2, 3), keepdim=True, correction=0
    )
    expected = network.segment(Batch(centred))
    assert list(found) == [*network.spec.taps, "logits"]
    assert torch.allclose(found["logits"], expected.logits, atol=1e-5)
    for tap, value in expected.features.items():
        assert torch.allclose(found[tap], value, atol=1e-5)
    assert isinstance(extractor, FeatureExtractor)
    assert extractor.card.weights == weights_sha256(network.module)


def test_slices_of_a_batch_do_not_see_each_other():
    extractor, slices = SegmenterExtractor(segmenter()), drawn(6, 1, 15, 21)
    together = extractor.features(slices)
    assert together["logits"].shape == (6, 3, 15, 21)
    for i in range(6):
        for name, alone in extractor.features(slices[i : i + 1]).items():
            assert torch.allclose(alone[0], together[name][i], atol=1e-5)


def test_slices_larger_than_the_window_are_scaled_down():
    found = SegmenterExtractor(segmenter()).features(drawn(1, 1, 48, 64))["logits"]
    assert found.shape == (1, 3, 24, 32)


@pytest.mark.parametrize(("given", "wanted"), [(1, 3), (3, 1), (3, 3)])
def test_channels_are_matched(given, wanted):
    extractor = SegmenterExtractor(segmenter(channels=wanted))
    assert extractor.features(drawn(2, given, 16, 16))["logits"].shape == (2, 3, 16, 16)


def test_what_slices_cannot_serve_is_refused():
    with pytest.raises(ConfigError, match="3-D segmenter"):
        SegmenterExtractor(segmenter(3))
    with pytest.raises(ConfigError, match="4 channels"):
        SegmenterExtractor(segmenter(channels=4))
    with pytest.raises(ConfigError, match="needs the file's intensities"):
        SegmenterExtractor(segmenter(normalisation="fixed"))
    with pytest.raises(UnknownNameError, match="'logits'"):
        SegmenterExtractor(segmenter(), main="logit")


def test_maps_of_a_volume_have_slices_first():
    network, image = segmenter(3), drawn(1, 10, 16, 13)
    found = segmenter_maps(network, image)
    padded = torch.zeros(1, 1, 10, 16, 14)
    padded[0, :, :, :, :13] = image
    expected = network.segment(Batch(padded))
    assert torch.allclose(found["logits"], expected.logits[0].transpose(0, 1)[..., :13])
    for tap, value in expected.features.items():
        assert found[tap].shape[:3] == (value.shape[2], value.shape[1], value.shape[3])
    with pytest.raises(InputError, match="run it by windows"):
        segmenter_maps(network, drawn(1, 10, 40, 16))


def test_a_flat_network_walks_through_a_volume():
    network, image = segmenter(), drawn(1, 5, 16, 12)
    found = segmenter_maps(network, image)["logits"]
    for i in range(5):
        assert torch.allclose(found[i : i + 1], segmenter_maps(network, image[:, i])["logits"], atol=1e-5)
    with pytest.raises(InputError, match="for this network"):
        segmenter_maps(network, image[0, 0])


def test_a_saved_segmenter_is_found_by_its_folder(tmp_path):
    network = segmenter()
    save_segmenter(tmp_path / "mine", network.module, network.spec)
    extractor = load_extractor(f"segmenter:{tmp_path / 'mine'}", main="logits")
    slices = drawn(1, 1, 16, 16)
    assert torch.equal(
        extractor.features(slices)["logits"], SegmenterExtractor(network).features(slices)["logits"]
    )
    assert extractor.card.name.startswith("segmenter:")
    with pytest.raises(ConfigError, match="says its classes itself"):
        load_extractor(f"segmenter:{tmp_path / 'mine'}", classes=3)
    with pytest.raises(ConfigError, match="no segmenter found"):
        load_extractor(f"segmenter:{tmp_path}")


def test_any_modules_taps_are_features():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.AvgPool2d(4))
    extractor = ModuleExtractor(module, ("0", "2"), side=32, multiple=8)
    found = extractor.features(drawn(2, 1, 20, 30))
    assert {name: tuple(m.shape) for name, m in found.items()} == {"0": (2, 4, 24, 32), "2": (2, 4, 6, 8)}
    assert float(found["0"].min()) < 0  # tapped before the ReLU that writes over it
    assert extractor.card.main == "2"
    assert not any(p.requires_grad for p in module.parameters())
    with pytest.raises(TapError, match="no submodule 'encoder'"):
        ModuleExtractor(module, ("encoder",))
    with pytest.raises(ConfigError, match="multiple of 8"):
        ModuleExtractor(module, ("0",), side=30, multiple=8)
