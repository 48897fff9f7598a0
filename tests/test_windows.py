"""Sliding windows: weights that sum to one, planes in order, the same result as a slow twin, bounded memory."""

from __future__ import annotations

import weakref
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sfumato.errors import ConfigError
from sfumato.pipeline.windows import HALF_LIMIT, WindowPlan, blended_slabs, plan_windows

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=30)


def network(windows: torch.Tensor) -> torch.Tensor:
    """Not shift-invariant: what it says depends on where in the window a voxel lies, so blending matters."""
    ramp = torch.linspace(-1, 1, windows[0, 0].numel()).reshape(windows.shape[2:])
    return torch.cat([windows[:, :1] * 2 + ramp, windows[:, :1] * ramp, -windows[:, :1]], dim=1)


def run(windows: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"logits": network(windows)}


def whole(image, plan, run=run, window_batch=1) -> dict[str, np.ndarray]:
    """All slabs joined, checking on the way that every plane comes once and in order."""
    pieces: dict[str, list[torch.Tensor]] = {}
    expected = 0
    for at, slab in blended_slabs(image, plan, run, window_batch):
        assert at == expected
        sizes = {v.shape[1 + plan.axis] for v in slab.values()}
        assert len(sizes) == 1
        expected += sizes.pop()
        for name, values in slab.items():
            pieces.setdefault(name, []).append(values)
    assert expected == plan.grid[plan.axis]
    return {name: torch.cat(parts, dim=1 + plan.axis).numpy() for name, parts in pieces.items()}


def naive_blend(image: np.ndarray, plan: WindowPlan, outputs: int = 3) -> np.ndarray:
    """Whole-grid sums of weighted windows and of weights, in float64, one voxel grid at a time."""
    low = [min(0, s[0]) for s in plan.starts]
    sides = [
        max(n, s[-1] + w) - lo for n, s, w, lo in zip(plan.grid, plan.starts, plan.window, low, strict=True)
    ]
    padded = np.zeros((len(image), *sides), np.float32)
    inner = tuple(slice(-lo, n - lo) for lo, n in zip(low, plan.grid, strict=True))
    padded[(slice(None), *inner)] = image
    total, weights = np.zeros((outputs, *sides)), np.zeros(sides)
    bell = np.ones(())
    for side in plan.window:
        sigma = max(side / 8, 0.5)
        bell = bell[..., None] * np.exp(-0.5 * ((np.arange(side) - (side - 1) / 2) / sigma) ** 2)
    for starts in product(*plan.starts):
        place = tuple(slice(s - lo, s - lo + w) for s, lo, w in zip(starts, low, plan.window, strict=True))
        window = torch.from_numpy(padded[(slice(None), *place)].copy())
        window = window[:, 0] if plan.flat else window
        result = network(window[None])[0].numpy().astype(np.float64)
        total[(slice(None), *place)] += (result[:, None] if plan.flat else result) * bell
        weights[place] += bell
    return (total / weights)[(slice(None), *inner)]


