"""Whole cold processes, from their start to their end: ``python -m benchmarks.cold --json docs/cold.json``.

`tsq select` and `tsq classify` of the demo film with either engine, against an interpreter that only imports what they
cannot do without, and against PySceneDetect where it is installed. All take turns; the files are in the page cache.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.command import Measured, command_line, run_command
from benchmarks.processes import ProcessCost, process_cost
from tsq_cli.benchmark.measure import machine_facts
from tsq_cli.report.grid import Grid

PACKAGES = ("av", "numpy", "onnxruntime", "torch", "scenedetect", "scenedetect-headless", "tsq-cli")
ROOT = Path(__file__).parents[1]
DEMO = ROOT / "examples" / "demo.mp4"
BARE, SCENEDETECT = "bare imports", "scenedetect"


def commands(video: Path) -> dict[str, list[str]]:
    """The commands to run on a video, by name; PySceneDetect's only where it is installed."""
    tsq, path = [sys.executable, "-m", "tsq_cli"], str(video)
    found = {
        "tsq select": [*tsq, "select", path, "-k", "5", "--json"],
        "tsq classify": [*tsq, "classify", path, "--recognizer", "embedded", "--json"],
        "tsq select --engine torch": [*tsq, "select", path, "-k", "5", "--json", "--engine", "torch"],
        "tsq classify --engine torch": [
            *tsq, "classify", path, "--recognizer", "embedded", "--json", "--engine", "torch"
        ],
        BARE: [sys.executable, "-c", "import numpy, av, onnxruntime"],
    }  # fmt: skip
    beside = Path(sys.executable).with_name(SCENEDETECT)
    program = str(beside) if beside.exists() else shutil.which(SCENEDETECT)
    if program is not None:
        found[SCENEDETECT] = [program, "-i", path, "detect-content", "list-scenes"]
    return found


def measure(video: Path, rounds: int) -> dict[str, Any]:
    """Run all commands round after round, each beginning one of the rounds.

    Returns:
        By command: medians and ranges of seconds, cpu_seconds and peak_mib, and ratios of the medians of seconds and
        cpu_seconds to those of the bare imports and of PySceneDetect (None where it is not installed).

    Raises:
        UsageError: a command failed.
    """
    todo = commands(video)
    names = list(todo)
    costs: dict[str, list[ProcessCost]] = {name: [] for name in names}
    for command in todo.values():  # so that no round pays for the first reading of a file
        process_cost(command, {"PYTHONPATH": str(ROOT)})
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            costs[name].append(process_cost(todo[name], {"PYTHONPATH": str(ROOT)}))
    rows: dict[str, Any] = {
        name: {
            field: {"median": statistics.median(values), "least": min(values), "most": max(values)}
            for field, values in zip(ProcessCost._fields, zip(*own, strict=True), strict=True)
        }
        for name, own in costs.items()
    }
    for row in rows.values():
        for other, key in ((BARE, "over_bare"), (SCENEDETECT, "over_scenedetect")):
            row[key] = {
                field: row[field]["median"] / rows[other][field]["median"] if other in rows else None
                for field in ("seconds", "cpu_seconds")
            }
    return rows


def grid(rows: dict[str, Any]) -> Grid:
    """Medians and ratios of each command."""

    def ratio(of: float | None) -> str:
        return "" if of is None else f"{of:.2f}"

    return Grid(
        title="",
        headings=["command", "seconds", "CPU seconds", "peak MiB", "over bare", "over scenedetect"],
        rows=[
            [
                name,
                f"{row['seconds']['median']:.2f}",
                f"{row['cpu_seconds']['median']:.2f}",
                f"{row['peak_mib']['median']:.0f}",
                ratio(row["over_bare"]["seconds"]),
                ratio(row["over_scenedetect"]["seconds"]),
            ]
            for name, row in rows.items()
        ],
    )


def run(options: argparse.Namespace) -> Measured:
    """Measure as the options say.

    Raises:
        UsageError: a command failed.
    """
    rows = measure(options.video.resolve(), options.repeats)
    facts = {"machine": machine_facts(PACKAGES), "video": options.video.name, "rounds": options.repeats}
    return {**facts, "commands": rows}, grid(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line."""
    parser = command_line("cold", __doc__, repeats=9)
    parser.add_argument("video", nargs="?", type=Path, default=DEMO, help="a video file (the demo film)")
    return run_command(parser, arguments, run)


if __name__ == "__main__":
    sys.exit(main())
