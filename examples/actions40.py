"""The pack `weights/actions40`: compose labelled videos of 40 human actions, train on them, show what each step is worth.

    python examples/actions40.py compose --photos DIR --videos /tmp/actions40      480 held-out videos and their list
    python examples/actions40.py train --photos DIR --work /tmp/actions40-run --out weights/actions40
    tsq evaluate /tmp/actions40/validation.csv --pack weights/actions40

DIR holds a folder of photographs for each action (Stanford 40 Actions). Photographs are split before anything is
composed. Held-out videos are real mp4 files. For training, clips are composed afresh in every batch out of frames of the
training photographs, each drawn through several windows as a shot would show it and encoded once.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from actions40_frames import ComposedClips, Composer, Frames, open_photo, see_photos
from actions40_videos import SHOTS, class_names, find_photos, plan_video
from needle_videos import Photo, describe, write_video
from rich.console import Console
from rich.progress import track
from torch import Tensor

from tsq_cli.errors import TsqError
from tsq_cli.files import atomic_path

console = Console(stderr=True)
VALIDATION_LIST = "validation.csv"


def compose(photos: Path, videos: Path, count: int, seed: int) -> None:
    """Write held-out videos, and validation.csv which names them; finished ones are kept."""
    held_out = find_photos(photos, "validation")
    names = class_names(photos)
    opened = cache(open_photo)
    rows = []
    for i in track(range(count), "compose", console=console, transient=True):
        path = videos / f"{i:04d}.mp4"
        shots = plan_video(held_out, np.random.default_rng([seed, 0, i]))
        truth = describe(shots)
        rows.append((path.name, truth["event"]["class_name"]))
        if not path.with_suffix(".json").exists():
            write_video(path, shots, {"video": path.name, "part": "validation", "seed": seed, **truth}, opened)
    with atomic_path(videos / VALIDATION_LIST) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *rows])
    print(f"{count} videos of {len({label for _, label in rows})} of {len(names)} actions: {videos / VALIDATION_LIST}")


def main() -> int:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    composing = commands.add_parser("compose", help="write the held-out videos")
    composing.add_argument("--videos", type=Path, required=True)
    composing.add_argument("--count", type=int, default=480)
    for command in (composing,):
        command.add_argument("--photos", type=Path, required=True)
        command.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        compose(arguments.photos, arguments.videos, arguments.count, arguments.seed)
    except TsqError as error:
        print(f"actions40: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
