"""Time our decoding against a sequential pass, torchcodec, decord and OpenCV: ``python -m benchmarks.decode``.

Every method opens the file afresh and returns the frames on screen at the centers of 16 equal segments, as RGB with
a short side of 256 pixels. Outputs are compared before speed: a method that returns wrong frames is out. Then all
take turns, round after round. Of a family's variants the fastest correct one of the trial rounds takes part.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table

from benchmarks.decode_clips import make_clips
from benchmarks.decode_methods import TARGETS, Method, Task, methods, sequential
from tsq_cli.benchmark.measure import Timing, exit_code, in_turns, machine_facts, timed_run
from tsq_cli.errors import UsageError
from tsq_cli.files import write_json
from tsq_cli.report.console import SafeConsole
from tsq_cli.report.grid import Grid
from tsq_cli.types import Float64Array, UInt8Array
from tsq_cli.video import open_video

TRIAL_ROUNDS = 2
NEIGHBORS = 2
PROOF = 0.25
SAME = 0.02
"""A picture is a wrong one if it is closer to a neighbor than to the right frame by more than SAME levels of 256
plus this part of what the two differ by (ours): other converters round differently, and a film may stand still."""
PACKAGES = ("av", "torchcodec", "decord", "opencv-python-headless", "torch", "numpy", "tsq-cli")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A method's pictures against the sequential reference.

    Attributes:
        wrong_frames: targets whose picture is clearly closer to a neighbor of the right frame than to the right one.
        mean_absolute_difference: over all targets and pixels, 0 to 255; scalers differ by 1 or 2.
    """

    wrong_frames: int
    mean_absolute_difference: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Outcome of one method on one clip; ``failure`` says why it has no timing."""

    method: str
    family: str
    is_other: bool
    comparison: Comparison | None = None
    trial: Timing | None = None
    timing: Timing | None = None
    peak_memory_mib: float | None = None
    failure: str | None = None


def compare(produced: UInt8Array, reference: UInt8Array) -> Comparison:
    """Compare pictures [T, H, W, 3] with the reference [T, 2 * NEIGHBORS + 1, H, W, 3], the right one in the middle.

    Raises:
        ValueError: shapes that do not fit.
    """
    if produced.shape != (len(reference), *reference.shape[2:]):
        raise ValueError(f"{produced.shape} was returned, wanted {(len(reference), *reference.shape[2:])}")
    difference = np.array(
        [_distances(picture, candidates[NEIGHBORS]) for picture, candidates in zip(produced, reference, strict=True)]
    )
    # Another converter's brightness must not look like the next frame of a fade.
    shapes = [_even(candidates) for candidates in reference]
    distances = np.array([_distances(_even(picture), shape) for picture, shape in zip(produced, shapes, strict=True)])
    apart = np.array([_distances(shape[NEIGHBORS], shape) for shape in shapes])
    is_closer = (distances[:, [NEIGHBORS]] - distances > PROOF * apart + SAME).any(axis=1)
    return Comparison(
        # A frame from far away is equally far from all of them, hence the limit.
        wrong_frames=int((is_closer | (difference > 12)).sum()),
        mean_absolute_difference=float(difference.mean()),
    )


def _distances(picture: npt.NDArray[Any], others: npt.NDArray[Any]) -> Float64Array:
    """Mean absolute differences of [H, W, 3] from [..., H, W, 3], float64 [...]."""
    distances: Float64Array = np.abs(others.astype(np.float64) - picture).mean(axis=(-3, -2, -1))
    return distances


def _even(pictures: UInt8Array) -> Float64Array:
    """Pictures [..., H, W, 3] without their mean color, float64."""
    even: Float64Array = pictures - pictures.mean(axis=(-3, -2), keepdims=True)
    return even


def try_out(method: Method, task: Task, reference: UInt8Array) -> Outcome:
    """Check a method's pictures and time its trial rounds; one that fails or is not installed is reported."""
    blank = Outcome(method=method.name, family=method.family, is_other=method.is_other)
    try:
        pictures = method.decode(task)  # the first run also imports, and warms the file cache
        comparison = compare(pictures, reference) if method.is_exact else None
        trial = Timing.of([timed_run(partial(method.decode, task)) for _ in range(TRIAL_ROUNDS)])
    except Exception as error:  # noqa: BLE001 - another library may fail in any way of its own; the failure is the result
        said = " ".join(str(error).split()).replace(str(task.path), task.path.name)  # no folder of this machine
        return replace(blank, failure=f"{type(error).__name__}: {said[:200]}")
    wrong = comparison.wrong_frames if comparison else 0
    failure = f"{wrong} of {task.count} frames are wrong" if wrong else None
    return replace(blank, comparison=comparison, trial=trial, failure=failure)


