"""The trainer: killed and resumed is as if nothing had happened; batches are a function of seed and step alone."""

from __future__ import annotations

import csv
import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from sfumato.datasets import make_phantoms
from sfumato.errors import ConfigError, InputError, StorageError
from sfumato.training.backbone import dice_validation, segmentation_loss
from sfumato.training.checkpoint import load_checkpoint, save_checkpoint
from sfumato.training.device import pick_device, pick_precision
from sfumato.training.loop import TrainerConfig, _follow, _learning_rate, train
from sfumato.training.reporting import TrainingReport
from sfumato.training.samples import PatchSampler, Sample, crop
from sfumato.types import Batch, Link

REPEATABLE = settings(derandomize=True, deadline=None, max_examples=40)
QUICK = TrainerConfig(epochs=4, learning_rate=1e-2, warmup=3, device="cpu")
STEPS = 3


class Killed(Exception):
    """What stands for the end of the process."""


def samples(count=5, spatial_dims=2, classes=2) -> list[Sample]:
    phantoms = make_phantoms(count, spatial_dims, seed=0, classes=classes)
    return [Sample(p.image, p.label.astype(np.int16), p.name, p.patient) for p in phantoms]


SAMPLER = PatchSampler(samples(), (16, 16), batch_size=2, seed=0)


def network() -> nn.Module:
    """With everything that has state: statistics, dropout, a frozen part."""
    torch.manual_seed(11)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout2d(0.3), nn.Conv2d(4, 2, 1)
    )


def cross_entropy(module: nn.Module, batch: Batch, step: int) -> dict[str, torch.Tensor]:
    assert batch.label is not None
    loss = F.cross_entropy(module(batch.image), batch.label)
    return {"total": loss, "half": loss / 2}


def accuracy(module: nn.Module) -> dict[str, float]:
    batch = SAMPLER.batch(999)
    with torch.no_grad():
        return {"score": float((module(batch.image).argmax(1) == batch.label).float().mean())}


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def run(folder: Path | None, config=QUICK, loss=cross_entropy, validate=accuracy, module=None) -> nn.Module:
    return train(module or network(), loss, SAMPLER.batch, STEPS, config, folder, validate)


# ---- resume


@pytest.fixture(autouse=True)
def without_tensorboard(request, monkeypatch):
    """Importing it takes longer than all these trainings; one test keeps it."""
    if "tensorboard" not in request.node.name:
        monkeypatch.setattr("sfumato.training.reporting._tensorboard", lambda folder: None)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("moment", ["in a step", "at a boundary"])
@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_killed_and_resumed_is_bit_equal(tmp_path, optimiser, moment, epoch):
    config = replace(QUICK, optimiser=optimiser, learning_rate=1e-2 if optimiser == "adamw" else 1e-3)
    last = network(), network()  # trained in place
    straight = run(tmp_path / "straight", config, module=last[0])
    validated = []

    def killing_loss(module, batch, step):
        if moment == "in a step" and step == epoch * STEPS + 1:
            raise Killed
        return cross_entropy(module, batch, step)

    def killing_validation(module):
        validated.append(1)
        if moment == "at a boundary" and len(validated) == epoch + 1:
            raise Killed
        return accuracy(module)

    with pytest.raises(Killed):
        run(tmp_path / "killed", config, killing_loss, killing_validation)
    torch.rand(7)  # whatever else the new process drew
    resumed = run(tmp_path / "killed", config, module=last[1])
    assert equal(straight, resumed)
    assert equal(*last)
    assert not resumed.training
    logs = [rows_of(tmp_path / name / "log.csv") for name in ("straight", "killed")]
    assert len(logs[0]) == len(logs[1]) == config.epochs
    for one, other in zip(*logs, strict=True):
        assert one | {"seconds": ""} == other | {"seconds": ""}


def test_keeping_a_folder_changes_nothing(tmp_path):
    assert equal(run(None), run(tmp_path))


def test_a_finished_run_is_not_run_again(tmp_path):
    first = run(tmp_path)

    def never(*arguments):
        raise AssertionError("a finished run took another step")

    assert equal(first, run(tmp_path, loss=never, validate=never))


