"""`--runner ray`: what is refused before anything starts."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Result

Tsq = Callable[..., Result]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--num-workers", "2"], "--num-workers was given to a run in one process"),
        (["--files-column", "path"], "--files-column was given to a run in one process"),
        (["--runner", "ray"], "add --jsonl FILE"),
        (["--runner", "ray", "--jsonl", "-"], "add --jsonl FILE"),
        (["--runner", "ray", "--jsonl", "out.jsonl", "--json"], "--json was given with --runner ray"),
        (["--runner", "ray", "--jsonl", "out.jsonl", "--files-column", "path"], "--files-from FILE beside it"),
    ],
)
def test_options_that_a_runner_has_no_use_for_are_refused(
    tsq: Tsq, demo: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(demo.parent)
    result = tsq("select", demo, *arguments)
    assert result.code == 2
    assert said in result.err
    assert not Path("out.jsonl").exists()


def test_without_ray_the_error_names_the_extra(tsq: Tsq, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo.parent)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = tsq("select", demo, "--runner", "ray", "--jsonl", "out.jsonl")
    assert result.code == 2
    assert "pip install '.[ray]'" in result.err
