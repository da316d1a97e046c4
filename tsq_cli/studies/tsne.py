"""The workflow of `tsq tsne`: t-SNE of both modules' class queries (TSQ embeddings), before and after training."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsq_cli import __version__
from tsq_cli.data import VideoList
from tsq_cli.errors import UsageError, install_extra
from tsq_cli.features.cache import FeatureCache
from tsq_cli.models import TSQNet
from tsq_cli.packs import Pack
from tsq_cli.provenance import provenance
from tsq_cli.report.scatter import Panel, Scatter
from tsq_cli.studies.ablation import TrainingData, train_network
from tsq_cli.studies.data import gather_training
from tsq_cli.training.heads import initial_tsqnet
from tsq_cli.training.settings import HeadSettings, TrainSettings
from tsq_cli.types import Float64Array, Progress, no_progress

FEWEST_CLASSES = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Queries:
    """The class queries of both modules at one point of a training.

    Attributes:
        title: names that point ("random start, before training").
        visual: [C, Dv].
        textual: [C, Dt].
    """

    title: str
    visual: Tensor
    textual: Tensor

    @classmethod
    def of(cls, tsqnet: TSQNet, title: str) -> Queries:
        """Copy a network's queries to the CPU.

        Raises:
            UsageError: a layer with one query for all classes.
        """
        if {tsqnet.vqm.config.attention, tsqnet.tqm.config.attention} != {"class-specific"}:
            raise UsageError(
                "a layer has one query for all classes",
                wanted="one query per class",
                fix="use class-specific attention",
            )
        visual, textual = (module.queries.detach().cpu().clone() for module in (tsqnet.vqm, tsqnet.tqm))
        return cls(title=title, visual=visual, textual=textual)


@dataclass(frozen=True, kw_only=True, eq=False)
class QueryMap:
    """Queries placed by t-SNE.

    Attributes:
        figure: to draw.
        report: JSON-ready: tsq_version, provenance, pack, seed, classes, panels, each {title, points [C, 2]}; of
            trained queries also list (see VideoList.to_report) and settings (of the heads).
        lists: reports of the lists of videos that were read, none for the queries of a pack.
    """

    figure: Scatter
    report: dict[str, Any]
    lists: list[dict[str, Any]] = field(default_factory=list)


def map_trained_queries(
    settings: TrainSettings,
    videos: VideoList,
    pack: Pack,
    cache: FeatureCache,
    *,
    perplexity: float | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = no_progress,
) -> QueryMap:
    """Train from a random and from the proposed initialization, and place the queries before and after: S's figures.

    Args:
        settings: T, and how the heads are trained; their initialization and seed are replaced.
        videos: to train on.
        pack: whose networks encode the frames; training runs on its device.
        cache: videos in it are not decoded again.
        perplexity: as for tsne_figure.
        seed: of training and of t-SNE.
        workers: videos decoded at a time.
        progress: called after each video and each step of training.

    Raises:
        UsageError: as check_tsne and gather_training, or layers with one query for all classes.
        TsqError, WeightsError: as gather_training and train_queries.

    Source: docs/method.md, section 7.
    """
    data, extracted = gather_training(settings, videos, pack, cache, workers=workers, progress=progress)
    queries = train_queries(data, settings.heads, seed=seed, device=pack.device, progress=progress)
    figure = tsne_figure(queries, videos.class_names, meanings=data.queries_textual, perplexity=perplexity, seed=seed)
    listed = videos.to_report(extracted.failed)
    facts = {"list": listed, "settings": asdict(settings.heads)}
    return QueryMap(figure=figure, report=facts | _report(pack, figure, seed, [videos]), lists=[listed])


def map_pack_queries(pack: Pack, *, perplexity: float | None = None, seed: int = 0) -> QueryMap:
    """Place the queries of a pack as they are.

    Args:
        pack: of any classes.
        perplexity: as for tsne_figure.
        seed: of t-SNE.

    Raises:
        UsageError: as check_tsne, or layers with one query for all classes.
    """
    queries = Queries.of(pack.tsqnet, f"as in the pack {pack.config.name}")
    figure = tsne_figure([queries], pack.class_names, meanings=queries.textual, perplexity=perplexity, seed=seed)
    return QueryMap(figure=figure, report=_report(pack, figure, seed, []))


def _report(pack: Pack, figure: Scatter, seed: int, lists: Sequence[VideoList]) -> dict[str, Any]:
    return {
        "tsq_version": __version__,
        "provenance": provenance(device=pack.device, dtype=pack.dtype, seeds={"training and t-SNE": seed}, lists=lists),
        "pack": {"name": pack.config.name, "sha256": pack.config.sha256},
        "seed": seed,
        "classes": list(figure.names),
        "panels": [{"title": panel.title, "points": panel.points.tolist()} for row in figure.rows for panel in row],
    }


def default_perplexity(num_classes: int) -> float:
    """30, t-SNE's usual value, or a third of the other classes where those are fewer than 90 (ours)."""
    return min(30.0, (num_classes - 1) / 3)


