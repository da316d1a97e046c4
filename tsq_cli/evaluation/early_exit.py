"""Stop when sure: its tuning, and what it costs and keeps on many videos (ours; docs/method.md, section 5)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsq_cli.consensus import Consensus, EarlyExit
from tsq_cli.evaluation.compare import ExtraRow
from tsq_cli.evaluation.costs import Costs
from tsq_cli.evaluation.metrics import mean_average_precision, top_k_accuracy
from tsq_cli.evaluation.selectors import EvaluatedSelector, FloatArray, SelectorInput, select
from tsq_cli.models import log_probabilities, probabilities
from tsq_cli.models.early_exit import frames_needed, scores_so_far
from tsq_cli.types import BoolArray

SELECTOR: EvaluatedSelector = "tsq"
"""The rule whose frames are recognized one after the other."""
ROW = "tsq early exit"
GOAL = 0.01
"""Accuracy that an early exit may cost, a share of 1, at a confidence of 95 % by the videos that it is tuned on.

The interval is a normal distribution's, which is too narrow for fewer than some 300 videos.
"""
CURVE_BARS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)

_ONE_SIDED = 1.645  # standard errors from the mean to the 95th percentile of a normal distribution
_TEMPERATURES = torch.logspace(-1.5, 1.5, 301, dtype=torch.float64)  # 0.03 to 32, in steps of 2.3 %


def frame_scores(inputs: SelectorInput, frame_logits: FloatArray, k: int, consensus: Consensus) -> Tensor:
    """Compute the class scores of N videos after 1, 2, ..., K of their frames, best first: float64 [N, K, C].

    Args:
        inputs, frame_logits: of the videos, see tsq_cli.evaluation.compare.recognized.
        k: K, frames per video; above T it is T.
        consensus: how the frames' scores become the video's.
    """
    positions = select(SELECTOR, inputs, k, best_first=True)
    own = inputs.class_scores
    scores: Tensor = scores_so_far(
        torch.from_numpy(np.take_along_axis(frame_logits, positions[:, :, None], axis=1).astype(np.float64)),
        consensus,
        weights=torch.from_numpy(np.take_along_axis(inputs.saliency_visual, positions, axis=1)),
        class_scores=None if own is None else (torch.from_numpy(own[0]), torch.from_numpy(own[1])),
    )
    return scores


def tune_early_exit(
    scores: Tensor, targets: BoolArray, *, multi_label: bool = False, goal: float = GOAL
) -> EarlyExit | None:
    """Tune an early exit on videos that are not reported.

    The temperatures minimize, for each number of frames by itself, the negative log-likelihood of the true classes
    (Guo et al., ICML 2017). The bar is the one with the fewest frames on average that costs no more than the goal of
    the top-1 accuracy of all K frames, by the upper end of a one-sided 95 % interval over the videos (ours).

    Args:
        scores: of frame_scores, [N, K, C], N at least 1.
        targets: bool [N, C], the true classes, at least one per video.
        multi_label: sigmoid instead of softmax.
        goal: accuracy that may be lost, a share of 1.

    Returns:
        The early exit; None where every bar by which some video ends early may lose more than the goal.
    """
    truth = torch.from_numpy(targets)
    temperatures = tuple(_temperature(of_count, truth, multi_label) for of_count in scores.unbind(dim=1))
    calibrated = scores / torch.tensor(temperatures, dtype=scores.dtype)[None, :, None]
    confidence = probabilities(calibrated, multi_label=multi_label).amax(dim=2)  # [N, K]
    right = truth.gather(1, scores.argmax(dim=2)).double()  # [N, K]
    best, fewest = None, float("inf")
    for bar in sorted(set(confidence[:, :-1].flatten().tolist())):
        needed = frames_needed(calibrated, EarlyExit(bar=bar, temperatures=temperatures), multi_label=multi_label)
        lost = right[:, -1] - right.gather(1, needed[:, None] - 1)[:, 0]
        most = float(lost.mean() + _ONE_SIDED * lost.std(correction=0) / len(lost) ** 0.5)
        mean = float(needed.double().mean())
        if most <= goal + 1e-9 and mean < fewest:
            best, fewest = bar, mean
    return None if best is None else EarlyExit(bar=best, temperatures=temperatures)


def _temperature(scores: Tensor, truth: Tensor, multi_label: bool) -> float:
    """Fit the temperature of scores [N, C]: the best of a grid, then of a finer one around it."""
    grid = _TEMPERATURES
    for _ in range(2):
        losses = torch.stack([_log_loss(scores / one, truth, multi_label) for one in grid])
        place = int(losses.argmin())
        low, high = (float(grid[i].log10()) for i in (max(0, place - 1), min(len(grid) - 1, place + 1)))
        found, grid = float(grid[place]), torch.logspace(low, high, 41, dtype=torch.float64)
    return found


def _log_loss(scores: Tensor, truth: Tensor, multi_label: bool) -> Tensor:
    log_p: Tensor = log_probabilities(scores, multi_label=multi_label)
    if multi_label:
        return -torch.where(truth, log_p, log_probabilities(-scores, multi_label=True)).sum(dim=1).mean()
    return -(log_p * truth).sum(dim=1).mean()


def exit_row(scores: Tensor, exit_at: EarlyExit, costs: Costs, consensus: Consensus) -> tuple[ExtraRow, float]:
    """Recognize videos with an early exit.

    Args:
        scores: of frame_scores, [N, K, C].
        exit_at: with K temperatures or more.
        costs: of the pack and the recognizer.
        consensus: of the scores.

    Returns:
        The row for score_selectors: class probabilities after as many frames as each video needs, and after all K, both
        calibrated by their number, and the GMACs of the mean; and the mean number of frames.
    """
    count = scores.shape[1]
    temperatures = torch.tensor(exit_at.temperatures[:count], dtype=scores.dtype)
    calibrated = scores / temperatures[None, :, None]
    needed = frames_needed(calibrated, exit_at, multi_label=consensus.multi_label)
    last = calibrated[torch.arange(len(scores)), needed - 1]
    mean = float(needed.double().mean())
    cost = costs.of(SELECTOR, 0, consensus) + mean * costs.frame
    p, full = (probabilities(of, multi_label=consensus.multi_label).numpy() for of in (last, calibrated[:, -1]))
    return ExtraRow(name=ROW, k=count, scores=p, full_scores=full, giga_macs=cost), mean


def exit_report(
    scores: Tensor, targets: BoolArray, exit_at: EarlyExit, costs: Costs, consensus: Consensus
) -> dict[str, Any]:
    """Measure an early exit at its own bar and at CURVE_BARS.

    Args:
        scores, exit_at, costs, consensus: as for exit_row.
        targets: bool [N, C].

    Returns:
        JSON-ready: bar, temperatures, num_frames (K), mean_frames, giga_macs, and curve, a list of {bar, mean_frames,
        giga_macs, map, top1} by rising bar, the last one without an exit.
    """
    curve = []
    for bar in sorted({*CURVE_BARS, exit_at.bar}):
        row, mean = exit_row(scores, EarlyExit(bar=bar, temperatures=exit_at.temperatures), costs, consensus)
        curve.append(_point(bar, row, mean, targets))
    count = scores.shape[1]
    full = replace(row, scores=row.full_scores, giga_macs=costs.of(SELECTOR, count, consensus))
    own = next(point for point in curve if point["bar"] == exit_at.bar)
    return {
        "bar": exit_at.bar,
        "temperatures": list(exit_at.temperatures),
        "num_frames": count,
        "mean_frames": own["mean_frames"],
        "giga_macs": own["giga_macs"],
        "curve": [*curve, _point(None, full, float(count), targets)],
    }


def _point(bar: float | None, row: ExtraRow, mean: float, targets: BoolArray) -> dict[str, Any]:
    return {
        "bar": bar,
        "mean_frames": mean,
        "giga_macs": row.giga_macs,
        "map": mean_average_precision(row.scores, targets),
        "top1": top_k_accuracy(row.scores, targets, 1),
    }
