"""What a whole process costs, from its start to its end: wall-clock and CPU seconds, and the most memory it held."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tsq_cli.errors import UsageError

# Linux counts what a process holds between its fork and its exec, which is what its parent holds: so a small program
# starts it, not this one.
_STARTER = """
import json, os, subprocess, sys, time
start = time.perf_counter()
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(child.pid, 0)
seconds = time.perf_counter() - start
peak = used.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
print(json.dumps([os.waitstatus_to_exitcode(status), seconds, used.ru_utime + used.ru_stime, peak]))
"""


class ProcessCost(NamedTuple):
    """Wall-clock seconds, CPU seconds of all threads, and peak resident memory in MiB."""

    seconds: float
    cpu_seconds: float
    peak_mib: float


def process_cost(command: Sequence[str], environment: Mapping[str, str] | None = None) -> ProcessCost:
    """Run a command to its end, in a folder of its own, with its output thrown away.

    Args:
        command: program and arguments; paths absolute.
        environment: variables beside those of this process.

    Raises:
        UsageError: it failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        starter = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _STARTER, *command],
            cwd=folder,
            env={**os.environ, **(environment or {})},
            capture_output=True,
            text=True,
            check=True,
        )
    code, *cost = json.loads(starter.stdout)
    if code:
        raise UsageError(
            f"{' '.join(command)[:200]} ended with {code}: {starter.stderr[-500:]}",
            wanted="a command that works",
            fix="run it by hand",
        )
    return ProcessCost(*cost)
