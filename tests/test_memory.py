"""The memory plan, and that it is kept."""

import subprocess
import sys

import pytest

from sfumato.errors import ConfigError
from sfumato.pipeline.memory import check_memory, plan_memory
from sfumato.pipeline.windows import plan_windows
from sfumato.segmenters import SegmenterSpec

FOUR = SegmenterSpec("", 3, 1, ("background", "a", "b", "c"), (64, 64, 64))
RESPONSES, MAPS = 9, 3
"""Eight probes and the aleatoric branch; ranking, epistemic and aleatoric maps beside the error map."""


@pytest.mark.parametrize("grid", [(128, 128, 128), (512, 512, 400), (256, 256, 128), (160, 320, 320)])
def test_at_most_24_bytes_per_voxel(grid):
    plan = plan_memory(plan_windows(grid, FOUR.window), FOUR, RESPONSES, MAPS, float32=False)
    assert plan.bytes_per_voxel <= 24


def test_a_case_that_is_too_large_is_refused_with_both_numbers():
    plan = plan_memory(plan_windows((512, 512, 400), FOUR.window), FOUR, RESPONSES, MAPS, float32=False)
    with pytest.raises(ConfigError, match=r"big: needs \d\.\d\d GiB .* --max-ram 1;"):
        check_memory(plan, 1.0, "big")
    check_memory(plan, None, "big")


MEASURE = """
import resource, sys
import numpy as np, torch
from sfumato.imaging import Geometry, Image
from sfumato.pipeline.case import PredictOptions, plan_case, predict_image
from sfumato.pipeline.windows import plan_windows
from sfumato.registry import get_method
from sfumato.segmenters import wrap

torch.set_num_threads(1)
torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Conv3d(1, 8, 1), torch.nn.ReLU(), torch.nn.Conv3d(8, 4, 1))
segmenter = wrap(network, 4, spatial_dims=3, window=(40, 40, 40), divisor=1)
spec = get_method("perturbation_head")
method = spec.build(spec.config(fusion="light", width=8), segmenter)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
small = np.random.default_rng(0).standard_normal((1, 44, 44, 44)).astype(np.float32)
predict_image(method, Image(small, Geometry(small.shape[1:])))
grid = (200, 180, 160)
image = Image(np.random.default_rng(0).standard_normal((1, *grid)).astype(np.float32), Geometry(grid))
before = peak()
plan = plan_case([method], plan_windows(grid, (40, 40, 40)), PredictOptions())
predict_image(method, image, options=PredictOptions(overlap=0.25))
print(plan.bytes_per_voxel, (peak() - before) / np.prod(grid))
"""


@pytest.mark.slow
def test_the_plan_is_kept():
    """Peak memory beyond the image stays below the plan and the normalised copy of the image (4 bytes a voxel),
    with 4 bytes a voxel of slack for what the allocator does not give back."""
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True)
    planned, measured = map(float, done.stdout.split())
    assert planned <= 24
    assert measured <= planned + 4 + 4
