"""`sfumato sam annotate-order`: which objects a person should look at first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from ...methods.sam_gaps.pseudo_labels import annotation_order
from ...report.sam import ListedMask, write_mask_list
from ...report.sam_wording import interval
from ..files import csv_text, locked, write_text
from ..manifest import Manifest
from .heads import Heads
from .judged import JudgedCase, JudgedMask
from .pool import PoolOptions, judge_pool

SHOWN = 200
"""Masks on the page; the table holds all of them."""
LEAD = (
    "The lowest expected IoU first. A low value says that the network's mask is probably not what was pointed at; it "
    "does not say that a label is wrong."
)


@dataclass(frozen=True)
class OrderSummary:
    """What an ordering found.

    Args:
        rows: as in `order.csv`, the first to look at first.
        failures: one sentence per case that could not be used.
        table: the CSV file.
        page: to look at.
    """

    rows: tuple[dict[str, Any], ...]
    failures: tuple[str, ...]
    table: Path
    page: Path


def order_objects(
    data: Path,
    heads: Heads,
    out: Path,
    options: PoolOptions | None = None,
    note: Callable[[str, str], None] = lambda name, state: None,
) -> OrderSummary:
    """Write `order.csv` and `index.html`, the lowest expected IoU first.

    Args:
        data: a data set folder; with a prompts file, a folder of images will do.
        heads: with their network.
        out: for the results; a killed run is finished there.
        options: which objects, from which prompts.
        note: told each case's name and state.

    Raises:
        DatasetError: no data set, or nothing to judge.
    """
    with locked(out):
        judged, failures = judge_pool(data, heads, out, options, note)
        masks, thumbnails = flattened(judged)
        order = annotation_order(torch.tensor([mask.expected_iou for mask in masks])).tolist()
        rows = [{"rank": rank, **row_of(masks[i])} for rank, i in enumerate(order, start=1)]
        write_text(out / "order.csv", csv_text(rows))
        listed = [listed_mask(masks[i], thumbnails[i]) for i in order[:SHOWN]]
        write_mask_list(
            out / "index.html", f"What to look at first: {data.name}", LEAD, listed, facts(heads), failures
        )
        manifest = Manifest("sam annotate-order", {"heads": heads.sha256, "objects": len(rows)})
        manifest.failures = failures
        manifest.write(out)
    return OrderSummary(tuple(rows), tuple(failures), out / "order.csv", out / "index.html")


def flattened(judged: Sequence[JudgedCase]) -> tuple[list[JudgedMask], list[bytes]]:
    """All masks of all cases and their thumbnails."""
    return [m for case in judged for m in case.masks], [t for case in judged for t in case.thumbnails]


def row_of(mask: JudgedMask) -> dict[str, Any]:
    """A line of a table; numbers with four decimals, empty where nobody knows."""
    values = {f.name: getattr(mask, f.name) for f in fields(mask)}
    return {
        name: "" if v is None else round(v, 4) if isinstance(v, float) else v for name, v in values.items()
    }


def listed_mask(mask: JudgedMask, thumbnail: bytes, mark: str = "") -> ListedMask:
    """A card of a page."""
    said = f"Expected IoU {interval(mask.expected_iou, mask.low, mask.high)}."
    if mask.agreement is not None:
        said += f" IoU with the mask that is there {mask.agreement:.2f}."
    return ListedMask(f"{mask.case}, {mask.name}", thumbnail, mask.expected_iou, said, mark=mark)


def facts(heads: Heads) -> dict[str, str]:
    """For the footers of pages."""
    card = heads.network.card
    return {"network": f"{card.name}, side {card.side}", "heads": heads.name}
