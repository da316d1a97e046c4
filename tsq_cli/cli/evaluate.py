"""`tsq evaluate`."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from tsq_cli.cli import lists, options
from tsq_cli.cli.options import MODEL, OUTPUT, RUN, SELECTION
from tsq_cli.cli.output import info, print_json, progress_bar
from tsq_cli.config import DEFAULT_PACK
from tsq_cli.errors import UsageError
from tsq_cli.files import STDOUT, check_outputs, write_json, write_text
from tsq_cli.report.console import SafeConsole

if TYPE_CHECKING:
    from tsq_cli.evaluation.evaluate import Evaluation
    from tsq_cli.packs import Pack
    from tsq_cli.types import Progress

SheetLayout = Literal["video", "paper"]

EXAMPLES = options.examples(
    "tsq evaluate val.txt --root videos/ --pack mine/pack",
    "tsq evaluate val.txt --cache mine/cache --markdown report.md --plot cost.png",
    "tsq evaluate val.txt --selectors tsq,uniform,all -k 5 --report report.json",
    "tsq evaluate val.txt --sheets figures/ --sheet-layout paper",
)


def evaluate(
    videos: Annotated[
        Path, typer.Argument(metavar="LIST", help=f"Labeled videos: {lists.LIST_HELP}", show_default=False)
    ],
    *,
    root: lists.Root = None,
    delimiter: lists.Delimiter = None,
    classes: lists.Classes = None,
    subset: lists.Subset = None,
    selectors: Annotated[
        str,
        typer.Option(
            "--selectors",
            metavar="LIST",
            help="Selectors to compare, separated by commas: those of tsq select, confident, agree, agree3, all, "
            "oracle, z-visual, z-textual.",
            rich_help_panel=SELECTION,
        ),
    ] = "tsq,vqm,tqm,uniform,random,middle,confident,agree,agree3,all,oracle,z-visual,z-textual",
    ks: Annotated[
        str,
        typer.Option(
            "-k",
            "--num-frames",
            metavar="LIST",
            help="Numbers of frames to compare, separated by commas.",
            rich_help_panel=SELECTION,
        ),
    ] = "1,2,3,5,8,16",
    seeds: Annotated[int, typer.Option("--seeds", help="Draws of the random selector.", rich_help_panel=SELECTION)] = 5,
    pack: options.PackOption = DEFAULT_PACK,
    recognizer: lists.RecognizerOption = "auto",
    input_size: Annotated[
        int | None,
        typer.Option(
            "--input-size",
            metavar="PX",
            help="Input size of the networks of both modules.",
            show_default="the pack's",
            rich_help_panel=MODEL,
        ),
    ] = None,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "auto",
    json: lists.JsonWithoutFile = False,
    report: lists.Report = None,
    markdown: lists.Markdown = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="PNG", help="Plot accuracy against cost.", rich_help_panel=OUTPUT)
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
            "--sheet-ids",
            metavar="LIST",
            help="Draw these videos instead: ids, separated by commas.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    sheet_layout: Annotated[
        SheetLayout,
        typer.Option(
            "--sheet-layout",
            metavar="video|paper",
            help="One sheet per video, or one as the paper's figures: three videos of one class, three of different "
            "ones, drawn at random.",
            rich_help_panel=OUTPUT,
        ),
    ] = "video",
    pooling: options.PoolingOption = None,
    evidence: options.EvidenceOption = None,
    early_exit: Annotated[
        bool,
        typer.Option(
            "--early-exit",
            help="Measure the pack's early exit too: frames recognized one after the other until the class is sure.",
            rich_help_panel=MODEL,
        ),
    ] = False,
    tune_early_exit: Annotated[
        Path | None,
        typer.Option(
            "--tune-early-exit",
            metavar="FILE",
            help="Tune an early exit on these videos and write it as JSON, for settings.early_exit of pack.json.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    resamples: Annotated[
        int, typer.Option("--resamples", help="Bootstrap resamples behind the intervals.", rich_help_panel=RUN)
    ] = 1000,
    cache: lists.TemporaryCache = None,
    workers: options.Workers = 1,
) -> None:
    """Measure how well videos are recognized from the frames that each selector chooses, and at what cost.

    The recognizer sees the chosen frames of every video, and its scores are pooled. Beside the selectors stands what
    they have to beat: all frames, frames that agree, and the class scores of the modules themselves.
    """
    from tsq_cli.data import read_video_list
    from tsq_cli.evaluation.compare import check_evaluation_plan
    from tsq_cli.evaluation.evaluate import evaluate as measure
    from tsq_cli.evaluation.paper_sheet import choose_paper_videos
    from tsq_cli.evaluation.selectors import EvaluatedSelector
    from tsq_cli.evaluation.sheets import check_ids
    from tsq_cli.features.cache import feature_cache
    from tsq_cli.packs import find_pack

    names, counts, drawn = _split(selectors), _numbers(ks), _split(sheet_ids or "")
    weights = options.evidence_of(evidence)
    check_evaluation_plan(names, counts, range(seeds), resamples)
    _check_pictures(plot, sheets, drawn, sheet_layout)
    listed = read_video_list(videos, root=root, delimiter=delimiter, classes=classes, subset=subset)
    files = {"--report": report, "--markdown": markdown, "--plot": plot, "--tune-early-exit": tune_early_exit}
    check_outputs(
        {"--json": Path(STDOUT) if json else None, **files},
        folders={"--sheets": sheets, "--cache": cache},
        inputs=[videos, *([] if classes is None else [classes]), *(video.path for video in listed.videos)],
    )
    info(listed.found)
    check_ids(drawn, [video.id for video in listed.videos])
    if sheet_layout == "paper":
        choose_paper_videos(listed.videos, drawn)  # refuses a list without such videos
    with ExitStack() as stack:
        progress = stack.enter_context(progress_bar(f"loading {pack}"))
        config = find_pack(pack).at_input_size(input_size)
        listed.aligned(config.class_names)  # refuses unknown classes before anything is loaded
        loaded, network = lists.load_networks(config, recognizer, device, dtype)
        result = measure(
            listed,
            loaded,
            network,
            stack.enter_context(feature_cache(cache)),
            selectors=cast(list[EvaluatedSelector], names),  # check_evaluation_plan has seen them
            ks=counts,
            seeds=range(seeds),
            pooling=pooling,
            evidence=weights,
            early_exit=early_exit,
            tune=tune_early_exit is not None,
            resamples=resamples,
            workers=workers,
            progress=progress,
        )
        lists.print_failed([result.report["list"]])
        _write(result, report=report, markdown=markdown, plot=plot, tuned=tune_early_exit)
        if sheets is not None:
            _draw(sheets, sheet_layout, result, loaded, drawn, progress)
    if json:
        print_json(result.report)
    else:
        _print(result.report)
    lists.exit_if_failed([result.report["list"]])


def _draw(
    folder: Path, layout: SheetLayout, result: Evaluation, pack: Pack, ids: list[str], progress: Progress
) -> None:
    """Draw the sheets."""
    from tsq_cli.evaluation.paper_sheet import choose_paper_videos, write_paper_sheet
    from tsq_cli.evaluation.sheets import choose_videos, write_sheets

    if layout == "paper":
        written = write_paper_sheet(folder, result, pack, choose_paper_videos(result.videos, ids), progress=progress)
    else:
        written = write_sheets(folder, result, pack, choose_videos(result, ids), progress=progress)
    info(f"sheets: {written[0]}")


def _check_pictures(plot: Path | None, sheets: Path | None, drawn: list[str], layout: SheetLayout) -> None:
    """Refuse outputs that cannot be drawn, before anything is decoded."""
    for option, is_given in (("--sheet-ids", bool(drawn)), ("--sheet-layout", layout != "video")):
        if is_given and sheets is None:
            raise UsageError(f"{option} was given alone", wanted="a folder for the sheets", fix="add --sheets DIR")
    if plot is not None:
        from tsq_cli.report.plots import check_plot_path

        check_plot_path(plot)
    if sheets is not None:
        from tsq_cli.evaluation.sheets import check_index

        check_index(sheets)


def _write(
    result: Evaluation, *, report: Path | None, markdown: Path | None, plot: Path | None, tuned: Path | None
) -> None:
    if tuned is not None:
        _write_tuned(result, tuned)
    if report is not None:
        write_json(report, result.report)
    if markdown is not None:
        from tsq_cli.evaluation.tables import evaluation_markdown

        write_text(markdown, evaluation_markdown(result.report))
    if plot is not None:
        from tsq_cli.report.plots import plot_accuracy

        plot_accuracy(result.report, plot)
        info(f"plot: {plot}")


def _write_tuned(result: Evaluation, path: Path) -> None:
    from tsq_cli.evaluation.early_exit import GOAL

    if result.tuned is None:
        info(
            f"no early exit: each bar may lose more than {GOAL:.1%} of the videos, "
            f"or saves no frame, so {path} is not written"
        )
        return
    write_json(path, _pack_settings(result.report) | {"early_exit": asdict(result.tuned)})
    info(f"early exit: {path}, to be copied into settings of pack.json")


def _pack_settings(report: dict[str, Any]) -> dict[str, Any]:
    """Name the pooling and the evidence of an evaluation as pack.json does."""
    evidence = {f"evidence_{module}": weight for module, weight in report["evidence"].items()}
    return {"pooling": report["pooling"], **evidence}


def _print(report: dict[str, Any]) -> None:
    from tsq_cli.evaluation.tables import consensus_notes, evaluation_grids

    out = SafeConsole(least_width=136)
    for grid in evaluation_grids(report):
        out.print(grid.rich())
    for sentence in consensus_notes(report):
        out.print(sentence, soft_wrap=True)


def _split(listed: str) -> list[str]:
    return [word.strip() for word in listed.split(",") if word.strip()]


def _numbers(listed: str) -> list[int]:
    words = _split(listed)
    if not all(word.isdecimal() for word in words):
        raise UsageError(f"the numbers of frames are {listed!r}", wanted="whole numbers", fix="try -k 1,2,3,5,8,16")
    return [int(word) for word in words]