def test_training_learns():
    config = replace(QUICK, epochs=15)
    before, after = accuracy(network().eval())["score"], accuracy(run(None, config))["score"]
    assert after > max(before, 0.85)


# ---- choosing the epoch


def scripted(scores: list[float], seen: list[dict]):
    def validate(module):
        seen.append({k: v.clone() for k, v in module.state_dict().items()})
        return {"score": scores[len(seen) - 1]}

    return validate


def test_the_best_epoch_is_kept():
    seen: list[dict] = []
    best = run(None, replace(QUICK, epochs=5), validate=scripted([0.1, 0.5, 0.9, 0.9, 0.3], seen))
    for name, value in best.state_dict().items():
        assert torch.equal(value, seen[2][name])


def test_without_validation_the_last_epoch_is_kept():
    """And the whole loop equals one written out; in float32, which `auto` is not on every processor."""
    last = train(network(), cross_entropy, SAMPLER.batch, STEPS, replace(QUICK, precision="float32"))
    twin, average = network(), network()
    optimiser = torch.optim.AdamW(twin.parameters(), QUICK.learning_rate, weight_decay=QUICK.weight_decay)
    twin.train()
    for step in range(QUICK.epochs * STEPS):
        torch.manual_seed(step)
        for group in optimiser.param_groups:
            group["lr"] = _learning_rate(QUICK, step, QUICK.epochs * STEPS)
        optimiser.zero_grad()
        cross_entropy(twin, SAMPLER.batch(step), step)["total"].backward()
        nn.utils.clip_grad_norm_(twin.parameters(), QUICK.clip)
        optimiser.step()
        _follow(average, twin, QUICK.average, step)
    assert equal(last, average)


@pytest.mark.parametrize("patience", [1, 2])
def test_early_stopping(tmp_path, patience):
    config = replace(QUICK, epochs=10, patience=patience)
    seen: list[dict] = []
    run(tmp_path, config, validate=scripted([0.1, 0.5, 0.4, 0.5, 0.3] + [0.2] * 5, seen))
    assert len(seen) == 2 + patience
    run(tmp_path, config, validate=scripted([], seen))  # stopped stays stopped
    assert len(seen) == 2 + patience


def test_a_score_that_is_no_number_is_an_error():
    with pytest.raises(InputError, match="validation score of epoch 1 is not a number"):
        run(None, validate=lambda module: {"score": math.nan})
    with pytest.raises(InputError, match="not a number"):
        run(None, validate=lambda module: {"dice": 1.0})


def test_a_loss_that_is_no_number_is_an_error_and_spares_the_checkpoint(tmp_path):
    def breaking(module, batch, step):
        losses = cross_entropy(module, batch, step)
        return losses if step < 4 else {"total": losses["total"] * math.nan}

    with pytest.raises(ConfigError, match="The loss is nan at step 4, expected a finite number"):
        run(tmp_path, loss=breaking)
    assert equal(run(tmp_path), run(None))


# ---- what is trained


def test_frozen_parts_are_left_alone_statistics_included():
    module = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    for part in (module[0], module[1]):
        part.requires_grad_(False)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    modes = []

    def loss(module, batch, step):
        modes.append((module[1].training, module[2].training))
        return cross_entropy(module, batch, step)

    after = run(None, loss=loss, module=module).state_dict()
    assert set(modes) == {(False, True)}
    for name, value in before.items():
        assert torch.equal(value, after[name]) == (not name.startswith("2.")), name


def test_gradients_are_clipped():
    config = replace(
        QUICK, epochs=1, optimiser="sgd", weight_decay=0.0, warmup=0, clip=0.5, average=0.0, learning_rate=0.1
    )
    module = nn.Conv2d(1, 2, 1)
    start = torch.cat([p.detach().flatten() for p in module.parameters()])
    huge = lambda m, b, s: {"total": 1e6 * cross_entropy(m, b, s)["total"]}
    after = train(module, huge, SAMPLER.batch, 1, config)
    moved = torch.cat([p.detach().flatten() for p in after.parameters()]) - start
    assert moved.norm().item() == pytest.approx(
        0.1 * 1.99 * 0.5, rel=1e-4
    )  # Nesterov's first step is 1 + momentum


