"""Embeddings in a folder: encoded once, never mixed, bounded, and read again after any damage."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sfumato.errors import ConfigError, InputError, StorageError
from sfumato.segmenters.promptable import Embedding, PromptableSegmenter
from sfumato.segmenters.promptable.cache import GIB, SUFFIX, CachedPromptable
from sfumato.segmenters.promptable.tiny import PhantomPromptable, tiny_sam2
from sfumato.types import SpatialPrompt

CLICK = SpatialPrompt.of_points([[(9, 12, 1)]])


class Spy(PhantomPromptable):
    """Counts how often it is asked to encode; `factor` makes what it keeps larger."""

    def __init__(self, side: int = 64, factor: float = 1.0):
        super().__init__(side)
        self.asked, self.factor = 0, factor

    def encode(self, plane: torch.Tensor) -> Embedding:
        self.asked += 1
        embedding = super().encode(plane)
        maps = {name: value * self.factor for name, value in embedding.maps.items()}
        return Embedding(maps, embedding.frame, embedding.network)


def plane(seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 24, 32, generator=torch.Generator().manual_seed(seed))


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


def no_line(line: str) -> None:
    raise AssertionError(line)


def test_a_hit_never_encodes(tmp_path):
    spy = Spy()
    cached = CachedPromptable(spy, tmp_path / "new", say=no_line)
    assert isinstance(cached, PromptableSegmenter)
    first, second = cached.encode(plane()), cached.encode(plane())
    assert (spy.asked, cached.misses, cached.hits) == (1, 1, 1)
    assert torch.equal(first.maps["image"], second.maps["image"])
    assert (first.frame, first.network) == (second.frame, second.network)
    again = Spy()
    found = CachedPromptable(again, tmp_path / "new").encode(plane())
    assert again.asked == 0
    assert torch.equal(found.maps["image"], first.maps["image"])
    assert found.maps["image"].dtype == torch.float32
    assert torch.equal(cached.decode(first, CLICK).logits, spy.decode(first, CLICK).logits)


def test_a_plane_changed_later_is_another_and_the_kept_one_stays(tmp_path):
    spy, image = Spy(), plane()
    cached = CachedPromptable(spy, tmp_path)
    before = cached.encode(image).maps["image"].clone()
    image[0, 3, 3] = 1 - image[0, 3, 3]
    assert not torch.equal(cached.encode(image).maps["image"], before)
    assert torch.equal(cached.encode(plane()).maps["image"], before)
    assert spy.asked == 2


def test_shapes_and_networks_of_equal_bytes_are_told_apart(tmp_path):
    one, other = Spy(64), Spy(128)
    CachedPromptable(one, tmp_path).encode(plane())
    CachedPromptable(one, tmp_path).encode(plane().reshape(1, 32, 24))
    embedding = CachedPromptable(other, tmp_path).encode(plane())
    assert (one.asked, other.asked) == (2, 1)
    assert embedding.network == other.card.key
    assert len(files(tmp_path)) == 3


def test_half_precision_is_at_rest_only_and_what_it_costs_is_small(tmp_path, transformers):
    network = tiny_sam2()
    exact = network.encode(plane())
    cached = CachedPromptable(network, tmp_path)
    kept = cached.encode(plane())
    assert list(kept.maps) == list(exact.maps)
    assert {v.dtype for v in load_file(files(tmp_path)[0]).values()} == {torch.float16}
    for name, value in exact.maps.items():
        assert torch.equal(kept.maps[name], value.half().float())
    one, other = network.decode(exact, CLICK), cached.decode(kept, CLICK)
    difference = (one.logits - other.logits).abs().max() / one.logits.std()
    assert 0 < difference < 0.01  # rounding moves each number by half a thousandth at most


def test_numbers_beyond_half_precision_stay_whole(tmp_path):
    spy = Spy(factor=1e6)
    cached = CachedPromptable(spy, tmp_path)
    assert torch.equal(cached.encode(plane()).maps["image"], spy.encode(plane()).maps["image"])
    assert torch.equal(cached.encode(plane()).maps["image"], spy.encode(plane()).maps["image"])
    assert cached.hits == 1


def test_the_least_recently_used_goes_first(tmp_path):
    spy = Spy()
    CachedPromptable(spy, tmp_path).encode(plane(0))
    size = files(tmp_path)[0].stat().st_size
    cached = CachedPromptable(spy, tmp_path, limit_gib=2.5 * size / GIB)
    for seed in (1, 0, 2):  # 0 is used again, so 1 is the oldest when 2 comes
        cached.encode(plane(seed))
        time.sleep(0.01)
    assert len(files(tmp_path)) == 2
    asked = spy.asked
    cached.encode(plane(0))
    cached.encode(plane(2))
    assert spy.asked == asked
    cached.encode(plane(1))
    assert spy.asked == asked + 1


def test_without_room_nothing_stays_and_nothing_foreign_goes(tmp_path):
    foreign = tmp_path / "model.safetensors", tmp_path / f"notes{SUFFIX}", tmp_path / "notes.txt.part"
    for path in foreign:
        path.write_bytes(b"mine" * 1000)
        os.utime(path, (0, 0))
    cached = CachedPromptable(Spy(), tmp_path, limit_gib=0.0)
    cached.encode(plane())
    assert sorted(tmp_path.iterdir()) == sorted(foreign)


def test_what_dead_processes_left_is_cleared(tmp_path):
    cached = CachedPromptable(Spy(), tmp_path)
    cached.encode(plane(0))
    old, fresh = (files(tmp_path)[0].with_name(f"{files(tmp_path)[0].name}.{n}.part") for n in ("a", "b"))
    old.write_bytes(b"half")
    fresh.write_bytes(b"half")
    os.utime(old, (0, 0))
    cached.encode(plane(1))
    assert not old.exists()
    assert fresh.exists()


@pytest.mark.parametrize("damage", ["cut", "text", "foreign", "other network", "no frame"])
def test_a_damaged_file_is_said_and_encoded_again(tmp_path, damage):
    spy, lines = Spy(), []
    cached = CachedPromptable(spy, tmp_path, say=lines.append)
    before = cached.encode(plane()).maps["image"]
    (place,) = files(tmp_path)
    said = {"format": "1", "network": spy.card.key, "maps": "image", "side": "64", "stretch": "False"}
    if damage == "cut":
        place.write_bytes(place.read_bytes()[:-100])
    elif damage == "text":
        place.write_text("not tensors at all")
    elif damage == "foreign":
        save_file({"weight": torch.zeros(3)}, place)
    elif damage == "no frame":
        save_file({"image": before.half()}, place, said)
    else:
        whole = {**said, "network": "sam/ffff", "height": "24", "width": "32"}
        save_file({"image": before.half()}, place, whole)
    assert torch.equal(cached.encode(plane()).maps["image"], before)
    assert spy.asked == 2
    assert len(lines) == 1
    assert "encoded again" in lines[0]
    cached.encode(plane())
    assert spy.asked == 2


def test_a_folder_that_cannot_be_made_or_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="file: not a folder for embeddings"):
        CachedPromptable(Spy(), tmp_path / "file")
    cached = CachedPromptable(Spy(), tmp_path / "removed")
    (tmp_path / "removed").rmdir()
    with pytest.raises(StorageError, match="removed: embeddings cannot be kept there"):
        cached.encode(plane())


def test_wrong_planes_and_limits_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="limit_gib=-1"):
        CachedPromptable(Spy(), tmp_path, limit_gib=-1)
    cached = CachedPromptable(Spy(), tmp_path)
    for wrong in (plane()[0], plane() * 300):
        with pytest.raises(InputError):
            cached.encode(wrong)
    assert files(tmp_path) == []


def work(folder: str, limit: float) -> None:
    torch.set_num_threads(1)
    network = Spy()
    cached = CachedPromptable(network, folder, limit_gib=limit, say=no_line)
    for turn in range(30):
        found = cached.encode(plane(turn % 5)).maps["image"]
        assert torch.equal(found, network.encode(plane(turn % 5)).maps["image"].half().float())


def test_two_processes_share_a_folder(tmp_path):
    CachedPromptable(Spy(), tmp_path).encode(plane())
    limit = 3.5 * files(tmp_path)[0].stat().st_size / GIB  # too little for five planes, so both keep deleting
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(str(tmp_path), limit)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(files(tmp_path)) <= 4
