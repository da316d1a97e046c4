"""Options, settings, networks and messages shared by the commands over lists of labeled videos."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tsq_cli.cli import completion
from tsq_cli.cli.options import INPUT, MODEL, OUTPUT, RUN
from tsq_cli.cli.output import info
from tsq_cli.config import DEFAULT_PACK
from tsq_cli.errors import EXIT_INPUT_FAILED, UsageError
from tsq_cli.files import STDOUT

if TYPE_CHECKING:
    from tsq_cli.config import Dtype
    from tsq_cli.data import VideoList
    from tsq_cli.packs import LoadedRecognizer, Pack, PackConfig
    from tsq_cli.training.settings import TrainSettings

LIST_HELP = (
    "`path label` lines, a CSV, ActivityNet JSON, Kinetics CSV, or a folder with one folder of videos per class."
)

Root = Annotated[
    Path | None,
    typer.Option("--root", metavar="DIR", help="Folder that the lists' paths start from.", rich_help_panel=INPUT),
]
Delimiter = Annotated[
    str | None,
    typer.Option("--delimiter", help="Separator of path and labels; detected by default.", rich_help_panel=INPUT),
]
Classes = Annotated[
    Path | None,
    typer.Option("--classes", metavar="FILE", help="Class names, one per line.", rich_help_panel=INPUT),
]
Subset = Annotated[
    str | None,
    typer.Option("--subset", help="Part of the list to use, as the list names it.", rich_help_panel=INPUT),
]
TrainList = Annotated[
    Path | None,
    typer.Option("--train", metavar="LIST", help="Labeled videos to train on; see tsq train.", rich_help_panel=INPUT),
]
ValList = Annotated[
    str | None,  # no Path, which makes the file ./0.2 the number 0.2
    typer.Option(
        "--val",
        metavar="LIST|SHARE",
        help="Labeled videos to evaluate on, or the share of the training videos to hold out for that, such as 0.2.",
        rich_help_panel=INPUT,
    ),
]
ValSubset = Annotated[
    str | None, typer.Option("--val-subset", help="Part of the --val list to use.", rich_help_panel=INPUT)
]
RunConfig = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="TOML",
        help="Settings of a finished run (its train.toml): lists, pack and training. If that run fine-tuned the "
        "encoder, the pack that it wrote is used.",
        rich_help_panel=INPUT,
    ),
]
PackOrConfig = Annotated[
    str | None,
    typer.Option(
        "--pack",
        metavar="NAME|DIR",
        help="Weights to use; see tsq packs list.",
        autocompletion=completion.packs,
        show_default=f"of --config, else {DEFAULT_PACK}",
        rich_help_panel=MODEL,
    ),
]
RecognizerOption = Annotated[
    str,
    typer.Option(
        "--recognizer",
        metavar="auto|NAME|embedded",
        help="As for tsq classify.",
        autocompletion=completion.recognizers,
        rich_help_panel=MODEL,
    ),
]
Report = Annotated[
    Path | None,
    typer.Option("--report", metavar="FILE", help="Write all results as one JSON file.", rich_help_panel=OUTPUT),
]
Markdown = Annotated[
    Path | None,
    typer.Option("--markdown", metavar="FILE", help="Write the tables as Markdown.", rich_help_panel=OUTPUT),
]


def cache_option(show_default: str) -> Any:
    """The option --cache, whose default each command states for itself."""
    return Annotated[
        Path | None,
        typer.Option(
            "--cache",
            metavar="DIR",
            help="Folder of cached features, so that no video is decoded twice.",
            show_default=show_default,
            rich_help_panel=RUN,
        ),
    ]


TemporaryCache = cache_option("a temporary folder")
StudyCache = cache_option("cache beside --config, else a temporary folder")
RunCache = cache_option("cache in --out")


def _takes_no_file(value: bool) -> bool:
    """Refuse `--json FILE` and `--json -`, which these commands took before they had --report.

    Raises:
        UsageError: it names the option to use.
    """
    following = dict(zip(sys.argv, sys.argv[1:], strict=False)).get("--json", "") if value else ""
    if following == STDOUT:
        raise UsageError("--json was given a value", wanted="--json alone", fix="it prints on stdout: leave out the -")
    if following.endswith(".json"):
        raise UsageError(
            f"--json was given a file, {following}",
            wanted="--json alone, which prints one JSON document on stdout",
            fix=f"use --report {following} to write a file",
        )
    return value


JsonWithoutFile = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON document on stdout; see --report for a file.",
        callback=_takes_no_file,
        rich_help_panel=OUTPUT,
    ),
]


def overrides(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as typed, by dotted name, with paths as text, which is what train.toml holds."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def study_settings(config: Path | None, *, epochs: int | None, **values: Any) -> TrainSettings:
    """Settings for ablate and tsne: those of a finished run, if one was named, overridden by the options.

    If that run fine-tuned the encoder and no pack was typed, the pack is the one which that run wrote.

    Args:
        config: train.toml of the run, or None.
        epochs: of training the heads; None leaves them as they are.
        values: of the options, by field of TrainSettings; None where an option was not given.

    Raises:
        InputNotFoundError: no such file.
        UsageError: no list to train on, or a value that is refused.
    """
    from tsq_cli.training.settings import read_settings, settings_from

    typed = overrides({**values, "heads.fit.epochs": epochs})
    if config is None:
        if values["train_list"] is None:
            raise UsageError(
                "no list to train on was given", wanted="labeled videos", fix="add --train LIST, or --config train.toml"
            )
        return settings_from({}, typed, origin="the command line")
    settings = read_settings(config, typed)
    from tsq_cli.training.train import tuned_pack

    tuned = tuned_pack(config.parent)
    if values["pack"] is None and tuned is not None:
        info(f"networks: those of {tuned}, whose encoder that run fine-tuned")
        settings = replace(settings, pack=str(tuned))
    return settings


def input_files(
    settings: TrainSettings, lists: Iterable[VideoList | None], config: Path | None
) -> Iterator[str | Path]:
    """Every file that a run over labeled videos reads: lists, class names, settings and videos."""
    val_list = settings.val_list if settings.val_share is None else None
    named = (settings.train_list, val_list, settings.classes, config)
    yield from (path for path in named if path is not None)
    for videos in lists:
        yield from () if videos is None else (video.path for video in videos.videos)


def study_cache(cache: Path | None, config: Path | None) -> Path | None:
    """The folder that --cache names, else the cache beside a run's settings, if there is one."""
    beside = None if config is None else config.parent / "cache"
    return beside if cache is None and beside is not None and beside.is_dir() else cache


