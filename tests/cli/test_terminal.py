"""At a terminal: the bar moves on stderr, and what is data goes to stdout, wherever that leads."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import DEMO

SELECT = ["-m", "tsq_cli", "select", str(DEMO), "-k", "2"]
PRINTS_WHILE_IT_WORKS = """
from tsq_cli.cli.output import progress_bar, put_json
with progress_bar("measuring") as progress:
    progress("measuring", 1, 2)
    put_json({"a": 1}, "-")
    progress("measuring", 2, 2)
"""


def at_a_terminal(arguments: list[str], stdout: Path | None) -> str:
    """What a terminal shows of stderr, and of stdout where that goes to no file, colours left out."""
    ours, its = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    with (stdout or Path(os.devnull)).open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, *arguments], env=environment, stdin=subprocess.DEVNULL, stdout=file if stdout else its,
            stderr=its,
        )  # fmt: skip
        os.close(its)
        seen = b""
        while True:
            try:
                some = os.read(ours, 65536)
            except OSError:  # how Linux says that the other side has gone
                break
            if not some:
                break
            seen += some
        assert process.wait() == 0, seen.decode()
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;]*m", "", seen.decode())


@pytest.mark.parametrize(
    ("arguments", "bar"), [([*SELECT, "--jsonl", "-"], "videos"), (["-c", PRINTS_WHILE_IT_WORKS], "measuring")]
)
def test_data_reaches_the_file_that_stdout_is(arguments: list[str], bar: str, tmp_path: Path) -> None:
    shown = at_a_terminal(arguments, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text())
    assert bar in shown
    assert "{" not in shown


@pytest.mark.parametrize(
    ("arguments", "begins", "bar"), [(SELECT, str(DEMO), "videos"), (["-c", PRINTS_WHILE_IT_WORKS], "{", "measuring")]
)
def test_the_bar_gives_way_to_data_on_the_same_terminal(arguments: list[str], begins: str, bar: str) -> None:
    before, _, after = at_a_terminal(arguments, None).partition(begins)
    assert bar in before
    assert before.endswith("\x1b[2K")  # the bar's line was wiped: nothing stands before the data
    assert bar in after  # and the bar came back
    assert after.endswith("\x1b[2K")  # and went
