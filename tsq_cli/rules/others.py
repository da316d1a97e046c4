"""Rules of other authors that choose K of T frames, for comparison: pure functions of arrays.

All of them are training-free and take any relevance curve; here it is the mean of both saliency curves. Details that a
paper leaves open are marked as ours. Each returns distinct positions in [0, T) in the order of choice.
"""

from __future__ import annotations

import numpy as np

from tsq_cli.types import Float64Array

MMR_WEIGHT = 0.5
BOLT_POWER = 2.0
AKS_THRESHOLD = 0.8
AKS_DEPTH = 5
DPP_RIDGE = 1e-6


def mmr(relevance: Float64Array, similarity: Float64Array, k: int, *, weight: float = MMR_WEIGHT) -> list[int]:
    """Maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998): relevant, and unlike the frames chosen.

    next = argmax weight * r_i - (1 - weight) * max over chosen j of cos(x_i, x_j), r scaled to [0, 1] (ours).

    Args:
        relevance: [T].
        similarity: cosines [T, T].
        k: from 1 to T.
        weight: of relevance, in [0, 1].
    """
    scaled = _to_unit_range(relevance)
    chosen = [int(scaled.argmax())]
    while len(chosen) < k:
        gain = weight * scaled - (1 - weight) * similarity[:, chosen].max(axis=1)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
    return chosen


def bolt(relevance: Float64Array, k: int, *, power: float = BOLT_POWER) -> list[int]:
    """Inverse transform sampling (BOLT, CVPR 2025): frames at the quantiles (i + 0.5) / K of the cumulative relevance.

    Args:
        relevance: [T], at least 0.
        k: from 1 to T.
        power: the exponent that sharpens relevance before it is summed up, at least 1 (the value is ours).

    Returns:
        K distinct positions: a quantile that falls on a taken frame moves on to the next free one (ours).
    """
    weights = (relevance / relevance.max() if relevance.max() > 0 else np.ones_like(relevance)) ** power
    cumulated = np.cumsum(weights) / weights.sum()
    wanted = np.searchsorted(cumulated, (np.arange(k) + 0.5) / k).clip(max=len(relevance) - 1)
    for i in range(1, k):
        wanted[i] = max(wanted[i], wanted[i - 1] + 1)
    for i in reversed(range(k)):  # what was pushed past the end comes back
        wanted[i] = min(wanted[i], len(relevance) - k + i)
    return [int(position) for position in wanted]


def aks(relevance: Float64Array, k: int, *, threshold: float = AKS_THRESHOLD, depth: int = AKS_DEPTH) -> list[int]:
    """Adaptive keyframe sampling (AKS, CVPR 2025): top-K of a segment that stands out, else of both halves.

    A segment whose mean of its top k exceeds its own mean by more than `threshold` gives its top k; any other is
    halved, and so is k, down to `depth` halvings.

    Args:
        relevance: [T]; scaled to [0, 1] first, as its authors do.
        k: from 1 to T.
        threshold: excess from which a segment stands out (theirs).
        depth: halvings at most (theirs).
    """
    scaled = _to_unit_range(relevance)

    def chosen_of(first: int, stop: int, wanted: int, depth: int) -> list[int]:
        part = scaled[first:stop]
        best = np.argsort(-part, kind="stable")[:wanted]
        if wanted < 2 or depth == 0 or part[best].mean() - part.mean() > threshold:
            return [first + int(position) for position in best]
        half = (first + stop) // 2
        left = min(max(wanted // 2, wanted - (stop - half)), half - first)
        return [*chosen_of(first, half, left, depth - 1), *chosen_of(half, stop, wanted - left, depth - 1)]

    return chosen_of(0, len(scaled), k, depth)


def dpp(relevance: Float64Array, similarity: Float64Array, k: int) -> list[int]:
    """Greedy MAP of a determinantal point process (as in MDP3 and LDDR, 2025), L_ij = q_i q_j (1 + cos(x_i, x_j)) / 2.

    The greedy algorithm is that of Chen, Zhang and Zhou (NeurIPS 2018). q is relevance over its mean (ours), so a flat
    curve leaves the decision to diversity.

    Args:
        relevance: [T], at least 0.
        similarity: cosines [T, T].
        k: from 1 to T.
    """
    quality = relevance / relevance.mean() if relevance.mean() > 0 else np.ones_like(relevance)
    kernel = quality[:, None] * quality[None, :] * (1 + similarity) / 2
    left = kernel.diagonal() + DPP_RIDGE
    rows = np.zeros((k, len(relevance)))
    chosen: list[int] = []
    for i in range(k):
        left[chosen] = -np.inf
        best = int(left.argmax())
        rows[i] = (kernel[best] - rows[:i, best] @ rows[:i]) / np.sqrt(max(float(left[best]), DPP_RIDGE))
        left = left - rows[i] ** 2
        chosen.append(best)
    return chosen


def k_center(similarity: Float64Array, k: int) -> list[int]:
    """Farthest-first traversal (Gonzalez 1985) from the medoid: each next frame is the one least like any chosen.

    Args:
        similarity: cosines [T, T].
        k: from 1 to T.
    """
    chosen = [int(similarity.sum(axis=1).argmax())]
    while len(chosen) < k:
        nearest = similarity[:, chosen].max(axis=1)
        nearest[chosen] = np.inf
        chosen.append(int(nearest.argmin()))
    return chosen


def facility_location(similarity: Float64Array, k: int) -> list[int]:
    """Greedy facility location: each next frame adds most to the sum over frames of the best cosine to a chosen one.

    Args:
        similarity: cosines [T, T].
        k: from 1 to T.
    """
    chosen: list[int] = []
    shown = np.full(len(similarity), -1.0)
    while len(chosen) < k:
        gain = np.maximum(similarity, shown).sum(axis=1)
        gain[chosen] = -np.inf
        chosen.append(int(gain.argmax()))
        shown = np.maximum(shown, similarity[chosen[-1]])
    return chosen


def _to_unit_range(scores: Float64Array) -> Float64Array:
    low, high = float(scores.min()), float(scores.max())
    return (scores - low) / (high - low) if high > low else np.zeros_like(scores)
