"""The attack suite's figures as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tsq_cli.report.grid import Grid

_TRIED = {
    "mutations": ("files", "files"),
    "bombs": ("bombs", "files"),
    "kills": ("kills", "kills"),
    "signals": ("signals", "signals"),
    "two_at_once": ("runs", "runs"),
    "full_disk": ("runs", "runs"),
    "poison": ("runs", "runs"),
    "outputs": ("options_times_things", "pairs"),
}
"""By part: which figure says how much was tried, and of what."""


def figures_grid(report: Mapping[str, Any]) -> Grid:
    """How much each part tried, what was not as it must be, and the slowest and largest of it.

    Args:
        report: what `python -m tests.attack --json` writes.
    """
    rows = []
    for part, figures in report["parts"].items():
        name, unit = _TRIED[part]
        slowest, peak = figures.get("slowest_seconds"), figures.get("peak_memory_mb")
        rows.append(
            [
                part,
                "skipped" if "skipped" in figures else f"{figures[name]:,} {unit}",
                str(len(figures["wrong"])),
                "" if slowest is None else f"{slowest:.1f}",
                "" if peak is None else f"{peak:,}",
                f"{figures['seconds']:.0f}",
            ]
        )
    return Grid(title="", headings=["part", "tried", "wrong", "slowest, s", "peak, MB", "took, s"], rows=rows)