def fastest_of_families(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Pick the fastest correct variant of each family, by its trial median, in the order of the families."""
    best: dict[str, Outcome] = {}
    for outcome in outcomes:
        if outcome.failure is None and outcome.trial is not None:
            held = best.get(outcome.family)
            if held is None or held.trial is None or outcome.trial.median < held.trial.median:
                best[outcome.family] = outcome
    return list(best.values())


def measure_clip(path: Path, *, repeats: int, console: SafeConsole, quick: bool = False) -> dict[str, Any]:
    """All methods on one clip; quick: each library with two threads only, and no memory figures.

    Returns:
        A JSON object: "clip" facts, "outcomes" of every variant, "ratios".
    """
    task = Task.of(path, TARGETS)
    reference = sequential(task, threads=1, margin=NEIGHBORS).reshape(task.count, -1, task.height, task.width, 3)
    everyone = {
        method.name: method
        for method in methods()
        if not (quick and method.variant.endswith(("threads=0", "threads=1")))
    }
    outcomes = [try_out(method, task, reference) for method in everyone.values()]
    finalists = [outcome.method for outcome in fastest_of_families(outcomes)]
    timings = in_turns({name: partial(everyone[name].decode, task) for name in finalists}, repeats)
    complete = [
        replace(
            outcome,
            timing=timings[outcome.method],
            peak_memory_mib=None if quick else peak_memory_mib(outcome.method, task),
        )
        if outcome.method in timings
        else outcome
        for outcome in outcomes
    ]
    console.print(table_of(path.name, complete))
    return {
        "clip": clip_facts(path),
        "outcomes": [asdict(outcome) for outcome in complete],
        "ratios": ratios_of(complete),
    }


def ratios_of(outcomes: Sequence[Outcome]) -> dict[str, float | str | None]:
    """Compute ratios: exact against the fastest other library and the sequential pass, keyframes against exact."""
    medians = {outcome.family: outcome.timing.median for outcome in outcomes if outcome.timing is not None}
    others = {outcome.family for outcome in outcomes if outcome.is_other} & set(medians)
    best = min(others, key=lambda family: medians[family]) if others else None

    def ratio(slow: str | None, fast: str) -> float | None:
        return medians[slow] / medians[fast] if slow in medians and fast in medians else None

    return {
        "best_other": best,
        "best_other_over_exact": ratio(best, "tsq exact"),
        "sequential_over_exact": ratio("sequential", "tsq exact"),
        "exact_over_keyframes": ratio("tsq exact", "tsq keyframes"),
    }


def paired_ratios(slow: Mapping[str, Any], fast: Mapping[str, Any]) -> tuple[float, float, float]:
    """Ratio of two timings round by round, so that a slow spell of the machine cancels out: median and quartiles.

    Args:
        slow, fast: Timing as JSON, of the same rounds.
    """
    ratios = [a / b for a, b in zip(slow["seconds"], fast["seconds"], strict=True)]
    low, median, high = np.percentile(ratios, [25, 50, 75]).tolist()
    return median, low, high


def table_of(title: str, outcomes: Sequence[Outcome]) -> Table:
    """The finalists and the failures of one clip, for people."""
    table = Table(
        "method", "median ms", "quartiles ms", "CPU ms", "against exact", "difference", "peak MiB", title=title
    )
    exact = next((o.timing.median for o in outcomes if o.family == "tsq exact" and o.timing is not None), None)
    for outcome in sorted(outcomes, key=lambda o: o.timing.median if o.timing else float("inf")):
        if outcome.timing is not None:
            table.add_row(
                outcome.method,
                f"{outcome.timing.median * 1000:.0f}",
                f"{outcome.timing.lower_quartile * 1000:.0f}-{outcome.timing.upper_quartile * 1000:.0f}",
                f"{outcome.timing.cpu_median * 1000:.0f}",
                f"{outcome.timing.median / exact:.2f}x" if exact else "",
                f"{outcome.comparison.mean_absolute_difference:.1f}" if outcome.comparison else "other frames",
                f"{outcome.peak_memory_mib:.0f}" if outcome.peak_memory_mib is not None else "?",
            )
        elif outcome.failure is not None:
            table.add_row(outcome.method, outcome.failure)
    return table


def clips_grid(clips: Iterable[Mapping[str, Any]]) -> Grid:
    """Compare exact decoding with the fastest other library per clip: median milliseconds with quartiles, and ratios.

    Args:
        clips: of measure_clip.
    """
    rows = []
    for clip in clips:
        timed = {outcome["family"]: outcome for outcome in clip["outcomes"] if outcome["timing"] is not None}
        exact, ratios = timed.get("tsq exact"), clip["ratios"]
        other, peak = ratios["best_other"], exact and exact["peak_memory_mib"]
        rows.append(
            [
                clip["clip"]["path"],
                "" if exact is None else _milliseconds(exact["timing"]),
                "" if other is None else f"{other} {_milliseconds(timed[other]['timing'])}",
                *(
                    "" if ratios[name] is None else f"{ratios[name]:.{digits}f}"
                    for name, digits in (
                        ("best_other_over_exact", 2),
                        ("sequential_over_exact", 2),
                        ("exact_over_keyframes", 1),
                    )
                ),
                "" if peak is None else f"{peak:.0f}",
            ]
        )
    ratio_headings = ["fastest other / exact", "sequential / exact", "exact / keyframes"]
    return Grid(title="", headings=["clip", "exact ms", "fastest other (ms)", *ratio_headings, "peak MiB"], rows=rows)


def ratios_grid(clips: Iterable[Mapping[str, Any]]) -> Grid:
    """Compare as clips_grid does, in ratios alone: medians of the rounds' own, with their quartiles.

    Args:
        clips: of measure_clip.
    """
    rows = []
    for clip in clips:
        timed = {outcome["family"]: outcome["timing"] for outcome in clip["outcomes"] if outcome["timing"] is not None}
        other, facts = clip["ratios"]["best_other"], clip["clip"]
        pairs = [(other, "tsq exact"), ("sequential", "tsq exact"), ("tsq exact", "tsq keyframes")]
        cells = [_ratio(timed, slow, fast) for slow, fast in pairs]
        size = f"{facts['codec']} {facts['width']}x{facts['height']}, {facts['total_num_frames']} frames"
        rows.append([facts["path"], size, other or "", *cells])
    ratio_headings = ["fastest other / exact", "sequential / exact", "exact / keyframes"]
    return Grid(title="", headings=["clip", "what it is", "fastest other", *ratio_headings], rows=rows)


def _ratio(timed: Mapping[str, Mapping[str, Any]], slow: str | None, fast: str) -> str:
    if slow is None or slow not in timed or fast not in timed:
        return ""
    median, low, high = paired_ratios(timed[slow], timed[fast])
    return f"{median:.2f} ({low:.2f}-{high:.2f})"


def faults_grid(clips: Iterable[Mapping[str, Any]]) -> Grid:
    """What each other library returns of each clip, every variant: which frames are wrong, or the error.

    Args:
        clips: of measure_clip.
    """
    rows, families = [], {}
    for clip in clips:
        others: dict[str, dict[str, list[str]]] = {}
        for outcome in clip["outcomes"]:
            if outcome["is_other"]:
                said = _fault(outcome["failure"])
                variant = _VARIANT.sub("", outcome["method"].removeprefix(outcome["family"])).strip()
                others.setdefault(outcome["family"], {}).setdefault(said, []).append(variant)
        families.update(dict.fromkeys(others))
        rows.append([clip["clip"]["path"], {family: _said(of) for family, of in others.items()}])
    return Grid(
        title="",
        headings=["clip", *families],
        rows=[[name, *(said.get(family, "") for family in families)] for name, said in rows],
    )


_VARIANT = re.compile(r",? ?threads=\d+")


def _fault(failure: str | None) -> str:
    if failure is None:
        return "right"
    counted = re.match(r"(\d+) of (\d+) frames are wrong", failure)
    return f"{counted[1]} of {counted[2]} wrong" if counted else failure.split(":")[0]


def _said(by_result: Mapping[str, Sequence[str]]) -> str:
    if len(by_result) == 1:
        return next(iter(by_result))
    return "; ".join(f"{', '.join(dict.fromkeys(variants))}: {said}" for said, variants in by_result.items())


def _milliseconds(timing: Mapping[str, float]) -> str:
    median, low, high = (1000 * timing[name] for name in ("median", "lower_quartile", "upper_quartile"))
    return f"{median:.0f} ({low:.0f}-{high:.0f})"


def peak_memory_mib(name: str, task: Task) -> float | None:
    """Peak resident memory of one run in its own process, libraries included; None where /proc does not tell it."""
    child = subprocess.run(
        [sys.executable, "-m", "benchmarks.decode", "--only", name],
        input=task.to_json(),
        capture_output=True,
        text=True,
        check=False,
    )
    return float(child.stdout) if child.returncode == 0 and child.stdout.strip() else None


def run_only(name: str, task: Task) -> None:
    """Run one method once and print this process's peak memory in MiB."""
    next(method for method in methods() if method.name == name).decode(task)
    # Not getrusage: its peak includes that of the process which started this one.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        print(int(line.split()[1]) / 1024)


def clip_facts(path: Path) -> dict[str, Any]:
    """Describe a clip for the report."""
    info = open_video(path).info
    facts = asdict(info)
    return {**facts, "path": path.name, "time_base": str(info.time_base)}


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decode", description=__doc__)
    parser.add_argument("clips", nargs="*", type=Path, help="video files to decode")
    parser.add_argument("--make", type=Path, metavar="DIR", help="make the standard clips in DIR and decode them too")
    parser.add_argument("--seconds", type=int, help="make shorter clips, to try the benchmark out")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds (7)")
    parser.add_argument("--quick", action="store_true", help="two threads a library, no memory figures: half the time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def run(options: argparse.Namespace, console: SafeConsole) -> None:
    """The whole benchmark.

    Raises:
        UsageError: no clip, or fewer than one round.
        TsqError: a clip that cannot be read.
    """
    if options.repeats < 1:
        raise UsageError(f"--repeats is {options.repeats}", wanted="1 or more", fix="leave it out for 7 rounds")
    clips = list(options.clips) + (make_clips(options.make, seconds=options.seconds) if options.make else [])
    if not clips:
        raise UsageError("no clip was given", wanted="video files or --make DIR", fix="add --make DIR to make clips")
    settings = {
        "targets": TARGETS,
        "repeats": options.repeats,
        "trial_rounds": TRIAL_ROUNDS,
        "quick": options.quick,
    }
    report: dict[str, Any] = {"machine": machine_facts(PACKAGES), "settings": settings, "clips": []}
    for path in clips:
        report["clips"].append(measure_clip(path, repeats=options.repeats, console=console, quick=options.quick))
        if options.json:  # after each clip: a long run that is stopped keeps what it has
            write_json(options.json, report)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark from the command line; returns the exit code."""
    options = parse(arguments)
    if options.only:
        return exit_code(lambda: run_only(options.only, Task.from_json(sys.stdin.read())))
    return exit_code(lambda: run(options, SafeConsole()))


if __name__ == "__main__":
    sys.exit(main())
