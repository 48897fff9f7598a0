"""The door: what is importable from `sfumato` is exactly what is promised, and opening it costs nothing."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import sfumato

PROMISED = [
    "Batch",
    "DecisionRule",
    "Kind",
    "Link",
    "Method",
    "MethodSpec",
    "Prediction",
    "Preprocessing",
    "Segmentation",
    "SegmenterSpec",
    "SfumatoError",
    "Uncertainty",
    "build_preset",
    "get_method",
    "list_methods",
    "load_method",
    "load_segmenter",
    "predict_image",
    "read_image",
    "save_method",
    "wrap",
]
HEAVY = ["torch", "monai", "matplotlib", "scipy", "nibabel", "numpy"]


def run_python(program: str) -> str:
    """Standard output of a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_the_door_is_what_is_promised():
    assert sfumato.__all__ == PROMISED
    assert sorted(PROMISED) == PROMISED


@pytest.mark.parametrize("name", PROMISED)
def test_every_promised_name_is_there_and_documented(name):
    value = getattr(sfumato, name)
    assert value.__doc__
    assert name in dir(sfumato)


def test_nothing_else_is_importable():
    program = """
import json, sys
import sfumato
from sfumato import *
modules = {n.removeprefix("sfumato.") for n in sys.modules if n.startswith("sfumato.")}
helpers = {"import_module", "TYPE_CHECKING", "Any"}
public = {n for n in vars(sfumato) if not n.startswith("_")} - modules - helpers
print(json.dumps(sorted(public)))
"""
    assert json.loads(run_python(program)) == PROMISED


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = sfumato.no_such_name


@pytest.mark.parametrize("module", ["sfumato", "sfumato.cli"])
def test_importing_is_light(module):
    program = f"import sys, {module}; print([n for n in {HEAVY} if n in sys.modules])"
    assert run_python(program).strip() == "[]"


def test_the_version_is_that_of_the_distribution():
    assert metadata.version("sfumato") == sfumato.__version__


def test_types_reach_those_who_check_them():
    assert (Path(sfumato.__file__).parent / "py.typed").exists()