@given(
    schedule=st.sampled_from(["cosine", "poly"]),
    warmup=st.integers(0, 20),
    total=st.integers(1, 60),
    final=st.floats(0, 1e-3),
)
@REPEATABLE
def test_learning_rates(schedule, warmup, total, final):
    config = replace(QUICK, schedule=schedule, warmup=warmup, final_learning_rate=final, learning_rate=1e-2)
    rates = [_learning_rate(config, step, total) for step in range(total)]
    assert all(0 < rate <= 1e-2 for rate in rates)
    up, down = rates[:warmup], rates[warmup:]
    np.testing.assert_allclose(up, [1e-2 * (s + 1) / warmup for s in range(len(up))])
    assert down == sorted(down, reverse=True)
    if down:
        assert down[0] == pytest.approx(1e-2)
    if schedule == "cosine" and len(down) >= 30:
        assert down[-1] == pytest.approx(final, abs=1e-4)


def test_the_average_forgets_its_start():
    torch.manual_seed(0)
    average, module = nn.Linear(3, 2), nn.Linear(3, 2)
    expected = average.weight.detach().double()
    for step in range(50):
        nn.init.normal_(module.weight)
        decay = min(0.99, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * module.weight.detach().double()
        _follow(average, module, 0.99, step)
    torch.testing.assert_close(average.weight.detach().double(), expected, rtol=1e-5, atol=1e-6)


# ---- checkpoints


def test_other_settings_are_refused(tmp_path):
    run(tmp_path, replace(QUICK, epochs=1))
    with pytest.raises(ConfigError, match=r"other settings \(epochs, learning_rate\); choose another folder"):
        run(tmp_path, replace(QUICK, learning_rate=1e-4))
    with pytest.raises(ConfigError, match="steps_per_epoch"):
        train(
            network(), cross_entropy, SAMPLER.batch, STEPS + 1, replace(QUICK, epochs=1), tmp_path, accuracy
        )
    run(tmp_path, replace(QUICK, epochs=1, device="auto"))  # another machine may go on


@pytest.mark.parametrize(
    "content", [b"", b"damaged", pickle.dumps({"module": 1})], ids=["empty", "damaged", "pickled"]
)
def test_foreign_checkpoints_are_refused(tmp_path, content):
    (tmp_path / "checkpoint.safetensors").write_bytes(content)
    with pytest.raises(StorageError, match=r"not a checkpoint of this run .* delete it to start anew"):
        run(tmp_path)


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    run(tmp_path)
    with pytest.raises(StorageError, match="not a checkpoint of this run"):
        run(tmp_path, module=nn.Conv2d(1, 2, 1))


def test_a_full_disk_spares_the_checkpoint_before(tmp_path, monkeypatch):
    run(tmp_path, replace(QUICK, epochs=1))
    before = (tmp_path / "checkpoint.safetensors").read_bytes()

    def full(tensors, part, metadata):
        Path(part).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sfumato.training.checkpoint.save_file", full)
    module = network()
    optimiser = torch.optim.SGD(module.parameters(), 0.1)
    with pytest.raises(StorageError, match=r"cannot be written .*No space left"):
        save_checkpoint(tmp_path / "checkpoint.safetensors", {"module": module.state_dict()}, optimiser, {})
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_optimiser_state_round_trip(tmp_path, kind):
    def make(module):
        if kind == "adamw":
            return torch.optim.AdamW(module.parameters(), 1e-2)
        return torch.optim.SGD(module.parameters(), 1e-2, momentum=0.9)

    def step(module, optimiser, number):
        optimiser.zero_grad()
        cross_entropy(module.eval(), SAMPLER.batch(number), number)["total"].backward()
        optimiser.step()

    one, other = network(), nn.Sequential(*network())
    first, second = make(one), make(other)
    for number in range(3):
        step(one, first, number)
    save_checkpoint(
        tmp_path / "c.safetensors", {"module": one.state_dict()}, first, {"step": 3, "best": -math.inf}
    )
    state = load_checkpoint(tmp_path / "c.safetensors", {"module": other}, second)
    assert state == {"step": 3, "best": -math.inf}
    for index, entry in first.state_dict()["state"].items():
        for key, value in entry.items():
            assert torch.equal(value, second.state_dict()["state"][index][key])
    step(one, first, 3)
    step(other, second, 3)
    assert equal(one, other)


# ---- settings and machines


@pytest.mark.parametrize(
    "wrong",
    [
        {"optimiser": "adam"},
        {"schedule": "step"},
        {"precision": "float16"},
        {"epochs": 0},
        {"learning_rate": 0.0},
        {"clip": -1.0},
        {"seed": -1},
        {"average": 1.0},
        {"patience": -2},
    ],
)
def test_settings_out_of_range_are_one_sentence(wrong):
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}=.*expected"):
        TrainerConfig(**wrong)


