"""Parquet files of a run (extra tsq-cli[parquet]): a row per video, written as the run goes."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from tsq_cli.cli.options import OUTPUT, not_empty_path
from tsq_cli.errors import UsageError, install_extra
from tsq_cli.files import atomic_path, cannot_write, held_alone

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 1000
"""Rows of a file (ours): records of some 16 kB, which wait in memory until it is full."""

ParquetOption = Annotated[
    Path | None,
    typer.Option(
        "--parquet",
        metavar="DIR",
        help="Write a row per video into Parquet files, 1000 rows each, as the run goes; those of "
        "an earlier run give way (extra tsq-cli[parquet]).",
        parser=not_empty_path,
        rich_help_panel=OUTPUT,
    ),
]

_NAME = re.compile(r"records-\d{5,}\.parquet")
_OURS = b"tsq_record"  # key of the metadata that tells our files from others


class ParquetShards:
    """A folder of files `records-00000.parquet` and on; files of an earlier run give way when the first is written.

    Each row has the columns that tables are usually made of, and the whole record (docs/schema.json) as JSON. Use as a
    context manager, inside which no other run writes there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._earlier: list[Path] = []
        self._rows: list[dict[str, Any]] = []
        self._written = 0
        self._held = ExitStack()

    def __enter__(self) -> Self:
        """Lock the folder, and check that it has nothing that the run would write over.

        Raises:
            UsageError: pyarrow is not installed, another run writes there, or a file of such a name was not written by
                tsq.
            OutputError: nothing can be written there.
        """
        if importlib.util.find_spec("pyarrow") is None:
            raise UsageError("the package pyarrow is not installed", wanted="pyarrow", fix=install_extra("parquet"))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._held.enter_context(
                held_alone(self._folder / ".records.lock", f"--parquet {self._folder}", "a folder for each run")
            )
        except OSError as error:
            raise cannot_write(self._folder, error) from error
        with ExitStack() as undone:
            undone.callback(self._held.close)
            self._check()
            undone.pop_all()
        return self

    def _check(self) -> None:
        self._earlier = [path for path in sorted(self._folder.iterdir()) if _NAME.fullmatch(path.name)]
        for path in self._earlier:
            if not _is_ours(path):
                raise UsageError(
                    f"{path} was not written by tsq", wanted="a folder without it", fix="give --parquet another folder"
                )

    def __exit__(self, *exception: object) -> None:
        """Write the rows that wait, even of an interrupted run."""
        with self._held:
            self._flush()

    def append(self, record: Mapping[str, Any]) -> None:
        """Add a row; write a file when it is full.

        Raises:
            OutputError: it cannot be written.
        """
        self._rows.append(_row(record))
        if len(self._rows) == ROWS:
            self._flush()

    def _flush(self) -> None:
        from pyarrow import Table, parquet

        if not self._rows:
            return
        place = self._folder / f"records-{self._written:05d}.parquet"
        with atomic_path(place) as temporary:
            parquet.write_table(Table.from_pylist(self._rows, _schema()), temporary, compression="zstd")
        for path in self._earlier:
            if path != place:
                path.unlink(missing_ok=True)
        self._earlier = []
        self._written += 1
        self._rows = []


def _is_ours(path: Path) -> bool:
    from pyarrow import ArrowException, parquet

    try:
        return _OURS in (parquet.read_schema(path).metadata or {})
    except (ArrowException, OSError):
        return False


def _schema() -> pa.Schema:
    import pyarrow as pa

    columns = {
        "path": pa.string(),
        "status": pa.string(),
        "error": pa.string(),
        "duration_seconds": pa.float64(),
        "rule": pa.string(),
        "time_seconds": pa.list_(pa.float64()),
        "file": pa.list_(pa.string()),
        "label": pa.string(),
        "label_score": pa.float64(),
        "is_sure": pa.bool_(),
        "settings_hash": pa.string(),
        "record": pa.string(),
    }
    return pa.schema(columns.items(), metadata={_OURS: b"1"})


def _row(record: Mapping[str, Any]) -> dict[str, Any]:
    """Build the row of a video; what it does not have is null."""
    frames, first = record["frames"], (record["predictions"] or [{}])[0]
    return {
        "path": _text(record["video"]["path"]),
        "status": record["status"],
        "error": None if record["error"] is None else _text(record["error"]["message"]),
        "duration_seconds": record["video"].get("duration_seconds"),
        "rule": record["rule"],
        "time_seconds": [frame["time_seconds"] for frame in frames],
        "file": [_text(frame["path"]) for frame in frames if frame["path"]],
        "label": first.get("label"),
        "label_score": first.get("score"),
        "is_sure": first.get("is_sure"),
        "settings_hash": record["settings_hash"],
        "record": json.dumps(record),
    }


def _text(name: str) -> str:
    """Write the bytes of a name that are no text as \\x.., since Parquet takes UTF-8 only; `record` has the name."""
    return name.encode("utf-8", "backslashreplace").decode()
