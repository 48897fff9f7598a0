"""Tiny networks with random weights, saved as transformers saves them."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato.errors import ConfigError, InputError, MissingExtraError, StorageError
from sfumato.segmenters.extractors import load_extractor

SMALL: dict[str, Any] = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 16}
PROMPT = {"hidden_size": 8, "image_size": 64, "patch_size": 16, "mask_input_channels": 4}
DECODER = {
    "hidden_size": 8,
    "num_attention_heads": 2,
    "mlp_dim": 8,
    "iou_head_hidden_dim": 8,
    "attention_downsample_rate": 1,
}


def dinov2(transformers):
    return transformers.Dinov2Model(transformers.Dinov2Config(**SMALL, image_size=56, patch_size=14))


def dinov2_registers(transformers):
    config = transformers.Dinov2WithRegistersConfig(
        **SMALL, image_size=56, patch_size=14, num_register_tokens=3
    )
    return transformers.Dinov2WithRegistersModel(config)


def dinov3(transformers):
    config = transformers.DINOv3ViTConfig(**SMALL, intermediate_size=32, image_size=64, num_register_tokens=4)
    return transformers.DINOv3ViTModel(config)


def vit(transformers):
    config = transformers.ViTConfig(**SMALL, intermediate_size=32, image_size=64)
    return transformers.ViTModel(config, add_pooling_layer=False)


def convnext(transformers):
    return transformers.ConvNextModel(transformers.ConvNextConfig(hidden_sizes=[8] * 4, depths=[1] * 4))


def sam(transformers):
    vision = {**SMALL, "output_channels": 8, "image_size": 64, "mlp_dim": 16, "window_size": 2}
    config = transformers.SamConfig(
        vision_config=vision, prompt_encoder_config=PROMPT, mask_decoder_config=DECODER
    )
    return transformers.SamModel(config)


def sam2(transformers):
    trunk = {
        "hidden_size": 8,
        "num_attention_heads": 1,
        "image_size": [64, 64],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1] * 4,
        "window_size_per_stage": [8, 4, 8, 4],
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [2, 2],
        "model_type": "sam2_hiera_det_model",
    }
    vision = {
        "backbone_config": trunk,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 8,
    }
    decoder = {**DECODER, "num_hidden_layers": 1}
    decoder.pop("attention_downsample_rate")
    return transformers.Sam2Model(
        transformers.Sam2Config(
            vision_config=vision, prompt_encoder_config=PROMPT, mask_decoder_config=decoder
        )
    )


@pytest.fixture
def saved(transformers, tmp_path):
    """`saved(build, **preprocessor)` gives a folder and the network that is in it."""

    def make(build, **preprocessor: Any) -> tuple[Path, torch.nn.Module]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = build(transformers).eval()
        network.save_pretrained(tmp_path)
        if preprocessor:
            (tmp_path / "preprocessor_config.json").write_text(json.dumps(preprocessor))
        return tmp_path, network

    return make


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


KINDS = {
    dinov2: {"stride14": (3, 4)},
    dinov2_registers: {"stride14": (3, 4)},
    dinov3: {"stride16": (3, 4)},
    vit: {"stride16": (3, 4)},
    convnext: {"stride32": (5, 7)},
    sam: {"stride16": (3, 4)},
    sam2: {"stride4": (12, 16), "stride8": (6, 8), "stride16": (3, 4)},
}


@pytest.mark.parametrize(("build", "grids"), KINDS.items(), ids=lambda v: getattr(v, "__name__", ""))
def test_every_kind_gives_maps_that_keep_the_slices_aspect(saved, build, grids):
    folder, _ = saved(build)
    extractor = load_extractor(f"hf:{folder}")
    slices = drawn(5, 1, 42, 58)
    maps = extractor.features(slices)
    assert {name: tuple(m.shape[2:]) for name, m in maps.items()} == grids
    assert extractor.card.main == list(grids)[-1]
    alone = extractor.features(slices[4:])
    for name, value in maps.items():
        assert value.isfinite().all()
        assert not value.requires_grad
        assert torch.allclose(alone[name][0], value[4], atol=1e-5)


IMAGENET = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def network_input(slices: torch.Tensor, mean=IMAGENET[0], std=IMAGENET[1]) -> torch.Tensor:
    return (slices - mean.reshape(1, 3, 1, 1)) / std.reshape(1, 3, 1, 1)


@torch.no_grad()
@pytest.mark.parametrize(
    ("build", "prefix"), [(dinov2, 1), (dinov2_registers, 4), (dinov3, 5)], ids=["none", "three", "four"]
)
def test_class_and_register_tokens_are_dropped(saved, build, prefix):
    folder, network = saved(build)
    extractor = load_extractor(f"hf:{folder}")
    patch = network.config.patch_size
    slices = drawn(1, 3, 2 * patch, 4 * patch)
    tokens = network(network_input(slices)).last_hidden_state[0]
    (found,) = extractor.features(slices).values()
    assert len(tokens) == prefix + 8
    for row in range(2):
        for column in range(4):
            assert torch.allclose(found[0, :, row, column], tokens[prefix + 4 * row + column], atol=1e-5)


@torch.no_grad()
def test_sam_gives_its_image_embedding(saved):
    folder, network = saved(sam)
    slices = drawn(1, 3, 64, 64)
    (found,) = load_extractor(f"hf:{folder}").features(slices).values()
    assert torch.allclose(found, network.get_image_embeddings(network_input(slices)), atol=1e-5)


@torch.no_grad()
def test_the_preprocessor_file_is_obeyed(saved):
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    folder, network = saved(
        dinov2, image_mean=mean, image_std=std, size={"shortest_edge": 99}, crop_size={"height": 28}
    )
    extractor = load_extractor(f"hf:{folder}")
    assert extractor.card.settings == "side=28"
    slices = drawn(1, 3, 28, 28)
    tokens = network(network_input(slices, torch.tensor(mean), torch.tensor(std))).last_hidden_state[0, 1:]
    (found,) = extractor.features(slices).values()
    assert torch.allclose(found[0].flatten(1).T, tokens, atol=1e-5)
    assert load_extractor(f"hf:{folder}", side=70).card.key != extractor.card.key


def test_sides_and_maps_that_a_network_has_not_are_refused(saved):
    folder, _ = saved(sam2)
    with pytest.raises(ConfigError, match="side=128, expected 64"):
        load_extractor(f"hf:{folder}", side=128)
    with pytest.raises(ConfigError, match="stride4, stride8, stride16"):
        load_extractor(f"hf:{folder}", main="stride2")
    assert load_extractor(f"hf:{folder}", main="stride4").card.main == "stride4"


def test_a_side_must_be_a_multiple_of_the_patch(saved):
    folder, _ = saved(dinov2)
    with pytest.raises(ConfigError, match="multiple of 14"):
        load_extractor(f"hf:{folder}", side=60)


def test_other_shapes_are_refused(saved):
    folder, _ = saved(dinov2)
    with pytest.raises(InputError, match="1 or 3 channels"):
        load_extractor(f"hf:{folder}").features(torch.zeros(3, 8, 8))


def test_pickled_weights_are_not_read(saved):
    folder, network = saved(dinov2)
    (folder / "model.safetensors").unlink()
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(StorageError, match=r"model\.safetensors"):
        load_extractor(f"hf:{folder}")


def test_a_repositorys_own_code_does_not_run(saved):
    folder, _ = saved(dinov2)
    config = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "mine.MyConfig", "AutoModel": "mine.MyModel"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "mine", "auto_map": own}))
    (folder / "mine.py").write_text("raise SystemExit('this must not run')")
    with pytest.raises(ConfigError, match="hf:"):
        load_extractor(f"hf:{folder}")


def test_a_language_model_gives_no_maps(transformers, tmp_path):
    config = transformers.BertConfig(**SMALL, intermediate_size=16, vocab_size=10)
    transformers.BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="BertModel takes no images"):
        load_extractor(f"hf:{tmp_path}")


def test_the_licence_is_read_from_the_readme(saved):
    folder, _ = saved(dinov2)
    assert load_extractor(f"hf:{folder}").card.licence == "unknown"
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    assert load_extractor(f"hf:{folder}").card.licence == "apache-2.0"


def test_a_missing_library_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sfumato\[sam\]'"):
        load_extractor(f"hf:{tmp_path}")


def test_a_library_that_does_not_load_is_named(transformers, saved, monkeypatch):
    folder, _ = saved(dinov2)

    def fail(*args: object, **kwargs: object) -> None:
        raise ImportError("no module") from RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(transformers.AutoModel, "from_pretrained", fail)
    with pytest.raises(ConfigError, match="operator torchvision::nms does not exist"):
        load_extractor(f"hf:{folder}")
