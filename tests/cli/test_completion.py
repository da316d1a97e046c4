"""Completion, through the variables by which shells ask for it."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Result

Tsq = Callable[..., Result]


@pytest.fixture
def completed(tsq: Tsq, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """What bash is offered for the last word of a line."""

    def complete(line: str) -> list[str]:
        words = shlex.split(line) + ([""] if line.endswith(" ") else [])
        monkeypatch.setenv("_TSQ_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        result = tsq()
        assert (result.code, result.err) == (0, "")
        return result.out.split()

    return complete


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("tsq sel", ["select"]),
        ("tsq select --selector vq", ["vqm"]),
        ("tsq select --pack imagenet", ["imagenet", "imagenet-lite"]),
        ("tsq train --pack act", ["actions40"]),
        ("tsq packs show act", ["actions40"]),
        ("tsq classify --recognizer em", ["embedded"]),
        ("tsq evaluate --recognizer resnet", ["resnet101.a1h_in1k"]),
        ("tsq select --device c", ["cpu", "cuda"]),
        ("tsq ablate alph", ["alpha"]),
        ("tsq select --dtype fl", ["float32", "float16"]),
        ("tsq select video", []),  # files are the shell's
        ("tsq --version d", ["doctor"]),
    ],
)  # fmt: skip
def test_bash_completes(completed: Callable[[str], list[str]], line: str, offered: list[str]) -> None:
    assert completed(line) == offered


def test_a_missing_folder_of_packs_completes_nothing(
    completed: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TSQ_PACKS", str(tmp_path / "absent"))
    assert completed("tsq select --pack im") == []
    assert completed("tsq classify --recognizer a") == ["auto"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(tsq: Tsq, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    monkeypatch.setenv("_TSQ_COMPLETE", f"source_{shell}")
    assert f"_TSQ_COMPLETE=complete_{shell}" in tsq().out
