"""What a text-guided network is told besides the image: the states of each row's sentence."""

from __future__ import annotations

from torch import Tensor

from ...errors import InputError
from ...types import Batch, TextPrompt
from .text_encoder import TextEncoder


class SentenceCondition:
    """From a batch's sentences to `text`, `keep` and `present` of `TextGuidedNetwork.forward`.

    A batch without a prompt, or whose sentences are all missing, is segmented without text.

    Args:
        encoder: of the training.

    Example:
        >>> import torch
        >>> from tokenizers.implementations import BertWordPieceTokenizer
        >>> from .bert import Bert
        >>> words = {w: i for i, w in enumerate("[PAD] [UNK] [CLS] [SEP] [MASK] one polyp".split())}
        >>> encoder = TextEncoder(Bert(len(words), 8, 1, 2, 16), BertWordPieceTokenizer(words), length=4)
        >>> condition, image = SentenceCondition(encoder), torch.zeros(2, 3, 32, 32)
        >>> told = condition(Batch(image, TextPrompt(("one polyp", ""))))
        >>> tuple(told["text"].shape), told["present"].tolist(), condition(Batch(image))
        ((2, 4, 8), [True, False], {})
    """

    def __init__(self, encoder: TextEncoder):
        self.encoder = encoder

    @property
    def key(self) -> str:
        """Of the encoder's weights, word pieces and length."""
        return self.encoder.key

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """See `sfumato.segmenters.frozen.Condition`."""
        if batch.prompt is None:
            return {}
        sentences = sentences_of(batch.prompt, len(batch.image))
        found = self.encoder.encode(sentences)
        if not found.present.any():
            return {}
        return {"text": found.states, "keep": found.keep, "present": found.present}


def sentences_of(prompt: object, rows: int) -> tuple[str, ...]:
    """The sentences of a prompt, one per row.

    Raises:
        InputError: a prompt of another kind, or another number of sentences.

    Example:
        >>> sentences_of(TextPrompt(("one polyp",)), 1)
        ('one polyp',)
    """
    if not isinstance(prompt, TextPrompt):
        raise InputError(f"A {type(prompt).__name__}, expected a TextPrompt: this network reads sentences.")
    if len(prompt.sentences) != rows:
        raise InputError(
            f"{len(prompt.sentences)} sentences for {rows} images, expected one each; use '' where there is none."
        )
    return prompt.sentences
