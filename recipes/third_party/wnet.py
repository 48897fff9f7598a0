"""lwnet's W-Net (retinal vessels, trained on DRIVE) as a frozen segmenter.

    python recipes/third_party/wnet.py --data DATA

reads `DATA/models/lwnet/wnet_drive_state.npz`, builds the network from the shapes in it, wraps it, and prints the
Dice on images of CHASE_DB1 (`DATA/chasedb1`), another data set than the one it was trained on, against both observers.
"""

from __future__ import annotations

import argparse
import itertools
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sfumato import Batch, Preprocessing, read_image, wrap
from sfumato.metrics.overlap import dice_per_class
from sfumato.segmenters import FrozenSegmenter

SIDE = 512
"""The network was trained on images of 512 x 512 pixels; CHASE_DB1's are 960 x 999."""
CASES = "13L", "13R", "14L", "14R"
"""Images of the patients that this project keeps for testing."""


class Convolutions(nn.Module):
    """Convolution, ReLU, batch normalisation, once or twice; perhaps a projected shortcut around them."""

    def __init__(self, inputs: int, outputs: int, count: int = 2, shortcut: bool = True):
        super().__init__()
        layers: list[nn.Module] = []
        for k in range(count):
            width = outputs if k else inputs
            layers += [nn.Conv2d(width, outputs, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(outputs)]
        self.block = nn.Sequential(*layers)
        if shortcut:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + self.shortcut(x) if hasattr(self, "shortcut") else self.block(x)


class Upwards(nn.Module):
    """Doubles the grid and joins the skip, which passes a convolution of its own."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.up_layer = nn.Module()
        self.up_layer.block = nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 2, 2))
        self.conv_layer = Convolutions(2 * outputs, outputs)
        self.conv_bridge_layer = Convolutions(outputs, outputs, count=1, shortcut=False)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        up = self.up_layer.block(x)  # type: ignore[operator]
        return self.conv_layer(torch.cat([up, self.conv_bridge_layer(skip)], 1))


class SmallUNet(nn.Module):
    """One half of the W; the names are those of the weights."""

    def __init__(self, channels: int, widths: tuple[int, ...]):
        super().__init__()
        self.first = Convolutions(channels, widths[0])
        steps = list(itertools.pairwise(widths))
        self.down_path = nn.ModuleList(Convolutions(fine, coarse) for fine, coarse in steps)
        self.up_path = nn.ModuleList(Upwards(coarse, fine) for fine, coarse in steps[::-1])
        self.final = nn.Conv2d(widths[0], 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        skips = [self.first(image)]
        for down in self.down_path:
            skips.append(down(F.max_pool2d(skips[-1], 2)))
        x = skips.pop()
        for up in self.up_path:
            x = up(x, skips.pop())
        return self.final(x)


class WNet(nn.Module):
    """Two U-Nets: the second sees the image and the first one's logits, and has the last word."""

    def __init__(self, channels: int, widths: tuple[int, ...]):
        super().__init__()
        self.unet1 = SmallUNet(channels, widths)
        self.unet2 = SmallUNet(channels + 1, widths)

    def forward(self, image: Tensor) -> Tensor:
        return self.unet2(torch.cat([image, self.unet1(image)], 1))


def build(weights: str) -> nn.Module:
    """The network with the weights of an .npz file; channels and widths are read off their shapes."""
    with np.load(weights) as file:  # arrays of numbers only: numpy refuses pickled objects by default
        state = {name: torch.from_numpy(file[name]) for name in file.files}
    first = state["unet1.first.block.0.weight"]
    levels = sum(name.startswith("unet1.down_path.") and name.endswith(".block.0.weight") for name in state)
    deeper = (state[f"unet1.down_path.{k}.block.0.weight"].shape[0] for k in range(levels))
    network = WNet(first.shape[1], (first.shape[0], *deeper))
    network.load_state_dict(state)
    return network


def wrapped(weights: Path) -> FrozenSegmenter:
    """The frozen segmenter: RGB between 0 and 1 in, one vessel logit out."""
    return wrap(
        build(str(weights)),
        ("background", "vessel"),
        spatial_dims=2,
        channels=3,
        link="sigmoid",
        window=(SIDE, SIDE),
        preprocessing=Preprocessing("unit", percentiles=None),
        source=f"python:{Path(__file__).resolve()}:build",
        arguments={"weights": str(weights)},
    )


def segment(segmenter: FrozenSegmenter, array: np.ndarray) -> np.ndarray:
    """Labels (H, W) of a picture (3, H, W), through the size the network was trained on."""
    image = torch.from_numpy(array / 255.0).float()[None]
    small = F.interpolate(image, size=(SIDE, SIDE), mode="bilinear", antialias=True)
    logits = segmenter.segment(Batch(small)).logits
    return (F.interpolate(logits, size=array.shape[1:], mode="bilinear") > 0)[0, 0].numpy().astype(int)


def main() -> None:
    """Segment and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", type=Path, required=True, help="folder that holds models/lwnet and chasedb1"
    )
    options = parser.parse_args()
    segmenter = wrapped(options.data / "models" / "lwnet" / "wnet_drive_state.npz")
    print(f"W-Net: {sum(p.numel() for p in segmenter.module.parameters())} parameters")
    print(f"divisor {segmenter.spec.divisor}, taps: {segmenter.widths}")
    start, rows = time.process_time(), []
    for case in CASES:
        folder = options.data / "chasedb1"
        labels = segment(segmenter, read_image(folder / "images" / f"Image_{case}.jpg", case).array)
        truths = [
            read_image(folder / f"masks_annotator{k}" / f"Image_{case}_{name}HO.png", case).array[0] > 0
            for k, name in ((1, "1st"), (2, "2nd"))
        ]
        rows.append([float(dice_per_class(labels, truth.astype(int), 2)[0]) for truth in truths])
        print(f"{case}: Dice {rows[-1][0]:.3f} and {rows[-1][1]:.3f}")
    first, second = np.mean(rows, axis=0)
    print(f"mean Dice of vessels: {first:.3f} (first observer), {second:.3f} (second observer)")
    print(f"{time.process_time() - start:.0f} CPU seconds for {len(CASES)} images")


if __name__ == "__main__":
    main()