@pytest.mark.parametrize(
    ("capability", "mkldnn", "expected"),
    [("AVX2", True, torch.float32), ("DEFAULT", False, torch.float32), ("AVX512", False, torch.float32),
     ("AVX512", True, torch.bfloat16), ("AVX512_BF16", True, torch.bfloat16)],
)  # fmt: skip
def test_precision_follows_the_processor(monkeypatch, capability, mkldnn, expected):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: mkldnn)
    assert pick_precision("auto", torch.device("cpu")) is expected
    assert pick_precision("float32", torch.device("cpu")) is torch.float32
    assert pick_precision("bfloat16", torch.device("cpu")) is torch.bfloat16


def test_bfloat16_trains_float32_weights():
    module = run(None, replace(QUICK, epochs=1, precision="bfloat16"))
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("name", ["gpu", "cuda:97"])
def test_devices_that_are_not_there(name):
    with pytest.raises(ConfigError, match=f"device='{name}': not usable here"):
        pick_device(name)


# ---- the log


def test_rows_may_differ_in_their_columns(tmp_path):
    with TrainingReport(tmp_path, "test", 3, 1, 0) as report:
        report.epoch(0, {"total": 1.0}, {"score": 0.5, "dice_a": 0.5}, 1.0, 0.1)
        report.epoch(1, {"total": 0.5}, {"score": 0.6, "dice_b": 0.6}, 1.0, 0.1)
        report.epoch(2, {"total": 0.4}, {"score": 0.7, "dice_a": 0.8, "dice_b": 0.6}, 1.0, 0.1)
        report.epoch(
            1, {"total": 0.3}, {"score": 0.9}, 1.0, 0.1
        )  # killed before its checkpoint, and done again
    rows = rows_of(tmp_path / "log.csv")
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["score"] for row in rows] == ["0.5", "0.9"]
    assert (rows[0]["dice_a"], rows[1]["dice_a"]) == ("0.5", "")


def test_the_log_is_also_for_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    run(tmp_path, replace(QUICK, epochs=1))
    assert list((tmp_path / "tensorboard").glob("events*"))


# ---- patches


def test_batches_depend_on_seed_and_step_alone():
    def sampler(seed):
        return PatchSampler(samples(), (16, 16), batch_size=2, seed=seed)

    forward, backward = sampler(3), sampler(3)
    there = [forward.batch(n) for n in range(7)]
    back = [backward.batch(n) for n in reversed(range(7))][::-1]
    for one, other in zip(there, back, strict=True):
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.label, other.label)
    assert not torch.equal(there[0].image, sampler(4).batch(0).image)
    assert not torch.equal(there[0].image, there[1].image)
    assert there[0].image.shape == (2, 1, 16, 16)
    assert there[0].label.dtype == torch.int64
    alone = [PatchSampler(samples(1), (16, 16), 2, seed=seed).batch(0).image for seed in (3, 4)]
    assert not torch.equal(*alone)  # not only the order of samples differs


@pytest.mark.parametrize("batch_size", [1, 2, 3, 6])
def test_every_sample_is_drawn_once_per_pass(batch_size):
    marked = [
        Sample(np.full((1, 4, 4), n, np.float32), np.zeros((4, 4), np.int16), str(n), str(n))
        for n in range(6)
    ]
    sampler = PatchSampler(marked, (4, 4), batch_size)
    assert sampler.steps_per_epoch == 6 / batch_size
    for epoch in range(3):
        steps = range(epoch * sampler.steps_per_epoch, (epoch + 1) * sampler.steps_per_epoch)
        drawn = [float(row[0, 0, 0]) for step in steps for row in sampler.batch(step).image]
        assert sorted(drawn) == list(range(6))


