"""Room 1: the JSONL file of a batch, which is also its memory of what is done."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from tsq_cli.errors import UsageError
from tsq_cli.files import cannot_write


class RecordFile:
    """A JSONL file of records: one line a video, whole lines only; what it holds is not done again.

    Use as a context manager around `append`; `finished` reads what an earlier run left and needs no open file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream: io.FileIO | None = None

    def finished(self, settings_hash: str) -> dict[str, dict[str, Any]]:
        """Records that a run with this hash need not redo, by path: finished well, and of an unchanged file size.

        A last line cut short by a kill is ignored here, and dropped when the file is opened for appending.

        Raises:
            UsageError: a whole line that is not a record, as the file is then not ours to append to.
        """
        records: dict[str, dict[str, Any]] = {}
        for number, line in enumerate(self._whole_lines(), start=1):
            try:
                record = json.loads(line)
                path, status, identity = record["video"]["path"], record["status"], record["settings_hash"]
            except (ValueError, KeyError, TypeError) as error:
                raise UsageError(
                    f"line {number} of {self.path} is not a record of tsq",
                    wanted="a new file, or one that an earlier run wrote",
                    fix="give another path to --jsonl",
                ) from error
            if identity == settings_hash and status == "ok" and _same_size(path, record["video"]["size_bytes"]):
                records[path] = record
        return records

    def __enter__(self) -> Self:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            stream = self.path.open("ab", buffering=0)
            if self.path.is_file():
                stream.truncate(sum(len(line) for line in self._whole_lines()))
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self._stream = stream
        return self

    def __exit__(self, *exception: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def append(self, record: Mapping[str, Any]) -> None:
        """Add one line, or nothing: a write that fails midway is taken back.

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
            if self.path.is_file():
                self._stream.truncate(before)
            raise cannot_write(self.path, error) from error

    def _whole_lines(self) -> Iterator[bytes]:
        if not self.path.is_file():  # not there yet, or a pipe or device, which holds nothing to go on from
            return
        with self.path.open("rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):
                    yield line


def _same_size(path: str, size_bytes: int) -> bool:
    try:
        return Path(path).stat().st_size == size_bytes
    except OSError:
        return False
