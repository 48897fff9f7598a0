"""The docs are true: their Python runs, their commands parse, their links lead somewhere, their lists are complete."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer.main

from sfumato.cli import app
from sfumato.cli.shared import parse_settings
from sfumato.cli.text.train import READ_OFF
from sfumato.datasets.synthetic import make_phantoms, write_phantoms
from sfumato.errors import StorageError
from sfumato.methods.text_guided.config import TextGuidedConfig
from sfumato.registry import list_methods
from sfumato.storage import save_method

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
METHOD_PAGES = sorted((ROOT / "src/sfumato/methods").glob("*/README.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = r"([a-z]+(?: [a-z-]+)?)"
"""Of a command, or of a group and its command; arguments are in capitals."""
FILE_NAME = re.compile(r"^# (\w+\.py)$")


def by_name(group: Any, before: str = "") -> dict[str, Any]:
    """Commands by what one types: `predict`, `difficulty score`."""
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        inner = by_name(command, f"{before}{name} ") if hasattr(command, "commands") else {}
        found |= inner or {before + name: command}
    return found


COMMANDS = by_name(typer.main.get_command(app))


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    return [text for name, text in BLOCK.findall(page.read_text(encoding="utf-8")) if name == language]


@pytest.fixture
def world(tmp_path, monkeypatch, tiny_segmenter):
    """A working folder with what the examples assume: `data/`, `case.nii.gz` and the fitted method `runs/mine`."""
    from sfumato import get_method

    write_phantoms(tmp_path / "data", make_phantoms(10, spatial_dims=3, seed=5))
    shutil.copy(tmp_path / "data/images/phantom_000.nii.gz", tmp_path / "case.nii.gz")
    spec = get_method("softmax")
    save_method(tmp_path / "runs/mine", spec.build(spec.config(), tiny_segmenter("softmax_3d")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if not name.startswith(("sfumato", "torch", "monai")) and "." not in name:
            file = getattr(sys.modules[name], "__file__", None)
            if file and Path(file).parent == tmp_path:
                del sys.modules[name]


def run_blocks(page: Path, world: Path) -> None:
    """Run a page's Python from top to bottom; a block that begins with a file's name is saved under it instead."""
    namespace: dict[str, object] = {"__name__": "__docs__"}
    for number, text in enumerate(blocks(page, "python"), 1):
        saved = FILE_NAME.match(text.splitlines()[0])
        if saved:
            (world / saved.group(1)).write_text(text, encoding="utf-8")
        else:
            exec(compile(text, f"{page_id(page)}, block {number}", "exec"), namespace)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=page_id)
def test_python_examples_run(page, world):
    run_blocks(page, world)


def test_a_network_of_ones_own_is_predicted_only_when_trusted(world):
    run_blocks(ROOT / "docs/how-to/own-network.md", world)
    command = ["predict", "runs/mine", "case.nii.gz", "--out", "results"]
    with pytest.raises(StorageError, match="--allow-pickle"):
        app(command, standalone_mode=False)
    app([*command, "--allow-pickle"], standalone_mode=False)
    assert (world / "results/case/case.json").exists()


def commands(page: Path) -> list[str]:
    return [line for text in blocks(page, "sh") for line in text.splitlines() if line.startswith("sfumato ")]


@pytest.mark.parametrize("page", [p for p in [*PAGES, *METHOD_PAGES] if commands(p)], ids=page_id)
def test_commands_parse(page):
    for line in commands(page):
        words = shlex.split(line, comments=True)[1:]
        length = 2 if " ".join(words[:2]) in COMMANDS else 1
        name, arguments = " ".join(words[:length]), words[length:]
        assert name in COMMANDS, line
        COMMANDS[name].make_context(name, arguments).close()


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page):
    text = re.sub(BLOCK, "", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        file = (page.parent / path) if path else page
        assert file.exists(), f"{target}: no such file"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}, target


def test_every_page_is_reached_from_the_front_door():
    seen, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop().resolve()
        if page in seen or page.suffix != ".md":
            continue
        seen.add(page)
        targets = re.findall(r"\]\(([^)\s#]+)", page.read_text(encoding="utf-8"))
        waiting += [page.parent / t for t in targets if "://" not in t and (page.parent / t).exists()]
    assert {p.resolve() for p in PAGES} <= seen


def test_the_method_table_is_the_registry():
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## Methods\n")[1].split("\n## ")[0]
    table = section.split("\n\n")[0] if section.startswith("|") else section.strip().split("\n\n")[0]
    assert sorted(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == list(list_methods())


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_command_reference_is_complete(name):
    text = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    sections = dict(re.findall(rf"^## `sfumato {NAME}.*?`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    common = re.search(r"^## Common options\n(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
    assert common is not None
    assert name in sections, f"docs/reference/commands.md has no section on {name}"
    real = {o for p in COMMANDS[name].params for o in p.opts if o.startswith("--")} - {"--help"}
    here = set(re.findall(r"^\| `(--[\w-]+)", sections[name], re.MULTILINE))
    shared = set(re.findall(r"^\| `(--[\w-]+)", common.group(1), re.MULTILINE))
    assert here <= real, "options that the command does not have"
    assert real <= here | shared, "options that the page does not explain"


def test_the_command_reference_names_no_other_command():
    text = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    assert sorted(re.findall(rf"^## `sfumato {NAME}", text, re.MULTILINE)) == sorted(COMMANDS)


GUIDED = {
    "demo": "Try it without data",
    "train": "Train",
    "fit": "Calibrate",
    "predict": "Segment an image",
    "evaluate": "Measure what sentences are worth",
}
"""Commands that have options of their own with `text_guided`, and the sections that explain them."""


def guide_section(command: str) -> str:
    page = (ROOT / "docs/how-to/text.md").read_text(encoding="utf-8")
    return page.split(f"\n## {GUIDED[command]}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("command", GUIDED)
def test_the_guide_explains_every_option_of_commands_that_read_sentences(command):
    told = set(re.findall(r"^\| `(--[\w-]+)`", guide_section(command), re.MULTILINE))
    parameters = import_module(f"sfumato.cli.text.{command}").alone().params
    assert told == {option for p in parameters for option in p.opts if option.startswith("--")} - {"--help"}


def test_the_guide_explains_every_setting_and_its_default():
    rows = re.findall(r"^\| (`\w+`.*?) \|.*\| (.*) \|$", guide_section("train"), re.MULTILINE)
    told = {}
    for names, defaults in rows:
        values = re.findall(r"`(.*?)`", defaults) or [""]
        told |= dict(zip(re.findall(r"`(\w+)`", names), values, strict=True))
    known = asdict(TextGuidedConfig())
    assert set(told) == set(known) - set(READ_OFF)
    for name, value in told.items():
        found = parse_settings([f"{name}={value}"])[name] if value else None
        assert (tuple(found) if isinstance(found, list) else found) == known[name], name
