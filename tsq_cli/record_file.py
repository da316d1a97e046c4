"""The JSONL file of a batch, which also tells a later run which videos are done."""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from tsq_cli import stores
from tsq_cli.errors import InputNotFoundError, UsageError
from tsq_cli.files import atomic_path, cannot_write, held_alone, is_written_straight
from tsq_cli.inputs import file_status
from tsq_cli.journal import CRASHED, Journal
from tsq_cli.stores import is_url

RECORD_START = b'{"schema_version": '
"""Start of each line that RecordFile writes: tells a line that a kill cut short from another program's text."""

_AT_ONCE = 1024  # records looked up together: a request for each object of a store, and some 16 MB of memory

_LONGEST_NAME = 200  # bytes; the files beside it have a few more, and file systems allow 255


class RecordFile:
    """A JSONL file of records, one whole line per video; a later run need not redo these videos.

    Use as a context manager. Inside the block no other run writes to the file. A pipe or a device only takes the lines
    and remembers nothing.

    Attributes:
        path: as given.
        journal: names the videos being read; None for a pipe or a device.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal: Journal | None = None
        self._real = Path(os.path.realpath(path))
        self._stream: io.FileIO | None = None
        self._held = ExitStack()
        self._num_lines = 0
        self._last_line: dict[str, int] = {}  # number of the last line of each video, by its path

    def __enter__(self) -> Self:
        """Lock the file, and check that it is a record file before changing it.

        Raises:
            UsageError: another run writes to the file, or a line of it is no record.
            OutputError: the file cannot be written.
        """
        try:
            with self._held:  # released again if anything below fails
                self._open()
                self._held = self._held.pop_all()
        except OSError as error:
            raise cannot_write(self.path, error) from error
        return self

    def _open(self) -> None:
        if is_written_straight(self.path):
            self._stream = self._held.enter_context(self.path.open("ab", buffering=0))
            return
        self._real.parent.mkdir(parents=True, exist_ok=True)
        self._lock()
        whole_bytes, is_cut = self._read_lines()
        self._stream = self._held.enter_context(self._real.open("ab", buffering=0))
        if is_cut:
            self._stream.truncate(whole_bytes)
        elif whole_bytes > self._stream.seek(0, os.SEEK_END):  # the last record lost its newline
            self._stream.write(b"\n")
        self.journal = self._held.enter_context(Journal(self._beside("running")))

    def __exit__(self, *exception: object) -> None:
        self._held.close()

    def finished(
        self, settings_hash: str, among: Collection[str] | None = None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield path and record of the videos that a run with this hash need not redo; only of some, if given.

        These are videos that finished well with the same settings, are unchanged (size and time of modification) and
        still have all their pictures, and unchanged videos that crashed an earlier run, whatever the settings.
        """
        records: dict[str, dict[str, Any]] = {}
        for number, line in enumerate(self._lines()):
            path, record = _parsed(line)
            is_wanted = self._last_line.get(path) == number and (among is None or path in among)
            if is_wanted and _is_done(record, settings_hash):
                records[path] = record
            if len(records) == _AT_ONCE:
                yield from _still_stored(records)
                records.clear()
        yield from _still_stored(records)

    @property
    def progress(self) -> int:
        """A number that grows with each line written: bytes of a file, lines for a pipe or a device."""
        if self._stream is None or self.journal is None:
            return self._num_lines
        return os.fstat(self._stream.fileno()).st_size

    def append(self, record: Mapping[str, Any]) -> None:
        """Append one line, or nothing: a write that fails midway is undone.

        Raises:
            OutputError: the file cannot be written.
        """
        if self._stream is None:
            raise ValueError("open the file with a with-statement before appending to it")
        line = (json.dumps(record) + "\n").encode()
        before = os.fstat(self._stream.fileno()).st_size
        try:
            # An unbuffered write may take a part of the line only, as on a disk that is filling up.
            written = 0
            while written < len(line):
                written += self._stream.write(line[written:])
        except OSError as error:
            if self.journal is not None:
                self._stream.truncate(before)
            raise cannot_write(self.path, error) from error
        self._last_line[record["video"]["path"]] = self._num_lines
        self._num_lines += 1

    def finish(self) -> None:
        """Keep only the last line of each video after a complete run; nothing can be appended afterwards.

        Raises:
            OutputError: the file cannot be written; it keeps all its lines.
        """
        if self.journal is None or self._num_lines == len(self._last_line):
            return
        kept = set(self._last_line.values())
        with atomic_path(self._real) as temporary, temporary.open("wb") as stream:
            stream.writelines(line for number, line in enumerate(self._lines()) if number in kept)
            stream.flush()
            os.fsync(stream.fileno())  # after a power cut, the new name must not exist without its content
        self._held.close()  # later appends would go to the file that was replaced

    def _lock(self) -> None:
        self._held.enter_context(held_alone(self._beside("lock"), str(self.path), "one run at a time per --jsonl file"))

    def _beside(self, ending: str) -> Path:
        name = os.fsdecode(os.fsencode(self._real.name)[:_LONGEST_NAME])
        return self._real.with_name(f".{name}.{ending}")

    def _read_lines(self) -> tuple[int, bool]:
        """Check every line; return the bytes of the whole ones, and whether a line cut short by a kill follows."""
        self._num_lines, self._last_line = 0, {}
        size = 0
        for number, line in enumerate(self._lines()):
            try:
                path, _ = _parsed(line)
            except ValueError as error:
                if not line.endswith(b"\n") and line.startswith(RECORD_START):
                    return size, True
                raise UsageError(
                    f"line {number + 1} of {self.path} is not a record of tsq",
                    wanted="a new file, or one that an earlier run wrote",
                    fix="give another path to --jsonl",
                ) from error
            self._last_line[path] = number
            self._num_lines += 1
            size += len(line) if line.endswith(b"\n") else len(line) + 1
        return size, False

    def _lines(self) -> Iterator[bytes]:
        """Read the lines of a regular file; the last one may lack its newline."""
        if self._real.is_file() and not is_written_straight(self.path):
            with self._real.open("rb") as stream:
                yield from stream


