"""Threads or processes to decode with: ``python -m benchmarks.decode_workers FILES... --json FILE``.

Every method decodes the candidates of all files and has them in the process that would run the networks: as the
batch of `tsq select` does with threads, or through a pool of processes, which send the pixels back.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict
from functools import partial
from typing import Any

from benchmarks.command import Measured, command_line, run_command
from tsq_cli.benchmark.measure import in_turns, machine_facts
from tsq_cli.clip import load_clip
from tsq_cli.config import PAPER
from tsq_cli.errors import UsageError
from tsq_cli.report.grid import Grid
from tsq_cli.types import UInt8Array


def decode(path: str) -> UInt8Array:
    """The candidates of a video, uint8 [T, H, W, 3], by one decoder."""
    with closing(load_clip(path, PAPER, threads=1)) as clip:
        return clip.batch.pixels


def decode_all(pool: Executor, paths: Sequence[str]) -> int:
    """Decode all videos with a pool; returns how many frames came."""
    return sum(len(pixels) for pixels in pool.map(decode, paths))


def measure(paths: Sequence[str], workers: Sequence[int], repeats: int) -> list[dict[str, Any]]:
    """Time threads and processes in turns.

    Returns:
        JSON-ready rows: kind ("threads", "processes"), workers, videos_per_second (median) and the timing.

    Raises:
        InputNotFoundError, VideoError: a file that is missing or cannot be used.
    """
    start = multiprocessing.get_context("spawn")  # fork is not safe beside threads
    with ExitStack() as stack:
        pools: dict[tuple[str, int], Executor] = {}
        for number in workers:
            pools["threads", number] = stack.enter_context(ThreadPoolExecutor(number))
            pools["processes", number] = stack.enter_context(ProcessPoolExecutor(number, mp_context=start))
        for pool in pools.values():
            decode_all(pool, paths[: 2 * max(workers)])  # every process has started
        timings = in_turns({name: partial(decode_all, pool, paths) for name, pool in pools.items()}, repeats)
    return [
        {"kind": kind, "workers": number, "videos_per_second": len(paths) / timing.median, "timing": asdict(timing)}
        for (kind, number), timing in timings.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit code."""
    parser = command_line("decode_workers", __doc__, repeats=5)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers to try (1 2)")
    return run_command(parser, arguments, run)


def run(options: argparse.Namespace) -> Measured:
    """Measure as the options say.

    Raises:
        UsageError: fewer than one worker.
        InputNotFoundError, VideoError: a file that is missing or cannot be used.
    """
    if min(options.workers) < 1:
        raise UsageError(f"--workers is {min(options.workers)}", wanted="1 or more", fix="leave it out")
    rows = measure(options.files, options.workers, options.repeats)
    facts = machine_facts(("av", "numpy", "tsq-cli"))
    report = {"machine": facts, "videos": len(options.files), "rows": rows}
    return report, workers_grid(report)


def workers_grid(report: Mapping[str, Any]) -> Grid:
    """Videos per second of each kind and number of workers, median and quartiles.

    Args:
        report: what --json writes.
    """
    one = {"threads": "thread", "processes": "process"}
    cells = []
    for row in report["rows"]:
        low, high = (report["videos"] / row["timing"][f"{end}_quartile"] for end in ("upper", "lower"))
        kind = one[row["kind"]] if row["workers"] == 1 else row["kind"]
        cells.append([f"{row['workers']} {kind}", f"{row['videos_per_second']:.1f}", f"{low:.1f}-{high:.1f}"])
    return Grid(title="", headings=["decoded by", "videos/s", "quartiles"], rows=cells)


if __name__ == "__main__":
    sys.exit(main())
