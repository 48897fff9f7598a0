"""Settings of text-guided segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ...errors import ConfigError, UnknownNameError
from .uncertainty_loss import TERMS, UncertaintyTerm

_CHOICES = {
    "image_encoder": ("efficientnet_lite0", "convnext_tiny"),
    "profile": ("fixed", "released", "paper"),
    "mixer": ("ssmix", "linear"),
    "fusion": ("modab", "addition", "none"),
    "merge": ("concatenation", "product"),
    "norm": ("batch", "group"),
    "text_states": ("raw", "standardised"),
    "uncertainty": tuple(TERMS),
}
_EXPANSIONS = {"concatenation": 1, "product": 2}
"""Both merges give back the width that came in only with these."""


@dataclass(frozen=True)
class TextGuidedConfig:
    """How the network is built and what it is trained on; `paper()` and `released()` are the authors' two forms.

    Args:
        image_encoder: `efficientnet_lite0`, or `convnext_tiny` as in the paper.
        image_weights: where the image encoder starts from, see `build_image_encoder`.
        text_encoder: name of the frozen language model.
        profile: what figure, text and program of the paper decide differently. `fixed`: dropout acts while training
            only, the mixer's step bias counts once, sub-pixels start equal, and a row without text skips the look
            into the text alone. `released`: as the authors' program, where attention dropout also acts at inference,
            the step bias counts twice, a row without text skips whole fusion blocks, and two layers that are never
            called take up parameters. `paper`: as `fixed`, but positions enter the look into the text alone, as the
            figure has it.
        classes: 1 for a foreground with one logit; more are all classes, background first.
        channels: of the image.
        mixer: of the text: `ssmix`, or `linear`, the ablation without a state space.
        fusion: `modab`; `addition` adds the mean of the mixed text to every place in place of attending to it; `none`
            leaves the text out altogether.
        merge: of the mixer's halves, `concatenation` or `product`.
        expansion: of the mixer's inner width: 1 where halves are concatenated, 2 where they are multiplied.
        text_length: tokens of a sentence at most; shorter ones are padded.
        mixed_tokens: tokens that each fusion block mixes the text into, coarsest level first: as many blocks as there
            are numbers, on the four levels of the image encoder from stride 32 on.
        state: of the mixer, per channel.
        text_states: `raw` as the language model gives them, or `standardised` by mean and deviation over the words of
            the training: sentences of one template differ in few words, and their states in little.
        symmetric_pad: the average after the sub-pixel step is centred on its pixel and repeats the border; otherwise
            it shifts everything by 1.5 pixels and darkens two sides of the image.
        mask_padding: padded tokens take no part.
        norm: of the decoder: `batch`, or `group`, for batches below 8.
        text_dropout: share of rows that lose their text while training.
        dropout: of attention weights and of the self-attention's output.
        cross_scale: what the look into the text is multiplied by at first; learnt.
        uncertainty: the loss's term about doubt, see `losses`.
        spectral_weight: of the loss's spectral term.
        uncertainty_weight: of its term about doubt.
        smoothing: of its Dice fraction, in pixels.

    Raises:
        UnknownNameError: a choice that is not known.
        ConfigError: a number out of range, or a merge that does not fit the expansion.
    """

    image_encoder: Literal["efficientnet_lite0", "convnext_tiny"] = "efficientnet_lite0"
    image_weights: str | None = None
    text_encoder: str = "minilm"
    profile: Literal["fixed", "released", "paper"] = "fixed"
    classes: int = 1
    channels: int = 3
    mixer: Literal["ssmix", "linear"] = "ssmix"
    fusion: Literal["modab", "addition", "none"] = "modab"
    merge: Literal["concatenation", "product"] = "concatenation"
    expansion: int = 1
    text_length: int = 24
    mixed_tokens: tuple[int, ...] = (24, 12, 9)
    state: int = 16
    text_states: Literal["raw", "standardised"] = "raw"
    symmetric_pad: bool = True
    mask_padding: bool = True
    norm: Literal["batch", "group"] = "batch"
    text_dropout: float = 0.1
    dropout: float = 0.1
    cross_scale: float = 1.421
    uncertainty: UncertaintyTerm = "entropy"
    spectral_weight: float = 0.3
    uncertainty_weight: float = 0.1
    smoothing: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "mixed_tokens", tuple(self.mixed_tokens))  # JSON gives lists
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise UnknownNameError(name, str(getattr(self, name)), known)
        for name in ("classes", "channels", "text_length", "state"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}, expected at least 1.")
        for name in ("spectral_weight", "uncertainty_weight", "smoothing"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name}={getattr(self, name)}, expected 0 or more.")
        for name in ("text_dropout", "dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}, expected a share from 0 to below 1.")
        if not 1 <= len(self.mixed_tokens) <= 4 or min(self.mixed_tokens) < 1:
            raise ConfigError(
                f"mixed_tokens={self.mixed_tokens}, expected one to four numbers of at least 1, one per fusion block."
            )
        if self.expansion != _EXPANSIONS[self.merge]:
            raise ConfigError(
                f"expansion={self.expansion} with merge={self.merge!r}, expected {_EXPANSIONS[self.merge]}: otherwise "
                "the mixer gives another width than it took; change one of the two."
            )

    @classmethod
    def paper(cls, **changes: Any) -> TextGuidedConfig:
        """The paper's figure and text: four fusion blocks, halves that multiply, one-sided entropy.

        How many tokens the fourth block mixes the text into is not told; it takes the third's.

        Example:
            >>> TextGuidedConfig.paper().merge, len(TextGuidedConfig.paper().mixed_tokens)
            ('product', 4)
        """
        paper = _AUTHORS | {
            "profile": "paper",
            "merge": "product",
            "expansion": 2,
            "mixed_tokens": (24, 12, 9, 9),
            "uncertainty": "one_sided",
            "smoothing": 1e-6,
        }
        return cls(**(paper | changes))

    @classmethod
    def released(cls, **changes: Any) -> TextGuidedConfig:
        """The authors' program, whose objective comes down to a Dice loss.

        Example:
            >>> TextGuidedConfig.released().spectral_weight
            0.0
        """
        released = _AUTHORS | {
            "profile": "released",
            "spectral_weight": 0.0,
            "uncertainty_weight": 0.0,
            "smoothing": 1e-5,
        }
        return cls(**(released | changes))


_AUTHORS: dict[str, Any] = {
    "image_encoder": "convnext_tiny",
    "symmetric_pad": False,
    "mask_padding": False,
    "text_dropout": 0.0,
}
