"""Accuracy against cost: recognition from the frames of every selector, scored with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tsq_cli import __version__
from tsq_cli.data import LabeledVideo, VideoList
from tsq_cli.errors import UsageError
from tsq_cli.evaluation.bootstrap import LEVEL, SEED, Bootstrap, with_interval
from tsq_cli.evaluation.costs import count_costs
from tsq_cli.evaluation.metrics import mean_average_precision, top_k_hits
from tsq_cli.evaluation.selectors import (
    ALL_SELECTORS,
    SELECTORS,
    EvaluatedSelector,
    FloatArray,
    SelectorInput,
    class_probabilities,
    select,
    selector_input,
)
from tsq_cli.features.cache import FeatureCache, VideoFeatures, pack_networks, recognizer_network
from tsq_cli.models import refuse_not_finite
from tsq_cli.packs import LoadedRecognizer, Pack
from tsq_cli.provenance import provenance
from tsq_cli.scoring import tsq_scores
from tsq_cli.types import BoolArray, Float64Array, Int64Array, Progress, no_progress

KS = (1, 2, 3, 5, 8, 16)
RANDOM_SEEDS = (0, 1, 2, 3, 4)
SHOWN: tuple[EvaluatedSelector, ...] = ("uniform", "tsq")
_CHUNK_VIDEOS = 64  # that the TSQ layers see together
METRICS = {
    "map": "mean over the classes present of the average precision of the videos ranked by the class' score, which is "
    "the mean over its videos of the precision at each; equal scores share the precision at the end of their group",
    "top1": "share of videos whose highest-scoring class is a true one",
    "top5": "share of videos with a true class among their five highest-scoring ones",
}
INTERVAL = (
    f"{LEVEL:.0%} percentiles of a bootstrap over videos, shifted so that the mean of the resamples is the value; "
    "differences are paired: both sides use the same resamples"
)


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
    """

    report: dict[str, Any]
    videos: tuple[LabeledVideo, ...]
    num_frames: int
    true_probability: Mapping[EvaluatedSelector, Float64Array]


