"""The network at the paper's size: the authors' parameters, cost and shapes."""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from sfumato.methods.text_guided.config import TextGuidedConfig
from sfumato.methods.text_guided.image_encoder import build_image_encoder
from sfumato.methods.text_guided.model import TextGuidedNetwork


@pytest.fixture
def paper_sized(monkeypatch):
    """`paper_sized(config)`: the network of the paper; while the fixture lasts, tensors have shapes but no numbers."""
    monkeypatch.setattr(nn.init, "trunc_normal_", lambda tensor, **_: tensor)  # it looks at numbers
    with FakeTensorMode():
        yield lambda config: TextGuidedNetwork(build_image_encoder("convnext_tiny"), config).eval()


def test_it_has_the_authors_parameters(paper_sized):
    network = paper_sized(TextGuidedConfig.released())
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert counts == {
        "encoder": 27_818_592,
        "fusion": 5_971_777 + 1_649_569 + 490_777,
        "decoder": 5_162_496 + 1_291_008 + 322_944,
        "upsample": 332_160,
        "head": 25,
        "unused": 1_536 + 590_592,
    }
    assert sum(counts.values()) == 43_631_476
    fixed = paper_sized(TextGuidedConfig(image_encoder="convnext_tiny"))
    assert sum(p.numel() for p in fixed.parameters()) == 43_039_348


def test_it_has_the_authors_cost(paper_sized):
    """Multiplications and additions in millions; asking for attention brings all of its products into the count."""
    network = paper_sized(TextGuidedConfig.released())
    with FlopCounterMode(display=False, depth=4) as counter:
        network(
            torch.empty(1, 3, 224, 224),
            torch.empty(1, 24, 768),
            return_attention=True,
        )
    millions = {name: sum(parts.values()) / 2e6 for name, parts in counter.get_flop_counts().items()}
    scan = 24 * 16 * (384 + 192 + 96) / 1e6  # reading the states, which the published table leaves out
    assert millions["Global"] - scan == pytest.approx(8884.870, abs=0.001)
    parts = {"encoder": 4454.763, "decoder.0": 838.140, "upsample": 1040.450, "head": 1.204}
    for name, expected in parts.items():
        assert millions[f"TextGuidedNetwork.{name}"] == pytest.approx(expected, abs=0.001)
    for level, (own, cross) in enumerate([(119.293, 87.921), (145.109, 63.148), (351.633, 61.176)]):
        block = f"TextGuidedNetwork.fusion.{level}"
        assert millions[f"{block}.self_attention"] == pytest.approx(own, abs=0.001)
        assert millions[f"{block}.cross_attention"] == pytest.approx(cross, abs=0.001)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("classes", [1, 4])
def test_it_has_the_authors_shapes(paper_sized, rows, classes):
    network, seen = paper_sized(TextGuidedConfig.released(classes=classes)), {}

    def remember(name):
        return lambda module, given, output: seen.__setitem__(name, output[0] if name in blocks else output)

    blocks = [f"fusion.{level}" for level in range(3)]
    for name, part in network.named_modules():
        if name.startswith(("fusion", "decoder", "upsample")):
            part.register_forward_hook(remember(name))
    text = torch.empty(rows, 24, 768)
    logits = network(torch.empty(rows, 3, 224, 224), text)
    expected = {
        "fusion.0": (rows, 49, 768),
        "fusion.0.mixer": (rows, 24, 768),
        "decoder.0": (rows, 384, 14, 14),
        "fusion.1": (rows, 196, 384),
        "fusion.1.mixer": (rows, 12, 384),
        "decoder.1": (rows, 192, 28, 28),
        "fusion.2": (rows, 784, 192),
        "fusion.2.mixer": (rows, 9, 192),
        "decoder.2": (rows, 96, 56, 56),
        "upsample": (rows, 24, 224, 224),
    }
    assert {name: tuple(seen[name].shape) for name in expected} == expected
    assert logits.shape == (rows, classes, 224, 224)


@pytest.mark.parametrize("side", [(256, 256), (320, 224), (500, 333)])
def test_a_paper_sized_network_takes_other_sizes(paper_sized, side):
    network = paper_sized(TextGuidedConfig(image_encoder="convnext_tiny", classes=4))
    logits = network(torch.empty(2, 3, *side), torch.empty(2, 24, 768))
    assert logits.shape == (2, 4, *side)