def load_networks(config: PackConfig, requested: str, device: str, dtype: Dtype) -> tuple[Pack, LoadedRecognizer]:
    """Load a pack and the recognizer asked for, and say on stderr which recognizer it is.

    Args:
        config: of the pack.
        requested: value of --recognizer.
        device, dtype: values of --device and --dtype.

    Raises:
        UsageError, WeightsError: as choose_recognizer, resolve_device and load_pack.
    """
    from tsq_cli.models.device import resolve_device, resolve_dtype
    from tsq_cli.packs import choose_recognizer, load_pack, load_recognizer

    choice = choose_recognizer(config, requested)
    info(f"recognizer: {choice.reason}")
    place = resolve_device(device)
    kind = resolve_dtype(dtype, place)
    pack = load_pack(config, device=place, dtype=kind)
    return pack, load_recognizer(pack, choice)


def print_failed(lists: Iterable[Mapping[str, Any]]) -> None:
    """Say on stderr which videos were left out, and why.

    Args:
        lists: as VideoList.to_report gives them.
    """
    for listed in lists:
        for failed in listed["failed"]:
            info(f"left out: {failed['reason']}")


def exit_if_failed(lists: Iterable[Mapping[str, Any]]) -> None:
    """End the program with exit code 1 if a video was left out.

    Args:
        lists: as VideoList.to_report gives them.
    """
    if any(listed["failed"] for listed in lists):
        raise typer.Exit(EXIT_INPUT_FAILED)
