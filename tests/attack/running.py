"""The program as a process of its own, within a time and a memory, and what may be said of how it ended."""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.processes import Process, start

ROOT = Path(__file__).parents[2]
UNIFORM = ("--selector", "uniform", "-k", "2", "-n", "4")
"""The cheapest selection: no network is loaded."""

_LIMITED = """
import sys
from tests.attack.running import limit_memory
limit_memory(int(sys.argv.pop(1)))
from tsq_cli.__main__ import main
main()
"""


def limit_memory(size_bytes: int) -> None:
    """Have the system refuse this process more address space than this."""
    resource.setrlimit(resource.RLIMIT_AS, (size_bytes, size_bytes))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a process ended, what it printed, and what it cost; the code is None where its time was over."""

    code: int | None
    out: str
    err: str
    seconds: float = 0.0
    peak_mb: float = 0.0


def command(*arguments: str | bytes | Path, memory_bytes: int | None = None) -> list[str | bytes | Path]:
    """Python's arguments that run the program, under a limit of memory where one is given."""
    program = ["-m", "tsq_cli"] if memory_bytes is None else ["-c", _LIMITED, str(memory_bytes)]
    return [*program, *arguments]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a child process finds in its environment: this checkout first, and no terminal."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **(more or {})}


def run(
    *arguments: str | bytes | Path,
    cwd: Path,
    timeout: float = 120.0,
    memory_bytes: int | None = 4 * 2**30,
    env: Mapping[str, str] | None = None,
    while_running: Callable[[Process], None] | None = None,
    prefix: Sequence[str] = (),
    afresh: bool = False,
) -> Outcome:
    """Run the program to its end, or kill it when its time is over.

    Args:
        arguments: of tsq.
        cwd: the folder it runs in.
        timeout: seconds.
        memory_bytes: address space it may have; None for no limit.
        env: beside the environment of this process.
        while_running: called as soon as it has started.
        prefix: Python's arguments that start the program, such as another Python program; tsq itself by default.
        afresh: with a true start of Python, whose imports take most of the time.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        line = [*prefix, *arguments] if prefix else command(*arguments, memory_bytes=memory_bytes)
        started = time.monotonic()
        process = start(line, cwd=cwd, env=environment(env), stdout=out, stderr=err, afresh=afresh)
        if while_running is not None:
            while_running(process)
        code: int | None = None
        try:
            code = process.wait(max(0.0, started + timeout - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        seconds = time.monotonic() - started
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read().decode("utf-8", errors="backslashreplace"))
    return Outcome(code=code, out=said[0], err=said[1], seconds=seconds, peak_mb=process.peak_mb)


def run_inside(arguments: Sequence[str]) -> Outcome:
    """Run the program in this process: for what is refused before any work, and costs little more than its imports."""
    from tsq_cli.cli.app import main

    before, out, err = sys.argv, io.StringIO(), io.StringIO()
    sys.argv = ["tsq", *arguments]
    code: object = None
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as ended:
        code = ended.code
    finally:
        sys.argv = before
    return Outcome(code=code if isinstance(code, int) else None, out=out.getvalue(), err=err.getvalue())


def wrong(outcome: Outcome, code: int, says: str = "", *, lines: int | None = 1) -> list[str]:
    """What is not as it should be: exit code, a text on stderr, the number of lines there, no traceback."""
    found = []
    if outcome.code != code:
        found.append("no end within its time" if outcome.code is None else f"exit code {outcome.code}, not {code}")
    if "Traceback" in outcome.err or "(unexpected" in outcome.err:
        found.append("a traceback, or an error that nobody expected")
    if says not in outcome.err:
        found.append(f"stderr lacks {says!r}")
    if lines is not None and len(outcome.err.splitlines()) != lines:
        found.append(f"{len(outcome.err.splitlines())} lines on stderr, not {lines}")
    return [f"{', '.join(found)}: {outcome.err[-600:]!r}"] if found else []


def default_signals() -> None:
    """As a program started by hand has them, also where the parent ignores SIGINT (nohup, a script's background)."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name)
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL if name != "SIGINT" else signal.default_int_handler)


@contextlib.contextmanager
def scratch(parent: Path | None = None) -> Iterator[Path]:
    """A folder that goes when the block ends."""
    with tempfile.TemporaryDirectory(prefix="tsq-attack-", dir=parent, ignore_cleanup_errors=True) as name:
        yield Path(name)


Report = dict[str, Any]
"""Figures of one part, and under "wrong" what did not hold, one text for each."""

Tell = Callable[[str], None]
"""Takes a word on how far a part has come."""
