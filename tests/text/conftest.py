"""Pictures with a disc on either side, where the sentence says which one is meant, and networks trained on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

from sfumato.methods.text_guided.config import TextGuidedConfig
from sfumato.methods.text_guided.training import TextTraining
from sfumato.runs.text.train import TextTrainConfig, train_texts
from sfumato.training.config import TrainerConfig

ROWS, COLUMNS = 40, 48
SPLITS = {
    "train": [f"c{i}" for i in range(8)],
    "calibration": [f"c{i}" for i in range(8, 14)],
    "test": ["c14", "c15"],
}


@pytest.fixture(scope="session")
def discs(tmp_path_factory) -> Path:
    """Sixteen pictures of eight patients in three splits; c4 has no sentence, and only c14's has the word `small`."""
    folder = tmp_path_factory.mktemp("discs")
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    generator, rows = np.random.default_rng(0), ["image,text,patient"]
    y, x = np.mgrid[:ROWS, :COLUMNS]
    for i in range(16):
        both = {side: (y - 20) ** 2 + (x - at) ** 2 <= 49 for side, at in (("left", 12), ("right", 36))}
        side = "left" if i % 2 else "right"
        image = np.where(both["left"] | both["right"], 180, 60)[..., None]
        image = image + generator.normal(0, 10, (ROWS, COLUMNS, 3))
        PillowImage.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"images/c{i}.png")
        PillowImage.fromarray(np.uint8(255 * both[side])).save(folder / f"masks/c{i}.png")
        said = {4: "unknown", 14: f"one small polyp in the {side}"}.get(i, f"one polyp in the {side}")
        rows.append(f"c{i},{said},patient {i // 2}")
    (folder / "texts.csv").write_text("\n".join(rows))
    (folder / "splits.json").write_text(json.dumps(SPLITS))
    return folder


@pytest.fixture(scope="session")
def bert(tmp_path_factory) -> Path:
    """A folder with a language model of a few random weights that knows the words of the pictures."""
    from sfumato.methods.text_guided.tests.test_text_encoder import write_bert

    return write_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="session")
def tiny_config(bert) -> Callable[..., TextTrainConfig]:
    """`tiny_config(image_rate=1.0, **trainer)`: two epochs of two steps at 32 pixels a side; a quarter validates."""
    network = TextGuidedConfig(
        text_encoder=f"hf:{bert}", image_weights="random", text_length=12, mixed_tokens=(4,), state=4
    )

    def make(image_rate: float = 1.0, **trainer) -> TextTrainConfig:
        known = {"epochs": 2, "average": 0.0, "precision": "float32", "device": "cpu", "warmup": 1} | trainer
        how = TextTraining(32, batch_size=3, image_rate=image_rate, trainer=TrainerConfig(**known))
        return TextTrainConfig(network, how, classes=("polyp",), validation=0.25)

    return make


@pytest.fixture(scope="session")
def trained(tmp_path_factory, discs, tiny_config) -> Path:
    out = tmp_path_factory.mktemp("runs") / "text"
    train_texts(discs, out, tiny_config())
    return out


@pytest.fixture(scope="session")
def learnt(tmp_path_factory, discs, tiny_config) -> Path:
    """Trained for long enough that its probabilities are worth something."""
    out = tmp_path_factory.mktemp("runs") / "text"
    train_texts(discs, out, tiny_config(epochs=12, learning_rate=1e-2))
    return out
