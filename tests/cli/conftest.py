"""Running the program as a user does, in this process: `main()` with its exit code, stdout and stderr."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tsq_cli.cli.app import main

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "demo.mp4"


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


@pytest.fixture
def tsq(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    def run(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["tsq", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        code = stopped.value.code
        return Result(code if isinstance(code, int) else int(bool(code)), captured.out, captured.err)

    return run


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """The demo clip, in a folder of its own."""
    return Path(shutil.copy(DEMO, tmp_path / "demo.mp4"))
