"""Room 1: pure fusion of two saliency curves into K frames (S: the paper's supplementary; "ours" where said)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tsq_cli.errors import UsageError
from tsq_cli.types import ChosenBy, Float64Array


@dataclass(frozen=True)
class Choice:
    """One selected candidate: its position in [0, T), and which rule chose it."""

    position: int
    chosen_by: ChosenBy


def visual_share(k: int, lambda_v: float) -> int:
    """Number of frames n_v that the visual module picks: round half up of lambda_v * k (rounding ours).

    Args:
        k: number of frames to select, at least 1.
        lambda_v: share of the visual module in [0, 1] (S: 0.6).

    Raises:
        UsageError: k below 1 or lambda_v outside [0, 1].
    """
    _check_k(k)
    if not 0.0 <= lambda_v <= 1.0:
        raise UsageError(f"lambda_v is {lambda_v}", wanted="a share between 0 and 1", fix="use 0.6 for the paper's mix")
    # The small term keeps 0.7 * 5 (3.4999999999999996 in binary) on the side that decimal arithmetic puts it.
    return min(k, math.floor(lambda_v * k + 0.5 + 1e-9))


def fuse(visual: npt.ArrayLike, textual: npt.ArrayLike, k: int, *, lambda_v: float = 0.6) -> list[Choice]:
    """Choose min(k, T) distinct candidates from the two modules' saliency (S; rounding and ties ours).

    First the n_v = round_half_up(lambda_v * k) frames with the highest S^v, then the k - n_v with the highest S^t. A
    frame chosen by both counts once; the places this leaves free are refilled down S^v. Ties go to the earlier frame.

    Args:
        visual: S^v, real and finite, [T], T at least 1.
        textual: S^t, real and finite, [T].
        k: number of frames wanted, at least 1; above T all T frames are returned.
        lambda_v: share of the visual module in [0, 1].

    Returns:
        min(k, T) choices in the order they were made (visual, textual, refill), not in the order of time.

    Raises:
        UsageError: k below 1, or lambda_v outside [0, 1].
        ValueError: saliency that is empty, not one-dimensional, of unequal length, or not finite.
    """
    s_v = _checked_scores(visual, "visual")
    s_t = _checked_scores(textual, "textual")
    if s_v.shape != s_t.shape:
        raise ValueError(f"visual {s_v.shape} and textual {s_t.shape} saliency must have the same length")
    k = min(k, len(s_v)) if k >= 1 else k
    n_v = visual_share(k, lambda_v)
    by_visual = ranking(s_v)
    by_textual = ranking(s_t)

    chosen: dict[int, ChosenBy] = dict.fromkeys(by_visual[:n_v], "visual")
    for position in by_textual[: k - n_v]:
        chosen.setdefault(position, "textual")
    for position in by_visual[n_v:]:
        if len(chosen) == k:
            break
        chosen.setdefault(position, "refill")
    return [Choice(position, chosen_by) for position, chosen_by in chosen.items()]


def top_k(scores: npt.ArrayLike, k: int, *, chosen_by: ChosenBy) -> list[Choice]:
    """The min(k, T) highest-scoring candidates of one curve [T], best first; ties go to the earlier frame.

    Raises:
        UsageError: k below 1.
        ValueError: scores that are empty, not one-dimensional or not finite.
    """
    _check_k(k)
    return [Choice(position, chosen_by) for position in ranking(_checked_scores(scores, "one-module"))[:k]]


def uniform(num_candidates: int, k: int) -> list[Choice]:
    """Baseline: the candidates at the centres of min(k, T) equal segments of [0, T)."""
    _check_k(k)
    k = min(k, num_candidates)
    return [Choice(math.floor((i + 0.5) * num_candidates / k), "uniform") for i in range(k)]


def random(num_candidates: int, k: int, *, seed: int) -> list[Choice]:
    """Baseline: min(k, T) distinct candidates drawn without replacement, the same for the same seed."""
    _check_k(k)
    drawn = np.random.default_rng(seed).choice(num_candidates, size=min(k, num_candidates), replace=False)
    return [Choice(int(position), "random") for position in drawn]


def middle(num_candidates: int, k: int) -> list[Choice]:
    """Baseline: the min(k, T) neighbouring candidates around the middle of the video."""
    _check_k(k)
    k = min(k, num_candidates)
    first = (num_candidates - k) // 2
    return [Choice(position, "middle") for position in range(first, first + k)]


def ranking(scores: npt.NDArray[Any] | Sequence[float]) -> list[int]:
    """Positions [T] from the highest score to the lowest; equal scores in the order of time."""
    return [int(position) for position in np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")]


def peak_over_mean(scores: npt.ArrayLike) -> float:
    """How far a saliency curve stands out: its peak over its mean, 1.0 where all candidates are alike (ours)."""
    checked = _checked_scores(scores, "one-module")
    mean = float(checked.mean())
    return max(1.0, float(checked.max()) / mean) if mean > 0 else 1.0  # a mean can be rounded above the peak


def _check_k(k: int) -> None:
    if k < 1:
        raise UsageError(f"{k} frames were asked for", wanted="at least 1", fix="give -k 1 or more (default 5)")


def _checked_scores(scores: npt.ArrayLike, module: str) -> Float64Array:
    checked = np.asarray(scores, dtype=np.float64)
    if checked.ndim != 1 or len(checked) == 0:
        raise ValueError(f"{module} saliency must be [T] with T >= 1, got shape {checked.shape}")
    if not np.isfinite(checked).all():
        bad = np.flatnonzero(~np.isfinite(checked))
        raise ValueError(f"{module} saliency must be finite, got {checked[bad[0]]} at position {bad[0]}")
    return checked
