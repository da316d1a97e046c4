"""At a terminal: the bar moves on stderr, and what is data goes to stdout, wherever that leads, or to nowhere."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests import processes
from tests.cli.conftest import DEMO
from tests.video.clips import clip
from tsq_cli.cli.streams import safe_streams

SELECT = ["-m", "tsq_cli", "select", str(DEMO), "-k", "2", "--selector", "uniform"]
PRINTS_WHILE_IT_WORKS = """
from tsq_cli.cli.output import print_json, progress_bar
with progress_bar("measuring") as progress:
    progress("measuring", 1, 2)
    print_json({"a": 1})
    progress("measuring", 2, 2)
"""


def at_a_terminal(arguments: list[str], stdout: Path | None) -> str:
    """Run a program at a pseudo-terminal; return its stderr, and its stdout unless that goes to a file."""
    ours, its = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    with (stdout or Path(os.devnull)).open("wb") as file:
        process = processes.start(arguments, env=environment, stdout=file if stdout else its, stderr=its)
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
    return seen.decode()


def without_colors(shown: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", shown)


@pytest.mark.parametrize(
    ("arguments", "bar"), [([*SELECT, "--jsonl", "-"], "videos"), (["-c", PRINTS_WHILE_IT_WORKS], "measuring")]
)
def test_data_reaches_the_file_that_stdout_is(arguments: list[str], bar: str, tmp_path: Path) -> None:
    shown = without_colors(at_a_terminal(arguments, tmp_path / "out.json"))
    assert json.loads((tmp_path / "out.json").read_text())
    assert bar in shown
    assert "{" not in shown


@pytest.mark.parametrize(
    ("arguments", "begins", "bar"), [(SELECT, str(DEMO), "videos"), (["-c", PRINTS_WHILE_IT_WORKS], "{", "measuring")]
)
def test_the_bar_gives_way_to_data_on_the_same_terminal(arguments: list[str], begins: str, bar: str) -> None:
    before, _, after = without_colors(at_a_terminal(arguments, None)).partition(begins)
    assert bar in before
    assert before.endswith("\x1b[2K")  # the bar's line was wiped: nothing stands before the data
    assert bar in after  # and the bar came back
    assert after.endswith("\x1b[2K")  # and went


EVIL = "evil\x1b]0;PWNED\x07\x1b[31mred\x1b[2J.mp4"
SHOWN = r"evil\x1b]0;PWNED\x07\x1b[31mred\x1b[2J.mp4"
BAR_WITH_A_NAME = f"""
from tsq_cli.cli.output import info, progress_bar
name = {EVIL!r}
with progress_bar(name) as progress:
    progress(name + "2", 1, 2)
    info(name)
"""
# What rich itself sends: colors, the cursor hidden and shown, a line up, a line wiped.
OURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?25[hl]|\x1b\[1A|\x1b\[2K")


@pytest.mark.parametrize("work", ["select", "bar"])
def test_no_name_commands_a_terminal(work: str, tmp_path: Path) -> None:
    shutil.copy(clip("h264_b_frames").path, tmp_path / EVIL)
    select = ["-m", "tsq_cli", "select", "--selector", "uniform", "-n", "4", str(tmp_path)]
    shown = at_a_terminal(select if work == "select" else ["-c", BAR_WITH_A_NAME], None)
    assert SHOWN in without_colors(shown)
    assert "\x1b[31mred" not in shown
    assert re.findall("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]", OURS.sub("", shown)) == []


# Where stdout cannot be written: how a shell says it, the exit code, and how the line on stderr begins.
FULL = (">/dev/full", 1, "tsq: cannot write to stdout: No space left on device; wanted a stdout that takes output; ")
CLOSED = (">&-", 1, "tsq: cannot write to stdout: Bad file descriptor; wanted a stdout that takes output; ")
GONE = ("| true", 141, "")
MUTE = ("2>&- >&-", 1, "")
GONE_WITH_STDERR = ("2>&1 | true", 141, "")
NO_STDERR = "2>&-"
needs_a_full_disk = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")


def with_streams(ending: str, arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The program, started as a shell would with its streams so, after whoever reads its stdout has left."""
    with contextlib.ExitStack() as stack:
        reads, gone = os.pipe()
        stack.callback(os.close, gone)
        os.close(reads)
        full = stack.enter_context(Path("/dev/full").open("wb"))
        streams: dict[str, Any] = {
            FULL[0]: {"stdout": full},
            CLOSED[0]: {"stdout": processes.CLOSED},
            GONE[0]: {"stdout": gone},
            MUTE[0]: {"stdout": processes.CLOSED, "stderr": processes.CLOSED},
            GONE_WITH_STDERR[0]: {"stdout": gone, "stderr": gone},
            NO_STDERR: {"stderr": processes.CLOSED},
        }
        return processes.run(["-m", "tsq_cli", *arguments.split()], cwd=folder, **streams[ending])


