"""Make a shipped pair of a fitted method: weights rounded to float16, training logs left out, a card added.

    python recipes/ship.py runs/hippocampus-swu recipes/hippocampus/card.json hippocampus

The float16 values are what the frozen network then computes with (in float32), so what is measured with the
shipped pair is what users get: run `sfumato evaluate NAME --out results`, then this script again with
`--results results/results.json`, which puts the measured numbers into the card.
"""

import argparse
import json
import subprocess
from pathlib import Path

import torch
from safetensors.torch import save_file

from sfumato.storage import load_method, read_json, read_record, save_method, write_json
from sfumato.weights import FOLDER

KEPT = ("rules", "curves", "fitted_on", "calibrated_on", "options", "splits")


def ship(source: Path, card: Path, name: str) -> Path:
    method = load_method(source)
    network = method.segmenter.module
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(tensor.half().float())
    record = {k: v for k, v in read_record(source).items() if k in KEPT}
    folder = FOLDER / name
    save_method(folder, method, record)
    halves = {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    save_file({k: v.contiguous() for k, v in halves.items()}, folder / "segmenter" / "weights.safetensors")
    (folder / "segmenter" / "weights.safetensors").chmod(0o644)
    write_json(folder / "card.json", json.loads(card.read_text(encoding="utf-8")))
    return folder


def add_quality(folder: Path, results: Path) -> None:
    """Put the measured numbers and the commit into the card."""
    measured, card = read_json(results), read_json(folder / "card.json")
    near = measured["regions"]["near"]["per_case"]
    card["measured"] = {
        "split": measured["split"],
        "cases": measured["cases"],
        "dice": measured["dice"]["mean"],
        "dice_per_class": measured["dice"]["per_class"],
        "near the foreground": {m: near[m] for m in ("auroc", "aurc", "ece")},
        "case_level": measured["case_level"],
    }
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    card["recipe_commit"] = head.stdout.strip()
    write_json(folder / "card.json", card)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path, help="folder of `sfumato fit`")
    parser.add_argument("card", type=Path, help="data, licence and intended use as JSON")
    parser.add_argument("name", help="of the shipped pair")
    parser.add_argument(
        "--results", type=Path, help="results.json of `sfumato evaluate NAME`, measured after shipping"
    )
    arguments = parser.parse_args()
    if arguments.results:
        add_quality(FOLDER / arguments.name, arguments.results)
    else:
        print(ship(arguments.source, arguments.card, arguments.name))
