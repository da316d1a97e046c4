"""Metrics of a ranking of videos: average precision and top-k accuracy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tsq_cli.types import BoolArray, Float64Array


def mean_average_precision(scores: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    """Compute mAP: the mean, over the classes that have a positive, of the mean precision at their positives.

    The precision at a positive is the share of positives among all items that score at least as high: equal scores
    share the precision at the end of their group. There is no interpolation; the value equals scikit-learn's.

    Args:
        scores: finite, [N, C]; only their order within a class matters.
        targets: bool, [N, C].

    Returns:
        In (0, 1].

    Raises:
        ValueError: scores that are not finite, shapes that do not fit, or no positive in any class.
    """
    values, truth = _checked(scores, targets)
    num_positives = truth.sum(axis=0)
    present = num_positives > 0
    if not present.any():
        raise ValueError(f"average precision needs a positive, and none of {truth.shape} targets is")
    by_class = np.ascontiguousarray(values.T[present])  # [C', N]: sorting along the last axis is several times as fast
    order = np.argsort(by_class, axis=1)[:, ::-1]
    ranked = np.take_along_axis(by_class, order, axis=1)
    hits = np.take_along_axis(np.ascontiguousarray(truth.T[present]), order, axis=1)

    n = len(values)
    ends_group = np.ones_like(hits)
    ends_group[:, :-1] = ranked[:, :-1] != ranked[:, 1:]
    # The rank at which each item's group of equal scores ends, found from the right.
    group_end = np.minimum.accumulate(np.where(ends_group, np.arange(n), n)[:, ::-1], axis=1)[:, ::-1]
    precision = np.take_along_axis(hits.cumsum(axis=1), group_end, axis=1) / (group_end + 1)
    return float(((precision * hits).sum(axis=1) / num_positives[present]).mean())


def top_k_accuracy(scores: npt.ArrayLike, targets: npt.ArrayLike, k: int) -> float:
    """Compute the share of items with a true class among their k highest-scoring ones, 0 to 1.

    Args:
        scores, targets, k: as for top_k_hits.

    Raises:
        ValueError: as top_k_hits.
    """
    return float(top_k_hits(scores, targets, k).mean())


def top_k_hits(scores: npt.ArrayLike, targets: npt.ArrayLike, k: int) -> BoolArray:
    """Find the items with a true class among their k highest-scoring ones; the lower index wins a tie.

    Args:
        scores: finite, [N, C], N at least 1.
        targets: bool, [N, C]; an item may have several true classes.
        k: at least 1; from C on every item with a true class is a hit.

    Returns:
        bool [N].

    Raises:
        ValueError: k below 1, scores that are not finite, or shapes that do not fit.
    """
    values, truth = _checked(scores, targets)
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    highest = np.argsort(-values, axis=1, kind="stable")[:, :k]
    hits: BoolArray = np.logical_or.reduce(np.take_along_axis(truth, highest, axis=1), axis=1)
    return hits


def _checked(scores: npt.ArrayLike, targets: npt.ArrayLike) -> tuple[Float64Array, BoolArray]:
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(targets)
    if values.ndim != 2 or not len(values) or values.shape != truth.shape or truth.dtype != np.bool_:
        raise ValueError(
            f"scores {values.shape} must be [N, C], N at least 1, and targets {truth.shape} {truth.dtype} as many bools"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"scores must be finite, and {int((~np.isfinite(values)).sum())} of {values.size} are not")
    return values, truth
