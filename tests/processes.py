"""Programs as processes of their own that start in no time: forked off one that has done their imports.

    ended = run(["-m", "tsq_cli", "--version"])
    with start(["-m", "tsq_cli", "select", "a.mp4"], stdout=file) as process:
        process.send_signal(signal.SIGTERM)

A child has what a new Python would have with these arguments: environment, folder, streams, signals, and an
interpreter's end. So it is all that a test of a program's ends and outputs needs; what is about imports, or happens
among them, needs a true start. Where the system is not Linux every start is a true one.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import io
import json
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from PIL import Image

ROOT = Path(__file__).parents[1]
CLOSED = -1
"""In the place of a stream that the program finds closed."""

PRELOADED = (
    *(f"tsq_cli.cli.{name}" for name in ("app", "ablate", "benchmark", "classify", "csv_rows", "doctor", "evaluate")),
    *(f"tsq_cli.cli.{name}" for name in ("packs", "select", "train", "tsne")),
    *(f"tsq_cli.packs.{name}" for name in ("load", "onnx", "verify")),
    "tsq_cli.classifier", "tsq_cli.report.page", "tsq_cli.report.sheet", "tsq_cli.rules.quality",
    "av", "numpy.ma", "pydantic.type_adapter", "rich.markdown", "typer.rich_utils", "urllib.request",
)  # fmt: skip
"""No thread may be running where a process forks, so nothing here starts one: not torch and not ONNX Runtime."""

_SERVE = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.processes import serve; serve(int(sys.argv[1]))()"
_AT_START = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
_MESSAGE_BYTES = 2**17
_one_server = threading.Lock()

Argument = str | bytes | Path
Stream = int | IO[Any]


class _Forked:
    """A program that start() started, with what a Popen has."""

    def __init__(self, status: int) -> None:
        self._status = os.fdopen(status)
        self.pid = int(self._status.readline())
        self.returncode: int | None = None
        self.peak_mb = 0.0

    def __enter__(self) -> _Forked:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self.kill()
        self.wait()

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, or minus the signal that ended it; TimeoutExpired where it has not ended in time."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
            code, peak_kib = self._status.readline().split()
            self._status.close()
            self.returncode, self.peak_mb = int(code), int(peak_kib) / 1024
        return self.returncode

    def poll(self) -> int | None:
        """The same; None where it has not ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class _Started(subprocess.Popen[bytes]):
    peak_mb = 0.0


Process = _Forked | _Started


def start(
    arguments: Sequence[Argument],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: Stream = subprocess.DEVNULL,
    stdout: Stream = subprocess.DEVNULL,
    stderr: Stream = subprocess.DEVNULL,
    afresh: bool = False,
) -> Process:
    """Start Python with arguments: ["-m", module, ...] or ["-c", code, ...].

    Args:
        arguments: of Python.
        cwd: the folder it runs in; this process' by default.
        env: its whole environment; this process' by default. What only the start of a Python reads must be as here.
        stdin, stdout, stderr: files, their numbers, DEVNULL or CLOSED.
        afresh: with a true start.
    """
    env = dict(os.environ if env is None else env)
    if afresh or sys.platform != "linux":
        closed = [number for number, stream in enumerate((stdin, stdout, stderr)) if stream == CLOSED]
        streams = [None if stream == CLOSED else stream for stream in (stdin, stdout, stderr)]
        return _Started(
            [sys.executable, *arguments], cwd=cwd, env=env, stdin=streams[0], stdout=streams[1], stderr=streams[2],
            preexec_fn=lambda: [os.close(number) for number in closed] and None,
        )  # fmt: skip
    _check_start(env)
    with contextlib.ExitStack() as stack:
        ours, its = os.pipe()
        stack.callback(os.close, its)
        null = os.open(os.devnull, os.O_RDWR)
        stack.callback(os.close, null)
        numbers = [
            null if stream == subprocess.DEVNULL else stream if isinstance(stream, int) else stream.fileno()
            for stream in (stdin, stdout, stderr)
        ]
        request = {
            "arguments": [os.fsdecode(argument) for argument in arguments],
            "env": env,
            "cwd": str(cwd or Path.cwd()),
            "open": [number != CLOSED for number in numbers],
        }
        passed = [its, *(number for number in numbers if number != CLOSED)]
        message = json.dumps(request).encode()
        assert len(message) < _MESSAGE_BYTES
        with _one_server:
            socket.send_fds(_server(), [message], passed)
    return _Forked(ours)


