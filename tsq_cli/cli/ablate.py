"""`tsq ablate`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tsq_cli import __version__
from tsq_cli.cli import options
from tsq_cli.cli.options import INPUT, MODEL, OUTPUT, RUN, SELECTION
from tsq_cli.cli.output import info, pause_progress, progress_bar, write_json_or_stdout
from tsq_cli.errors import EXIT_INPUT_FAILED, UsageError
from tsq_cli.files import check_outputs, write_text
from tsq_cli.report.console import SafeConsole

if TYPE_CHECKING:
    from tsq_cli.data import VideoList
    from tsq_cli.features.cache import FeatureCache
    from tsq_cli.studies.data import Lists
    from tsq_cli.studies.registry import Study
    from tsq_cli.training.settings import TrainSettings
    from tsq_cli.types import Progress

EPOCHS = 8
"""Fewer than a pack is trained with: so every study takes minutes on two cores, and its rows still compare."""

TrainList = Annotated[
    Path | None,
    typer.Option(
        "--train", metavar="LIST", help="Labeled videos to train on, as for tsq train.", rich_help_panel=INPUT
    ),
]
Root = Annotated[Path | None, typer.Option("--root", metavar="DIR", help="Where the files are.", rich_help_panel=INPUT)]
Delimiter = Annotated[str | None, typer.Option("--delimiter", help="Between path and labels.", rich_help_panel=INPUT)]
Classes = Annotated[
    Path | None, typer.Option("--classes", metavar="FILE", help="Class names, one a line.", rich_help_panel=INPUT)
]
Subset = Annotated[str | None, typer.Option("--subset", help="Part of the list to train on.", rich_help_panel=INPUT)]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="TOML",
        help="All settings of a run, such as its train.toml: lists, pack (of a run that tuned the encoder, the one "
        "it wrote) and what the rows start from.",
        rich_help_panel=INPUT,
    ),
]
Pack = Annotated[
    str | None,
    typer.Option("--pack", metavar="NAME|DIR", help="Weights to use; see tsq packs list.", rich_help_panel=MODEL),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        metavar="DIR",
        help="Keep features here, or use those that tsq train kept; beside --config by default.",
        rich_help_panel=RUN,
    ),
]
JsonFile = Annotated[
    str | None,
    typer.Option("--json", metavar="FILE|-", help="Write all numbers; - for stdout.", rich_help_panel=OUTPUT),
]


def ablate(
    studies: Annotated[
        list[str] | None, typer.Argument(metavar="STUDY...", help="Names of studies, or all.", show_default=False)
    ] = None,
    *,
    list_: Annotated[
        bool, typer.Option("--list", help="List the studies, and which the paper has.", rich_help_panel=OUTPUT)
    ] = False,
    train: TrainList = None,
    val: Annotated[
        Path | None,
        typer.Option("--val", metavar="LIST", help="Labeled videos to measure on.", rich_help_panel=INPUT),
    ] = None,
    root: Root = None,
    delimiter: Delimiter = None,
    classes: Classes = None,
    subset: Subset = None,
    val_subset: Annotated[
        str | None, typer.Option("--val-subset", help="Part of the list to measure on.", rich_help_panel=INPUT)
    ] = None,
    config: Config = None,
    num_frames: Annotated[
        int | None,
        typer.Option(
            "-k",
            "--num-frames",
            metavar="K",
            help="Frames to recognize from, else those of --config, else 5.",
            rich_help_panel=SELECTION,
        ),
    ] = None,
    pack: Pack = None,
    recognizer: Annotated[
        str,
        typer.Option("--recognizer", metavar="auto|NAME|embedded", help="As for tsq classify.", rich_help_panel=MODEL),
    ] = "auto",
    device: options.DeviceOption = "auto",
    epochs: Annotated[int, typer.Option("--epochs", help="Of each row and seed.", rich_help_panel=RUN)] = EPOCHS,
    seeds: Annotated[int, typer.Option("--seeds", help="Networks a row.", rich_help_panel=RUN)] = 3,
    cache: Cache = None,
    workers: options.Workers = 1,
    json: JsonFile = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write the tables.", rich_help_panel=OUTPUT)
    ] = None,
) -> None:
    """Redo the paper's ablation tables, and ours, on your own labeled videos.

    A study is a table: each row changes one thing, is trained with several seeds on cached features, and is measured
    by recognition from the frames that it chooses. The recognizer is the same for all rows: the pack's where it knows
    the classes, else a linear probe on its features. The paper's numbers stand beside, on its own data.

    Example: tsq ablate alpha beta --train train.txt --val val.txt --root videos/ --cache features/
    """
    from tsq_cli.studies.registry import find_studies

    if list_:
        _print_list()
        return
    chosen = find_studies(studies or [])
    settings = run_settings(
        config,
        train_list=train,
        val_list=val,
        root=root,
        delimiter=delimiter,
        classes=classes,
        subset=subset,
        val_subset=val_subset,
        num_frames=num_frames,
        pack=pack,
        epochs=epochs,
    )
    with ExitStack() as stack:
        progress = stack.enter_context(progress_bar("loading"))
        from tsq_cli.studies.data import both_lists
        from tsq_cli.studies.tables import studies_markdown

        lists = both_lists(settings)
        check_outputs(
            {"--json": None if json is None else Path(json), "--markdown": markdown},
            folders={"--cache": cache},
            inputs=files_read(settings, lists, config),
        )
        folder = stack.enter_context(cache_folder(cache, config))
        # Written and printed after each study: what is done outlives what is not.
        for document in _measured(chosen, settings, lists, recognizer, folder, range(seeds), device, workers, progress):
            if markdown is not None:
                write_text(markdown, studies_markdown(document))
            if json != "-":
                write_json_or_stdout(document, json)
                _print(document["studies"][-1])
    if json == "-":
        write_json_or_stdout(document, json)
    if any(listed["failed"] for listed in document["lists"]):
        raise typer.Exit(EXIT_INPUT_FAILED)


def run_settings(config: Path | None, *, epochs: int | None, **values: Any) -> TrainSettings:
    """The settings of a run: those of a file, if any, with what was typed before it.

    Where the file is of a run that tuned the encoder, the pack is the one which that run wrote, if none was typed.

    Raises:
        InputNotFoundError: no such file.
        UsageError: no list to train on, or a value that is refused.
    """
    from tsq_cli.training.settings import read_settings, settings_from

    overrides = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    overrides["heads.fit.epochs"] = epochs
    if config is not None:
        settings = read_settings(config, overrides)
        from tsq_cli.training.train import tuned_pack

        tuned = tuned_pack(config.parent)
        if values["pack"] is None and tuned is not None:
            info(f"networks: those of {tuned}, whose encoder that run tuned")
            settings = replace(settings, pack=str(tuned))
        return settings
    if values["train_list"] is None:
        raise UsageError(
            "no list to train on was given", wanted="labeled videos", fix="add --train LIST, or --config train.toml"
        )
    return settings_from({}, overrides, origin="the command line")


def files_read(settings: TrainSettings, lists: Iterable[VideoList | None], config: Path | None) -> Iterator[str | Path]:
    """What a run over labeled videos reads: its lists and settings, and the videos."""
    named = (settings.train_list, settings.val_list, settings.classes, config)
    yield from (path for path in named if path is not None)
    for videos in lists:
        yield from () if videos is None else (video.path for video in videos.videos)


@contextmanager
def cache_folder(cache: Path | None, config: Path | None) -> Iterator[FeatureCache]:
    """The cache that was asked for, the one beside the settings of a run, or one that goes when the work is done."""
    from tsq_cli.features.cache import FeatureCache

    beside = None if config is None else config.parent / "cache"
    if cache is None and beside is not None and beside.is_dir():
        cache = beside
    if cache is not None:
        yield FeatureCache(cache)
        return
    with tempfile.TemporaryDirectory(prefix="tsq-features-") as folder:
        yield FeatureCache(Path(folder))


def _measured(
    studies: list[Study],
    settings: TrainSettings,
    lists: Lists,
    recognizer: str,
    cache: FeatureCache,
    seeds: range,
    device: str,
    workers: int,
    progress: Progress,
) -> Iterator[dict[str, Any]]:
    """All numbers so far, JSON-ready, after each study; says which recognizer was taken, and what was left out."""

    from tsq_cli.models.device import resolve_device
    from tsq_cli.packs import choose_recognizer, find_pack, load_pack, load_recognizer
    from tsq_cli.studies.ablation import check_plan, run_study
    from tsq_cli.studies.data import gather

    check_plan(seeds, settings.num_frames, settings.num_candidates)
    for videos in lists:
        info(videos.found)
    place = resolve_device(device)
    config = find_pack(settings.pack)
    choice = choose_recognizer(config, recognizer)
    info(f"recognizer: {choice.reason}")
    pack = load_pack(config, device=place)
    network = load_recognizer(pack, choice)
    material = gather(settings, lists, pack, network, cache, device=place, workers=workers, progress=progress)
    for listed in material.about["lists"]:
        for failed in listed["failed"]:
            info(f"left out: {failed['reason']}")
    data = material.data()
    epochs = settings.heads.fit.epochs
    document = {"tsq_version": __version__, **material.about, "epochs": epochs, "studies": []}
    for study in studies:
        report = run_study(
            study,
            data,
            settings.heads,
            text_data=material.data,
            seeds=seeds,
            num_frames=settings.num_frames,
            device=place,
            progress=progress,
        )
        document["studies"].append(report)
        yield document


def _print(report: dict[str, Any]) -> None:
    from tsq_cli.studies.tables import study_grid, study_notes

    out = SafeConsole(least_width=110)
    with pause_progress():
        out.print(study_grid(report).rich())
        for note in study_notes(report):
            out.print(note, soft_wrap=True)
        out.print()


def _print_list() -> None:
    from tsq_cli.studies.tables import list_grid

    SafeConsole(least_width=110).print(list_grid().rich())
