"""Measure every rule on film: compose videos whose shots are known, choose frames, count what they show.

    python -m benchmarks.footage compose --material DIR --videos VIDEOS     videos and their truth, both halves
    python -m benchmarks.footage measure --material DIR --videos VIDEOS --needle NEEDLE     every rule's frames
    python -m benchmarks.footage time    --videos VIDEOS                    PySceneDetect against tsq select
    python -m benchmarks.footage report  --videos VIDEOS --json docs/footage.json --markdown docs/footage.md
    python -m benchmarks.footage sheets  --videos VIDEOS --output FOLDER    the best and the worst, to be looked at

DIR holds clips/, fights/, footage/ and photos/imagenet200/; NEEDLE is what examples/needle.py composed. Rules are tuned
on the half "tuning" and reported on the half "test", which shares no place and no photograph with it. Everything
computed is kept in VIDEOS: a second run measures only what is new.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks import footage_drawn, footage_report, footage_rows, footage_sheets, footage_times, footage_videos
from benchmarks.footage_evidence import Observer
from benchmarks.footage_material import HALVES, SPLIT_SEED, Half, Material
from benchmarks.footage_rows import PRODUCT, SCENES
from benchmarks.footage_videos import Film, write_film
from tsq_cli.benchmark.measure import exit_code, machine_facts
from tsq_cli.config import DEFAULT_PACK
from tsq_cli.errors import InputNotFoundError
from tsq_cli.files import write_json, write_text
from tsq_cli.pipeline import Selector

console = Console(stderr=True)
Composer = Callable[[Material, Half, np.random.Generator, int], Film]

# Each kind, how many of it per half, and what makes it. A kind's place here is part of its seed.
KINDS: Mapping[str, tuple[int, Composer]] = {
    "shots": (40, footage_videos.shots),
    "dissolves": (20, footage_videos.dissolves),
    "one_source": (20, footage_videos.one_source),
    "turns": (10, footage_videos.turns),
    "blurred": (10, footage_videos.blurred),
    "still": (6, footage_videos.still),
    "lectures": (10, footage_drawn.lectures),
    "long_event": (10, footage_drawn.long_event),
    "pans": (10, footage_drawn.pans),
}
LARGE = "large"
LARGE_COUNT = 3
PACKAGES = ("av", "numpy", "opencv-python-headless", "pillow", "scenedetect-headless", "timm", "torch", "tsq-cli")
MEASURED, TIMED = "measured.json", "timed.json"


def compose(material: Material, videos: Path, seed: int, kinds: Sequence[str]) -> None:
    """Write the videos of both halves into `videos/{half}/{kind}/`, the large ones into `videos/large/`.

    Finished ones are kept.
    """

    def write(path: Path, plan: Composer, half: Half, kind: str, place: int, number: int) -> None:
        if not path.with_suffix(".json").exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng([seed, HALVES.index(half), place, number])
            write_film(path, plan(material, half, rng, number), {"half": half, "kind": kind, "seed": seed})

    for half in HALVES:
        for kind in (kind for kind in kinds if kind != LARGE):
            count, plan = KINDS[kind]
            for i in track(range(count), f"compose {half} {kind}", console=console, transient=True):
                write(videos / half / kind / f"{i:03d}.mp4", plan, half, kind, list(KINDS).index(kind), i)
    if LARGE in kinds:
        for i in track(range(LARGE_COUNT), "compose large", console=console, transient=True):
            write(videos / LARGE / f"{i:03d}.mp4", footage_times.large, "test", LARGE, len(KINDS), i)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Choose frames of every video in every way, and measure them; JSON-ready, one entry per video."""
    observer = Observer(Selector.load(options.pack, device="cpu", dtype="float32", engine="torch"))
    measured: list[dict[str, Any]] = []
    composed: list[Path] = []
    for half in options.halves:
        videos = [video for kind in options.kinds for video in footage_rows.composed(options.videos, half, kind)]
        composed += [video.path for video in videos]
        if options.material is not None:
            videos += footage_rows.real(Material(options.material), options.videos, half)
        if options.needle is not None:
            videos += footage_rows.needles(options.needle, options.videos, half)
        for video in track(videos, f"measure {half}", console=console, transient=True):
            wanted = () if video.kind.startswith("needle") else options.rows  # there the product is the rule auto
            rows = {
                found.row: {"times": found.times, "values": _finite(found.values)}
                for found in footage_rows.measure(observer, video, wanted, afresh=options.afresh)
            }
            measured.append({"half": half, "kind": video.kind, "path": str(video.path), "k": video.k, "rows": rows})
    pack = {"name": observer.pack.config.name, "sha256": observer.pack.config.sha256}
    seeds = {"split": SPLIT_SEED, "compose": sorted({footage_videos.read_truth(path)["seed"] for path in composed})}
    return {"circumstances": {"machine": machine_facts(PACKAGES), "pack": pack, "seeds": seeds}, "videos": measured}


