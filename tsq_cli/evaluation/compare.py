"""Selectors compared: recognition of many videos from the frames of each, scored with paired intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tsq_cli.consensus import Consensus
from tsq_cli.errors import UsageError
from tsq_cli.evaluation.bootstrap import LEVEL, Bootstrap, with_interval
from tsq_cli.evaluation.metrics import mean_average_precision, top_k_hits
from tsq_cli.evaluation.selectors import (
    ALL_SELECTORS,
    SELECTORS,
    WITHOUT_FRAMES,
    WITHOUT_SAMPLER,
    EvaluatedSelector,
    FloatArray,
    SelectorInput,
    class_probabilities,
    select,
)
from tsq_cli.models import probabilities, video_scores
from tsq_cli.types import BoolArray, Float64Array, Int64Array

KS = (1, 2, 3, 5, 8, 16)
RANDOM_SEEDS = (0, 1, 2, 3, 4)
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


_Key = tuple[str, int]  # a selector, or the name of another row, with K frames


@dataclass(frozen=True, kw_only=True)
class ExtraRow:
    """A row of an evaluation that is no selector's.

    Attributes:
        name: as printed.
        k: K, frames at most.
        scores: class probabilities of the N videos, [N, C].
        full_scores: the same with all K frames of each video, which the row is compared with.
        giga_macs: per video.
    """

    name: str
    k: int
    scores: Float64Array
    full_scores: Float64Array
    giga_macs: float


def score_selectors(
    inputs: SelectorInput,
    frame_logits: FloatArray,
    targets: BoolArray,
    *,
    selectors: Sequence[EvaluatedSelector] = SELECTORS,
    ks: Sequence[int] = KS,
    seeds: Sequence[int] = RANDOM_SEEDS,
    consensus: Consensus = Consensus(),  # noqa: B008 - frozen
    cost: Callable[[EvaluatedSelector, int], float] | None = None,
    resamples: int = 1000,
    extra: ExtraRow | None = None,
) -> dict[str, Any]:
    """Recognize every video from the frames of each selector, and score the recognition.

    Args:
        inputs, frame_logits: of N videos with T frames, see recognized.
        targets: bool [N, C], the true classes, at least one per video.
        selectors: to compare.
        ks: numbers of frames, at least 1 each, at most T count; `all` has one row of T, WITHOUT_FRAMES have one of 0.
        seeds, resamples: of the random selector and of the bootstrap, at least one each.
        consensus: how the frames' scores become the video's, see selected_scores.
        cost: GMACs per video by selector and K; None leaves them out.
        extra: another row, the last one; its gains have the reference no_exit (its full_scores) as well.

    Returns:
        JSON-ready: num_videos, num_classes, num_candidates, multi_label, pooling, evidence ({visual, textual}, the
        weights), ks, seeds, resamples, metrics and interval (their definitions), best_baselines, and rows, one per
        selector and K: {selector, k, giga_macs, map, top1, top5, spread, gains}. Each metric is {value, low, high}, 0
        to 1; of random the mean over the seeds, with its standard deviation under spread (else None). best_baselines
        names, by K, the selector of the highest mAP among those that run no TSQ layer (WITHOUT_SAMPLER; `all` counts at
        every K). gains holds, for each of the references uniform (at the same K), all and best (the best baseline), the
        difference of each metric as {value, low, high}.

    Raises:
        UsageError, ValueError: as check_evaluation_plan, and arrays that do not fit each other.
    """
    n, t, c = frame_logits.shape
    if targets.shape != (n, c) or inputs.saliency_visual.shape != (n, t):
        raise ValueError(f"frame_logits [{n}, {t}, {c}] do not fit {targets.shape} or {inputs.saliency_visual.shape}")
    check_evaluation_plan(selectors, ks, seeds, resamples)
    counts = sorted({min(k, t) for k in ks})
    bootstrap = Bootstrap(targets, resamples=resamples)
    scored: dict[_Key, _Scored] = {}
    costs: dict[_Key, float] = {}
    for selector in dict.fromkeys(selectors):
        for k in [t] if selector == "all" else [0] if selector in WITHOUT_FRAMES else counts:
            drawn = seeds if selector == "random" else seeds[:1]
            of_seeds = (selected_scores(selector, inputs, frame_logits, k, consensus, seed=seed) for seed in drawn)
            scored[selector, k] = _mean([_score(scores, targets, bootstrap) for scores in of_seeds])
            costs |= {} if cost is None else {(selector, k): cost(selector, k)}
    if extra is not None:
        scored[extra.name, extra.k] = _score(extra.scores, targets, bootstrap)
        costs[extra.name, extra.k] = extra.giga_macs
    best = _best_baselines(scored)
    gains = {key: _gains(key, scored, best.get(key[1])) for key in scored}
    if extra is not None:
        full = _score(extra.full_scores, targets, bootstrap)
        gains[extra.name, extra.k]["no_exit"] = scored[extra.name, extra.k].gains(full)
    return {
        "num_videos": n,
        "num_classes": c,
        "num_candidates": t,
        "multi_label": consensus.multi_label,
        "pooling": consensus.pooling,
        "evidence": {"visual": consensus.evidence_visual, "textual": consensus.evidence_textual},
        **{"ks": counts, "seeds": list(seeds), "resamples": resamples, "metrics": METRICS, "interval": INTERVAL},
        "best_baselines": {str(k): selector for k, (selector, _) in best.items()},
        "rows": [
            {"selector": key[0], "k": key[1], "giga_macs": costs.get(key)} | row.to_report() | {"gains": gains[key]}
            for key, row in scored.items()
        ],
    }


def recognized(
    inputs: SelectorInput, frame_logits: FloatArray, positions: Int64Array, consensus: Consensus
) -> Float64Array:
    """Compute class probabilities of videos from their chosen frames, see tsq_cli.models.pooling.video_scores.

    Args:
        inputs: of the N videos: S^v, and z^v and z^t where the consensus has evidence.
        frame_logits: [N, T, C].
        positions: [N, K] in [0, T), as tsq_cli.evaluation.selectors.select gives them.
        consensus: how the frames' scores become the video's.

    Returns:
        float64 [N, C], 0 to 1.

    Raises:
        ValueError: evidence without the sampler's class scores.
    """
    chosen = np.take_along_axis(frame_logits, positions[:, :, None], axis=1).astype(np.float64)  # [N, K, C]
    weights = np.take_along_axis(inputs.saliency_visual, positions, axis=1)
    own = inputs.class_scores
    scores = video_scores(
        torch.from_numpy(chosen),
        consensus,
        weights=torch.from_numpy(weights),
        class_scores=None if own is None else (torch.from_numpy(own[0]), torch.from_numpy(own[1])),
    )
    of_classes: Float64Array = probabilities(scores, multi_label=consensus.multi_label).numpy()
    return of_classes


def selected_scores(
    selector: EvaluatedSelector,
    inputs: SelectorInput,
    frame_logits: FloatArray,
    k: int,
    consensus: Consensus,
    *,
    seed: int = 0,
) -> Float64Array:
    """Compute class probabilities [N, C] of videos by a selector with K frames, or by a module's own class scores.

    Args:
        selector: one of WITHOUT_FRAMES gives the sampler's own p^v or p^t, whatever k. One that runs no TSQ layer has
            no evidence, and all its frames weigh the same (Consensus.without_sampler): it would have to pay for them.
        inputs, frame_logits: of N videos.
        k, seed: as for select.
        consensus: how the frames' scores become the video's.

    Raises:
        ValueError: class scores of the sampler are needed and there are none.
    """
    if selector in WITHOUT_FRAMES:
        if inputs.class_scores is None:
            raise ValueError(f"{selector} needs the class scores of the sampler")
        own = inputs.class_scores[0 if selector == "z-visual" else 1]
        return class_probabilities(own, multi_label=consensus.multi_label)
    if selector in (*WITHOUT_SAMPLER, "oracle"):
        consensus = consensus.without_sampler
    return recognized(inputs, frame_logits, select(selector, inputs, k, seed), consensus)


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


def _best_baselines(scored: Mapping[_Key, _Scored]) -> dict[int, _Key]:
    """Find, for each K, the selector without a TSQ layer of the highest mAP; of equal ones `all`, then the first."""
    baselines = [key for key in scored if key[0] in WITHOUT_SAMPLER]
    best = {}
    for k in dict.fromkeys(k for _, k in scored):
        if rivals := [key for key in baselines if key[1] == k or key[0] == "all"]:
            best[k] = max(rivals, key=lambda key: (scored[key].values["map"], key[0] == "all"))
    return best


def _gains(row: _Key, scored: Mapping[_Key, _Scored], best: _Key | None) -> dict[str, Any]:
    """Compute a row's gains over uniform at the same K, all frames and the best baseline, where these were scored."""
    everything = next((key for key in scored if key[0] == "all"), None)
    references: dict[str, _Key | None] = {"uniform": ("uniform", row[1]), "all": everything, "best": best}
    return {
        name: scored[row].gains(scored[key])
        for name, key in references.items()
        if key is not None and key in scored and row[0] not in (key[0], "all")
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
