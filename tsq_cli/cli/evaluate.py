"""`tsq evaluate`."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from tsq_cli.cli import options
from tsq_cli.cli.options import INPUT, MODEL, OUTPUT, RUN, SELECTION
from tsq_cli.cli.output import info, progress_bar, write_json_or_stdout
from tsq_cli.config import DEFAULT_PACK, Dtype
from tsq_cli.errors import EXIT_INPUT_FAILED, UsageError
from tsq_cli.files import check_outputs, write_text
from tsq_cli.report.console import SafeConsole

if TYPE_CHECKING:
    from tsq_cli.data import VideoList
    from tsq_cli.evaluation.evaluate import Evaluation
    from tsq_cli.packs import LoadedRecognizer, Pack


def evaluate(
    videos: Annotated[
        Path,
        typer.Argument(
            metavar="LIST",
            help="Labeled videos: `path label` lines, a CSV, ActivityNet JSON, Kinetics CSV, or a folder of class "
            "folders.",
            show_default=False,
        ),
    ],
    *,
    root: Annotated[
        Path | None, typer.Option("--root", metavar="DIR", help="Where the files are.", rich_help_panel=INPUT)
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option("--delimiter", help="Between path and labels.", rich_help_panel=INPUT)
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option("--classes", metavar="FILE", help="Class names, one a line.", rich_help_panel=INPUT),
    ] = None,
    subset: Annotated[
        str | None, typer.Option("--subset", help="Part of the list, as it names it.", rich_help_panel=INPUT)
    ] = None,
    selectors: Annotated[
        str,
        typer.Option(
            "--selectors",
            metavar="LIST",
            help="Rules to compare, separated by commas: those of tsq select, confident, all, oracle.",
            rich_help_panel=SELECTION,
        ),
    ] = "tsq,vqm,tqm,uniform,random,middle,confident,all,oracle",
    ks: Annotated[
        str,
        typer.Option("-k", "--num-frames", metavar="LIST", help="Numbers of frames.", rich_help_panel=SELECTION),
    ] = "1,2,3,5,8,16",
    seeds: Annotated[int, typer.Option("--seeds", help="Draws of the random rule.", rich_help_panel=SELECTION)] = 5,
    pack: options.PackOption = DEFAULT_PACK,
    recognizer: Annotated[
        str,
        typer.Option("--recognizer", metavar="auto|NAME|embedded", help="As for tsq classify.", rich_help_panel=MODEL),
    ] = "auto",
    input_size: Annotated[
        int | None,
        typer.Option(
            "--input-size",
            metavar="PX",
            help="What the networks of both modules see; the pack's by default.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "auto",
    json: Annotated[
        str | None,
        typer.Option("--json", metavar="FILE|-", help="Write all numbers; - for stdout.", rich_help_panel=OUTPUT),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write the tables.", rich_help_panel=OUTPUT)
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="PNG", help="Draw accuracy against cost.", rich_help_panel=OUTPUT)
    ] = None,
    sheets: Annotated[
        Path | None,
        typer.Option(
            "--sheets",
            metavar="DIR",
            help="Draw uniform against selected frames of the videos that selection helps and harms most.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    sheet_ids: Annotated[
        str | None,
        typer.Option(
            "--sheet-ids", metavar="LIST", help="Draw these videos instead: ids, by commas.", rich_help_panel=OUTPUT
        ),
    ] = None,
    resamples: Annotated[
        int, typer.Option("--resamples", help="Of the bootstrap behind the intervals.", rich_help_panel=RUN)
    ] = 1000,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache", metavar="DIR", help="Keep features here, or use those that tsq train kept.", rich_help_panel=RUN
        ),
    ] = None,
    workers: options.Workers = 1,
) -> None:
    """Measure how well videos are recognized from the frames that each rule chooses, and at what cost.

    Every rule's frames of every video go to the recognizer, whose logits are averaged. Without --cache the features
    are dropped at the end.

    Example: tsq evaluate val.txt --root videos/ --pack mine/ --markdown report.md --plot report.png --sheets sheets/
    """
    from tsq_cli.data import read_video_list
    from tsq_cli.evaluation.evaluate import check_plan
    from tsq_cli.evaluation.evaluate import evaluate as measure
    from tsq_cli.evaluation.selectors import Selector
    from tsq_cli.evaluation.sheets import check_ids, choose_videos, write_sheets
    from tsq_cli.features.cache import FeatureCache

    rules, counts = _words(selectors), _numbers(ks)
    check_plan(rules, counts, range(seeds), resamples)
    drawn = _words(sheet_ids or "")
    _check_pictures(plot, sheets, drawn)
    listed = read_video_list(videos, root=root, delimiter=delimiter, classes=classes, subset=subset)
    check_outputs(
        {"--json": None if json is None else Path(json), "--markdown": markdown, "--plot": plot},
        folders={"--sheets": sheets, "--cache": cache},
        inputs=[videos, *([] if classes is None else [classes]), *(video.path for video in listed.videos)],
    )
    info(listed.found)
    check_ids(drawn, [video.id for video in listed.videos])
    with ExitStack() as stack:
        progress = stack.enter_context(progress_bar(f"loading {pack}"))
        folder = cache or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tsq-features-")))
        loaded, network = _load(listed, pack, input_size, recognizer, device, dtype)
        result = measure(
            listed,
            loaded,
            network,
            FeatureCache(folder),
            selectors=cast(list[Selector], rules),  # check_plan has seen them
            ks=counts,
            seeds=range(seeds),
            resamples=resamples,
            workers=workers,
            progress=progress,
        )
        for failed in result.report["list"]["failed"]:
            info(f"left out: {failed['reason']}")
        _write(result, json=json, markdown=markdown, plot=plot)
        if sheets is not None:
            written = write_sheets(sheets, result, loaded, choose_videos(result, drawn), progress=progress)
            info(f"sheets: {written[0]}")
    if json != "-":
        _print(result.report)
    if result.report["list"]["failed"]:
        raise typer.Exit(EXIT_INPUT_FAILED)


def _load(
    listed: VideoList, name: str, input_size: int | None, requested: str, device: str, dtype: Dtype
) -> tuple[Pack, LoadedRecognizer]:
    """The pack and the recognizer, once it is known that they know the list's classes; says which recognizer."""
    from tsq_cli.models.device import resolve_device, resolve_dtype
    from tsq_cli.packs import choose_recognizer, find_pack, load_pack, load_recognizer

    config = find_pack(name).at_input_size(input_size)
    listed.aligned(config.class_names)
    choice = choose_recognizer(config, requested)
    info(f"recognizer: {choice.reason}")
    place = resolve_device(device)
    kind = resolve_dtype(dtype, place)
    loaded = load_pack(config, device=place, dtype=kind)
    return loaded, load_recognizer(loaded, choice)


