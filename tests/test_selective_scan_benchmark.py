"""The benchmark of the scan, at its shortest length."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_scan_agrees_with_the_loop():
    code = "from benchmarks.selective_scan import largest_differences as d; print(*d(24))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    output, gradients = map(float, done.stdout.split())
    assert 0 <= output < 1e-5
    assert 0 <= gradients < 1e-4
