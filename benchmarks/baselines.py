"""Whether other methods as published run as fast as plain PyTorch: ``python -m benchmarks.baselines --json FILE``.

`tsq benchmark`'s FrameExit, AdaFocus and Uni-AdaFocus as published take turns with the same methods written out in
torchvision's networks (benchmarks/baselines_plain.py), on one video of random frames; each ratio is of two neighboring
runs. Both must cost the same number of multiply-adds. It runs on the CPU.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.baselines_plain import PlainAdaFocus, PlainFrameExit, PlainUniAdaFocus
from benchmarks.command import Measured, command_line, run_command
from tsq_cli.benchmark.measure import in_turns, machine_facts
from tsq_cli.benchmark.peers import BACKBONE
from tsq_cli.benchmark.runners import BenchmarkConfig, Runner
from tsq_cli.benchmark.speed import FRAME_SHAPE, METHODS
from tsq_cli.config import DEFAULT_PACK, PAPER_CANDIDATES, PAPER_FRAMES
from tsq_cli.models.device import keep_freed_memory
from tsq_cli.models.flops import count
from tsq_cli.packs import find_pack
from tsq_cli.report.grid import Grid

PACKAGES = ("torch", "torchvision", "timm", "numpy", "tsq-cli")
SETTING = BenchmarkConfig(
    pack=DEFAULT_PACK,
    recognizer=BACKBONE,
    num_frames=PAPER_FRAMES,
    num_candidates=PAPER_CANDIDATES,
    device="cpu",
    dtype=torch.float32,
    input_size=None,
    exit_after=6,
)


def plain_methods(num_classes: int) -> dict[str, nn.Module]:
    """The yardsticks, by the names of `tsq benchmark`."""
    return {
        "frameexit": PlainFrameExit(num_classes, SETTING.exit_after),
        "adafocus": PlainAdaFocus(num_classes),
        "uni-adafocus-96": PlainUniAdaFocus(num_classes, 96),
        "uni-adafocus-128": PlainUniAdaFocus(num_classes, 128),
    }


def giga_macs(runner: Runner, plain: nn.Module, video: Tensor) -> tuple[float, float]:
    """Cost of one video, ours and plain."""
    ours = count(runner.forward, runner.frames_used(video), modules=runner.networks)
    return ours.giga_macs, count(plain, video).giga_macs


def measure(*, repeats: int) -> list[dict[str, Any]]:
    """Time each pair in turns.

    Args:
        repeats: rounds, at least 1.

    Returns:
        For each method a JSON object: method, name, both timings and giga_macs, and `ratio`: the plain form's seconds
        over ours of each round, their median and quartiles; above 1 ours is the faster.
    """
    keep_freed_memory()  # as `tsq benchmark` does
    rows = []
    for method, plain in plain_methods(len(find_pack(SETTING.pack).class_names)).items():
        runner = METHODS[method](SETTING)
        generator = torch.Generator().manual_seed(0)
        shape = (1, runner.num_given, *FRAME_SHAPE)
        video = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        ours_macs, plain_macs = giga_macs(runner, plain, video)
        with torch.inference_mode():
            calls = {"ours": partial(runner.classify, video), "plain": partial(plain, video)}
            for call in calls.values():
                call()
            timings = in_turns(calls, repeats)
        ratios = np.divide(timings["plain"].seconds, timings["ours"].seconds)
        low, median, high = np.percentile(ratios, [25, 50, 75]).tolist()
        rows.append(
            {
                "method": method,
                "name": runner.name,
                "timings": {name: asdict(timing) for name, timing in timings.items()},
                "giga_macs": {"ours": ours_macs, "plain": plain_macs},
                "ratio": {"median": median, "low": low, "high": high},
            }
        )
    return rows


def baselines_grid(report: Mapping[str, Any]) -> Grid:
    """Videos per second of both forms, and their ratio.

    Args:
        report: what --json writes.
    """
    return Grid(
        title="",
        headings=["as published", "GMACs", "ours, videos/s", "plain PyTorch, videos/s", "ours to plain", "quartiles"],
        rows=[
            [
                row["name"],
                f"{row['giga_macs']['ours']:.1f}",
                *(f"{1 / row['timings'][form]['median']:.2f}" for form in ("ours", "plain")),
                f"{row['ratio']['median']:.2f}",
                f"{row['ratio']['low']:.2f}-{row['ratio']['high']:.2f}",
            ]
            for row in report["rows"]
        ],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit code."""
    parser = command_line("baselines", __doc__, repeats=9)
    return run_command(parser, arguments, run)


def run(options: argparse.Namespace) -> Measured:
    """Measure all methods."""
    report = {"machine": machine_facts(PACKAGES), "rows": measure(repeats=options.repeats)}
    return report, baselines_grid(report)


if __name__ == "__main__":
    sys.exit(main())