def _check_pictures(plot: Path | None, sheets: Path | None, drawn: list[str]) -> None:
    if drawn and sheets is None:
        raise UsageError("--sheet-ids was given alone", wanted="a folder for the sheets", fix="add --sheets DIR")
    if plot is not None:
        from tsq_cli.report.plots import check_plot_path

        check_plot_path(plot)
    if sheets is not None:
        from tsq_cli.evaluation.sheets import check_index

        check_index(sheets)


def _write(result: Evaluation, *, json: str | None, markdown: Path | None, plot: Path | None) -> None:
    """The files asked for, and the document on stdout."""
    write_json_or_stdout(result.report, json)
    if markdown is not None:
        from tsq_cli.evaluation.tables import evaluation_markdown

        write_text(markdown, evaluation_markdown(result.report))
    if plot is not None:
        from tsq_cli.report.plots import plot_accuracy

        plot_accuracy(result.report, plot)
        info(f"plot: {plot}")


def _print(report: dict[str, Any]) -> None:
    from tsq_cli.evaluation.tables import evaluation_grids

    out = SafeConsole(least_width=136)
    for grid in evaluation_grids(report):
        out.print(grid.rich())


def _words(listed: str) -> list[str]:
    return [word.strip() for word in listed.split(",") if word.strip()]


def _numbers(listed: str) -> list[int]:
    words = _words(listed)
    if not all(word.isdecimal() for word in words):
        raise UsageError(f"the numbers of frames are {listed!r}", wanted="whole numbers", fix="try -k 1,2,3,5,8,16")
    return [int(word) for word in words]