def _with_other_halves(measured: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Keep what an earlier run measured of the halves that this one left out, with the same weights."""
    path = options.videos / MEASURED
    if path.exists():
        before = _read(path, "measure")
        if before["circumstances"]["pack"] == measured["circumstances"]["pack"]:
            measured["videos"] += [video for video in before["videos"] if video["half"] not in options.halves]
    return measured


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def report(options: argparse.Namespace) -> None:
    """Write means and intervals of what was measured and timed."""
    measured = _read(options.videos / MEASURED, "measure")
    results = {**measured["circumstances"], "results": footage_report.summarized(measured["videos"])}
    results["gains"] = footage_report.gains(measured["videos"])
    if (options.videos / TIMED).exists():
        results["timed"] = _read(options.videos / TIMED, "time")
    text = footage_report.page(results)
    if options.json is not None:
        write_json(options.json, results)
    if options.markdown is not None:
        write_text(options.markdown, text)
    else:
        print(text)


def sheets(options: argparse.Namespace) -> None:
    """Draw the videos where a row does best and worst beside another."""
    everything = _read(options.videos / MEASURED, "measure")["videos"]
    measured = [video for video in everything if video["half"] == options.half]
    options.output.mkdir(parents=True, exist_ok=True)
    for kind in dict.fromkeys(video["kind"] for video in measured):
        of_kind = [video for video in measured if video["kind"] == kind]
        row, other = options.rows[-1], options.rows[0]
        for number, video in enumerate(footage_sheets.extremes(of_kind, row, other, options.count)):
            name = f"{kind}_{'best' if number < options.count else 'worst'}_{number % options.count + 1}.jpg"
            footage_sheets.sheet(video, options.rows).save(options.output / name.replace(", ", "_"), quality=88)


def _read(path: Path, command: str) -> Any:
    if not path.exists():
        raise InputNotFoundError(f"no {path}", wanted="what was measured", fix=f"run the {command} command first")
    return json.loads(path.read_text())


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    made = {name: commands.add_parser(name) for name in ("compose", "measure", "time", "report", "sheets")}
    for command in made.values():
        command.add_argument("--videos", type=Path, required=True, help="folder of the composed videos and of caches")
    command = made["compose"]
    command.add_argument("--material", type=Path, required=True)
    command.add_argument("--kinds", nargs="*", default=[*KINDS, LARGE], choices=[*KINDS, LARGE])
    command.add_argument("--seed", type=int, default=0)
    command = made["measure"]
    command.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    command.add_argument("--material", type=Path, help="also measure its clips as they are")
    command.add_argument("--needle", type=Path, help="also measure what examples/needle.py compose wrote")
    command.add_argument("--halves", nargs="+", default=list(HALVES), choices=HALVES)
    command.add_argument("--rows", nargs="*", default=[PRODUCT, SCENES], choices=(PRODUCT, SCENES))
    command.add_argument("--afresh", action="store_true", help=f"run {PRODUCT} again, as after a change of its code")
    command.add_argument("--pack", default=DEFAULT_PACK)
    command = made["report"]
    command.add_argument("--json", type=Path)
    command.add_argument("--markdown", type=Path)
    command = made["sheets"]
    command.add_argument("--output", type=Path, required=True)
    command.add_argument("--half", default="test", choices=HALVES)
    command.add_argument("--count", type=int, default=2, help="best and worst ones of each kind")
    command.add_argument(
        "--rows", nargs="+", default=["uniform", "tsq", "auto"], help="drawn; the last is judged beside the first"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is tsq's own."""
    options = parse(arguments)
    return exit_code(partial(_run, options))


def _run(options: argparse.Namespace) -> None:
    match options.command:
        case "compose":
            compose(Material(options.material), options.videos, options.seed, options.kinds)
        case "measure":
            write_json(options.videos / MEASURED, _with_other_halves(measure(options), options))
        case "time":
            timed = footage_times.run_in_turns(sorted((options.videos / LARGE).glob("*.mp4")))
            write_json(options.videos / TIMED, timed)
            print("\n".join(footage_times.table(timed)))
        case "report":
            report(options)
        case "sheets":
            sheets(options)


if __name__ == "__main__":
    sys.exit(main())
