"""Accuracy against cost: recognition from the frames of every selector, scored with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tsq_cli import __version__
from tsq_cli.config import ClassifySettings, SelectSettings
from tsq_cli.consensus import Consensus, EarlyExit, Pooling
from tsq_cli.data import LabeledVideo, VideoList
from tsq_cli.evaluation.bootstrap import SEED
from tsq_cli.evaluation.compare import KS, RANDOM_SEEDS, check_evaluation_plan, score_selectors, selected_scores
from tsq_cli.evaluation.costs import count_costs
from tsq_cli.evaluation.early_exit import exit_report, exit_row, frame_scores, tune_early_exit
from tsq_cli.evaluation.selectors import SELECTORS, EvaluatedSelector, FloatArray, SelectorInput, selector_input
from tsq_cli.features.cache import FeatureCache, VideoFeatures, pack_networks, recognizer_network
from tsq_cli.models import refuse_not_finite
from tsq_cli.packs import LoadedRecognizer, Pack
from tsq_cli.packs.recognizers import check_tunable
from tsq_cli.packs.settings import Settings
from tsq_cli.provenance import provenance
from tsq_cli.recognition import consensus_of, early_exit_of
from tsq_cli.scoring import tsq_scores
from tsq_cli.types import BoolArray, Float64Array, Progress, no_progress

SHOWN: tuple[EvaluatedSelector, ...] = ("uniform", "tsq")
_CHUNK_VIDEOS = 64  # that the TSQ layers see together


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Results of an evaluation, over all videos and per video.

    Attributes:
        report: JSON-ready; the result of score_selectors, and tsq_version, provenance, list, pack, recognizer,
            num_frames, videos.
        videos: the N videos that could be decoded.
        num_frames: K of the pack.
        true_probability: by selector (uniform and tsq), float64 [N]: the probability that the recognizer gives to a
            video's true class from K frames; the highest one for several true classes.
        tuned: an early exit tuned on these videos; None where that was not asked for, or no bar met the goal.
    """

    report: dict[str, Any]
    videos: tuple[LabeledVideo, ...]
    num_frames: int
    true_probability: Mapping[EvaluatedSelector, Float64Array]
    tuned: EarlyExit | None = None


def evaluate(
    videos: VideoList,
    pack: Pack,
    recognizer: LoadedRecognizer,
    cache: FeatureCache,
    *,
    selectors: Sequence[EvaluatedSelector] = SELECTORS,
    ks: Sequence[int] = KS,
    seeds: Sequence[int] = RANDOM_SEEDS,
    pooling: Pooling | None = None,
    evidence: Sequence[float] | None = None,
    early_exit: bool = False,
    tune: bool = False,
    resamples: int = 1000,
    workers: int = 1,
    progress: Progress = no_progress,
) -> Evaluation:
    """Evaluate a pack and a recognizer on labeled videos.

    Args:
        videos: of classes that the pack knows.
        pack: selects among T candidates, as many as its settings say.
        recognizer: of the pack's classes.
        cache: videos in it are not decoded again.
        selectors, ks, seeds, resamples: as in score_selectors.
        pooling, evidence: see Consensus.changed; None is the pack's.
        early_exit: whether to measure the pack's early exit too, with a row and a curve.
        tune: whether to tune an early exit on these videos, for the recognizer that the pack's is for.
        workers: videos decoded at once.
        progress: called after each video.

    Raises:
        UsageError: an unknown class, an early exit that this recognizer does not or cannot have, or as score_selectors.
        TsqError: no video could be decoded, or the cache cannot be used.
        WeightsError: networks whose features or scores are not finite.
    """
    check_evaluation_plan(selectors, ks, seeds, resamples)
    if tune:
        check_tunable(pack.config, recognizer.choice)
    videos = videos.aligned(pack.class_names)
    settings = pack.config.settings
    says = ClassifySettings(pooling=pooling, evidence=evidence, early_exit=early_exit)
    consensus, exit_at = _asked(recognizer, says, settings)
    networks = [*pack_networks(pack), recognizer_network(recognizer)]
    extracted = cache.extract(
        videos.videos, networks, num_frames=settings.num_candidates, workers=workers, progress=progress
    )
    targets = videos.targets()[list(extracted.kept)]
    frame_logits = extracted.logits["recognizer"].float().numpy()
    inputs = pack_inputs(pack, extracted, frame_logits, targets)
    costs = count_costs(pack, recognizer)
    so_far = frame_scores(inputs, frame_logits, settings.num_frames, consensus)
    scored = score_selectors(
        inputs,
        frame_logits,
        targets,
        selectors=selectors,
        ks=ks,
        seeds=seeds,
        consensus=consensus,
        cost=partial(costs.of, consensus=consensus),
        resamples=resamples,
        extra=None if exit_at is None else exit_row(so_far, exit_at, costs, consensus)[0],
    )
    true_probability = _true_probability(inputs, frame_logits, targets, settings.num_frames, consensus)
    kept = tuple(videos.videos[number] for number in extracted.kept)
    report = _subject(videos, extracted, pack, recognizer, seeds) | scored
    if exit_at is not None:
        report["early_exit"] = exit_report(so_far, targets, exit_at, costs, consensus)
    report["videos"] = _of_videos(kept, pack, true_probability)
    return Evaluation(
        report=report,
        videos=kept,
        num_frames=settings.num_frames,
        true_probability=true_probability,
        tuned=tune_early_exit(so_far, targets, multi_label=settings.multi_label) if tune else None,
    )


