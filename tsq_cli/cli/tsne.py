"""`tsq tsne`."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tsq_cli import __version__
from tsq_cli.cli import options
from tsq_cli.cli.ablate import (
    Cache,
    Classes,
    Config,
    Delimiter,
    JsonFile,
    Pack,
    Root,
    Subset,
    TrainList,
    cache_folder,
    files_read,
    run_settings,
)
from tsq_cli.cli.options import OUTPUT, RUN
from tsq_cli.cli.output import info, progress_bar, write_json_or_stdout
from tsq_cli.config import DEFAULT_PACK
from tsq_cli.errors import EXIT_INPUT_FAILED, UsageError
from tsq_cli.files import check_outputs

if TYPE_CHECKING:
    from tsq_cli.data import VideoList
    from tsq_cli.features.cache import FeatureCache
    from tsq_cli.report.scatter import Scatter
    from tsq_cli.training.settings import TrainSettings
    from tsq_cli.types import Progress


def tsne(
    *,
    train: TrainList = None,
    root: Root = None,
    delimiter: Delimiter = None,
    classes: Classes = None,
    subset: Subset = None,
    config: Config = None,
    pack: Pack = None,
    device: options.DeviceOption = "auto",
    perplexity: Annotated[
        float | None,
        typer.Option(
            "--perplexity",
            help="Neighbors that a class looks at, about; below the number of classes.",
            rich_help_panel=RUN,
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Of each training.", rich_help_panel=RUN)] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of training and of t-SNE.", rich_help_panel=RUN)] = 0,
    cache: Cache = None,
    workers: options.Workers = 1,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="PNG", help="Draw the figure.", rich_help_panel=OUTPUT)
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="FILE", help="Write it as a page that shows names on hover.", rich_help_panel=OUTPUT
        ),
    ] = None,
    json: JsonFile = None,
) -> None:
    """Draw the class queries (TSQ embeddings) of both modules by t-SNE, a point a class.

    With a list of labeled videos, or --config, the paper's four figures for each module: a random and the proposed
    start, each before and after training on the list. Without, the queries of a pack as they are.

    Example: tsq tsne --train train.txt --root videos/ --cache features/ --plot tsne.png --html tsne.html
    """
    if plot is None and html is None and json is None:
        raise UsageError("nowhere to draw to was given", wanted="a file", fix="add --plot, --html or --json")
    if plot is not None:
        from tsq_cli.report.plots import check_plot_path

        check_plot_path(plot)
    outputs = {"--plot": plot, "--html": html, "--json": None if json is None else Path(json)}
    trained = train is not None or config is not None
    with ExitStack() as stack:
        progress = stack.enter_context(progress_bar("loading"))
        if trained:
            settings = run_settings(
                config,
                train_list=train,
                root=root,
                delimiter=delimiter,
                classes=classes,
                subset=subset,
                pack=pack,
                epochs=epochs,
            )
            from tsq_cli.training.datasets import read_list

            videos = read_list(settings, settings.train_list, settings.subset)
            check_outputs(outputs, folders={"--cache": cache}, inputs=files_read(settings, [videos], config))
            folder = stack.enter_context(cache_folder(cache, config))
            figure, about = _trained(settings, videos, folder, device, perplexity, seed, workers, progress)
        else:
            check_outputs(outputs)
            figure, about = _of_pack(pack or DEFAULT_PACK, perplexity, seed)
        progress("drawing", 0, 1)
        _write(figure, about, plot=plot, html=html, json=json)
    if about["failed"]:
        raise typer.Exit(EXIT_INPUT_FAILED)


def _trained(
    settings: TrainSettings,
    videos: VideoList,
    cache: FeatureCache,
    device: str,
    perplexity: float | None,
    seed: int,
    workers: int,
    progress: Progress,
) -> tuple[Scatter, dict[str, Any]]:
    """The paper's four figures for each module."""
    from tsq_cli.models.device import resolve_device
    from tsq_cli.packs import load_pack
    from tsq_cli.studies.data import gather_training
    from tsq_cli.studies.tsne import check_tsne, train_queries, tsne_figure

    info(videos.found)
    check_tsne(len(videos.class_names), perplexity)
    place = resolve_device(device)
    pack = load_pack(settings.pack, device=place)
    data, extracted = gather_training(settings, videos, pack, cache, workers=workers, progress=progress)
    for _, reason in extracted.failed:
        info(f"left out: {reason}")
    queries = train_queries(data, settings.heads, seed=seed, device=place, progress=progress)
    figure = tsne_figure(queries, videos.class_names, meanings=data.queries_textual, perplexity=perplexity, seed=seed)
    return figure, {
        "list": {"found": videos.found, "missing": list(videos.missing)},
        "failed": [{"id": video.id, "reason": reason} for video, reason in extracted.failed],
        "pack": {"name": pack.config.name, "sha256": pack.config.sha256},
        "settings": asdict(settings.heads),
        "seed": seed,
    }


def _of_pack(name: str, perplexity: float | None, seed: int) -> tuple[Scatter, dict[str, Any]]:
    """The queries of a pack as they are."""
    from tsq_cli.packs import find_pack, load_pack
    from tsq_cli.studies.tsne import Queries, check_tsne, tsne_figure

    config = find_pack(name)
    check_tsne(len(config.class_names), perplexity)
    queries = Queries.of(load_pack(config).tsqnet, f"as in the pack {config.name}")
    figure = tsne_figure([queries], config.class_names, meanings=queries.textual, perplexity=perplexity, seed=seed)
    return figure, {"failed": [], "pack": {"name": config.name, "sha256": config.sha256}, "seed": seed}


def _write(figure: Scatter, about: dict[str, Any], *, plot: Path | None, html: Path | None, json: str | None) -> None:
    """The files asked for, and the document on stdout."""
    from tsq_cli.report.scatter import plot_scatter, write_scatter_page

    if plot is not None:
        plot_scatter(figure, plot)
        info(f"figure: {plot}")
    if html is not None:
        write_scatter_page(figure, html)
        info(f"page: {html}")
    panels = [{"title": panel.title, "points": panel.points.tolist()} for row in figure.rows for panel in row]
    write_json_or_stdout({"tsq_version": __version__, **about, "classes": list(figure.names), "panels": panels}, json)
