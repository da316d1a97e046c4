"""`tsq ablate`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from tsq_cli.cli import completion, lists, options
from tsq_cli.cli.options import OUTPUT, RUN, SELECTION
from tsq_cli.cli.output import info, pause_progress, print_json, progress_bar
from tsq_cli.files import STDOUT, check_outputs, write_json, write_text
from tsq_cli.report.console import SafeConsole

EPOCHS = 8
"""Fewer than a pack is trained with: every study takes minutes on two cores, and its rows still compare."""

EXAMPLES = options.examples(
    "tsq ablate --list",
    "tsq ablate alpha beta --config mine/train.toml",
    "tsq ablate all --train train.txt --val val.txt --markdown all.md",
)


def ablate(
    studies: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STUDY...", help="Names of studies, or all.", show_default=False, autocompletion=completion.studies
        ),
    ] = None,
    *,
    list_: Annotated[
        bool, typer.Option("--list", help="List the studies, and which the paper has.", rich_help_panel=OUTPUT)
    ] = False,
    train: lists.TrainList = None,
    val: lists.ValList = None,
    root: lists.Root = None,
    delimiter: lists.Delimiter = None,
    classes: lists.Classes = None,
    subset: lists.Subset = None,
    val_subset: lists.ValSubset = None,
    config: lists.RunConfig = None,
    num_frames: Annotated[
        int | None,
        typer.Option(
            "-k",
            "--num-frames",
            metavar="K",
            help="Frames to recognize each video from.",
            show_default="of --config, else 5",
            rich_help_panel=SELECTION,
        ),
    ] = None,
    pack: lists.PackOrConfig = None,
    recognizer: lists.RecognizerOption = "auto",
    pooling: options.PoolingOption = None,
    device: options.DeviceOption = "auto",
    epochs: Annotated[
        int, typer.Option("--epochs", help="Training epochs per row and seed.", rich_help_panel=RUN)
    ] = EPOCHS,
    seeds: Annotated[
        int, typer.Option("--seeds", help="Networks per row, each trained with its own seed.", rich_help_panel=RUN)
    ] = 3,
    cache: lists.StudyCache = None,
    workers: options.Workers = 1,
    json: lists.JsonWithoutFile = False,
    report: lists.Report = None,
    markdown: lists.Markdown = None,
) -> None:
    """Redo the paper's ablation tables, and ours, on your own labeled videos.

    A study is a table: each row changes one thing, is trained with several seeds on cached features, and is scored by
    recognition from the frames that it selects. All rows share one recognizer: the pack's if it knows the classes,
    else a linear probe on its features. The paper's numbers, on its own data, are printed beside.
    """
    from tsq_cli.studies.registry import find_studies

    if list_:
        _print_list()
        return
    chosen = find_studies(studies or [])
    settings = lists.study_settings(
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
        from tsq_cli.features.cache import feature_cache
        from tsq_cli.packs import find_pack
        from tsq_cli.studies.ablation import check_study_plan
        from tsq_cli.studies.data import read_both_lists
        from tsq_cli.studies.run import run_studies

        videos = read_both_lists(settings)
        check_outputs(
            {"--json": Path(STDOUT) if json else None, "--report": report, "--markdown": markdown},
            folders={"--cache": cache},
            inputs=lists.input_files(settings, videos, config),
        )
        check_study_plan(range(seeds), settings.num_frames, settings.num_candidates)
        for listed in videos:
            info(listed.found)
        features = stack.enter_context(feature_cache(lists.study_cache(cache, config)))
        loaded, network = lists.load_networks(find_pack(settings.pack), recognizer, device, "float32")
        document: dict[str, Any] = {}
        material = (settings, videos, loaded, network, features)
        for document in run_studies(
            chosen, *material, seeds=range(seeds), pooling=pooling, workers=workers, progress=progress
        ):
            if len(document["studies"]) == 1:
                lists.print_failed(document["lists"])
            # Written and printed after each study: finished studies outlive a failure of the next.
            _write(document, report=report, markdown=markdown)
            if not json:
                _print(document["studies"][-1])
    if json:
        print_json(document)
    lists.exit_if_failed(document["lists"])


def _write(document: dict[str, Any], *, report: Path | None, markdown: Path | None) -> None:
    if report is not None:
        write_json(report, document)
    if markdown is not None:
        from tsq_cli.studies.tables import studies_markdown

        write_text(markdown, studies_markdown(document))


def _print(study: dict[str, Any]) -> None:
    from tsq_cli.studies.tables import study_grid, study_notes

    out = SafeConsole(least_width=110)
    with pause_progress():
        out.print(study_grid(study).rich())
        for note in study_notes(study):
            out.print(note, soft_wrap=True)
        out.print()


def _print_list() -> None:
    from tsq_cli.studies.tables import list_grid

    SafeConsole(least_width=110).print(list_grid().rich())
