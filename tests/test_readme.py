"""The README's Python is run as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_librarys_examples_run_and_say_what_they_show(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    readme = (ROOT / "README.md").read_text()
    (arguments,) = re.findall(r"^tsq (.*) > record.json$", readme, flags=re.MULTILINE)
    with (tmp_path / "record.json").open("w") as record:
        command = [sys.executable, "-m", "tsq_cli", *shlex.split(arguments)]
        subprocess.run(command, stdout=record, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL):
        exec(block, names)
    selected, classified, by_hand = (out for out in capsys.readouterr().out.split("Egyptian cat"))
    assert selected.startswith("tsq some frames stand out")
    assert len(selected.splitlines()) == 1 + 5
    assert classified.startswith(" (5, 7, 7)")
    assert "Category(" in classified
    assert "score=0.5" in by_hand
    assert "tensor([[ 2, 20, 36]])" in by_hand
