"""The ablation studies and the t-SNE figures of `tsq ablate` and `tsq tsne`, on clips composed of 40 actions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from actions40_steps import Gathered, gather, prototypes
from actions40_train import BASE, HEADS, clip_source
from actions40_videos import class_names

from tsq_cli.cli.output import pause_progress, progress_bar
from tsq_cli.files import write_json
from tsq_cli.packs import Pack, load_pack
from tsq_cli.provenance import provenance
from tsq_cli.report.scatter import plot_scatter, write_scatter_page
from tsq_cli.studies.ablation import TRAINING_SEEDS, StudyData, run_study
from tsq_cli.studies.data import with_texts
from tsq_cli.studies.registry import find_studies
from tsq_cli.studies.tables import study_grid, study_notes
from tsq_cli.studies.tsne import train_queries, tsne_figure
from tsq_cli.training.datasets import name_queries
from tsq_cli.training.heads import ClipBatch
from tsq_cli.training.settings import HeadSettings

EPOCHS = 3
SETTINGS = HeadSettings(fit=replace(HEADS.fit, epochs=EPOCHS))  # the layer of S


def studies(names: Sequence[str], photos: Path, work: Path, videos: Path, json: Path) -> None:
    """Run ablation studies; write and print each as it ends."""
    reports = []
    with progress_bar("training") as progress:
        on = gather(photos, work, videos, "tuning", progress)
        seen_with = study_data(on, photos)
        origin = provenance(device="cpu", dtype=torch.float32, seeds={"heads": TRAINING_SEEDS}, lists=[on.listed])
        own = load_pack(BASE)
        data = seen_with(own)
        for study in find_studies(names):
            report = run_study(
                study, data, SETTINGS, text_data=lambda name: seen_with(with_texts(own, name)), progress=progress
            )
            reports.append(report)
            with pause_progress():
                print(study_grid(report).markdown(), *study_notes(report), f"{report['seconds']:.0f} s", sep="\n")
            write_json(json, {"provenance": origin, "studies": reports})


def tsne(photos: Path, work: Path, videos: Path, plot: Path, html: Path | None) -> None:
    """Draw the queries of both modules before and after training, from random and proposed initialization."""
    with progress_bar("training") as progress:
        data = study_data(gather(photos, work, videos, "tuning", progress), photos)(load_pack(BASE))
        queries = train_queries(data, SETTINGS, progress=progress)
        figure = tsne_figure(queries, class_names(photos), meanings=data.queries_textual)
        plot_scatter(figure, plot)
        if html is not None:
            write_scatter_page(figure, html)


def study_data(on: Gathered, photos: Path) -> Callable[[Pack], StudyData]:
    """Return a function from a pack, for its text embeddings, to a study's data; the clips are the same for all."""
    features, logits = on.features["tuned"], torch.from_numpy(on.logits)
    targets = torch.from_numpy(on.targets).float()
    queries = prototypes(on, "tuned", seed=0)

    def seen_with(pack: Pack) -> StudyData:
        sight = replace(on.seen["tuned"], embeddings=pack.textual_embeddings)
        return StudyData(
            source=lambda seed: clip_source(on.composer, sight, "tuned", SETTINGS.fit.batch_size, seed),
            queries_visual=queries,
            queries_textual=name_queries(pack, class_names(photos)),
            validation=ClipBatch(features.float(), sight.textual(features), targets),
            frame_logits=logits,
        )

    return seen_with