def run(
    arguments: Sequence[Argument],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdout: Stream | None = None,
    stderr: Stream | None = None,
    encoding: str = "utf-8",
    timeout: float = 120.0,
    afresh: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run Python with arguments to its end, as start() does; what goes to no file of the caller's is returned."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with start(
            arguments, cwd=cwd, env=env, stdout=out if stdout is None else stdout,
            stderr=err if stderr is None else stderr, afresh=afresh,
        ) as process:  # fmt: skip
            process.wait(timeout)
        said = []
        for file in (out, err):
            file.seek(0)
            said.append(file.read().decode(encoding))
    assert process.returncode is not None
    return subprocess.CompletedProcess(arguments, process.returncode, *said)


def _check_start(env: Mapping[str, str]) -> None:
    """Refuse an environment under which a new Python would start in another way than the server did."""
    for name in {*env, *_AT_START}:
        is_read_at_start = name.startswith(("PYTHON", "LC_", "LANG", "OMP_", "LD_", "MALLOC_", "GLIBC_"))
        if is_read_at_start and name not in ("PYTHONPATH", "PYTHONIOENCODING") and env.get(name) != _AT_START.get(name):
            raise ValueError(f"{name} is read at a Python's start; use subprocess")


@functools.cache
def _server() -> socket.socket:
    """The process that forks, started at the first use; it ends with this one."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    env = {**_AT_START, "OPENBLAS_NUM_THREADS": "1"}  # or numpy starts threads; `tsq` sets it before numpy is loaded
    with its:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(its.fileno())], env=env, cwd=ROOT, pass_fds=[its.fileno()],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def serve(number: int) -> Callable[[], object]:
    """Fork a child for each request that comes over a socket, and tell how it ended.

    Returns:
        In each child, what it is to do; the process that serves does not return.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in PRELOADED:
        importlib.import_module(name)
    Image.init()
    sys.path.remove(str(ROOT))
    assert len(os.listdir("/proc/self/task")) == 1, "a process with threads cannot be forked"
    wakes, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    gc.collect()
    gc.freeze()
    requests = socket.socket(fileno=number)
    told: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([requests, wakes], [], [])
        if wakes in ready:
            os.read(wakes, 2**10)
            _tell_ends(told)
        if requests in ready:
            message, passed, _, _ = socket.recv_fds(requests, _MESSAGE_BYTES, 4)
            if not message:
                for pid in told:
                    os.kill(pid, signal.SIGKILL)
                os._exit(0)
            status, *streams = passed
            if (pid := os.fork()) == 0:
                return _become(json.loads(message), streams)
            told[pid] = status
            os.write(status, f"{pid}\n".encode())
            for stream in streams:
                os.close(stream)


def _tell_ends(told: dict[int, int]) -> None:
    while told:
        pid, status, usage = os.wait4(-1, os.WNOHANG)
        if not pid:
            return
        number = told.pop(pid)
        with contextlib.suppress(BrokenPipeError):  # nobody waits for it
            os.write(number, f"{os.waitstatus_to_exitcode(status)} {usage.ru_maxrss}\n".encode())
        os.close(number)


def _become(request: dict[str, Any], streams: Sequence[int]) -> Callable[[], object]:
    """Make this child what a new Python would be; return what that runs."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    given = iter(streams)
    for number, is_open in enumerate(request["open"]):
        if is_open:
            os.dup2(next(given), number)
        else:
            os.close(number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        made = _stream(number, name, encoding or "utf-8", errors or "strict") if request["open"][number] else None
        setattr(sys, name, made)
        setattr(sys, f"__{name}__", made)
    random.seed()
    tempfile.tempdir = None
    option, what, *arguments = request["arguments"]
    folders = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[:0] = ["" if option == "-c" else request["cwd"], *map(os.path.abspath, folders)]
    sys.argv = ["-c" if option == "-c" else what, *arguments]
    if option == "-m":
        return functools.partial(runpy.run_module, what, run_name="__main__", alter_sys=True)
    return functools.partial(exec, compile(what, "<string>", "exec"), sys.modules["__main__"].__dict__)


def _stream(number: int, name: str, encoding: str, errors: str) -> io.TextIOWrapper:
    """A standard stream as Python opens it."""
    raw = io.FileIO(number, "r" if number == 0 else "w", closefd=False)
    raw.name = f"<{name}>"  # type: ignore[misc]
    is_unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    made = io.TextIOWrapper(
        io.BufferedReader(raw) if number == 0 else raw if is_unbuffered else io.BufferedWriter(raw),  # type: ignore[arg-type]
        encoding,
        "backslashreplace" if number == 2 else errors,
        newline=None if number == 0 else "\n",
        line_buffering=not is_unbuffered and (number == 2 or raw.isatty()),
        write_through=is_unbuffered,
    )
    made.mode = raw.mode[0]  # type: ignore[attr-defined]
    return made
