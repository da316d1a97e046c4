"""PySceneDetect against `tsq select` as whole processes, on two-minute 720p files, in turns."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.footage_material import FPS, Half, Material
from benchmarks.footage_videos import Film, Piece, clip_pictures
from tsq_cli.benchmark.measure import TimedRun, Timing

LARGE = (1280, 720)
SECONDS = 120
REPEATS = 5
DETECT = (
    "import sys; from scenedetect import ContentDetector, detect; "
    "print(len(detect(sys.argv[1], ContentDetector(), start_in_scene=True)))"
)


def large(material: Material, half: Half, rng: np.random.Generator, number: int) -> Film:
    """Two minutes of 1280 x 720: clips of random places, 3 to 9 s each."""
    places = material.places(half)
    pieces: list[Piece] = []
    left = SECONDS * FPS
    while left > 0:
        count = min(left, round(rng.uniform(3, 9) * FPS))
        place = str(rng.choice(sorted(places)))
        path = str(rng.choice(places[place]))
        pieces.append(Piece(place, path, count, clip_pictures(material, path, 0, count, size=LARGE, most=3 * FPS)))
        left -= count
    return Film(pieces)


def commands(path: Path) -> dict[str, list[str]]:
    """Commands to time, each as a whole process."""
    return {
        "tsq select": [sys.executable, "-m", "tsq_cli", "select", str(path), "--json", "--device", "cpu"],
        "PySceneDetect": [sys.executable, "-c", DETECT, str(path)],
    }


def run_in_turns(paths: Sequence[Path], *, repeats: int = REPEATS) -> list[dict[str, Any]]:
    """Time every command on every file: one round to warm up, then `repeats` rounds, one command after the other.

    Raises:
        subprocess.CalledProcessError: a command fails.
    """
    found = []
    for path in paths:
        runs: dict[str, list[TimedRun]] = {name: [] for name in commands(path)}
        for turn in range(repeats + 1):
            for name, command in commands(path).items():
                run = _timed(command)
                if turn:
                    runs[name].append(run)
        found.append({"video": path.name, "timings": {name: asdict(Timing.of(some)) for name, some in runs.items()}})
    return found


def _timed(command: list[str]) -> TimedRun:
    """Seconds of a process from start to end."""
    before, started = os.times(), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return TimedRun(time.perf_counter() - started, cpu)


def table(timed: Sequence[Mapping[str, Any]]) -> list[str]:
    """Median and quartiles of each command and file, CPU seconds, and how many times as long the second takes."""
    names = list(timed[0]["timings"])
    heading = " | ".join(f"{name}, s | CPU s" for name in names)
    lines = [f"| video | {heading} | ratio | of CPU |", "|---" * (2 * len(names) + 3) + "|"]
    for row in timed:
        first, second = (row["timings"][name] for name in names)
        spread = ("median", "lower_quartile", "upper_quartile", "cpu_median")
        cells = ("{:.2f} ({:.2f}-{:.2f}) | {:.2f}".format(*(some[name] for name in spread)) for some in (first, second))
        ratios = (f"{second[name] / first[name]:.2f}" for name in ("median", "cpu_median"))
        lines.append(f"| {row['video']} | {' | '.join(cells)} | {' | '.join(ratios)} |")
    return lines
