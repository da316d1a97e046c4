"""A process that was forked is as one that was started: the same code says the same in both."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests import processes

CODE = {
    "arguments": "import sys; print(sys.argv, __name__, sys.path[0])",
    "places": "import os, sys; print(os.getcwd(), [each for each in sys.path if 'elsewhere' in each])",
    "environment": "import os; print(sorted(os.environ.items()))",
    "streams": "import sys; print([(s.name, s.mode, s.encoding, s.errors, s.line_buffering, s.write_through) for s in "
    "(sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__)])",
    "open files": "import os; print(len(os.listdir('/proc/self/fd')))",
    "signals": "import signal; print([signal.getsignal(n) for n in "
    "(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE)])",
    "threads": "import threading; print(threading.current_thread().name, threading.active_count())",
    "end": "import atexit; atexit.register(print, 'end'); print('begin', end=' ')",
    "exit code": "import sys; sys.exit(7)",
    "exit message": "import sys; sys.exit('bye')",
    "signal that kills": "import os; os.kill(os.getpid(), 11)",
    "interrupt": "import os, signal\ntry: os.kill(os.getpid(), signal.SIGINT); signal.pause()\n"
    "except KeyboardInterrupt: print('interrupted')",
}


@pytest.mark.skipif(sys.platform != "linux", reason="every start is a true one")
@pytest.mark.parametrize("name", CODE)
def test_the_same_code_says_the_same(name: str, tmp_path: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "elsewhere"), "PYTHONIOENCODING": "ascii:replace", "MINE": "é"}
    arguments = ["-c", CODE[name], "one", tmp_path / "two"]
    forked, started = (
        processes.run(arguments, cwd=tmp_path, env=env, encoding="ascii", afresh=afresh) for afresh in (False, True)
    )
    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)
    assert forked.stdout or forked.returncode


@pytest.mark.skipif(sys.platform != "linux", reason="every start is a true one")
def test_a_module_runs_as_one_and_closed_streams_are_none(tmp_path: Path) -> None:
    code = "import os, sys; os.write(3 if len(sys.argv) > 9 else 2, repr((sys.argv, sys.stdout, __name__)).encode())"
    (tmp_path / "module.py").write_text(code)
    said = [
        processes.run(["-m", "module", "x"], cwd=tmp_path, stdout=processes.CLOSED, afresh=afresh).stderr
        for afresh in (False, True)
    ]
    assert said[0] == said[1]
    assert "None, '__main__'" in said[0]


def test_what_only_a_start_reads_is_refused() -> None:
    with pytest.raises(ValueError, match="PYTHONHASHSEED is read at a Python's start"):
        processes.run(["-c", ""], env={**os.environ, "PYTHONHASHSEED": "7"})
