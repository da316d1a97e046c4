"""What benchmarks.footage measured: means with intervals, as JSON and as Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.footage_measures import interval
from benchmarks.footage_rows import PRODUCT, SCENES

Results = Mapping[str, Any]

# Columns of the tables: a measure, its heading, digits after the point, and a factor.
COLUMNS: Mapping[str, tuple[str, int, float]] = {
    "shots": ("shots shown", 2, 1),
    "hit_rate": ("hit rate %", 1, 100),
    "balance": ("balance %", 1, 100),
    "ukss": ("UKSS %", 1, 100),
    "event_found": ("event found %", 1, 100),
    "event_recall": ("event's recall %", 1, 100),
    "accuracy": ("accuracy %", 1, 100),
    "frames": ("frames", 2, 1),
    "distinct": ("distinct", 2, 1),
    "mean_cosine": ("mean cosine", 3, 1),
    "coverage": ("coverage", 3, 1),
    "span": ("span", 2, 1),
    "blurred": ("blurred", 2, 1),
    "blank": ("blank", 2, 1),
    "seconds": ("seconds", 2, 1),
}


def summarized(videos: Iterable[Results]) -> dict[str, Any]:
    """Per half, kind and row: mean and interval of every measure.

    Args:
        videos: {"half", "kind", "rows": {row: {"values": {measure: number}}}} each.
    """
    values: dict[tuple[str, str], dict[str, dict[str, list[float]]]] = {}
    for video in videos:
        of_kind = values.setdefault((video["half"], video["kind"]), {})
        for row, measured in video["rows"].items():
            for name, value in measured["values"].items():
                of_kind.setdefault(row, {}).setdefault(name, []).append(math.nan if value is None else value)
    results: dict[str, Any] = {}
    for (half, kind), rows in values.items():
        results.setdefault(half, {})[kind] = {
            row: {name: interval(numbers) for name, numbers in measured.items()} for row, measured in rows.items()
        }
    return results


def table(rows: Results) -> list[str]:
    """One kind: a row per way to choose, a column per measure, mean and in brackets its 95 % interval."""
    names = [name for name in COLUMNS if any(name in measured for measured in rows.values())]
    if all(cell["mean"] == 0 for measured in rows.values() for cell in (measured.get("blurred"),) if cell):
        names = [name for name in names if name != "blurred"]
    of = next(iter(rows.values())).get("shots_of")
    headings = [COLUMNS[name][0] + (f" (of {of['mean']:.2g})" if name == "shots" and of else "") for name in names]
    lines = ["| | " + " | ".join(headings) + " |", "|---" * (len(names) + 1) + "|"]
    ordered = [row for row in (PRODUCT, SCENES) if row in rows] + [row for row in rows if row not in (PRODUCT, SCENES)]
    for row in ordered:
        lines.append(f"| {row} | " + " | ".join(_cell(rows[row].get(name), name) for name in names) + " |")
    return lines


def _cell(value: Results | None, name: str) -> str:
    if value is None or math.isnan(value["mean"]):
        return ""
    _, digits, factor = COLUMNS[name]
    mean, low, high = (f"{factor * value[part]:.{digits}f}" for part in ("mean", "low", "high"))
    return mean if low == high else f"{mean} ({low}-{high})"


def page(results: Results, halves: Sequence[str], introduction: str) -> str:
    """All tables as Markdown."""
    lines = [introduction.rstrip(), ""]
    for half in halves:
        for kind, rows in results["results"].get(half, {}).items():
            count = max(cell["videos"] for measured in rows.values() for cell in measured.values())
            lines += [f"## {kind}, {half} half: {count} videos", "", *table(rows), ""]
    return "\n".join(lines)
