"""`tsq train`."""

from __future__ import annotations

import json as json_module
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TimeElapsedColumn
from rich.table import Table

from tsq_cli import types
from tsq_cli.cli import options
from tsq_cli.cli.options import INPUT, MODEL, OUTPUT, RUN, SELECTION
from tsq_cli.cli.output import Bar, Words, info
from tsq_cli.errors import EXIT_INPUT_FAILED, UsageError
from tsq_cli.files import STDOUT, check_outputs
from tsq_cli.report.console import SafeConsole
from tsq_cli.training.settings import STAGES, TrainSettings, read_settings, require_extra, settings_from

TRAINING = "Training"
_SECONDS_BETWEEN_LINES = 10.0

_DEFAULT = TrainSettings(train_list="")


def train(
    train_list: Annotated[
        str | None,
        typer.Argument(
            metavar="LIST",
            help="Labeled videos to train on: `path label` lines, a CSV, ActivityNet JSON, Kinetics CSV, or a folder "
            "of class folders.",
            show_default=False,
        ),
    ] = None,
    *,
    val: Annotated[
        str | None, typer.Option("--val", metavar="LIST", help="Labeled videos to measure on.", rich_help_panel=INPUT)
    ] = None,
    root: Annotated[
        str | None, typer.Option("--root", metavar="DIR", help="Where the files are.", rich_help_panel=INPUT)
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option("--delimiter", help="Between path and labels.", rich_help_panel=INPUT)
    ] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", metavar="FILE", help="Class names, one a line.", rich_help_panel=INPUT)
    ] = None,
    subset: Annotated[
        str | None, typer.Option("--subset", help="Part of the list to train on.", rich_help_panel=INPUT)
    ] = None,
    val_subset: Annotated[
        str | None, typer.Option("--val-subset", help="Part of the --val list.", rich_help_panel=INPUT)
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="TOML",
            help="Every value of a run, such as its train.toml; options given here come first.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    num_frames: Annotated[
        int | None,
        typer.Option(
            "-k", "--num-frames", metavar="K", help="Frames that the pack selects (5).", rich_help_panel=SELECTION
        ),
    ] = None,
    num_candidates: Annotated[
        int | None,
        typer.Option("-n", "--candidates", metavar="T", help="Frames to look at (16).", rich_help_panel=SELECTION),
    ] = None,
    pack: Annotated[
        str | None,
        typer.Option(
            "--pack", metavar="NAME|DIR", help=f"Weights to start from ({_DEFAULT.pack}).", rich_help_panel=MODEL
        ),
    ] = None,
    recognizer: Annotated[
        str | None,
        typer.Option(
            "--recognizer",
            metavar="NAME",
            help="timm network that is to name the class (visual_encoder: the pack's own).",
            rich_help_panel=MODEL,
        ),
    ] = None,
    device: options.DeviceOption = "auto",
    stages: Annotated[
        str | None,
        typer.Option(
            "--stages",
            metavar="LIST",
            help=f"What to train, of {', '.join(STAGES)}, by commas ({_DEFAULT.stages}).",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", help="Of every stage (10, 30, 30).", rich_help_panel=TRAINING)
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of every stage (0).", rich_help_panel=TRAINING)] = None,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder for all that comes of it.", rich_help_panel=OUTPUT)
    ] = Path("trained"),
    json: options.JsonOption = False,
    cache: Annotated[
        Path | None,
        typer.Option("--cache", metavar="DIR", help="Keep features here (cache in --out).", rich_help_panel=RUN),
    ] = None,
    workers: options.Workers = 1,
) -> None:
    """Train TSQNet on your own labeled videos, measure it, and write a pack that --pack DIR/pack uses at once.

    Videos are decoded once. An interrupted run goes on where it was when it is started again. On several GPUs:
    torchrun --nproc-per-node 4 -m tsq_cli train ...

    Example: tsq train train.txt --val val.txt --root videos/ --out mine/
    """
    require_extra()
    overrides = {
        "train_list": train_list,
        "val_list": val,
        "root": root,
        "delimiter": delimiter,
        "classes": classes,
        "subset": subset,
        "val_subset": val_subset,
        "num_frames": num_frames,
        "num_candidates": num_candidates,
        "pack": pack,
        "recognizer.model": recognizer,
        "stages": stages,
        **{f"{stage}.fit.epochs": epochs for stage in STAGES},
        **{f"{stage}.fit.seed": seed for stage in STAGES},
    }
    if config is None and train_list is None:
        raise UsageError("no list was given", wanted="labeled videos to train on", fix="name a LIST, or a --config")
    settings = read_settings(config, overrides) if config else settings_from({}, overrides, origin="the options")

    from tsq_cli.training.datasets import read_lists
    from tsq_cli.training.train import check_run_folder
    from tsq_cli.training.train import train as run

    lists = read_lists(settings)
    check_outputs({"--json": Path(STDOUT) if json else None}, folders={"--out": out, "--cache": cache})
    check_run_folder(out)
    first = os.environ.get("RANK", "0") == "0"  # as torchrun sets it: the others work in silence
    if first:
        for videos in lists:
            if videos is not None:
                info(videos.found)
    with _live_line() as progress:
        report = run(
            settings,
            lists,
            out,
            cache=cache,
            device=device,
            workers=workers,
            command=shlex.join(["tsq", *sys.argv[1:]]),
            progress=progress,
        )
    if first:
        _tell(report, out, as_json=json)
    if any(told["failed"] for told in report["lists"]):
        raise typer.Exit(EXIT_INPUT_FAILED)


@contextmanager
def _live_line() -> Iterator[types.Progress]:
    """A bar with the loss on stderr, where that is a terminal; elsewhere a line now and then, and one a stage."""
    said = time.monotonic()
    with Bar(Words(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()) as bar:
        task = bar.add_task("loading", total=None)

        def tell(what: str, done: int, total: int) -> None:
            nonlocal said
            bar.update(task, description=what, completed=done, total=total)
            now = time.monotonic()
            if bar.disable and (done == total or now - said > _SECONDS_BETWEEN_LINES):
                said = now
                info(f"{what} ({done} of {total})")

        yield tell


def _tell(report: dict[str, Any], out: Path, *, as_json: bool) -> None:
    """What came of the run: numbers to stdout, the rest to stderr."""
    for told in report["lists"]:
        for failed in told["failed"]:
            info(f"left out: {failed['reason']}")
    if as_json:
        print(json_module.dumps(report, indent=1))
    elif report["evaluation"] is not None:
        console = SafeConsole(least_width=136)
        for part in evaluation_parts(report):
            console.print(part)
    info(f"logs, curves and all settings: {out}")
    if report["pack"] is not None:
        info(f"try: tsq select VIDEO --pack {shlex.quote(str(report['pack']))}")


def evaluation_parts(report: dict[str, Any]) -> list[str | Table]:
    """How a run's report says the new pack does on the held-out list, for a rich console."""
    from tsq_cli.evaluation.tables import evaluation_grids

    shown = {**report["evaluation"], "num_frames": report["settings"]["num_frames"]}
    chance = report["chance"]
    by_chance = f"by chance: mAP {100 * chance['map']:.1f}, top-1 {100 * chance['top1']:.1f}"
    return [evaluation_grids(shown)[0].rich(), by_chance]
