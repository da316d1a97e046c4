"""docs/method.md against the code: files, settings, options and tables are there, and citations lead to it."""

import importlib
import json
import re
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import typer

from tsq_cli.cli.app import program
from tsq_cli.packs import find_pack
from tsq_cli.selection import RULES
from tsq_cli.training.settings import TrainSettings

ROOT = Path(__file__).parents[1]
METHOD = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
SECTIONS = set(re.findall(r"^## (\d+)\. ", METHOD, flags=re.MULTILINE))
CODE = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for folder in ("tsq_cli", "tests", "examples", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != Path(__file__)
}
PAGES = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
SETTINGS = re.findall(r"`(pack\.json|train\.toml|tsq_cli/[\w/]+\.py): ([\w.]+)`(?: = ([^\s,|;]*[^\s,|;:.]))?", METHOD)
OPTIONS = sorted(set(re.findall(r"`tsq (\w+) (--?[\w-]+)[ `]", METHOD)))
SUPPLEMENT = re.compile(r"\(S[);:]|\bS: |\bS (?:gives|has|does|leaves)\b|(?<=\s)S's\b")
"""How code and pages name the paper's supplementary."""


def test_its_sections_are_numbered_from_one() -> None:
    assert {str(number) for number in range(1, 11)} == SECTIONS


def test_every_file_it_names_exists() -> None:
    named = set(re.findall(r"`((?:tsq_cli|examples|benchmarks|weights|tests)/[\w./-]+?)(?:`|: )", METHOD))
    named |= {f"docs/{page}" for page in re.findall(r"\]\(([\w./-]+\.md)\)", METHOD)}
    assert len(named) > 40
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


@pytest.mark.parametrize(("where", "name", "value"), SETTINGS, ids=[f"{where}: {name}" for where, name, _ in SETTINGS])
def test_a_setting_is_there_and_has_the_default_that_it_says(where: str, name: str, value: str) -> None:
    owner: Any
    if where == "pack.json":
        owner = find_pack("imagenet-lite")
    elif where == "train.toml":
        owner = TrainSettings(train_list="")
    else:
        owner = importlib.import_module(where.removesuffix(".py").replace("/", "."))
    try:
        wanted = json.loads(value)
    except json.JSONDecodeError:
        wanted = value
    found = reduce(getattr, name.split("."), owner)
    assert found == wanted
    assert type(found) is type(wanted) or not isinstance(found, bool)


def test_it_names_the_settings_that_the_method_has() -> None:
    assert len(SETTINGS) > 50
    assert all(value for _, _, value in SETTINGS)
    heads = {name.split(".")[1] for where, name, _ in SETTINGS if where == "train.toml" and name.startswith("heads.")}
    assert heads == set(vars(TrainSettings(train_list="").heads))
    pack = find_pack("imagenet-lite")
    named = {name.split(".")[1] for where, name, _ in SETTINGS if where == "pack.json" and name.startswith("settings.")}
    assert named == set(vars(pack.settings))
    words = {name.split(".")[2] for where, name, _ in SETTINGS if name.startswith("settings.words.")}
    assert words == set(vars(pack.settings.words))
    layer = {name.split(".")[2] for where, name, _ in SETTINGS if name.startswith("heads.layer.")}
    assert layer == set(vars(pack.modules.visual.layer))


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_an_option_is_there(command: str, option: str) -> None:
    group: Any = typer.main.get_command(program())
    assert option in {name for parameter in group.commands[command].params for name in parameter.opts}


def test_every_rule_is_named() -> None:
    rules = METHOD[METHOD.index("## 9. ") : METHOD.index("## 10. ")]
    assert [name for name in RULES if f"`{name}`" not in rules and f"**{name}**" not in rules] == []


def test_the_numbers_of_the_supplement_are_those_of_the_studies() -> None:
    registry = importlib.import_module("tsq_cli.studies.registry")
    lines = [line for line in METHOD.splitlines() if line.startswith("|")]
    for study in registry.STUDIES.values():
        if not study.from_paper:
            assert re.search(rf"`tsq ablate [\w -]*\b{study.name}\b[\w -]*`", METHOD), study.name
            continue
        (line,) = [line for line in lines if f"`tsq ablate {study.name}`" in line]
        printed = re.findall(r"\d\d\.\d(?: / \d\d\.\d)*", line)
        assert printed == [" / ".join(f"{value:.1f}" for value in row.paper) for row in study.rows]


def test_citations_lead_to_sections_that_exist() -> None:
    cited = {
        (name, number)
        for name, text in CODE.items()
        for listed in re.findall(r"docs/method\.md,\s+sections? (\d+(?:(?:, | and | to )\d+)*)", text)
        for number in re.findall(r"\d+", listed)
    }
    assert len(cited) > 15
    assert sorted((name, number) for name, number in cited if number not in SECTIONS) == []
    assert set(re.findall(r"sections? (\d+)", METHOD)) <= SECTIONS


def test_nothing_cites_a_document_that_is_not_here() -> None:
    gone = re.compile(r"\bMETHOD(?:\.md\b|'s\b|:| section| has\b| says\b|$)", flags=re.MULTILINE)
    assert [name for name, text in {**CODE, **PAGES}.items() if gone.search(text)] == []


def test_whoever_names_the_supplement_says_where_to_read_on() -> None:
    texts = {**CODE, **PAGES}
    naming = [name for name, text in texts.items() if SUPPLEMENT.search(text)]
    assert "tsq_cli/models/tsq_layer.py" in naming
    assert [name for name in naming if "method.md" not in texts[name] and name != "docs/method.md"] == []