@needs_a_full_disk
@pytest.mark.parametrize("where", [FULL, CLOSED, GONE, MUTE, GONE_WITH_STDERR], ids=lambda where: where[0])
def test_a_run_whose_stdout_fails_ends_as_an_interrupted_one(where: tuple[str, int, str], tmp_path: Path) -> None:
    ending, code, begins = where
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(clip("h264_b_frames").path, tmp_path / name)
    files = "--jsonl r.jsonl --csv t.csv --html p.html -o frames"
    done = with_streams(ending, f"select --selector uniform -n 4 -k 2 a.mp4 b.mp4 {files}", tmp_path)
    assert done.returncode == code, done.stderr
    said = done.stderr.splitlines()
    assert said[:1] == ([] if "2>" in ending else ["tsq: stopped after 1 of 2 videos"])
    assert [line.startswith(begins) for line in said[1:]] == ([True] if begins else [])
    # Nothing but the record is in its file, which must not have become the program's stdout where that was closed.
    (record,) = (json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines())
    assert all((tmp_path / frame["path"]).exists() for frame in record["frames"])
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 3
    assert "stopped early, after 1 video" in (tmp_path / "p.html").read_text()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@needs_a_full_disk
@pytest.mark.parametrize("where", [FULL, CLOSED, GONE], ids=lambda where: where[0])
@pytest.mark.parametrize("arguments", ["--help", "packs list --json"])
def test_what_is_buffered_until_the_end_fails_alike(
    where: tuple[str, int, str], arguments: str, tmp_path: Path
) -> None:
    ending, code, begins = where
    done = with_streams(ending, arguments, tmp_path)
    assert done.returncode == code, done.stderr
    assert len(done.stderr.splitlines()) == bool(begins)
    assert done.stderr.startswith(begins)


@needs_a_full_disk
def test_a_failure_is_told_once() -> None:
    script = """
from tsq_cli.cli.streams import safe_streams
from tsq_cli.errors import StdoutError
with safe_streams():
    for expected in (True, False, False):
        try:
            print("x", flush=True)
        except StdoutError:
            assert expected
        else:
            assert not expected
"""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-c", script], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_closed_stderr_is_no_failure_and_its_words_go_nowhere_else(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(clip("h264_b_frames").path, tmp_path / name)
    done = with_streams(NO_STDERR, "select --selector uniform -n 4 -k 2 --json a.mp4 b.mp4", tmp_path)
    assert done.returncode == 0
    assert [len(record["frames"]) for record in json.loads(done.stdout)] == [2, 2]


def test_a_pipe_that_does_not_block_gets_everything() -> None:
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    script = "from tsq_cli.cli.streams import safe_streams\nwith safe_streams():\n    print('x' * 10**6)"
    with processes.start(["-c", script], stdout=writes) as process:
        os.close(writes)
        with os.fdopen(reads, "rb") as file:
            assert len(file.read()) == 10**6 + 1
        assert process.wait() == 0


def test_without_a_buffer_text_is_there_at_once_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under PYTHONUNBUFFERED=1, into a pipe that takes a part of what is written."""
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    own = io.TextIOWrapper(io.FileIO(writes, "w"), encoding="utf-8", write_through=True)  # type: ignore[arg-type]
    for name in ("stdout", "__stdout__"):
        monkeypatch.setattr(sys, name, own)
    with os.fdopen(reads, "rb") as file, ThreadPoolExecutor() as pool:
        with safe_streams():
            print("one")
            assert select.select([reads], [], [], 0)[0], "it waits in a buffer"
            assert os.read(reads, 100) == b"one\n"
            rest = pool.submit(file.read)
            print("x" * 10**6)  # a pipe holds 64 KiB
            print("é" * 10**5, end="")
        own.close()
        assert rest.result() == b"x" * 10**6 + b"\n" + "é".encode() * 10**5
