"""`python -m benchmarks NAME [--json]`: ours beside a rival, in one run, as ratios."""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path
from typing import Any

from .measure import show

NAMES = sorted(
    p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in ("__init__", "__main__", "measure")
)


def main() -> None:
    """List the benchmarks, or run one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=NAMES, help="without one, they are listed")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls per side, at least 5")
    parser.add_argument("--size", help="grid, such as 64x128x128")
    parser.add_argument("--n", type=float, help="how many items, such as 1e7")
    arguments = parser.parse_args()
    if arguments.name is None:
        print("\n".join(NAMES))
        return
    options: dict[str, Any] = {"repeats": arguments.repeats}
    if arguments.size:
        options["size"] = tuple(int(n) for n in arguments.size.split("x"))
    if arguments.n:
        options["n"] = int(arguments.n)
    result = import_module(f"benchmarks.{arguments.name}").run(**options)
    print(json.dumps(result, indent=2)) if arguments.json else show(result)


if __name__ == "__main__":
    main()
