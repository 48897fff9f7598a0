import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from sfumato.cli import app
from sfumato.cli.shared import parse_settings
from sfumato.errors import ConfigError

COMMANDS = ("demo", "train", "fit", "predict", "evaluate", "methods", "info")


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "sfumato", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"Example: sfumato {command}" in " ".join(result.stdout.split())


def test_methods_as_json_lists_every_folder():
    content = json.loads(CliRunner().invoke(app, ["methods", "--json"]).stdout)
    assert {"perturbation_head", "softmax"} <= {m["name"] for m in content["methods"]}


def test_settings_of_one_method_are_shown():
    assert "gamma" in CliRunner().invoke(app, ["methods", "perturbation_head"]).stdout


def test_info_names_versions_and_presets():
    content = json.loads(CliRunner().invoke(app, ["info", "--json"]).stdout)
    assert "torch" in content["versions"]
    assert "resunet3d" in content["presets"]


def test_a_users_mistake_is_one_sentence_and_exit_code_2():
    result = run("info", "hippocampos")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "hippocampos" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_an_unknown_option_is_exit_code_2():
    assert run("methods", "--nonsense").returncode == 2


def test_settings_are_json_where_they_parse():
    assert parse_settings(["a=1", "b=text", "c=[1,2]", "d=true"]) == {
        "a": 1,
        "b": "text",
        "c": [1, 2],
        "d": True,
    }
    with pytest.raises(ConfigError, match="expected name=value"):
        parse_settings(["oops"])
