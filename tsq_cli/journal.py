"""A journal on disk of the videos being read, so that the next run knows which one killed this run."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

CRASHED = "DecoderCrashError"
"""`error.type` of the record of a video that killed a run."""

_LONGEST = 2**16  # bytes after which the file is rewritten with the videos being read now
_CRASH_WORDS = b"Fatal Python error: "  # how faulthandler begins


@dataclass(frozen=True)
class Death:
    """The end of the last run, if it died.

    Attributes:
        suspects: paths of the videos that were being read, in the order in which they were begun.
        signal: the crash that the system reported ("Segmentation fault"); None without a report, as after a kill.
    """

    suspects: tuple[str, ...]
    signal: str | None


class Journal:
    """A small file that names the videos being read; a run that ends normally removes it.

    Fatal signals (segmentation fault, abort, ...) write their name into the file. Use as a context manager.

    Attributes:
        death: of the previous run, if it died while reading videos; kept on disk until `clear`.
    """

    def __init__(self, path: Path) -> None:
        self.death: Death | None = None
        self._path = path
        self._lock = threading.Lock()
        self._busy: list[str] = []
        self._handle = -1
        self._reported_before = False

    def __enter__(self) -> Self:
        """Open the journal, and read what a run that died left in it.

        Raises:
            OSError: the file cannot be written.
        """
        self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        self.death = _death(self._path.read_bytes())
        self._reported_before = faulthandler.is_enabled()
        faulthandler.enable(self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        faulthandler.disable()
        if self._reported_before:
            with suppress(OSError, ValueError, RuntimeError):  # no stderr to report to
                faulthandler.enable(sys.__stderr__ or sys.stderr)
        self._path.unlink(missing_ok=True)
        os.close(self._handle)

    def clear(self) -> None:
        """Forget the death of the previous run, once its videos are on record."""
        os.ftruncate(self._handle, 0)

    @contextmanager
    def reading(self, path: str) -> Iterator[None]:
        """Name a video as being read while the block runs. Safe to call from several threads."""
        self._note("begin", path)
        try:
            yield
        finally:
            self._note("end", path)

    def _note(self, what: str, path: str) -> None:
        with self._lock:
            if what == "begin":
                self._busy.append(path)
            else:
                self._busy.remove(path)
            lines = _line(what, path)
            with suppress(OSError):  # a full disk: writing the record of this video will report it
                if os.fstat(self._handle).st_size > _LONGEST:
                    os.ftruncate(self._handle, 0)
                    lines = b"".join(_line("begin", busy) for busy in self._busy)
                os.write(self._handle, lines)  # appended whole: a kill leaves all of it or nothing


def _line(what: str, path: str) -> bytes:
    return json.dumps([what, path]).encode() + b"\n"


def _death(content: bytes) -> Death | None:
    """Parse the journal of a run that died; None if no video was being read."""
    busy: list[str] = []
    signal = None
    for line in content.splitlines():
        if line.startswith(_CRASH_WORDS):
            signal = line.removeprefix(_CRASH_WORDS).decode(errors="replace")
        try:
            what, path = json.loads(line)
        except (ValueError, TypeError):  # the report of a crash, line by line
            continue
        if what == "begin":
            busy.append(path)
        elif path in busy:
            busy.remove(path)
    return Death(tuple(busy), signal) if busy else None
