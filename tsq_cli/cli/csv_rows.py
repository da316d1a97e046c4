"""The CSV file of a run."""

from __future__ import annotations

import csv as csv_module
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tsq_cli.files import write_text
from tsq_cli.record import UNSURE
from tsq_cli.report.text import spreadsheet_cell

_CSV_FIELDS = (
    "path status rank position chosen_by frame_index pts time_base time_seconds score_visual score_textual file error"
).split()
_CSV_CLASSIFIED = "label label_score frame_label frame_label_score map".split()


def write_csv(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write one row per selected frame of all records, and one row per video that failed."""
    text = io.StringIO()
    classified = any(record["predictions"] for record in records)
    asked = any(record["query"] for record in records)
    names = _CSV_FIELDS + (["match"] if asked else []) + (_CSV_CLASSIFIED if classified else [])
    writer = csv_module.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for record in records:
        for row in _csv_rows(record):
            cells = {name: spreadsheet_cell(cell) if isinstance(cell, str) else cell for name, cell in row.items()}
            writer.writerow(cells)
    write_text(path, text.getvalue())


def _csv_rows(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield one row per selected frame, or one row with the error."""
    shared = {"path": record["video"]["path"], "status": record["status"]}
    if record["status"] == "error":
        yield {**shared, "error": record["error"]["message"]}
    shared |= _first("label", record["predictions"])
    queries = record["query"]["queries"] if record["query"] else []
    for frame in record["frames"]:
        shared["match"] = max((query["matches"][frame["position"]] for query in queries), default=None)
        yield {**frame, **shared, **_first("frame_label", frame["predictions"]), "file": frame["path"]}


def _first(column: str, predictions: Sequence[dict[str, Any]] | None) -> dict[str, Any]:
    """Return the most likely class as two columns, "unsure" if it may not be named."""
    if not predictions:
        return {}
    first = predictions[0]
    return {column: first["label"] if first["is_sure"] else UNSURE, f"{column}_score": first["score"]}