def _parsed(line: bytes) -> tuple[str, dict[str, Any]]:
    """Parse a line into path and record.

    Raises:
        ValueError: the line is not a record.
    """
    try:
        record = json.loads(line)
        path = record["video"]["path"]
        if not (isinstance(path, str) and record["status"] in ("ok", "error") and record["settings_hash"]):
            raise ValueError("not a record")
    except (KeyError, TypeError, IndexError, RecursionError) as error:
        raise ValueError("not a record") from error
    return path, record


def _is_done(record: Mapping[str, Any], settings_hash: str) -> bool:
    """Test whether a video is done; one whose record lacks the fields that tell is not."""
    try:
        if record["status"] == "error":
            return record["error"]["type"] == CRASHED and _is_unchanged(record["video"])
        return record["settings_hash"] == settings_hash and _is_unchanged(record["video"]) and _has_pictures(record)
    except (KeyError, TypeError):
        return False


def _is_unchanged(video: Mapping[str, Any]) -> bool:
    """Test whether a file is as its record says; of a video in a store that is to be seen yet."""
    if is_url(video["path"]):
        return True
    try:
        return _is_same(file_status(video["path"]), video)
    except InputNotFoundError:
        return False


def _still_stored(records: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield path and record of those whose video and pictures, where they are in a store, are still there."""
    far = {
        path: [place for place in _pictures(record) if is_url(place)] if record["status"] == "ok" else []
        for path, record in records.items()
    }
    wanted = [path for path in records if is_url(path)] + [url for urls in far.values() for url in urls]
    found = stores.statuses(wanted)
    for path, record in records.items():
        if (not is_url(path) or _is_same(found.get(path), record["video"])) and found.keys() >= {*far[path]}:
            yield path, record


def _is_same(found: os.stat_result | None, video: Mapping[str, Any]) -> bool:
    if found is None:
        return False
    same = (found.st_size, found.st_mtime_ns) == (video.get("size_bytes"), video.get("modified_ns"))
    return same and stat.S_ISREG(found.st_mode)


def _has_pictures(record: Mapping[str, Any]) -> bool:
    """Test whether all the pictures and exports that a record names still exist; those in a store count as there."""
    return all(is_url(path) or Path(path).is_file() for path in _pictures(record))


def _pictures(record: Mapping[str, Any]) -> list[str]:
    """List the pictures and exports that a record names; a failed one names none."""
    named = [
        record["sheet"],
        *record["exports"].values(),
        *(frame[key] for frame in record["frames"] for key in ("path", "map")),
    ]
    return [path for path in named if path is not None]
