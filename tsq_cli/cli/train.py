"""`tsq train`."""

from __future__ import annotations

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
from tsq_cli.cli import completion, lists, options
from tsq_cli.cli.options import INPUT, MODEL, OUTPUT, SELECTION
from tsq_cli.cli.output import DescriptionColumn, ProgressBar, info, print_json
from tsq_cli.errors import UsageError
from tsq_cli.files import STDOUT, check_outputs, write_json
from tsq_cli.report.console import SafeConsole
from tsq_cli.training.settings import STAGES, TrainSettings, read_settings, require_extra, settings_from

TRAINING = "Training"
_SECONDS_BETWEEN_LINES = 10.0

_DEFAULT = TrainSettings(train_list="")


EXAMPLES = options.examples(
    "tsq train train.txt --val val.txt --root videos/ --out mine/",
    "tsq train train.txt --stages encoder,heads,recognizer --epochs 5 --device cuda",
    "tsq train --config mine/train.toml --out other/",
)


def train(
    train_list: Annotated[
        Path | None,
        typer.Argument(metavar="LIST", help=f"Labeled videos to train on: {lists.LIST_HELP}", show_default=False),
    ] = None,
    *,
    val: lists.ValList = None,
    root: lists.Root = None,
    delimiter: lists.Delimiter = None,
    classes: lists.Classes = None,
    subset: lists.Subset = None,
    val_subset: lists.ValSubset = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="TOML",
            help="All settings of a run, such as its train.toml; options given here override it.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    num_frames: Annotated[
        int | None,
        typer.Option(
            "-k",
            "--num-frames",
            metavar="K",
            help="Frames that the pack selects by default.",
            show_default=str(_DEFAULT.num_frames),
            rich_help_panel=SELECTION,
        ),
    ] = None,
    num_candidates: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--candidates",
            metavar="T",
            help="Candidate frames per video, evenly spaced.",
            show_default=str(_DEFAULT.num_candidates),
            rich_help_panel=SELECTION,
        ),
    ] = None,
    pack: Annotated[
        str | None,
        typer.Option(
            "--pack",
            metavar="NAME|DIR",
            help="Weights to start from.",
            autocompletion=completion.packs,
            show_default=_DEFAULT.pack,
            rich_help_panel=MODEL,
        ),
    ] = None,
    recognizer: Annotated[
        str | None,
        typer.Option(
            "--recognizer",
            metavar="NAME",
            help="timm network to train as recognizer; visual_encoder is the pack's own encoder.",
            show_default=_DEFAULT.recognizer.model,
            rich_help_panel=MODEL,
        ),
    ] = None,
    device: options.DeviceOption = "auto",
    stages: Annotated[
        str | None,
        typer.Option(
            "--stages",
            metavar="LIST",
            help=f"What to train, separated by commas: {', '.join(STAGES)}.",
            show_default=_DEFAULT.stages,
            rich_help_panel=TRAINING,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            help="Training epochs of every stage.",
            show_default=", ".join(f"{getattr(_DEFAULT, stage).fit.epochs}" for stage in STAGES),
            rich_help_panel=TRAINING,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option("--seed", help="Random seed of every stage.", show_default="0", rich_help_panel=TRAINING),
    ] = None,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="DIR", help="Folder for settings, logs and the pack.", rich_help_panel=OUTPUT),
    ] = Path("trained"),
    json: lists.JsonWithoutFile = False,
    report: lists.Report = None,
    cache: lists.RunCache = None,
    workers: options.Workers = 1,
) -> None:
    """Train TSQNet on your own labeled videos, evaluate it, and write a pack for --pack DIR/pack.

    Every video is decoded once. An interrupted run continues where it stopped when the same command is run again. For
    several GPUs, start it with torchrun.
    """
    require_extra()
    values = lists.overrides(
        {
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
    )
    if config is None and train_list is None:
        raise UsageError("no list was given", wanted="labeled videos to train on", fix="name a LIST, or a --config")
    settings = read_settings(config, values) if config else settings_from({}, values, origin="the options")

    from tsq_cli.training.datasets import read_lists
    from tsq_cli.training.train import check_run_folder
    from tsq_cli.training.train import train as run

    videos = read_lists(settings)
    check_outputs(
        {"--json": Path(STDOUT) if json else None, "--report": report},
        folders={"--out": out, "--cache": cache},
        inputs=lists.input_files(settings, videos, config),
    )
    check_run_folder(out)
    is_first = os.environ.get("RANK", "0") == "0"  # set by torchrun: the other processes print nothing
    if is_first:
        for listed in videos:
            if listed is not None:
                info(listed.found)
    with _live_line() as progress:
        document = run(
            settings,
            videos,
            out,
            cache=cache,
            device=device,
            workers=workers,
            command=shlex.join(["tsq", *sys.argv[1:]]),
            progress=progress,
        )
    if is_first:
        _print(document, out, as_json=json, report=report)
    lists.exit_if_failed(document["lists"])


@contextmanager
def _live_line() -> Iterator[types.Progress]:
    """Show progress and loss on stderr: a bar on a terminal, else a line every ten seconds and per finished stage."""
    last = time.monotonic()
    with ProgressBar(DescriptionColumn(), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()) as bar:
        task = bar.add_task("loading", total=None)

        def show(what: str, done: int, total: int) -> None:
            nonlocal last
            bar.update(task, description=what, completed=done, total=total)
            now = time.monotonic()
            if bar.disable and (done == total or now - last > _SECONDS_BETWEEN_LINES):
                last = now
                info(f"{what} ({done} of {total})")

        yield show


def _print(document: dict[str, Any], out: Path, *, as_json: bool, report: Path | None) -> None:
    """Write and print the results; say on stderr where everything is, and how to use the pack."""
    lists.print_failed(document["lists"])
    if report is not None:
        write_json(report, document)
    if as_json:
        print_json(document)
    elif document["evaluation"] is not None:
        console = SafeConsole(least_width=136)
        for part in evaluation_parts(document):
            console.print(part)
    info(f"logs, curves and all settings: {out}")
    if document["pack"] is not None:
        info(f"try: tsq select VIDEO --pack {shlex.quote(str(document['pack']))}")


def evaluation_parts(report: dict[str, Any]) -> list[str | Table]:
    """Lay out how the new pack does on the held-out list of a run's report, for a rich console."""
    from tsq_cli.evaluation.tables import evaluation_grids

    shown = {**report["evaluation"], "num_frames": report["settings"]["num_frames"]}
    chance = report["chance"]
    by_chance = f"by chance: mAP {100 * chance['map']:.1f}, top-1 {100 * chance['top1']:.1f}"
    return [evaluation_grids(shown)[0].rich(), by_chance]