@st.composite
def layouts(draw):
    """(grid, window, divisor, overlap): pictures, volumes, slices of volumes; images smaller than the window too."""
    dims = draw(st.sampled_from([2, 3]))
    divisor = draw(st.sampled_from([1, 2, 4]))
    window = tuple(draw(st.integers(1, 8 // divisor)) * divisor for _ in range(dims))
    flat = dims == 2 and draw(st.booleans())
    grid = tuple(draw(st.integers(1, 16 if dims == 2 else 12)) for _ in range(dims + flat))
    return grid, window, divisor, draw(st.sampled_from([0.0, 0.25, 0.5, 0.75]))


@given(layout=layouts())
@settings(REPEATABLE, max_examples=80)
def test_plans_cover_every_voxel_with_weights_that_sum_to_one(layout):
    grid, window, divisor, overlap = layout
    plan = plan_windows(grid, window, divisor, overlap)
    assert plan.flat == (len(window) < len(grid))
    assert plan.count == len(list(product(*plan.starts)))
    for axis, (n, side, starts, weights) in enumerate(
        zip(plan.grid, plan.window, plan.starts, plan.weights, strict=True)
    ):
        assert list(starts) == sorted(set(starts))
        assert starts[0] <= 0
        assert starts[-1] + side >= n
        total = np.zeros(max(n, side) + side)
        for start, row in zip(starts, weights, strict=True):
            assert (row > 0).all()
            total[start - min(starts[0], 0) : start - min(starts[0], 0) + side] += row
        inside = -min(starts[0], 0)
        np.testing.assert_allclose(total[inside : inside + n], 1, atol=1e-6)
        if plan.flat and axis == 0:
            continue
        assert side % divisor == 0
        assert side <= window[axis - plan.flat]
        if n > side:
            steps = np.diff(starts)
            assert steps.max() <= max(1, np.ceil(side * (1 - overlap)))
        else:
            assert len(starts) == 1
            assert side - n < divisor  # padded no further than needed
            assert abs(-starts[0] - (side - n - -starts[0])) <= 1  # on both sides alike


@pytest.mark.parametrize("overlap", [-0.1, 1.0, 1.5])
def test_an_overlap_out_of_range_is_refused(overlap):
    with pytest.raises(ConfigError, match="overlap"):
        plan_windows((20, 20), (8, 8), overlap=overlap)


@given(layout=layouts(), batch=st.sampled_from([1, 2, 3, 7]), seed=st.integers(0, 5))
@REPEATABLE
def test_equal_to_the_slow_twin(layout, batch, seed):
    grid, window, divisor, overlap = layout
    image = np.random.default_rng(seed).standard_normal((2, *grid)).astype(np.float32)
    plan = plan_windows(grid, window, divisor, overlap)
    blended = whole(image, plan, window_batch=batch)["logits"]
    np.testing.assert_allclose(blended, naive_blend(image, plan), atol=2e-6)


@given(layout=layouts(), seed=st.integers(0, 5))
@settings(REPEATABLE, max_examples=15)
def test_the_size_of_a_call_changes_nothing(layout, seed):
    grid, window, divisor, overlap = layout
    image = np.random.default_rng(seed).standard_normal((1, *grid)).astype(np.float32)
    plan = plan_windows(grid, window, divisor, overlap)
    calls: list[int] = []

    def counting(windows):
        calls.append(len(windows))
        return {"logits": network(windows), "other": network(windows)[:, :1]}

    one = whole(image, plan, counting)
    assert calls == [1] * plan.count
    for batch in (2, 5):
        calls.clear()
        many = whole(image, plan, counting, window_batch=batch)
        assert max(calls) <= batch
        assert sum(calls) == plan.count
        for name in one:
            np.testing.assert_array_equal(many[name], one[name])


def test_slices_of_a_volume_share_calls():
    calls = []

    def counting(windows):
        calls.append(len(windows))
        return run(windows)

    image = np.random.default_rng(0).standard_normal((1, 10, 8, 8)).astype(np.float32)
    plan = plan_windows((10, 8, 8), (8, 8))
    shared = whole(image, plan, counting, window_batch=4)["logits"]
    assert calls == [4, 4, 2]
    np.testing.assert_array_equal(shared, whole(image, plan)["logits"])


@pytest.mark.parametrize(
    ("grid", "window"), [((16, 12), (16, 16)), ((8, 12, 8), (8, 12, 8)), ((4, 12, 8), (12, 8))]
)
def test_a_window_as_large_as_the_image_is_a_plain_forward(grid, window):
    torch.manual_seed(0)
    layer = (torch.nn.Conv3d if len(window) == 3 else torch.nn.Conv2d)(1, 3, 3, padding=1)
    image = np.random.default_rng(0).standard_normal((1, *grid)).astype(np.float32)
    with torch.inference_mode():
        blended = whole(image, plan_windows(grid, window, 4), lambda w: {"logits": layer(w)})["logits"]
        rows = torch.from_numpy(image) if len(grid) == len(window) else torch.from_numpy(image[0])[:, None]
        plain = [layer(row[None])[0].numpy() for row in (rows if len(grid) > len(window) else [rows])]
    expected = np.stack(plain, 1) if len(grid) > len(window) else plain[0]
    np.testing.assert_array_equal(blended, expected)


@given(layout=layouts(), value=st.floats(-100, 100, width=32))
@REPEATABLE
def test_constant_fields_stay_constant(layout, value):
    grid, window, divisor, overlap = layout
    plan = plan_windows(grid, window, divisor, overlap)
    constant = lambda w: {"logits": torch.full((len(w), 2, *w.shape[2:]), value)}
    blended = whole(np.zeros((1, *grid), np.float32), plan, constant)["logits"]
    np.testing.assert_allclose(blended, value, rtol=1e-6, atol=1e-9)


def test_images_smaller_than_the_window_are_padded_with_zeros():
    seen = []

    def look(windows):
        seen.append(windows.clone())
        return run(windows)

    image = np.ones((1, 5, 3), np.float32)
    plan = plan_windows((5, 3), (32, 32), divisor=8)
    blended = whole(image, plan, look)["logits"]
    assert plan.window == (8, 8)
    assert blended.shape == (3, 5, 3)
    assert seen[0].shape == (1, 1, 8, 8)
    assert seen[0].sum() == 15
    assert (seen[0][0, 0, 1:6, 2:5] == 1).all()


# ---- float16 buffers


@pytest.mark.parametrize(
    ("scale", "overlap", "bound"), [(0.01, 0.5, 1e-3), (1.0, 0.5, 1e-3), (1e3, 0.66, 3e-3)]
)
def test_half_precision_buffers_are_close(scale, overlap, bound):
    """The error that `blended_slabs` states, and three times that where up to 64 windows add up."""
    image = np.random.default_rng(0).standard_normal((1, 30, 30, 30)).astype(np.float32)
    plan = plan_windows((30, 30, 30), (12, 12, 12), overlap=overlap)
    both = whole(image, plan, lambda w: {"logits": network(w) * scale, "response": network(w) * scale})
    assert both["logits"].dtype == np.float32
    assert both["response"].dtype == np.float16
    error = np.abs(both["response"].astype(np.float32) - both["logits"])
    assert error.max() < bound * np.abs(both["logits"]).max()
    assert np.sqrt((error**2).mean()) < 0.5 * bound * np.sqrt((both["logits"] ** 2).mean())


def test_a_single_window_keeps_float32():
    both = whole(
        np.zeros((1, 8, 8), np.float32), plan_windows((8, 8), (8, 8)), lambda w: {"logits": w, "other": w}
    )
    assert both["other"].dtype == np.float32


def test_large_values_are_blended_in_float32():
    image = np.random.default_rng(0).standard_normal((1, 40, 8)).astype(np.float32)
    plan = plan_windows((40, 8), (8, 8))

    def large(windows):
        values = network(windows)
        return {"logits": values, "distance": values * 1e6, "small": values}

    slabs = whole(image, plan, large)
    assert np.abs(slabs["distance"]).max() > HALF_LIMIT
    assert slabs["distance"].dtype == np.float32
    assert slabs["small"].dtype == np.float16
    np.testing.assert_allclose(slabs["distance"], slabs["logits"] * 1e6, rtol=1e-5, atol=1.0)


def test_a_later_window_may_be_the_first_with_large_values():
    calls = []

    def growing(windows):
        calls.append(1)
        value = torch.full_like(windows, 1.0 if len(calls) == 1 else 1e6)
        return {"logits": value, "distance": value}

    slabs = whole(np.zeros((1, 40, 8), np.float32), plan_windows((40, 8), (8, 8)), growing)
    np.testing.assert_allclose(slabs["distance"], slabs["logits"], rtol=2e-3)


# ---- memory


@pytest.mark.parametrize("thickness", [None, 1, 5])
def test_memory_holds_the_planes_that_are_in_flight(thickness):
    """Whatever the length of the image: at most one window's planes wait, and what was handed on is let go of."""
    alive: list[weakref.ref] = []
    plan = plan_windows((200, 16, 16), (16, 16, 16))
    slabs = blended_slabs(np.zeros((1, 200, 16, 16), np.float32), plan, run, thickness=thickness)
    for _, slab in slabs:
        logits = slab["logits"]
        assert logits.numel() == 3 * logits.shape[1] * 16 * 16  # no view of something larger
        assert logits.untyped_storage().nbytes() == logits.numel() * 4
        assert logits.shape[1] <= (thickness or 16)
        waiting = slabs.gi_frame.f_locals["planes"]
        assert len(waiting) + logits.shape[1] <= 16
        alive.append(weakref.ref(logits))
        del slab, logits
        assert sum(ref() is not None for ref in alive) <= 1


@given(layout=layouts(), thickness=st.integers(1, 20))
@settings(REPEATABLE, max_examples=15)
def test_thin_slabs_are_the_same_planes(layout, thickness):
    grid, window, divisor, overlap = layout
    image = np.random.default_rng(0).standard_normal((1, *grid)).astype(np.float32)
    plan = plan_windows(grid, window, divisor, overlap)
    thin = list(blended_slabs(image, plan, run, thickness=thickness))
    assert [at for at, _ in thin] == sorted({at for at, _ in thin})
    assert all(slab["logits"].shape[1 + plan.axis] <= thickness for _, slab in thin)
    joined = torch.cat([slab["logits"] for _, slab in thin], 1 + plan.axis)
    np.testing.assert_array_equal(joined.numpy(), whole(image, plan)["logits"])


def test_slabs_go_along_the_axis_with_most_windows():
    assert plan_windows((20, 90, 30), (16, 16, 16)).axis == 1
    assert plan_windows((3, 900, 900), (64, 64)).axis == 0  # slices: always plane by plane


def test_a_slab_that_is_kept_does_not_change():
    image = np.random.default_rng(0).standard_normal((1, 40, 8)).astype(np.float32)
    kept = [
        (slab["logits"], slab["logits"].clone())
        for _, slab in blended_slabs(image, plan_windows((40, 8), (8, 8)), run)
    ]
    assert len(kept) > 2
    for view, copy in kept:
        assert torch.equal(view, copy)


def test_a_shift_invariant_network_is_as_good_as_whole():
    """Away from window edges a local network gives the same in windows as on the whole image."""
    kernel = torch.tensor([[0.1, 0.2, 0.1], [0.2, -0.5, 0.3], [0.0, 0.2, 0.4]]).reshape(1, 1, 3, 3)
    image = np.random.default_rng(0).standard_normal((1, 48, 48)).astype(np.float32)
    convolve = lambda x: F.conv2d(x, kernel, padding=1)
    blended = whole(image, plan_windows((48, 48), (16, 16)), lambda w: {"logits": convolve(w)})["logits"]
    direct = convolve(torch.from_numpy(image)[None])[0].numpy()
    # A window's outermost ring weighs at most bell(edge) / bell(next window): its zero padding hardly shows.
    assert np.abs(blended - direct).mean() < 0.01