def _asked(recognizer: LoadedRecognizer, says: ClassifySettings, pack: Settings) -> tuple[Consensus, EarlyExit | None]:
    consensus = consensus_of(recognizer.consensus, says, has_sampler=True)
    is_own, t = consensus == recognizer.consensus, pack.num_candidates
    choosing = SelectSettings(selector="tsq", num_frames=min(pack.num_frames, t), num_candidates=t)
    return consensus, early_exit_of(recognizer.early_exit, says, choosing, pack, is_own_consensus=is_own)


def _true_probability(
    inputs: SelectorInput, frame_logits: FloatArray, targets: BoolArray, k: int, consensus: Consensus
) -> dict[EvaluatedSelector, Float64Array]:
    scores = {name: selected_scores(name, inputs, frame_logits, k, consensus) for name in SHOWN}
    return {name: np.where(targets, of_classes, 0.0).max(axis=1) for name, of_classes in scores.items()}


def _of_videos(
    videos: Sequence[LabeledVideo], pack: Pack, true_probability: Mapping[EvaluatedSelector, Float64Array]
) -> list[dict[str, Any]]:
    return [
        {
            "id": video.id,
            "classes": [pack.class_names[label] for label in video.labels],
            "true_probability": {name: float(of[number]) for name, of in true_probability.items()},
        }
        for number, video in enumerate(videos)
    ]


def _subject(
    videos: VideoList, extracted: VideoFeatures, pack: Pack, recognizer: LoadedRecognizer, seeds: Sequence[int]
) -> dict[str, Any]:
    """Describe what was evaluated, and on what: provenance, list, pack and recognizer, JSON-ready."""
    drawn: dict[str, int | Sequence[int]] = {"random": seeds, "bootstrap": SEED}
    return {
        "tsq_version": __version__,
        "provenance": provenance(device=pack.device, dtype=pack.dtype, seeds=drawn, lists=[videos]),
        "list": videos.to_report(extracted.failed),
        "pack": {
            "name": pack.config.name,
            "sha256": pack.config.sha256,
            "input_size": pack.visual_preprocessor.input_size,
        },
        "recognizer": {"name": recognizer.choice.name, "reason": recognizer.choice.reason},
        "num_frames": pack.config.settings.num_frames,
    }


def pack_inputs(pack: Pack, extracted: VideoFeatures, frame_logits: FloatArray, targets: BoolArray) -> SelectorInput:
    """Run a pack's TSQ layers on extracted features, and build the inputs of the selectors.

    Args:
        pack: whose networks the features are of.
        extracted: of N videos with T frames each.
        frame_logits: [N, T, C] of the recognizer.
        targets: bool [N, C], the true classes.

    Raises:
        WeightsError: scores that are not finite.
    """
    saliency, class_scores = _sampled(pack, extracted)
    settings = pack.config.settings
    return selector_input(
        saliency,
        frame_logits,
        targets,
        settings=settings.rules,
        multi_label=settings.multi_label,
        features=functional.normalize(extracted.features["visual"].float(), dim=2).numpy(),
        class_scores=class_scores,
    )


@torch.inference_mode()
def _sampled(pack: Pack, extracted: VideoFeatures) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Compute S^v and S^t [N, T], and z^v and z^t [N, C], of all videos in chunks, float64 on the CPU.

    Raises:
        WeightsError: scores that are not finite.
    """
    features = extracted.features["visual"]
    objects = extracted.logits["objects" if "objects" in extracted.logits else "visual"]
    chunks = []
    for first in range(0, len(features), _CHUNK_VIDEOS):
        x_v, logits = (
            all_[first : first + _CHUNK_VIDEOS].to(pack.device, torch.float32) for all_ in (features, objects)
        )
        scores = tsq_scores(pack, x_v, logits, top_n=pack.config.settings.top_n)
        modules = (scores.visual, scores.textual)
        chunks.append([of.double().cpu() for module in modules for of in (module.scores, module.logits)])
    visual, z_visual, textual, z_textual = (torch.cat(parts) for parts in zip(*chunks, strict=True))
    for curves in (visual, textual, z_visual, z_textual):
        refuse_not_finite(curves, "scores of the sampler")
    return (visual, textual), (z_visual, z_textual)
