"""`tsq train`."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
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

if TYPE_CHECKING:
    from tsq_cli.data import VideoList

TRAINING = "Training"
_SECONDS_BETWEEN_LINES = 10.0
_MOST_CLASSES, _SHOWN_CLASSES = 12, 5  # rows of the table of classes: all, or these of each end

_DEFAULT = TrainSettings(train_list="")


EXAMPLES = options.examples(
    "tsq train train.txt --val val.txt --root videos/ --out mine/",
    "tsq train videos/ --val 0.2 --patience 5 --out mine/",
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
    skip_empty_classes: Annotated[
        bool,
        typer.Option(
            "--skip-empty-classes",
            help="Leave out classes without a training video, instead of refusing them.",
            rich_help_panel=INPUT,
        ),
    ] = False,
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
    patience: Annotated[
        int | None,
        typer.Option(
            "--patience",
            metavar="N",
            help="End a stage after N epochs without a better one: by mAP, then top-1, then loss, on the videos of "
            "--val.",
            show_default="off",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed", help="Random seed of the split and of every stage.", show_default="0", rich_help_panel=TRAINING
        ),
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

    Every video is decoded once. With --val, each stage keeps its best epoch. An interrupted run continues where it
    stopped when the same command is run again. For several GPUs, start it with torchrun.
    """
    require_extra()
    values = lists.overrides(
        {
            "train_list": train_list,
            "val_list": val,
            "root": root,
            "delimiter": delimiter,
            "classes": classes,
            "skip_empty_classes": skip_empty_classes or None,
            "subset": subset,
            "val_subset": val_subset,
            "num_frames": num_frames,
            "num_candidates": num_candidates,
            "pack": pack,
            "recognizer.model": recognizer,
            "stages": stages,
            **{f"{stage}.fit.epochs": epochs for stage in STAGES},
            **{f"{stage}.fit.patience": patience for stage in STAGES},
            **{f"{stage}.fit.seed": seed for stage in STAGES},
            "split_seed": seed,
        }
    )
    if config is None and train_list is None:
        raise UsageError("no list was given", wanted="labeled videos to train on", fix="name a LIST, or a --config")
    settings = read_settings(config, values) if config else settings_from({}, values, origin="the options")

    from tsq_cli.training.datasets import read_lists
    from tsq_cli.training.train import check_run_folder, split_files
    from tsq_cli.training.train import train as run

    videos = read_lists(settings)
    check_outputs(
        {"--json": Path(STDOUT) if json else None, "--report": report},
        folders={"--out": out, "--cache": cache},
        inputs=lists.input_files(settings, videos, config),
    )
    check_run_folder(out)
    split = split_files(settings, videos, out)
    is_first = os.environ.get("RANK", "0") == "0"  # set by torchrun: the other processes print nothing
    if is_first:
        _announce(*videos, split)
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


def _announce(train: VideoList, val: VideoList | None, split: Collection[Path]) -> None:
    """Say on stderr, before anything is decoded, which videos of which classes were found, and what looks wrong."""
    from tsq_cli.data import warnings_of

    for listed in (train, val):
        if listed is not None:
            info(listed.found)
    if split:
        info(f"the split: {', '.join(map(str, split))}")
    _print_classes(train, val)
    for warning in warnings_of(train, val):
        info(f"warning: {warning}")


def _print_classes(train: VideoList, val: VideoList | None) -> None:
    """Print the videos of each class on stderr, the largest class first; of many classes, the ends and the total."""
    columns = [videos.counts() for videos in (train, val) if videos is not None]
    rows = sorted(zip(train.class_names, *columns, strict=True), key=lambda row: -row[1])
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=True)
    table.add_column("class", footer=f"{len(rows)} classes")
    table.add_column("train", footer=f"{len(train.videos)}", justify="right")
    if val is not None:
        table.add_column("val", footer=f"{len(val.videos)}", justify="right")
    num_between = len(rows) - 2 * _SHOWN_CLASSES if len(rows) > _MOST_CLASSES else 0
    for number, row in enumerate(rows):
        if num_between and number == _SHOWN_CLASSES:
            table.add_row(f"... {num_between} more")
        if not num_between or not 0 <= number - _SHOWN_CLASSES < num_between:
            table.add_row(*map(str, row))
    SafeConsole(stderr=True).print(table)
    if any(sum(counts) != len(of.videos) for counts, of in zip(columns, (train, val), strict=False) if of is not None):
        info("a video of several classes counts for each of them, and once below")


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
    for stage, done in document["stages"].items():
        kept, last = done["kept_epoch"], done["last_epoch"]
        if "val.map" in kept:
            measured = f"mAP {100 * kept['val.map']:.1f} on the validation videos"
            info(f"{stage}: kept epoch {kept['epoch']:.0f} of {last['epoch']:.0f}, {measured}")
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
    parts: list[str | Table] = [evaluation_grids(shown)[0].rich(), by_chance]
    if any(
        "kept" in done["last_epoch"] or report["settings"][stage]["fit"]["patience"]
        for stage, done in report["stages"].items()
    ):
        parts.append("these videos also chose the epochs that were kept: measure on others before you rely on a number")
    return parts
