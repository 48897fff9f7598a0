"""The benchmark of the scale, at a small size."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_scale_agrees_with_the_decomposition():
    code = (
        "import json; from benchmarks.difficulty_spectrum import run; "
        "print(json.dumps(run(size=(12, 20), peaks=False)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    assert {(row["side"], row["slices"]) for row in result["rows"]} == {
        (side, slices) for side in ("svd", "svdvals", "gram") for slices in (12, 20)
    }
    names = {f"gram_vs_{rival}_{slices}" for rival in ("svd", "svdvals") for slices in (12, 20)}
    assert set(result["ratios"]) == {*names, "entropy_error"}
    assert result["ratios"]["entropy_error"] < 1e-8
    for row in result["rows"]:
        assert 0 < row["cpu_min"] <= row["cpu_median"]