def evaluate(
    videos: VideoList,
    pack: Pack,
    recognizer: LoadedRecognizer,
    cache: FeatureCache,
    *,
    selectors: Sequence[EvaluatedSelector] = SELECTORS,
    ks: Sequence[int] = KS,
    seeds: Sequence[int] = RANDOM_SEEDS,
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
        workers: videos decoded at once.
        progress: called after each video.

    Raises:
        UsageError: a class that the pack does not know, or as score_selectors.
        TsqError: no video could be decoded, or the cache cannot be used.
        WeightsError: networks whose features or scores are not finite.
    """
    check_evaluation_plan(selectors, ks, seeds, resamples)
    videos = videos.aligned(pack.class_names)
    settings = pack.config.settings
    networks = [*pack_networks(pack), recognizer_network(recognizer)]
    extracted = cache.extract(
        videos.videos, networks, num_frames=settings.num_candidates, workers=workers, progress=progress
    )
    targets = videos.targets()[list(extracted.kept)]
    frame_logits = extracted.logits["recognizer"].float().numpy()
    inputs = selector_input(
        _pack_saliency(pack, extracted),
        frame_logits,
        targets,
        settings=settings.rules,
        multi_label=settings.multi_label,
        features=functional.normalize(extracted.features["visual"].float(), dim=2).numpy(),
    )
    scored = score_selectors(
        inputs,
        frame_logits,
        targets,
        selectors=selectors,
        ks=ks,
        seeds=seeds,
        multi_label=settings.multi_label,
        cost=count_costs(pack, recognizer).of,
        resamples=resamples,
    )
    true_probability: dict[EvaluatedSelector, Float64Array] = {}
    for name in SHOWN:
        positions = select(name, inputs, settings.num_frames)
        scores = video_scores(frame_logits, positions, multi_label=settings.multi_label)
        true_probability[name] = np.where(targets, scores, 0.0).max(axis=1)
    kept = tuple(videos.videos[number] for number in extracted.kept)
    report = _subject(videos, extracted, pack, recognizer, seeds) | scored
    report["videos"] = [
        {
            "id": video.id,
            "classes": [pack.class_names[label] for label in video.labels],
            "true_probability": {name: float(of[number]) for name, of in true_probability.items()},
        }
        for number, video in enumerate(kept)
    ]
    return Evaluation(report=report, videos=kept, num_frames=settings.num_frames, true_probability=true_probability)


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


@torch.inference_mode()
def _pack_saliency(pack: Pack, extracted: VideoFeatures) -> tuple[Tensor, Tensor]:
    """Compute S^v and S^t of all videos in chunks, float64 [N, T] on the CPU.

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
        chunks.append([module.scores.double().cpu() for module in (scores.visual, scores.textual)])
    visual, textual = (torch.cat(curves) for curves in zip(*chunks, strict=True))
    for curves in (visual, textual):
        refuse_not_finite(curves, "saliency scores")
    return visual, textual


def score_selectors(
    inputs: SelectorInput,
    frame_logits: FloatArray,
    targets: BoolArray,
    *,
    selectors: Sequence[EvaluatedSelector] = SELECTORS,
    ks: Sequence[int] = KS,
    seeds: Sequence[int] = RANDOM_SEEDS,
    multi_label: bool = False,
    cost: Callable[[EvaluatedSelector, int], float] | None = None,
    resamples: int = 1000,
) -> dict[str, Any]:
    """Recognize every video from the frames of each selector, and score the recognition.

    Args:
        inputs: what selectors look at, of N videos with T frames.
        frame_logits: [N, T, C] of the recognizer.
        targets: bool [N, C], the true classes, at least one per video.
        selectors: to compare.
        ks: numbers of frames, at least 1 each; those above T count as T. The selector `all` has one row, of T frames.
        seeds: of the random selector, at least one.
        multi_label: see video_scores.
        cost: GMACs per video by selector and K; None leaves them out.
        resamples: of the bootstrap, at least 1.

    Returns:
        JSON-ready: num_videos, num_classes, num_candidates, multi_label, ks, seeds, resamples, metrics and interval
        (their definitions), and rows, one per selector and K: {selector, k, giga_macs, map, top1, top5, spread, gains}.
        Each metric is {value, low, high}, from 0 to 1; for the random selector the mean over the seeds, with its
        standard deviation over them under spread (else None). gains holds, for each of the selectors uniform (at the
        same K) and all that is compared too, the difference of each metric as {value, low, high}.

    Raises:
        UsageError: no or unknown selectors, a K below 1, no seed or no resample.
        ValueError: arrays that do not fit each other.
    """
    n, t, c = frame_logits.shape
    if targets.shape != (n, c) or inputs.saliency_visual.shape != (n, t):
        raise ValueError(f"frame_logits [{n}, {t}, {c}] do not fit {targets.shape} or {inputs.saliency_visual.shape}")
    check_evaluation_plan(selectors, ks, seeds, resamples)
    counts = sorted({min(k, t) for k in ks})
    bootstrap = Bootstrap(targets, resamples=resamples)
    scored: dict[tuple[EvaluatedSelector, int], _Scored] = {}
    for selector in dict.fromkeys(selectors):
        for k in [t] if selector == "all" else counts:
            of_seeds = [
                _score(
                    video_scores(frame_logits, select(selector, inputs, k, seed), multi_label=multi_label),
                    targets,
                    bootstrap,
                )
                for seed in (seeds if selector == "random" else seeds[:1])
            ]
            scored[selector, k] = _mean(of_seeds)
    return {
        "num_videos": n,
        "num_classes": c,
        "num_candidates": t,
        "multi_label": multi_label,
        "ks": counts,
        "seeds": list(seeds),
        "resamples": resamples,
        "metrics": METRICS,
        "interval": INTERVAL,
        "rows": [
            {"selector": selector, "k": k, "giga_macs": None if cost is None else cost(selector, k)}
            | row.to_report()
            | {"gains": _gains(selector, k, scored)}
            for (selector, k), row in scored.items()
        ],
    }


def video_scores(frame_logits: FloatArray, positions: Int64Array, *, multi_label: bool = False) -> Float64Array:
    """Compute class scores of videos from their chosen frames: softmax of the mean of the frames' logits.

    Args:
        frame_logits: [N, T, C].
        positions: [N, K] in [0, T), as tsq_cli.evaluation.selectors.select gives them.
        multi_label: sigmoid instead of softmax.

    Returns:
        float64 [N, C], 0 to 1.

    Source: ours.
    """
    chosen = np.take_along_axis(frame_logits, positions[:, :, None], axis=1)  # [N, K, C]
    return class_probabilities(chosen.mean(axis=1, dtype=np.float64), multi_label=multi_label)


@dataclass(frozen=True)
class _Scored:
    """Each metric's value and its resamples [R]; for several seeds their mean, and their standard deviation."""

    values: Mapping[str, float]
    replicates: Mapping[str, Float64Array]
    spread: Mapping[str, float] | None = None

    def to_report(self) -> dict[str, Any]:
        """JSON-ready: the metrics with their intervals, and their standard deviation over seeds."""
        return {
            **{metric: with_interval(self.values[metric], self.replicates[metric]) for metric in METRICS},
            "spread": self.spread,
        }

    def gains(self, reference: _Scored) -> dict[str, Mapping[str, float]]:
        """Compute the difference of each metric to a reference, with its interval."""
        return {
            metric: with_interval(
                value - reference.values[metric], self.replicates[metric] - reference.replicates[metric], least=-1
            )
            for metric, value in self.values.items()
        }


def _gains(
    selector: EvaluatedSelector, k: int, scored: Mapping[tuple[EvaluatedSelector, int], _Scored]
) -> dict[str, Any]:
    """Compute a row's gains over uniform at the same K and over all frames, as far as these were scored."""
    references = {
        name: reference for (name, of_k), reference in scored.items() if name == "all" or (name, of_k) == ("uniform", k)
    }
    return {
        name: scored[selector, k].gains(reference)
        for name, reference in references.items()
        if selector not in (name, "all")
    }


def _score(scores: Float64Array, targets: BoolArray, bootstrap: Bootstrap) -> _Scored:
    hits = {k: top_k_hits(scores, targets, k) for k in (1, 5)}
    return _Scored(
        values={
            "map": mean_average_precision(scores, targets),
            **{f"top{k}": float(hit.mean()) for k, hit in hits.items()},
        },
        replicates={
            "map": bootstrap.mean_average_precision(scores),
            **{f"top{k}": bootstrap.mean(hit) for k, hit in hits.items()},
        },
    )


def _mean(of_seeds: Sequence[_Scored]) -> _Scored:
    """Average the scores of several seeds, with their standard deviation; a single one stays as it is."""
    return _Scored(
        values={metric: float(np.mean([one.values[metric] for one in of_seeds])) for metric in METRICS},
        replicates={metric: np.mean([one.replicates[metric] for one in of_seeds], axis=0) for metric in METRICS},
        spread={metric: float(np.std([one.values[metric] for one in of_seeds], ddof=1)) for metric in METRICS}
        if len(of_seeds) > 1
        else None,
    )


def check_evaluation_plan(selectors: Sequence[str], ks: Sequence[int], seeds: Sequence[int], resamples: int) -> None:
    """Refuse arguments of score_selectors before anything is decoded.

    Raises:
        UsageError: no or unknown selectors, a K below 1, no seed or no resample.
    """
    unknown = [name for name in selectors if name not in ALL_SELECTORS]
    if unknown or not selectors:
        raise UsageError(
            f"the selectors are {', '.join(unknown)}" if unknown else "no selector was asked for",
            wanted=f"some of {', '.join(ALL_SELECTORS)}",
            fix="correct the names",
        )
    if not ks or min(ks) < 1:
        raise UsageError(f"the numbers of frames are {list(ks)}", wanted="1 or more each", fix="try -k 1,2,3,5,8,16")
    if not seeds or resamples < 1:
        raise UsageError(
            f"{len(seeds)} seeds and {resamples} resamples were asked for",
            wanted="at least 1 of each",
            fix="leave them at their defaults",
        )
