"""`sfumato info`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .shared import JsonOption, emit


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("info")(info)


def info(
    source: Annotated[
        str | None, typer.Argument(help="A folder of `train` or `fit`, or a shipped pair.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Show versions, devices and shipped pairs, or what a trained or fitted folder holds.

    Example: sfumato info hippocampus
    """
    content = _describe(source) if source else _environment()
    if json_output:
        emit(content)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    for key, value in content.items():
        table.add_row(key, _text(value))
    Console().print(table)


def _environment() -> dict[str, Any]:
    import torch

    from ..registry import list_methods
    from ..runs.manifest import versions
    from ..segmenters.presets import PRESETS
    from ..training.loop import pick_device, pick_precision
    from ..weights import shipped_pairs

    device = pick_device("auto")
    return {
        "versions": versions(),
        "device": str(device),
        "precision for training": str(pick_precision("auto", device)).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "methods": list(list_methods()),
        "presets": list(PRESETS),
        "shipped pairs": list(shipped_pairs()),
    }


def _describe(source: str) -> dict[str, Any]:
    from ..storage import read_json
    from ..weights import find_method

    folder = Path(source)
    if (folder / "segmenter.json").exists():
        content = read_json(folder / "segmenter.json")
        return {"segmenter": content["spec"], "validation": content.get("record", {}).get("validation", {})}
    folder = find_method(source)
    method, segmenter = read_json(folder / "method.json"), read_json(folder / "segmenter" / "segmenter.json")
    record = method.get("record", {})
    card = read_json(folder / "card.json") if (folder / "card.json").exists() else {}
    return {
        "method": method["name"],
        "settings": method["config"],
        "segmenter": segmenter["spec"],
        "rules": record.get("rules", {}),
        "fitted on": f"{len(record.get('fitted_on', []))} cases",
        "calibrated on": f"{len(record.get('calibrated_on', []))} cases",
        **({"card": card} if card else {}),
    }


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{k}: {v}" for k, v in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
