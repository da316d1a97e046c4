"""Standard streams that withstand any text, a reader that leaves, and a full disk."""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from tsq_cli.errors import StdoutClosedError, StdoutError
from tsq_cli.report.text import ascii_forms

ASCII_FORMS = "tsq-ascii-forms"
codecs.register_error(ASCII_FORMS, ascii_forms)


@contextmanager
def safe_streams() -> Iterator[None]:
    """Make stdout and stderr take any text in any encoding, and report each failure to write once.

    Characters that an encoding lacks are written in ASCII (tsq_cli.report.text.ascii_forms). A failure of stdout
    raises, and later output to it is dropped, so that the interpreter's final flush does not fail again. Failures of
    stderr are dropped. A stream that is closed from the start counts as failing. Streams that replaced the process's
    own are left alone.

    Raises:
        StdoutClosedError: the reader of stdout has closed it.
        StdoutError: stdout cannot be written for another reason (full disk, closed).
    """
    _keep_numbers_taken()
    before = sys.stdout, sys.stderr
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - it stays open, and is no path
    if sys.stdout is sys.__stdout__:
        sys.stdout = _checked(sys.stdout, 1, _tell_of_stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _checked(sys.stderr, 2, lambda _: None)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(StdoutError):  # the run has ended, and its own error, if any, is on its way
                stream.flush()
        sys.stdout, sys.stderr = before


def _tell_of_stdout(error: OSError) -> None:
    if isinstance(error, BrokenPipeError):
        raise StdoutClosedError("the reader of stdout has closed it") from error
    raise StdoutError(f"cannot write to stdout: {error.strerror or error}") from error


def _keep_numbers_taken() -> None:
    """Open the null device on closed streams 0, 1 and 2, so that no file of the run gets their numbers.

    Libraries write to 2, whatever it is. Writing fails as before, since it is opened for reading.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            os.open(os.devnull, os.O_RDONLY)  # takes the lowest number that is free


def _checked(stream: TextIO | None, number: int, fail: Callable[[OSError], None]) -> TextIO:
    """Wrap a stream so that failures go to `fail`; `stream` is None if it was closed when Python started."""
    if stream is None:
        raw: Any = io.FileIO(number, "w", closefd=False)
        return io.TextIOWrapper(io.BufferedWriter(_Checked(raw, fail)), encoding="utf-8", errors=ASCII_FORMS)
    assert isinstance(stream, io.TextIOWrapper)
    raw = getattr(stream.buffer, "raw", stream.buffer)  # python -u has no buffer between
    buffer: Any = _Unbuffered(raw, fail) if stream.write_through else io.BufferedWriter(_Checked(raw, fail))
    return io.TextIOWrapper(
        buffer,
        encoding=stream.encoding,
        errors=ASCII_FORMS,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _Checked(io.RawIOBase):
    """A raw stream whose first failure to write goes to `fail`; afterwards it takes everything and writes nothing."""

    def __init__(self, raw: io.RawIOBase, fail: Callable[[OSError], None]) -> None:
        self._raw = raw
        self._fail = fail
        self._failed = False

    def write(self, data: Any, /) -> int:
        """Write some of the bytes; drop all of them once the stream has failed."""
        try:
            while not self._failed:
                written = self._raw.write(data)
                if written is not None:
                    return written
                select.select([], [self._raw], [])  # a pipe that does not block, and is full
        except OSError as error:
            self._failed = True
            self._fail(error)
        return len(data)

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the number of the stream itself."""
        return self._raw.fileno()

    def isatty(self) -> bool:
        """Return whether the stream itself is a terminal."""
        return self._raw.isatty()


class _Unbuffered(_Checked):
    """The same for python -u, where no buffer above keeps what a short write leaves."""

    def write(self, data: Any, /) -> int:
        """Write all of the bytes; drop what is left once the stream has failed."""
        left = memoryview(data).cast("B")
        while left:
            left = left[super().write(left) :]
        return memoryview(data).nbytes
