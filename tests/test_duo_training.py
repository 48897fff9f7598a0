"""DUO in our training loop: which network is trained, how a run resumes, what is saved, and the command."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.cli import app
from sfumato.datasets.synthetic import make_phantoms, write_phantoms
from sfumato.errors import ConfigError, InputError, UnknownNameError
from sfumato.pipeline.samples import slices_of
from sfumato.segmenters import build_preset
from sfumato.storage import load_segmenter
from sfumato.training.backbone import segmentation_loss
from sfumato.training.duo import DuoConfig, DuoLoss, DuoNetwork, duo_step
from sfumato.training.duo.coefficients import CoefficientTable
from sfumato.training.loop import TrainerConfig, _make_optimiser, _to, train
from sfumato.training.samples import PatchSampler, Sample
from sfumato.types import Batch, Link

QUICK = TrainerConfig(epochs=4, learning_rate=1e-2, warmup=3, device="cpu", precision="float32")


def samples(count=5, dims=2, classes=3) -> list[Sample]:
    phantoms = make_phantoms(count, dims, seed=0, classes=classes)
    return [Sample(p.image, p.label.astype(np.int16), p.name, p.patient) for p in phantoms]


SAMPLER = PatchSampler(samples(), (16, 16), batch_size=2, seed=0)


def network(name="resunet2d", classes=3, **arguments) -> nn.Module:
    torch.manual_seed(11)
    return build_preset(name, 1, classes, **({"widths": (4, 8)} | arguments))


def duo_network(
    config=None, name="resunet2d", classes=2, grid=(16, 16), link=Link.SOFTMAX, **arguments
) -> DuoNetwork:
    outputs = classes + (link is Link.SOFTMAX)
    loss = DuoLoss(classes, config or DuoConfig(), len(SAMPLER.cases), link, seed=1)
    return DuoNetwork(network(name, outputs, **arguments), torch.zeros(1, 1, *grid), loss)


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture(autouse=True)
def without_tensorboard(monkeypatch):
    """Importing it takes longer than all these trainings."""
    monkeypatch.setattr("sfumato.training.reporting._tensorboard", lambda folder: None)


# ---- which case a row is of


def test_rows_say_which_case_they_are_of():
    marked = [
        Sample(np.full((1, 4, 4), n, np.float32), np.zeros((4, 4), np.int16), f"c{n}", "p") for n in range(4)
    ]
    sampler = PatchSampler(marked, (4, 4), 3)
    assert sampler.cases == ("c0", "c1", "c2", "c3")
    for step in range(5):
        batch = sampler.batch(step)
        assert batch.index.dtype == torch.int64
        assert batch.index.tolist() == batch.image[:, 0, 0, 0].tolist()
        assert torch.equal(_to(batch, torch.device("cpu")).index, batch.index)


def test_slices_of_a_volume_are_one_case():
    volumes = [
        Sample(np.full((1, 3, 4, 4), n, np.float32), np.zeros((3, 4, 4), np.int16), f"v{n}", "p")
        for n in range(2)
    ]
    sampler = PatchSampler([piece for v in volumes for piece in slices_of(v)], (4, 4), 6)
    assert sampler.cases == ("v0", "v1")
    batch = sampler.batch(0)
    assert batch.index.tolist() == batch.image[:, 0, 0, 0].tolist()
    assert sorted(batch.index.tolist()) == [0, 0, 0, 1, 1, 1]


def test_the_index_goes_where_the_batch_goes():
    batch = Batch(torch.zeros(1, 1, 2, 2), index=torch.tensor([3]))
    assert _to(batch, torch.device("meta")).index.device.type == "meta"


# ---- the network and its noise head


@pytest.mark.parametrize(
    ("name", "grid", "arguments"),
    [
        ("resunet2d", (16, 16), {}),
        ("resunet3d", (8, 8, 12), {}),
        pytest.param("dynunet2d", (16, 16), {"widths": (4, 6, 8, 8)}, marks=pytest.mark.needs_monai),
        pytest.param("dynunet3d", (16, 16, 16), {"widths": (4, 6, 8, 8)}, marks=pytest.mark.needs_monai),
    ],
)
@pytest.mark.parametrize("link", list(Link))
def test_every_preset_takes_a_noise_head(name, grid, arguments, link):
    if "dynunet" in name:
        pytest.importorskip("monai")
    classes = 2 if link is Link.SOFTMAX else 1
    module = duo_network(None, name, classes, grid, link, **arguments)
    image = torch.randn(2, 1, *grid, generator=torch.Generator().manual_seed(0))
    plain = network(name, classes + (link is Link.SOFTMAX), **arguments)
    assert equal(module.network, plain)  # the dry run moved nothing
    assert torch.equal(module.eval()(image), plain.eval()(image))
    heads, noise = module.train().with_noise(image)
    assert len(heads) == (3 if "dynunet" in name else 1)
    assert noise.shape == (2, classes, *grid)
    # The head is a linear map beside the classifier, which reads the same features.
    classifier = [m for m in module.network.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]
    widths = {m.in_channels for m in classifier if m.out_channels == heads[0].shape[1]}
    assert module.noise_head.in_channels in widths
    labels = torch.randint(0, classes + 1, (2, *grid))
    losses = duo_step(10)(module, Batch(image, label=labels, index=torch.tensor([0, 3])), 9)
    losses["total"].backward()
    assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)
    assert module.noise_head.weight.grad.abs().max() > 0
    assert module.loss.coefficients.raw.grad.abs().max() > 0


def test_the_noise_head_leaves_the_features_alone():
    module = duo_network()
    _, noise = module.with_noise(torch.randn(1, 1, 16, 16))
    noise.sum().backward()
    assert module.noise_head.weight.grad.abs().max() > 0
    assert all(p.grad is None for p in module.network.parameters())


def test_without_denoising_there_is_no_head():
    module = duo_network(DuoConfig(denoise=False))
    assert module.noise_head is None
    assert {n.split(".")[0] for n, _ in module.named_parameters()} == {"network"}
    assert module.with_noise(torch.zeros(1, 1, 16, 16))[1] is None


def test_statistics_of_normalisation_are_not_moved_by_the_dry_run():
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    module = DuoNetwork(net, torch.ones(1, 1, 8, 8), DuoLoss(1, samples=3))
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in module.network.state_dict().items())
    assert module.noise_head.in_channels == 4


def test_a_network_with_other_logits_is_refused():
    with pytest.raises(InputError, match="The network gives 3 logits, expected 5 for the loss"):
        DuoNetwork(network(), torch.zeros(1, 1, 16, 16), DuoLoss(4, samples=3))


# ---- training


@pytest.mark.needs_monai
def test_without_its_ideas_the_heads_weigh_as_in_plain_training():
    """Deep supervision: with one class and cross-entropy alone, DUO's step loss is the plain one's, cut to that."""
    monai = pytest.importorskip("monai.losses")
    torch.manual_seed(0)
    config = DuoConfig(alpha=0.0, beta=0.0, denoise=False)
    module = duo_network(config, "dynunet2d", 1, widths=(4, 6, 8, 8)).train()
    batch = Batch(torch.randn(2, 1, 16, 16), label=torch.randint(0, 2, (2, 16, 16)))
    found = duo_step(10)(module, batch, 0)["total"]
    entropy = nn.functional.cross_entropy
    heads = module.network(batch.image).unbind(1)
    weights = [1.0, 0.5, 0.25]
    expected = sum(w * entropy(h, batch.label) for w, h in zip(weights, heads, strict=True)) / sum(weights)
    torch.testing.assert_close(found, expected)
    plain = segmentation_loss(Link.SOFTMAX, 2)(module.network, batch, 0)["total"]
    dice = monai.DiceLoss(include_background=False, to_onehot_y=True, softmax=True, batch=True)
    dices = sum(w * dice(h, batch.label.unsqueeze(1)) for w, h in zip(weights, heads, strict=True))
    torch.testing.assert_close(plain - dices / sum(weights), found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_weight_decay_leaves_the_table_alone(optimiser):
    module = duo_network()
    chosen = _make_optimiser(module, replace(QUICK, optimiser=optimiser, weight_decay=0.5))
    decays = {id(p): group["weight_decay"] for group in chosen.param_groups for p in group["params"]}
    for name, parameter in module.named_parameters():
        assert decays[id(parameter)] == (0.0 if name == "loss.coefficients.raw" else 0.5), name
    assert len(_make_optimiser(network(), QUICK).param_groups) == 1


class Killed(Exception):
    """What stands for the end of the process."""


@pytest.mark.parametrize(
    "config", [DuoConfig(), DuoConfig(mode="pooled", average=0.9), DuoConfig(weights="random")]
)
@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_killed_and_resumed_is_bit_equal(tmp_path, config, optimiser):
    settings = replace(QUICK, optimiser=optimiser, learning_rate=1e-2 if optimiser == "adamw" else 1e-3)
    steps = settings.epochs * SAMPLER.steps_per_epoch
    modules = [duo_network(config) for _ in range(3)]

    def killing(module, batch, step):
        if step == steps - 2:
            raise Killed
        return duo_step(steps)(module, batch, step)

    def run(module, folder, loss):
        return train(module, loss, SAMPLER.batch, SAMPLER.steps_per_epoch, settings, folder)

    straight = run(modules[0], tmp_path / "straight", duo_step(steps))
    with pytest.raises(Killed):
        run(modules[1], tmp_path / "killed", killing)
    torch.rand(5)
    resumed = run(modules[2], tmp_path / "killed", duo_step(steps))
    assert equal(straight, resumed)
    assert equal(modules[0], modules[2])
    if config.mode == "table":
        assert not torch.equal(straight.loss.coefficients.raw, duo_network(config).loss.coefficients.raw)


def test_training_with_duo_learns():
    config = replace(QUICK, epochs=25)
    sampler = PatchSampler(samples(), (24, 32), batch_size=2, seed=0)
    steps = config.epochs * sampler.steps_per_epoch
    module = duo_network()

    def accuracy(network):
        batch = sampler.batch(999)
        with torch.no_grad():
            return float((network.eval()(batch.image).argmax(1) == batch.label).float().mean())

    before = accuracy(module)
    after = accuracy(train(module, duo_step(steps), sampler.batch, sampler.steps_per_epoch, config))
    assert after > max(before, 0.9)


# ---- the command


@pytest.fixture
def data(tmp_path) -> Path:
    write_phantoms(tmp_path / "data", make_phantoms(8, spatial_dims=3, seed=5, classes=3))
    return tmp_path / "data"


def command(data: Path, out: Path, *more: str) -> None:
    arguments = [
        "train",
        "--data",
        str(data),
        "--out",
        str(out),
        "--preset",
        "resunet3d",
        "--set",
        "widths=[4,8]",
    ]
    fixed = [
        "--epochs",
        "2",
        "--device",
        "cpu",
        "--augment",
        "0",
        "--patch",
        "12x16x16",
        "--precision",
        "float32",
    ]
    app([*arguments, *fixed, *more], standalone_mode=False)


def test_the_command_saves_the_plain_network_and_the_annotation_bias(data, tmp_path):
    out = tmp_path / "duo"
    command(
        data,
        out,
        "--strategy",
        "duo",
        "--duo",
        "alpha=1",
        "--duo",
        "warmup_start=0",
        "--duo",
        "warmup_end=0.5",
    )
    segmenter = load_segmenter(out)
    plain = build_preset("resunet3d", 1, 3, widths=(4, 8))
    assert {k: v.shape for k, v in segmenter.module.state_dict().items()} == {
        k: v.shape for k, v in plain.state_dict().items()
    }
    record = json.loads((out / "segmenter.json").read_text())["record"]
    assert record["config"]["duo"]["alpha"] == 1
    rows = list(csv.DictReader((out / "annotation_bias.csv").read_text().splitlines()))
    assert len({row["case"] for row in rows}) == record["cases"]
    assert len(rows) == 2 * record["cases"]
    values = np.array([float(row["coefficient"]) for row in rows])
    assert abs(values.mean()) < 1e-6
    assert np.mean(values**2) == pytest.approx(1, abs=1e-4)
    log = list(csv.DictReader((out / "log.csv").read_text().splitlines()))
    assert [float(row["rho"]) for row in log] == pytest.approx([0.15, 0.3], abs=0.15)
    assert all(0.5 <= float(row["weight"]) <= 1 for row in log)
    with pytest.raises(ConfigError, match=r"other settings \(duo\)"):
        command(data, out, "--strategy", "duo", "--duo", "alpha=2")


def test_the_saved_network_is_the_trained_one(data, tmp_path):
    out = tmp_path / "duo"
    command(data, out, "--strategy", "duo", "--validation", "0")
    from safetensors.torch import load_file

    inside = load_file(out / "checkpoint.safetensors")
    state = load_segmenter(out).module.state_dict()
    for name, value in state.items():
        assert torch.equal(value, inside[f"best.network.{name}"]), name
    assert any("noise_head" in name for name in inside)


@pytest.mark.needs_monai
def test_plain_training_is_still_the_default(data, tmp_path):
    pytest.importorskip("monai")
    command(data, tmp_path / "plain")
    command(data, tmp_path / "named", "--strategy", "plain")
    states = [load_segmenter(tmp_path / name).module.state_dict() for name in ("plain", "named")]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not (tmp_path / "plain/annotation_bias.csv").exists()
    assert json.loads((tmp_path / "plain/train.json").read_text())["duo"] is None


def test_what_the_command_refuses(data, tmp_path):
    with pytest.raises(UnknownNameError, match="no strategy called 'duos'; did you mean 'duo'"):
        command(data, tmp_path / "out", "--strategy", "duos")
    with pytest.raises(
        ConfigError, match="--duo 'alpha=1' without the strategy it is for; add --strategy duo"
    ):
        command(data, tmp_path / "out", "--duo", "alpha=1")
    with pytest.raises(ConfigError, match="--duo 'alpha', expected name=value"):
        command(data, tmp_path / "out", "--strategy", "duo", "--duo", "alpha")
    with pytest.raises(UnknownNameError, match="no DUO setting called 'alfa'"):
        command(data, tmp_path / "out", "--strategy", "duo", "--duo", "alfa=1")


def test_the_table_is_part_of_the_module():
    assert isinstance(duo_network().loss.coefficients, CoefficientTable)
    assert "loss.coefficients.raw" in duo_network().state_dict()
