import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_head_agrees_with_the_transcription():
    code = "from benchmarks.head_overhead import largest_difference as d; print(d((16, 32, 16)))"
    assert float(run(code)) < 1e-5


def test_voxel_metrics_agree_with_their_rivals():
    pytest.importorskip("numba")
    code = "import json; from benchmarks.voxel_metrics import run; print(json.dumps(run(n=2e4, peaks=False)))"
    result = json.loads(run(code))
    rows = {row["side"]: row for row in result["rows"]}
    assert result["size"] == [20_000]
    assert result["ratios"]["auroc_difference"] < 1e-12
    assert result["ratios"]["ece_error"] < 1e-9
    assert rows["torchmetrics binary_auroc"]["auroc"] == pytest.approx(rows["ours, exact"]["auroc"], abs=1e-5)
    assert rows["torchmetrics BinaryCalibrationError"]["ece_error"] < 1e-5
    exact, streamed = rows["ours, exact"], rows["ours, streamed"]
    assert streamed["auroc"] == pytest.approx(exact["auroc"], abs=streamed["auroc_bound"])
    assert streamed["state_mib"] < 40
    numbers = "auroc", "auprc", "aurc", "augrc"
    assert [exact[n] for n in numbers] == [rows["ours, exact, numpy"][n] for n in numbers]
    assert [streamed[n] for n in (*numbers, "ece")] == [
        rows["ours, streamed, numpy"][n] for n in (*numbers, "ece")
    ]


def test_benchmarks_are_listed():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {"head_overhead", "voxel_metrics"} <= set(done.stdout.split())


@pytest.mark.skipif(sys.platform != "linux", reason="reads the kernel's high-water mark")
def test_peak_memory_sees_what_a_call_takes(tmp_path):
    script = tmp_path / "peak.py"
    script.write_text(
        "from functools import partial\nimport numpy as np\nfrom benchmarks.measure import peak_memory\n"
        "if __name__ == '__main__':\n    print(peak_memory(partial, np.ones, 8 * 2**20))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == pytest.approx(8 * 2**20 * np.dtype(float).itemsize, rel=0.1)