def test_a_limit_sets_the_length_of_an_epoch():
    assert replace(SAMPLER, limit=7).steps_per_epoch == 4
    assert PatchSampler(samples(2), (8, 8), batch_size=5).steps_per_epoch == 1


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_share_of_foreground_patches(share):
    label = np.zeros((200, 200), np.int16)
    label[100, 100] = 1
    sampler = PatchSampler([Sample(np.zeros((1, 200, 200), np.float32), label, "a", "a")], (9, 9), 4, share)
    hits = [bool((row > 0).any()) for step in range(150) for row in sampler.batch(step).label]
    # 600 patches; one that is not centred hits with probability (9 / 192)^2 = 0.002.
    assert np.mean(hits) == pytest.approx(share, abs=0.06)
    if share == 1.0:
        assert all(hits)
        assert all(row[4, 4] == 1 for row in sampler.batch(0).label)


def test_rare_classes_are_drawn_as_often_as_common_ones():
    label = np.zeros((60, 60), np.int16)
    label[:, :20] = 1
    label[50, 50] = 3
    sampler = PatchSampler([Sample(np.zeros((1, 60, 60), np.float32), label, "a", "a")], (1, 1), 4, 1.0)
    drawn = [int(row[0, 0]) for step in range(150) for row in sampler.batch(step).label]
    assert set(drawn) == {1, 3}
    assert np.mean(np.array(drawn) == 3) == pytest.approx(0.5, abs=0.07)


@given(
    grid=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    patch=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    step=st.integers(0, 50),
)
@REPEATABLE
def test_patches_are_cut_from_the_image_and_padded_with_zeros(grid, patch, step):
    values = np.arange(1, 1 + np.prod(grid), dtype=np.float32).reshape(grid)
    sample = Sample(values[None], values.astype(np.int16), "a", "a")
    image, label = (
        t.numpy()[0] for t in (lambda b: (b.image, b.label))(PatchSampler([sample], patch, 1).batch(step))
    )
    assert image.shape == (1, *patch)
    np.testing.assert_array_equal(image[0], label)
    overlap = tuple(min(n, p) for n, p in zip(grid, patch, strict=True))
    inside = np.argwhere(label > 0)
    assert len(inside) == np.prod(overlap)
    first = inside[0]
    cut = label[tuple(slice(f, f + n) for f, n in zip(first, overlap, strict=True))]
    origin = np.argwhere(values == cut[0, 0])[0]
    np.testing.assert_array_equal(
        cut, values[tuple(slice(o, o + n) for o, n in zip(origin, overlap, strict=True))]
    )


