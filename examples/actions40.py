"""The pack `weights/actions40`: compose labeled videos of 40 human actions, train on them, evaluate each step.

    python examples/actions40.py compose --photos DIR --videos /tmp/actions40
    python examples/actions40.py train --photos DIR --videos /tmp/actions40 --work /tmp/actions40-run \\
                                       --out weights/actions40
    tsq evaluate /tmp/actions40/test.csv --pack weights/actions40 --early-exit
    python examples/actions40.py steps --photos DIR --videos /tmp/actions40 --work /tmp/actions40-run \\
                                       --json docs/training/steps.json

DIR holds a folder of photographs for each action (Stanford 40 Actions). Photographs are split into training, tuning and
test before anything is composed: every choice is made on tuning, and test is reported once. Videos of tuning and test
are real mp4 files. For training, clips are composed afresh in every batch out of frames of the training photographs,
each drawn as a shot would show it and encoded once. It needs the packages that examples/lite_weights.py names.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
from actions40_frames import open_photo
from actions40_steps import steps
from actions40_studies import studies, tsne
from actions40_train import build, list_of
from actions40_videos import Part, find_photos, plan_video
from needle_videos import describe, is_finished, write_video
from rich.console import Console
from rich.progress import track

from tsq_cli.errors import TsqError
from tsq_cli.files import atomic_path

console = Console(stderr=True)
COMPOSED: tuple[Part, ...] = ("tuning", "test")
COUNTS = {"tuning": 480, "test": 960}
# The test videos of seed 0 were looked at for two versions of the pack; these are drawn anew from the same photographs.
SEEDS = {"tuning": 0, "test": 1}


def compose(photos: Path, videos: Path) -> None:
    """Write the videos of each part, and its list (tuning.csv, test.csv); finished videos are kept."""
    for part in COMPOSED:
        listed, count, seed = list_of(videos, part), COUNTS[part], SEEDS[part]
        of_part, opened = find_photos(photos, part), cache(open_photo)
        rows = []
        for i in track(range(count), f"compose {part}", console=console, transient=True):
            path = videos / part / f"{i:04d}.mp4"
            shots = plan_video(of_part, np.random.default_rng([seed, COMPOSED.index(part), i]))
            truth = describe(shots)
            rows.append((f"{part}/{path.name}", truth["event"]["class_name"]))
            if not is_finished(path, seed):
                write_video(path, shots, {"video": path.name, "part": part, "seed": seed, **truth}, opened)
        with atomic_path(listed) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows([("path", "label"), *rows])
        print(f"{count} videos of {len({label for _, label in rows})} of {len(of_part)} actions: {listed}")


def main() -> int:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    parsers = {
        "compose": commands.add_parser("compose", help="write the videos of tuning and test, and their lists"),
        "train": commands.add_parser("train", help="train, and write the pack"),
        "steps": commands.add_parser("steps", help="measure what each step of the training gives"),
        "studies": commands.add_parser("studies", help="run ablation studies, see tsq ablate --list"),
        "tsne": commands.add_parser("tsne", help="draw the class queries before and after training"),
    }
    for command in parsers.values():
        command.add_argument("--photos", type=Path, required=True)
        command.add_argument("--videos", type=Path, required=True, help="folder of the composed videos")
    for name in ("train", "steps", "studies", "tsne"):
        parsers[name].add_argument(
            "--work", type=Path, required=True, help="features and checkpoints; runs resume here"
        )
    parsers["train"].add_argument("--out", type=Path, required=True)
    for name in ("steps", "studies"):
        parsers[name].add_argument("--json", type=Path, required=True)
    parsers["studies"].add_argument("study", nargs="+")
    parsers["tsne"].add_argument("--plot", type=Path, required=True)
    parsers["tsne"].add_argument("--html", type=Path)
    given = parser.parse_args()
    try:
        if given.command == "compose":
            compose(given.photos, given.videos)
        elif given.command == "train":
            build(given.photos, given.work, given.out, given.videos, commit=_commit())
        elif given.command == "steps":
            steps(given.photos, given.work, given.videos, given.json)
        elif given.command == "tsne":
            tsne(given.photos, given.work, given.videos, given.plot, given.html)
        else:
            studies(given.study, given.photos, given.work, given.videos, given.json)
    except TsqError as error:
        print(f"actions40: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def _commit() -> str | None:
    """Return the commit of this working tree; None outside of one."""
    found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True)
    return found.stdout.strip() or None


if __name__ == "__main__":
    sys.exit(main())
