"""The Python of README.md and docs/api.md is run as it stands there."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Result, tsq  # noqa: F401 - a fixture

ROOT = Path(__file__).parents[1]


def python_of(page: str) -> str:
    """All Python blocks of a page, in order."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL))


@pytest.fixture
def in_a_folder_with_the_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


@pytest.mark.usefixtures("in_a_folder_with_the_demo")
def test_the_readmes_lines_select_the_frames_of_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    exec(python_of("README.md"), {})
    readme = (ROOT / "README.md").read_text()
    shown = re.findall(r"^ +\d+ +0:(\d\d\.\d{3}) ", readme, flags=re.MULTILINE)
    assert capsys.readouterr().out.split("[")[1].rstrip("]\n").split(", ") == [str(float(time)) for time in shown]


def test_the_librarys_examples_run_and_say_what_they_show(
    in_a_folder_with_the_demo: Path,
    tsq: Callable[..., Result],  # noqa: F811
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    (arguments,) = re.findall(r"^tsq (.*) > record.json$", page, flags=re.MULTILINE)
    (in_a_folder_with_the_demo / "record.json").write_text(tsq(*shlex.split(arguments)).out)
    exec(python_of("docs/api.md"), {})
    selected, classified, by_hand = (out for out in capsys.readouterr().out.split("Egyptian cat"))
    assert selected.startswith("tsq some frames stand out")
    assert len(selected.splitlines()) == 1 + 5
    assert classified.startswith(" (5, 7, 7)")
    assert "Category(" in classified
    assert "score=0.5" in by_hand
    assert "tensor([[ 2, 20, 36]])" in by_hand


def test_no_line_of_the_readme_is_too_long_to_read() -> None:
    assert [line for line in (ROOT / "README.md").read_text().splitlines() if len(line) > 120] == []
