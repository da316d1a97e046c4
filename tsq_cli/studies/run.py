"""The workflow of `tsq ablate`: features of two lists of videos, then one study after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tsq_cli import __version__
from tsq_cli.consensus import Pooling
from tsq_cli.features.cache import FeatureCache
from tsq_cli.packs import LoadedRecognizer, Pack
from tsq_cli.provenance import provenance
from tsq_cli.studies.ablation import TRAINING_SEEDS, check_study_plan, run_study
from tsq_cli.studies.data import VideoLists, gather
from tsq_cli.studies.registry import Study
from tsq_cli.training.settings import TrainSettings
from tsq_cli.types import Progress, no_progress


def run_studies(
    studies: Sequence[Study],
    settings: TrainSettings,
    lists: VideoLists,
    pack: Pack,
    recognizer: LoadedRecognizer,
    cache: FeatureCache,
    *,
    seeds: Sequence[int] = TRAINING_SEEDS,
    pooling: Pooling | None = None,
    workers: int = 1,
    progress: Progress = no_progress,
) -> Iterator[dict[str, Any]]:
    """Run studies on the same features, and yield all results so far after each of them.

    Args:
        studies: at least one.
        settings: T, K, and how the heads and a probe are trained.
        lists: the videos to train on, and those to evaluate on.
        pack: whose networks encode the frames; training runs on its device.
        recognizer: of this pack.
        cache: videos in it are not decoded again.
        seeds: one trained network per row and seed.
        pooling: of the frames' scores, in rows that do not vary it; None is the pack's.
        workers: videos decoded at a time.
        progress: called after each video and each step of training.

    Yields:
        One JSON-ready dictionary that grows: tsq_version, provenance, lists, pack, recognizer and prototypes (see
        StudyFeatures), epochs, and studies (see run_study).

    Raises:
        UsageError: as check_study_plan and gather.
        TsqError, WeightsError: as gather and run_study.
    """
    check_study_plan(seeds, settings.num_frames, settings.num_candidates)
    features = gather(settings, lists, pack, recognizer, cache, device=pack.device, workers=workers, progress=progress)
    data = features.data()
    document: dict[str, Any] = {
        "tsq_version": __version__,
        "provenance": provenance(
            device=pack.device,
            dtype=pack.dtype,
            seeds={"training": seeds, "recognizer": settings.recognizer.fit.seed},
            lists=lists,
        ),
        **features.about,
        "epochs": settings.heads.fit.epochs,
        "studies": [],
    }
    for study in studies:
        document["studies"].append(
            run_study(
                study,
                data,
                settings.heads,
                text_data=features.data,
                seeds=seeds,
                num_frames=settings.num_frames,
                pooling=pooling or pack.config.settings.pooling,
                device=pack.device,
                progress=progress,
            )
        )
        yield document