def check_tsne(num_classes: int, perplexity: float | None) -> None:
    """Refuse arguments of t-SNE before anything is trained.

    Args:
        num_classes: C; each class is one point.
        perplexity: effective number of neighbors of a point; None is default_perplexity.

    Raises:
        UsageError: fewer than 4 classes, a perplexity outside (0, C), or scikit-learn is not installed.
    """
    if num_classes < FEWEST_CLASSES:
        raise UsageError(
            f"there are {num_classes} classes, and each is one point of the figure",
            wanted=f"{FEWEST_CLASSES} or more, since t-SNE shows which points are neighbors",
            fix="compare so few classes by `tsq evaluate`",
        )
    if perplexity is not None and not 0 < perplexity < num_classes:
        raise UsageError(
            f"the perplexity is {perplexity:g}",
            wanted=f"a number above 0 and below {num_classes}, the number of classes",
            fix=f"leave it at its default, {default_perplexity(num_classes):.1f} here",
        )
    if importlib.util.find_spec("sklearn") is None:
        raise UsageError(
            "scikit-learn is not installed", wanted="the library that computes t-SNE", fix=install_extra("train")
        )


def train_queries(
    data: TrainingData,
    settings: HeadSettings,
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Progress = no_progress,
) -> list[Queries]:
    """Compute the queries of the four figures: random and proposed initialization, before and after training.

    Args:
        data: to train on.
        settings: of the training; both initializations and the seed are replaced.
        seed: of the training and of the random initialization.
        device: to train on.
        progress: called after each step of training.

    Raises:
        UsageError: layers with one query for all classes.
        TsqError: a training that diverged.
    """
    settings = replace(settings, fit=replace(settings.fit, seed=seed))
    starts = {
        "random": replace(settings, visual_init="random", textual_init="random"),
        "proposed": replace(settings, visual_init="prototypes", textual_init="text"),
    }
    found = []
    for number, (name, start) in enumerate(starts.items()):

        def report_step(_what: str, step: int, steps: int, number: int = number) -> None:
            progress("training for t-SNE", number * steps + step, len(starts) * steps)

        before = initial_tsqnet(
            start,
            queries_visual=data.queries_visual,
            queries_textual=data.queries_textual,
            num_frames=data.num_candidates,
        )
        found.append(Queries.of(before, f"{name} start, before training"))
        after = train_network(data, start, seed=seed, device=device, progress=report_step)
        found.append(Queries.of(after, f"{name} start, after training"))
    return found


def tsne_figure(
    queries: Sequence[Queries],
    class_names: Sequence[str],
    *,
    meanings: Tensor,
    perplexity: float | None = None,
    seed: int = 0,
) -> Scatter:
    """Lay out one row of panels per module, VQM above TQM, with one point per class.

    Every panel is embedded by itself (scikit-learn, Euclidean distances, initialized by PCA): neighborhoods compare
    between panels, positions do not. A class has the same color in all panels, and classes of similar meaning have
    similar colors: their order on the color wheel is that of the angles of `meanings` in their plane of largest
    variance (ours).

    Args:
        queries: at least one.
        class_names: C of them.
        meanings: embeddings of the class names, [C, D].
        perplexity: effective number of neighbors of a point; None is default_perplexity.
        seed: of t-SNE.

    Raises:
        UsageError: see check_tsne.
    """
    check_tsne(len(class_names), perplexity)
    perplexity = default_perplexity(len(class_names)) if perplexity is None else perplexity
    rows = tuple(
        tuple(
            Panel(
                title=f"{title}, {one.title}",
                points=embed(getattr(one, module), perplexity=perplexity, seed=seed),
            )
            for one in queries
        )
        for module, title in (("visual", "VQM"), ("textual", "TQM"))
    )
    return Scatter(
        title="t-SNE of the TSQ embeddings",
        note=f"{len(class_names)} classes, one point each; perplexity {perplexity:.3g}; similar colors, similar names",
        rows=rows,
        names=tuple(class_names),
        hues=meaning_hues(meanings),
    )


def embed(queries: Tensor, *, perplexity: float, seed: int = 0) -> Float64Array:
    """Embed queries [C, D] in the plane by t-SNE, float64 [C, 2]; the same for the same seed."""
    from sklearn import manifold as untyped

    manifold: Any = untyped
    tsne = manifold.TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=seed)
    points: Float64Array = tsne.fit_transform(queries.double().numpy()).astype(np.float64)
    return points


def meaning_hues(embeddings: Tensor) -> Float64Array:
    """Assign evenly spaced hues [C] in [0, 1), in order of the angles of embeddings [C, D] in their principal plane."""
    centered = (embeddings - embeddings.mean(dim=0)).double().numpy()
    left, sizes, _ = np.linalg.svd(centered, full_matrices=False)
    plane = left[:, :2] * sizes[:2]
    order = np.argsort(np.arctan2(plane[:, 1], plane[:, 0]), kind="stable")
    hues = np.empty(len(order))
    hues[order] = np.arange(len(order)) / len(order)
    return hues
