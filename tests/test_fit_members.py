"""`sfumato fit --members`: further networks for the methods that run several."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from sfumato.cli import app
from sfumato.datasets.synthetic import make_phantoms, write_phantoms
from sfumato.errors import ConfigError
from sfumato.registry import get_method
from sfumato.runs.fit import fit_method
from sfumato.segmenters.pinned import weights_sha256
from sfumato.storage import load_method, save_method, save_segmenter


@pytest.fixture(scope="module")
def world(tmp_path_factory, tiny_segmenter, tiny_members):
    """Phantoms in `data`, the segmenter in `net`, two further networks in `net1` and `net2`."""
    folder = tmp_path_factory.mktemp("members")
    write_phantoms(folder / "data", make_phantoms(15, spatial_dims=3, seed=5))
    networks = (tiny_segmenter("softmax_3d"), *tiny_members("softmax_3d"))
    for name, network in zip(("net", "net1", "net2"), networks, strict=True):
        save_segmenter(folder / name, network.module, network.spec)
    return folder


def fit(world, method, out, *members):
    arguments = ["fit", method, "--segmenter", str(world / "net"), "--data", str(world / "data")]
    arguments += [part for m in members for part in ("--members", str(world / m))]
    return CliRunner().invoke(app, [*arguments, "--out", str(out), "--device", "cpu", "--json"])


def test_members_are_run_and_written_down(world, tmp_path, tiny_members):
    result = fit(world, "deep_ensemble", tmp_path, "net1", "net2")
    assert result.exit_code == 0, result.stderr
    known = [weights_sha256(n.module) for n in tiny_members("softmax_3d")]
    assert json.loads((tmp_path / "fit.json").read_text())["networks"] == known
    assert json.loads((tmp_path / "method.json").read_text())["network_fingerprints"] == known
    assert load_method(tmp_path).estimator.pass_count == 3


def test_other_members_are_another_fit(world, tmp_path, tiny_segmenter, tiny_members):
    segmenter, (one, other) = tiny_segmenter("softmax_3d"), tiny_members("softmax_3d")
    fit_method("deep_ensemble", segmenter, world / "data", tmp_path, say=lambda _: None, networks=[one])
    with pytest.raises(ConfigError, match="another networks"):
        fit_method("deep_ensemble", segmenter, world / "data", tmp_path, say=lambda _: None, networks=[other])


def test_a_finished_fit_is_kept_and_a_method_of_other_origin_is_not(world, tmp_path, tiny_segmenter):
    segmenter, lines = tiny_segmenter("softmax_3d"), []
    arguments = ("softmax", segmenter, world / "data", tmp_path)
    save_method(tmp_path, get_method("softmax").build(get_method("softmax").config(), segmenter))
    record = fit_method(*arguments, say=lines.append)
    assert "rules" in record
    assert not any("kept" in line for line in lines)
    assert fit_method(*arguments, say=lines.append) == record
    assert lines[-1] == f"{tmp_path}: fitted before, kept"


@pytest.mark.parametrize(
    ("method", "members", "message"),
    [("deep_ensemble", (), "at least 1"), ("softmax", ("net1",), "runs no further networks")],
)
def test_missing_and_unwanted_members_are_one_sentence(world, tmp_path, method, members, message):
    result = fit(world, method, tmp_path / "out", *members)
    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)
    assert not (tmp_path / "out" / "method.json").exists()
