"""All of docs/recipes.md is run as it stands there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Result, tsq  # noqa: F401 - a fixture
from tsq_cli import Selector, pipeline

ROOT = Path(__file__).parents[1]


@pytest.fixture
def in_a_folder_with_the_demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    return tmp_path


def run_block(language: str, code: str, run: Callable[..., Result], capsys: pytest.CaptureFixture[str]) -> Result:
    """Run one block of a page: tsq in this process, other programs in a shell, Python as one script per block."""
    capsys.readouterr()
    if language == "bash" and code.startswith("tsq "):
        result = run(*shlex.split(code)[1:])
        assert result.code == 0, result.err
        return result
    if language == "bash":
        ended = subprocess.run(code, shell=True, capture_output=True, text=True, check=True)
        return Result(0, ended.stdout, ended.stderr)
    exec(code, {})
    return Result(0, capsys.readouterr().out, "")


@pytest.mark.usefixtures("in_a_folder_with_the_demo")
@pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")  # of torchvision, which transformers uses
def test_the_recipes_run_and_give_what_they_show(
    tsq: Callable[..., Result],  # noqa: F811
    selector: Selector,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for key in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "VLLM_URL"):
        monkeypatch.delenv(key, raising=False)
    # All commands select the same frames of one video: the weights are loaded, and the networks run, once for all.
    monkeypatch.setattr(Selector, "load", lambda *_, **__: selector)
    scores: list[Any] = []
    score_clips = pipeline.score_clips
    monkeypatch.setattr(
        pipeline, "score_clips", lambda *given, **more: scores or scores.extend(score_clips(*given, **more)) or scores
    )
    page = (ROOT / "docs" / "recipes.md").read_text()
    (of_python,) = re.findall(r"^The record is that of `(tsq .*)`;", page, flags=re.MULTILINE)
    run_block("bash", of_python, tsq, capsys)
    said: Result | None = None
    for language, code in re.findall(
        r"^```(bash|python|stdout|stderr)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL
    ):
        if language in ("bash", "python"):
            can_run = shutil.which("ffmpeg") is not None or not code.startswith("ffmpeg ")
            said = run_block(language, code, tsq, capsys) if can_run else None
        elif said is not None:
            out = re.sub(r"(video_id: )[0-9a-f]{8}", r"\1VIDEO_ID", said.out)
            assert code == (out if language == "stdout" else said.err)
