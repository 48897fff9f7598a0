"""One case: image in, segmentation, calibrated probability and doubt out, on the file's own grid.

Windows are blended in what is linear (logits and the estimator's responses); everything else is computed once from
the blended values, a chunk of planes at a time, and kept in compact types.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..decision import DecisionRule
from ..errors import ConfigError, InputError
from ..imaging import Image
from ..interfaces import Method, ScoresGrids
from ..segmenters.wrap import FrozenSegmenter
from ..types import Batch, Kind, Segmentation, TextPrompt
from .collected import Collected, on_file_grid
from .memory import MemoryPlan, check_memory, chunk_planes, plan_memory, together
from .prepare import Prepared, prepare_image
from .result import CaseResult
from .windows import Run, WindowPlan, blended_slabs, plan_windows


@dataclass(frozen=True)
class PredictOptions:
    """How to run a case.

    Args:
        overlap: least share of a window that its neighbour covers too.
        window_batch: windows per call of the network.
        float32: keep and write maps as float32 instead of uint8 and float16.
        max_ram: GiB a case may take beyond image and network; None does not check.
    """

    overlap: float = 0.5
    window_batch: int = 1
    float32: bool = False
    max_ram: float | None = None


Watch = Callable[[str], AbstractContextManager[Any]]
"""`with watch(part):` goes around what the segmenter (`segmenter`) or a method (its position, as text) computes."""


def predict_image(
    method: Method,
    image: Image,
    rule: DecisionRule | None = None,
    options: PredictOptions | None = None,
    say: Callable[[str], None] = lambda line: None,
    prompt: TextPrompt | None = None,
) -> CaseResult:
    """Segment one image and say where the result may be wrong.

    Args:
        method: fitted, its segmenter wrapped by `sfumato.segmenters.wrap`.
        image: as read by `sfumato.imaging.read_image`.
        rule: accepts the case or sends it to review.
        options: overlap, types, memory limit.
        say: receives the memory plan.
        prompt: one sentence about the whole image, for segmenters that read them: every window and slice gets it.

    Raises:
        InputError: an image that does not fit the segmenter, or not one sentence.
        ConfigError: a case larger than `options.max_ram`, or a sentence for a segmenter that reads none.
    """
    return predict_methods([method], image, [rule], options, say, prompt=prompt)[0]


def predict_methods(
    methods: Sequence[Method],
    image: Image,
    rules: Sequence[DecisionRule | None] = (),
    options: PredictOptions | None = None,
    say: Callable[[str], None] = lambda line: None,
    watch: Watch = nullcontext,
    prompt: TextPrompt | None = None,
) -> list[CaseResult]:
    """As `predict_image`, for several methods on one segmenter, which runs once for all of them.

    Args:
        methods: fitted, all on the same segmenter object.
        image: as read by `sfumato.imaging.read_image`.
        rules: one per method, or none.
        options: overlap, types, memory limit.
        say: receives the memory plan.
        watch: measures what each part costs.
        prompt: see `predict_image`.

    Raises:
        InputError: an image that does not fit the segmenter, or not one sentence.
        ConfigError: methods on different segmenters, a case larger than `options.max_ram`, or a sentence for a
            segmenter that reads none.
    """
    options = options or PredictOptions()
    start = time.perf_counter()
    segmenter = shared_segmenter(methods)
    _check_prompt(segmenter, prompt, image.name)
    prepared = prepare_image(image, segmenter.spec)
    plan = plan_windows(
        prepared.array.shape[1:], segmenter.spec.window, segmenter.spec.divisor, options.overlap
    )
    memory = plan_case(methods, plan, options)
    say(f"{image.name}: {memory.say()}")
    check_memory(memory, options.max_ram, image.name)
    found = [Collected(method, plan.grid, options.float32) for method in methods]
    run = _run_windows(methods, prompt, watch)
    for axis, first, batch, segmentation in _chunks(segmenter, prepared, plan, options.window_batch, run):
        for i, collected in enumerate(found):
            with watch(str(i)):
                collected.add(axis, first, batch, _own(segmentation, i))
    seconds = time.perf_counter() - start
    rules = rules or [None] * len(methods)
    return [
        on_file_grid(method, collected, prepared, image, rule, seconds)
        for method, collected, rule in zip(methods, found, rules, strict=True)
    ]


def shared_segmenter(methods: Sequence[Method]) -> FrozenSegmenter:
    """The one segmenter of all methods.

    Raises:
        ConfigError: there are several, or it takes prompts.
    """
    segmenter = methods[0].segmenter
    if not isinstance(segmenter, FrozenSegmenter):
        raise ConfigError(
            f"{methods[0].name} runs on a {type(segmenter).__name__}, expected a FrozenSegmenter: windows carry no "
            "prompt; `sfumato sam` runs promptable networks on files."
        )
    other = next((m.name for m in methods if m.segmenter is not segmenter), None)
    if other is not None:
        raise ConfigError(
            f"{methods[0].name} and {other} run on different segmenters, expected one for all of them."
        )
    return segmenter


def plan_case(methods: Sequence[Method], plan: WindowPlan, options: PredictOptions) -> MemoryPlan:
    """The memory a case of this window plan takes; the estimators are asked once, on a small image, what they blend."""
    segmenter = shared_segmenter(methods)
    probe = segmenter.blank_batch()
    segmentation = segmenter.segment(probe)
    parts = []
    for method in methods:
        responses = method.estimator.respond(probe, segmentation)
        maps = len([k for k in method.spec.maps if k is not Kind.ERROR])
        count = sum(r.shape[1] for r in responses.values())
        whole = isinstance(method.estimator, ScoresGrids)
        parts.append(plan_memory(plan, segmenter.spec, count, maps, options.float32, whole))
    return together(parts)


def _check_prompt(segmenter: FrozenSegmenter, prompt: TextPrompt | None, name: str) -> None:
    if prompt is None:
        return
    if segmenter.condition is None:
        raise ConfigError(f"{name}: a sentence for a segmenter that reads none; leave it out.")
    if not isinstance(prompt, TextPrompt) or len(prompt.sentences) != 1:
        raise InputError(f"{name}: the prompt is {prompt!r}, expected a TextPrompt of one sentence.")


def _run_windows(methods: Sequence[Method], prompt: TextPrompt | None, watch: Watch) -> Run:
    """The segmenter and every method's responses on a batch of windows, all with the same sentence."""
    segmenter = shared_segmenter(methods)

    def run(windows: Tensor) -> dict[str, Tensor]:
        batch = Batch(windows, None if prompt is None else TextPrompt(prompt.sentences * len(windows)))
        with torch.inference_mode():
            with watch("segmenter"):
                segmentation = segmenter.segment(batch)
            found = {"logits": segmentation.logits}
            for i, method in enumerate(methods):
                with watch(str(i)):
                    responses = method.estimator.respond(batch, segmentation)
                found |= {f"{i}/{name}": value for name, value in responses.items()}
            return found

    return run


def _chunks(
    segmenter: FrozenSegmenter, prepared: Prepared, plan: WindowPlan, window_batch: int, run: Run
) -> Iterator[tuple[int, int, Batch, Segmentation]]:
    """Blended pieces of a few planes: (axis, first plane, image, segmentation with responses as features)."""
    axis = plan.axis
    size = chunk_planes(int(np.prod(plan.grid)) // plan.grid[axis])
    for first, slab in blended_slabs(prepared.array, plan, run, window_batch, size):
        part = {name: value.float().unsqueeze(0) for name, value in slab.items()}
        index = [slice(None)] * prepared.array.ndim
        index[1 + axis] = slice(first, first + part["logits"].shape[2 + axis])
        batch = Batch(torch.from_numpy(prepared.array[tuple(index)]).unsqueeze(0))
        yield axis, first, batch, Segmentation(part.pop("logits"), segmenter.spec.link, part)


def _own(segmentation: Segmentation, position: int) -> Segmentation:
    """The segmentation with the responses of one method alone."""
    mark = f"{position}/"
    own = {k.removeprefix(mark): v for k, v in segmentation.features.items() if k.startswith(mark)}
    return replace(segmentation, features=own)
