"""Shared by all benchmarks: timed runs in turns, their summary, and facts about the machine."""

from __future__ import annotations

import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tsq_cli import provenance
from tsq_cli.errors import TsqError
from tsq_cli.report.console import SafeConsole

Name = TypeVar("Name", bound=Hashable)


class TimedRun(NamedTuple):
    """Wall-clock and CPU seconds of one run."""

    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One method's rounds: wall-clock seconds of every one, their median and quartiles, and the median CPU seconds.

    CPU seconds sum over threads: they hardly suffer from what else the machine does, but say nothing of waiting.
    """

    seconds: list[float]
    median: float
    lower_quartile: float
    upper_quartile: float
    cpu_median: float

    @classmethod
    def of(cls, runs: Sequence[TimedRun]) -> Timing:
        """Summarize at least one round."""
        seconds = [run.seconds for run in runs]
        lower, upper = np.percentile(seconds, [25, 75]).tolist()
        return cls(
            seconds=seconds,
            median=statistics.median(seconds),
            lower_quartile=lower,
            upper_quartile=upper,
            cpu_median=statistics.median(run.cpu_seconds for run in runs),
        )


def timed_run(work: Callable[[], object]) -> TimedRun:
    """Time one call."""
    cpu_start, start = time.process_time(), time.perf_counter()
    work()
    return TimedRun(time.perf_counter() - start, time.process_time() - cpu_start)


def in_turns(
    methods: Mapping[Name, Callable[[], object]],
    repeats: int,
    *,
    ends: float = math.inf,
    told: Callable[[int, int], None] = lambda *_: None,
) -> dict[Name, Timing]:
    """Time methods round after round; everyone takes every place in the order.

    So a slow spell of the machine falls on all alike, and so does what a method leaves in the caches.

    Args:
        methods: by name, ready to run and warm.
        repeats: rounds, at least 1.
        ends: time.perf_counter() from which no further round begins; one is made in any case.
        told: after every run, outside of what is timed: how many are done, and of how many.
    """
    names = list(methods)
    rounds: dict[Name, list[TimedRun]] = {name: [] for name in names}
    for i in range(repeats):
        if i and time.perf_counter() >= ends:
            break
        for name in names[i % len(names) :] + names[: i % len(names)]:
            rounds[name].append(timed_run(methods[name]))
            told(sum(map(len, rounds.values())), repeats * len(names))
    return {name: Timing.of(runs) for name, runs in rounds.items()}


def exit_code(work: Callable[[], None]) -> int:
    """Run a benchmark of the command line; what a TsqError says goes to stderr, and its exit code comes back."""
    try:
        work()
    except TsqError as error:
        SafeConsole(stderr=True).print(str(error), soft_wrap=True)
        return error.exit_code
    return 0


def machine_facts(packages: Sequence[str]) -> dict[str, Any]:
    """Describe the machine, with the versions of some packages (None: not installed)."""
    found = provenance.versions(packages)
    return {
        "platform": platform.platform(),
        "python": found["python"],
        "cpu": provenance.cpu_model(),
        "cores": provenance.num_cores(),
        "load_average": load_average(),
        "versions": {package: found[package] for package in packages},
    }


def load_average() -> tuple[float, float, float] | None:
    """Processes that wanted to run over the last 1, 5 and 15 minutes; None where the system does not tell."""
    return os.getloadavg() if hasattr(os, "getloadavg") else None


def process_mib(name: str) -> float | None:
    """A line of Linux' account of this process' memory (VmRSS held now, VmHWM held at most); None elsewhere."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), None)
