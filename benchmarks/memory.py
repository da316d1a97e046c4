"""Memory of a run over many files: ``python -m benchmarks.memory FOLDER... --json docs/memory.json``.

The videos of the folders are copied in turns until there are as many files as asked for. Whole processes of `tsq
select` and `tsq classify` go over a tenth of them and over all: what a run holds must not grow with its files.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.command import Measured, command_line, run_command
from benchmarks.engines import find_videos
from benchmarks.processes import process_cost
from tsq_cli.benchmark.measure import machine_facts
from tsq_cli.errors import UsageError, VideoError
from tsq_cli.report.grid import Grid
from tsq_cli.video import open_video

PACKAGES = ("av", "numpy", "onnxruntime", "pillow", "tsq-cli")
ROOT = Path(__file__).parents[1]
COMMANDS = {"tsq select": ["select"], "tsq classify": ["classify", "--recognizer", "embedded"]}
LEAST = 10


def usable(videos: Sequence[Path]) -> list[Path]:
    """Leave out videos that cannot be opened: each would end every run with an error.

    Raises:
        UsageError: none is left.
    """
    found = []
    for video in videos:
        with suppress(VideoError), open_video(video):
            found.append(video)
    if not found:
        raise UsageError("no video could be used", wanted="videos", fix="see why with tsq select FILE")
    return found


def copied(videos: Sequence[Path], count: int, folder: Path) -> Path:
    """Copy videos in turns into a folder to be made, until it holds `count` files of different names."""
    folder.mkdir()
    for number in range(count):
        video = videos[number % len(videos)]
        shutil.copyfile(video, folder / f"{number:05d}-{video.name}")
    return folder


def measure(videos: Sequence[Path], count: int, workers: int) -> list[dict[str, Any]]:
    """Run each command over a tenth of the files and over all of them.

    Returns:
        JSON-ready rows: command, files, seconds, cpu_seconds, peak_mib.

    Raises:
        UsageError: a command failed.
    """
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for files in (count // 10, count):
            folder = copied(videos, files, Path(temporary) / str(files))
            for name, command in COMMANDS.items():
                whole = [sys.executable, "-m", "tsq_cli", *command, str(folder), "-j", str(workers)]
                cost = process_cost([*whole, "-q", "--jsonl", "records.jsonl"], {"PYTHONPATH": str(ROOT)})
                rows.append({"command": name, "files": files, **cost._asdict()})
    return rows


def memory_grid(report: Mapping[str, Any]) -> Grid:
    """The most memory of each run, and its time per file.

    Args:
        report: what --json writes.
    """
    return Grid(
        title="",
        headings=["command", "files", "peak MiB", "CPU ms per file"],
        rows=[
            [
                row["command"],
                str(row["files"]),
                f"{row['peak_mib']:.0f}",
                f"{1000 * row['cpu_seconds'] / row['files']:.0f}",
            ]
            for row in sorted(report["rows"], key=lambda row: list(COMMANDS).index(row["command"]))
        ],
    )


def run(options: argparse.Namespace) -> Measured:
    """Measure as the options say.

    Raises:
        UsageError: too few files, no video in the folders, or a command that failed.
    """
    if options.files < LEAST:
        raise UsageError(f"--files is {options.files}", wanted=f"{LEAST} or more", fix="leave it out for 500 files")
    videos = usable(find_videos(options.folders))
    rows = measure(videos, options.files, options.workers)
    report = {"machine": machine_facts(PACKAGES), "videos": len(videos), "workers": options.workers, "rows": rows}
    return report, memory_grid(report)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit code."""
    parser = command_line("memory", __doc__)
    parser.add_argument("folders", nargs="+", type=Path, help="folders of videos")
    parser.add_argument("--files", type=int, default=500, help="files to go over (500)")
    parser.add_argument("--workers", type=int, default=1, help="videos decoded at once, -j of tsq (1)")
    return run_command(parser, arguments, run)


if __name__ == "__main__":
    sys.exit(main())
