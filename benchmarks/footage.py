"""How good are the frames on film? Compose videos whose shots are known, choose with every rule, measure.

    python -m benchmarks.footage compose --material DIR --videos VIDEOS     videos and their truth, both halves
    python -m benchmarks.footage measure --material DIR --videos VIDEOS --json docs/footage.json

DIR holds clips/, fights/, footage/ and photos/imagenet200/. Rules are tuned on the half "tuning" and reported on the
half "test", which shares no place and no photograph with it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks import footage_drawn, footage_videos
from benchmarks.footage_evidence import Observer
from benchmarks.footage_material import HALVES, Half, Material
from benchmarks.footage_report import page, summarized
from benchmarks.footage_rows import PRODUCT, SCENES, composed, needles, real
from benchmarks.footage_rows import measure as measure_video
from benchmarks.footage_videos import Film, write_film
from tsq_cli.config import DEFAULT_PACK
from tsq_cli.errors import TsqError
from tsq_cli.files import write_json
from tsq_cli.pipeline import Selector

console = Console(stderr=True)
Composer = Callable[[Material, Half, np.random.Generator, int], Film]

# Each kind, how many of it per half, and what makes it.
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


def compose(material: Material, videos: Path, seed: int, kinds: Sequence[str]) -> None:
    """Write the videos of both halves into `videos/{half}/{kind}/`; finished ones are kept."""
    for half in HALVES:
        for kind in kinds:
            count, plan = KINDS[kind]
            for i in track(range(count), f"compose {half} {kind}", console=console, transient=True):
                path = videos / half / kind / f"{i:03d}.mp4"
                if not path.with_suffix(".json").exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    rng = np.random.default_rng([seed, HALVES.index(half), list(KINDS).index(kind), i])
                    write_film(path, plan(material, half, rng, i), {"half": half, "kind": kind, "seed": seed})


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Choose frames of every video in every way, and measure them; JSON-ready, one entry per video."""
    observer = Observer(Selector.load(options.pack, device="cpu", dtype="float32"))
    measured = []
    for half in options.halves:
        videos = [video for kind in options.kinds for video in composed(options.videos, half, kind)]
        if options.material is not None:
            videos += real(Material(options.material), options.videos, half)
        if options.needle is not None:
            videos += needles(options.needle, half)
        for video in track(videos, f"measure {half}", console=console, transient=True):
            rows = {
                found.row: {"times": found.times, "values": found.values}
                for found in measure_video(observer, video, options.rows)
            }
            measured.append({"half": half, "kind": video.kind, "path": str(video.path), "k": video.k, "rows": rows})
    return measured


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("compose", "measure"):
        command = commands.add_parser(name)
        command.add_argument("--videos", type=Path, required=True, help="folder of the composed videos and of caches")
        command.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
        if name == "compose":
            command.add_argument("--material", type=Path, required=True)
            command.add_argument("--seed", type=int, default=0)
        else:
            command.add_argument("--material", type=Path, help="also measure its clips as they are")
            command.add_argument("--needle", type=Path, help="also measure what examples/needle.py compose wrote")
            command.add_argument("--halves", nargs="+", default=list(HALVES), choices=HALVES)
            command.add_argument("--rows", nargs="*", default=[PRODUCT, SCENES], choices=(PRODUCT, SCENES))
            command.add_argument("--pack", default=DEFAULT_PACK)
            command.add_argument("--json", type=Path, help="write every video's frames and measures here")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is tsq's own."""
    options = parse(arguments)
    try:
        if options.command == "compose":
            compose(Material(options.material), options.videos, options.seed, options.kinds)
        else:
            measured = measure(options)
            print(page({"results": summarized(measured)}, options.halves, "# Frames on film"))
            if options.json is not None:
                write_json(options.json, measured)
    except TsqError as error:
        console.print(f"error: {error}", style="red")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
