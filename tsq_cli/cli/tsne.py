"""`tsq tsne`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsq_cli.cli import lists, options
from tsq_cli.cli.options import OUTPUT, RUN
from tsq_cli.cli.output import info, print_json, progress_bar
from tsq_cli.config import DEFAULT_PACK
from tsq_cli.errors import UsageError
from tsq_cli.files import STDOUT, check_outputs, write_json

if TYPE_CHECKING:
    from tsq_cli.studies.tsne import QueryMap

EXAMPLES = options.examples(
    "tsq tsne --config mine/train.toml --html queries.html",
    "tsq tsne --train train.txt --root videos/ --cache features/ --plot queries.png",
    "tsq tsne --pack actions40 --plot queries.png --report queries.json",
)


def tsne(
    *,
    train: lists.TrainList = None,
    root: lists.Root = None,
    delimiter: lists.Delimiter = None,
    classes: lists.Classes = None,
    subset: lists.Subset = None,
    config: lists.RunConfig = None,
    pack: lists.PackOrConfig = None,
    device: options.DeviceOption = "auto",
    perplexity: Annotated[
        float | None,
        typer.Option(
            "--perplexity",
            help="Effective number of neighbors per class; below the number of classes.",
            show_default="30, or a third of the other classes if fewer",
            rich_help_panel=RUN,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option("--epochs", help="Training epochs.", show_default="of --config, else 30", rich_help_panel=RUN),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Random seed of training and of t-SNE.", rich_help_panel=RUN)] = 0,
    cache: lists.StudyCache = None,
    workers: options.Workers = 1,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="PNG", help="Draw the figure.", rich_help_panel=OUTPUT)
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page that shows names on hover.", rich_help_panel=OUTPUT),
    ] = None,
    json: lists.JsonWithoutFile = False,
    report: lists.Report = None,
) -> None:
    """Draw the class queries (TSQ embeddings) of both modules by t-SNE, one point per class.

    With a list of labeled videos, or --config: the paper's four figures for each module, random and proposed
    initialization, each before and after training on the list. Without one: the queries of a pack as they are.
    """
    if plot is None and html is None and report is None and not json:
        raise UsageError("no output was given", wanted="at least one", fix="add --plot, --html, --report or --json")
    if plot is not None:
        from tsq_cli.report.plots import check_plot_path

        check_plot_path(plot)
    outputs = {"--json": Path(STDOUT) if json else None, "--report": report, "--plot": plot, "--html": html}
    with ExitStack() as stack:
        progress = stack.enter_context(progress_bar("loading"))
        from tsq_cli.features.cache import feature_cache
        from tsq_cli.models.device import resolve_device
        from tsq_cli.packs import find_pack, load_pack
        from tsq_cli.studies.tsne import check_tsne, map_pack_queries, map_trained_queries

        if train is None and config is None:
            check_outputs(outputs)
            described = find_pack(pack or DEFAULT_PACK)
            check_tsne(len(described.class_names), perplexity)
            drawn = map_pack_queries(load_pack(described), perplexity=perplexity, seed=seed)
        else:
            from tsq_cli.training.datasets import read_training_list

            settings = lists.study_settings(
                config,
                train_list=train,
                root=root,
                delimiter=delimiter,
                classes=classes,
                subset=subset,
                pack=pack,
                epochs=epochs,
            )
            videos = read_training_list(settings)
            check_outputs(outputs, folders={"--cache": cache}, inputs=lists.input_files(settings, [videos], config))
            info(videos.found)
            check_tsne(len(videos.class_names), perplexity)
            drawn = map_trained_queries(
                settings,
                videos,
                load_pack(settings.pack, device=resolve_device(device)),
                stack.enter_context(feature_cache(lists.study_cache(cache, config))),
                perplexity=perplexity,
                seed=seed,
                workers=workers,
                progress=progress,
            )
        progress("drawing", 0, 1)
        lists.print_failed(drawn.lists)
        _write(drawn, plot=plot, html=html, report=report)
    if json:
        print_json(drawn.report)
    lists.exit_if_failed(drawn.lists)


def _write(drawn: QueryMap, *, plot: Path | None, html: Path | None, report: Path | None) -> None:
    from tsq_cli.report.scatter import plot_scatter, write_scatter_page

    if plot is not None:
        plot_scatter(drawn.figure, plot)
        info(f"figure: {plot}")
    if html is not None:
        write_scatter_page(drawn.figure, html)
        info(f"page: {html}")
    if report is not None:
        write_json(report, drawn.report)
