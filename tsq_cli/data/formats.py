"""Parse lists of labeled videos in their formats; finding the videos is not done here."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsq_cli.errors import UsageError
from tsq_cli.files import VIDEO_SUFFIXES

_ID_COLUMNS = ("path", "video_path", "file", "filename", "file_name", "video", "video_id", "youtube_id", "id")
EXACT_LABEL = "exact_label"
"""Column of labels that are taken as they stand, one per row, for names with a comma in them."""
_LABEL_COLUMNS = ("label", "labels", "class", "classes", "class_name", "category", "action", EXACT_LABEL)
_SUBSET_COLUMNS = ("split", "subset")
SEVERAL_LABELS = re.compile(r"[,;|\t]")

_DELIMITERS = "\t ;|,"
# The path of a line: up to its video suffix or, without one, up to the first delimiter. So paths may hold spaces.
_LINE = re.compile(
    rf"(?P<path>.+?(?:{'|'.join(re.escape(suffix) for suffix in sorted(VIDEO_SUFFIXES))})"
    rf"|[^{_DELIMITERS}]+)(?P<by>[{_DELIMITERS}])(?P<labels>.*)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Entry:
    """One video as a list names it.

    Attributes:
        id: unique in its list.
        labels: at least one; names, or numbers as text.
        names: possible names of the file, best first: a path, or a name with or without its suffix.
    """

    id: str
    labels: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class Listing:
    """The entries of one subset of a list, and the labels of all subsets, so that these agree on their classes."""

    entries: tuple[Entry, ...]
    labels: frozenset[str]


def parse(path: Path, *, delimiter: str | None, subset: str | None) -> Listing:
    """Parse a list's file; its content determines the format.

    Args:
        path: the file.
        delimiter: between the fields of a line; None detects it.
        subset: the part to read, if the list has several.

    Raises:
        UsageError: the file cannot be read or is no list of labeled videos; the message names the line.
    """
    text = read_text(path)
    if text.lstrip().startswith(("{", "[")):
        return _activitynet(path, text, subset)
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    lines = [(number, line) for number, line in lines if not line.startswith("#")]
    if not lines:
        raise _bad(path, "has no lines", "one line per video")
    if columns := _header(lines[0][1], delimiter):
        return _table(path, lines[1:], columns, subset)
    if subset is not None:
        raise _bad(path, f"has no subsets, and {subset!r} was asked for", "a list with a column split, or no subset")
    return _plain(path, lines, delimiter)


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte-order mark.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(path, f"cannot be read ({error})", "a text file in UTF-8") from error


def _plain(path: Path, lines: Sequence[tuple[int, str]], delimiter: str | None) -> Listing:
    """Parse lines `path label[,label]`."""
    parts = [_split(path, number, line.strip(), delimiter) for number, line in lines]
    used = {by for _, by, _ in parts}
    if len(used) > 1:
        shown = " and ".join(repr(delimiter) for delimiter in sorted(used))
        raise _bad(path, f"separates path and label by {shown}", "the same one on all lines", "give the delimiter")
    has_ending = [Path(name).suffix.lower() in VIDEO_SUFFIXES for name, _, _ in parts]
    if not has_ending[0] and len(parts) > 1 and all(has_ending[1:]):
        wanted = f"a header with one of {', '.join(_ID_COLUMNS)} and one of {', '.join(_LABEL_COLUMNS)}, or none"
        raise _bad(path, f"line {lines[0][0]} looks like a header: {lines[0][1].strip()!r}", wanted)
    if all(re.fullmatch(r"\d+( +-?\d+)+", labels) for _, _, labels in parts):
        raise _bad(
            path,
            f"line {lines[0][0]} has several numbers after its path: {parts[0][2]!r}",
            "`path label`, several labels separated by commas, without numbers of frames",
        )
    rows = [(number, name, labels) for (number, _), (name, _, labels) in zip(lines, parts, strict=True)]
    return _merged((_entry(path, number, name, labels, (name,)), None) for number, name, labels in rows)


def _split(path: Path, number: int, line: str, delimiter: str | None) -> tuple[str, str, str]:
    """Split a line into path, delimiter and labels."""
    if delimiter is not None:
        name, by, labels = line.partition(delimiter)
    elif match := _LINE.fullmatch(line):
        name, by, labels = match["path"], match["by"], match["labels"]
    else:
        name, by, labels = line, "", ""
    if not name.strip() or not labels.strip():
        raise _bad(path, f"line {number} is {line!r}", "`path label` or `path label,label` on each line")
    return name.strip(), by, labels.strip()


def _header(line: str, delimiter: str | None) -> tuple[str, list[str]] | None:
    """Parse a header: delimiter and lower-case columns; None unless it names a column of ids and one of labels."""
    for by in [delimiter] if delimiter else [",", "\t", ";", "|"]:
        columns = [cell.strip().lower() for cell in next(csv.reader([line], delimiter=by))]
        if _first(_ID_COLUMNS, columns) and _first(_LABEL_COLUMNS, columns):
            return by, columns
    return None


def _table(path: Path, lines: Sequence[tuple[int, str]], header: tuple[str, list[str]], subset: str | None) -> Listing:
    """Parse the rows below a header; those of Kinetics have a youtube_id and times, which name the file."""
    by, columns = header
    id_column, label_column = _first(_ID_COLUMNS, columns), _first(_LABEL_COLUMNS, columns)
    subset_column = _first(_SUBSET_COLUMNS, columns)
    if subset is not None and subset_column is None:
        raise _bad(path, f"has no column split or subset, and {subset!r} was asked for", "such a column, or no subset")
    found = []
    for number, line in lines:
        cells = next(csv.reader([line], delimiter=by, skipinitialspace=True))
        if len(cells) != len(columns):
            raise _bad(path, f"line {number} has {len(cells)} fields", f"{len(columns)}, as the header")
        row = {column: cell.strip() for column, cell in zip(columns, cells, strict=True)}
        name, labels = row[id_column or ""], row[label_column or ""]
        part = row[subset_column] if subset_column else None
        if {"youtube_id", "time_start", "time_end"} <= set(columns):
            clip = _kinetics_clip(path, number, row)
            found.append((_entry(path, number, clip, labels, (clip, row["youtube_id"]), whole=True), part))
        else:
            found.append((_entry(path, number, name, labels, (name,), whole=label_column == EXACT_LABEL), part))
    return _of_subset(path, found, subset)


def _kinetics_clip(path: Path, number: int, row: Mapping[str, str]) -> str:
    """Build Kinetics' name of a row's clip: "id_000010_000020"."""
    try:
        start, end = (int(float(row[column])) for column in ("time_start", "time_end"))
    except ValueError as error:
        raise _bad(path, f"line {number}: {error}", "seconds in time_start and time_end") from error
    return f"{row['youtube_id']}_{start:06d}_{end:06d}"


def _activitynet(path: Path, text: str, subset: str | None) -> Listing:
    """Parse {"database": {id: {"subset": ..., "annotations": [{"label": ...}]}}}; files are `v_id.*` or `id.*`."""
    wanted = 'ActivityNet\'s format: {"database": {id: {"subset": "training", "annotations": [{"label": "Archery"}]}}}'
    try:
        database: dict[str, dict[str, Any]] = json.loads(text)["database"]
        rows = [
            (name, tuple(str(found["label"]) for found in row["annotations"]), str(row["subset"]))
            for name, row in database.items()
        ]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise _bad(path, f"does not fit ({type(error).__name__}: {error})", wanted) from error
    labeled = {part for _, labels, part in rows if labels}  # the testing subset comes without annotations
    rows = [row for row in rows if row[2] in labeled]
    if bare := [name for name, labels, _ in rows if not labels]:
        raise _bad(path, f"gives {bare[0]} no annotation", "at least one per video of its subset")
    return _of_subset(
        path,
        [(Entry(name, tuple(dict.fromkeys(labels)), (f"v_{name}", name)), part) for name, labels, part in rows],
        subset,
    )


def _of_subset(path: Path, rows: Sequence[tuple[Entry, str | None]], subset: str | None) -> Listing:
    """Keep the rows of one subset, which must be given if the list has several."""
    subsets = list(dict.fromkeys(part for _, part in rows if part is not None))
    if subset is None and len(subsets) > 1:
        raise _bad(path, f"has the subsets {', '.join(subsets)}", "one of them", "give the subset to read")
    if subset is not None and subset not in subsets:
        raise _bad(path, f"has no subset {subset!r}", f"one of {', '.join(subsets)}", "give the subset to read")
    return _merged(rows, subset)


def _merged(rows: Iterable[tuple[Entry, str | None]], subset: str | None = None) -> Listing:
    """Merge rows of the same video: it gets the labels of all of them."""
    entries: dict[str, Entry] = {}
    every_label: set[str] = set()
    for entry, part in rows:
        every_label.update(entry.labels)
        if subset is None or part == subset:
            before = entries[entry.id].labels if entry.id in entries else ()
            entries[entry.id] = Entry(entry.id, tuple(dict.fromkeys(before + entry.labels)), entry.names)
    return Listing(tuple(entries.values()), frozenset(every_label))


def _entry(path: Path, number: int, name: str, labels: str, names: tuple[str, ...], *, whole: bool = False) -> Entry:
    """Build an entry from a line's fields; `whole` does not split the label."""
    found = [labels] if whole else [label.strip() for label in SEVERAL_LABELS.split(labels)]
    if not name or not all(found):
        raise _bad(path, f"line {number} has an empty path or label", "a path and at least one label")
    return Entry(name, tuple(dict.fromkeys(found)), names)


def _first(wanted: Sequence[str], columns: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in columns), None)


def _bad(path: Path, what: str, wanted: str, fix: str = "correct the list, or give another one") -> UsageError:
    return UsageError(f"{path} {what}", wanted=wanted, fix=fix)
