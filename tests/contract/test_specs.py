"""What every method's card and folder promise."""

import dataclasses
import json
import re

import pytest

from sfumato.errors import SfumatoError
from sfumato.interfaces import MethodSpec
from sfumato.registry import METHODS_FOLDER, get_method, list_methods
from sfumato.storage import config_from_plain
from sfumato.types import Kind

pytestmark = pytest.mark.parametrize("name", list_methods())


def test_the_folder_exports_its_method_under_its_own_name(name):
    spec = get_method(name)
    assert isinstance(spec, MethodSpec)
    assert spec.name == name
    assert spec.title
    assert "\n" not in spec.title


def test_the_readme_names_the_paper(name):
    readme = (METHODS_FOLDER / name / "README.md").read_text(encoding="utf-8")
    spec = get_method(name)
    numbers = re.findall(r"\d{4}\.\d{4,5}", spec.paper)
    wanted = numbers or [spec.paper.split(",")[0]]
    assert all(w in readme for w in wanted), f"README.md does not name {wanted}"


def test_the_folder_has_tests(name):
    assert list((METHODS_FOLDER / name / "tests").glob("test_*.py"))


def test_settings_are_frozen_data_with_defaults(name):
    kind = get_method(name).config
    assert dataclasses.is_dataclass(kind)
    assert kind.__dataclass_params__.frozen
    assert kind() == kind()
    assert isinstance(get_method(name).tiny, kind)


@pytest.mark.parametrize("which", ["default", "tiny"])
def test_settings_survive_json(name, which):
    spec = get_method(name)
    config = spec.config() if which == "default" else spec.tiny
    assert config_from_plain(spec.config, json.loads(json.dumps(dataclasses.asdict(config)))) == config


def test_an_unknown_setting_is_our_error(name):
    with pytest.raises(SfumatoError, match="no_such_setting"):
        config_from_plain(get_method(name).config, {"no_such_setting": 1})


def test_kinds_are_declared_once_and_ranks_by_is_among_them(name):
    spec = get_method(name)
    for kinds in (spec.maps, spec.scores):
        assert len(set(kinds)) == len(kinds)
        assert all(isinstance(kind, Kind) for kind in kinds)
    assert spec.ranks_by in (*spec.maps, *spec.scores)


def test_every_setting_is_documented(name):
    kind = get_method(name).config
    missing = [f.name for f in dataclasses.fields(kind) if f"{f.name}:" not in (kind.__doc__ or "")]
    assert not missing