def test_crops_reach_outside():
    image, label = np.ones((1, 3, 3), np.float32), np.ones((3, 3), np.int16)
    cut, marks = crop(image, label, np.array([-1, 2]), (3, 3))
    np.testing.assert_array_equal(marks, [[0, 0, 0], [1, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(cut[0], marks)


# ---- augmentation and losses from MONAI


@pytest.mark.needs_monai
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_augmentation(spatial_dims):
    pytest.importorskip("monai")
    from sfumato.training.augment import standard_augmentation

    sample = samples(1, spatial_dims, classes=3)[0]
    augment = standard_augmentation(spatial_dims, mirror_axes=(0,))
    changed = 0
    for seed in range(12):
        before = sample.image.copy(), sample.label.copy()
        image, label = augment(sample.image, sample.label, seed)
        again = augment(sample.image, sample.label, seed)
        np.testing.assert_array_equal(image, again[0])
        np.testing.assert_array_equal(label, again[1])
        assert (image.shape, image.dtype, label.shape, label.dtype) == (
            sample.image.shape, np.float32, sample.label.shape, sample.label.dtype,
        )  # fmt: skip
        assert set(np.unique(label)) <= set(np.unique(sample.label))
        np.testing.assert_array_equal(sample.image, before[0])
        np.testing.assert_array_equal(sample.label, before[1])
        changed += not np.array_equal(label, sample.label)
    assert changed >= 6


@pytest.mark.needs_monai
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_augmentation_moves_image_and_label_together(spatial_dims):
    pytest.importorskip("monai")
    from sfumato.training.augment import standard_augmentation

    label = samples(1, spatial_dims)[0].label
    augment = standard_augmentation(spatial_dims, mirror_axes=(0, 1))
    for seed in range(10):
        image, moved = augment(label[None].astype(np.float32), label, seed)
        assert np.corrcoef(image[0].ravel(), moved.ravel())[0, 1] > 0.75


@pytest.mark.needs_monai
def test_augmented_batches_depend_on_seed_and_step_alone():
    pytest.importorskip("monai")
    from sfumato.training.augment import standard_augmentation

    def sampler():
        return PatchSampler(samples(), (16, 16), 2, augment=standard_augmentation(2))

    first, second = sampler(), sampler()
    first.batch(0)
    torch.rand(3)
    np.random.default_rng().random()
    assert torch.equal(first.batch(5).image, second.batch(5).image)


@pytest.mark.needs_monai
@pytest.mark.parametrize("link", [Link.SOFTMAX, Link.SIGMOID])
def test_segmentation_loss_is_dice_plus_cross_entropy(link):
    pytest.importorskip("monai")
    torch.manual_seed(0)
    logits = torch.randn(2, 2 if link is Link.SOFTMAX else 1, 6, 7)
    label = torch.randint(0, 2, (2, 6, 7))
    loss = segmentation_loss(link, 2)(lambda image: logits, Batch(torch.zeros(2, 1, 6, 7), label=label), 0)[
        "total"
    ]
    foreground = logits.softmax(1)[:, 1] if link is Link.SOFTMAX else logits[:, 0].sigmoid()
    dice = 1 - (2 * (foreground * label).sum() + 1e-5) / (foreground.sum() + label.sum() + 1e-5)
    if link is Link.SOFTMAX:
        entropy = F.cross_entropy(logits, label)
    else:
        entropy = F.binary_cross_entropy_with_logits(logits[:, 0], label.float())
    assert loss.item() == pytest.approx((dice + entropy).item(), rel=1e-4)


@pytest.mark.needs_monai
def test_deep_supervision_halves_the_weight_of_every_coarser_head():
    pytest.importorskip("monai")
    torch.manual_seed(0)
    fine, coarse = torch.randn(1, 2, 8, 8), torch.randn(1, 2, 4, 4)
    batch = Batch(torch.zeros(1, 1, 8, 8), label=torch.randint(0, 2, (1, 8, 8)))
    loss = segmentation_loss(Link.SOFTMAX, 2)
    value = lambda output: loss(lambda image: output, batch, 0)["total"]
    up = F.interpolate(coarse, size=(8, 8), mode="bilinear", align_corners=False)
    expected = (value(fine) + 0.5 * value(up)) / 1.5
    torch.testing.assert_close(value([fine, coarse]), expected)
    torch.testing.assert_close(value(torch.stack([fine, up], 1)), expected)


# ---- validation


def test_validation_is_the_mean_dice_of_classes_that_occur():
    labels = [np.array([[0, 1, 1, 2]]), np.array([[0, 1, 0, 0]])]
    found = [np.array([[0, 1, 0, 2]]), np.array([[0, 1, 0, 0]])]
    cases = [Sample(np.zeros((1, 1, 4), np.float32), label, str(n), str(n)) for n, label in enumerate(labels)]
    answers = iter(found)
    values = dice_validation(cases, lambda module, image: next(answers), ("background", "a", "b", "c"))(
        nn.Identity()
    )
    a, b = np.mean([2 / 3, 1]), 1.0  # b is in the first case only, c in none
    assert values == pytest.approx({"score": (a + b) / 2, "dice_a": a, "dice_b": b})


def test_validation_without_foreground_has_no_score():
    cases = [Sample(np.zeros((1, 1, 4), np.float32), np.zeros((1, 4), np.int16), "a", "a")]
    values = dice_validation(cases, lambda module, image: np.zeros((1, 4), int), ("background", "a"))(
        nn.Identity()
    )
    assert math.isnan(values["score"])
    assert set(values) == {"score"}
