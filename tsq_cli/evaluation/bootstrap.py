"""Paired bootstrap for many rankings of the same videos: all rankings share one set of resamples.

A resample is stored as the count of each video, so that the average precision of all resamples is two matrix products
per class.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tsq_cli.types import BoolArray, Float32Array, Float64Array

LEVEL = 0.95
SEED = 0


class Bootstrap:
    """Resamples of N videos with known classes.

    Args:
        targets: bool [N, C], the true classes, at least one per video.
        resamples: R, at least 1.
        seed: of the random draws.
    """

    def __init__(self, targets: BoolArray, *, resamples: int = 1000, seed: int = SEED) -> None:
        self._targets = targets
        n = len(targets)
        generator = np.random.default_rng(seed)
        drawn = (generator.integers(n, size=n) for _ in range(resamples))
        self._counts: Float32Array = np.stack([np.bincount(some, minlength=n) for some in drawn]).astype(np.float32)

    def mean_average_precision(self, scores: npt.ArrayLike) -> Float64Array:
        """Compute mAP [R] of scores [N, C] in each resample, over the classes present in it, as in metrics.py."""
        values = np.asarray(scores)
        total, present = np.zeros(len(self._counts)), np.zeros(len(self._counts))
        for of_class, truth in zip(values.T, self._targets.T, strict=True):
            positive = np.flatnonzero(truth)
            above = (
                of_class[:, None] >= of_class[None, positive]
            )  # [N, P]: videos that score at least as high as each positive
            weights = self._counts[:, positive]  # [R, P]
            hits = weights @ above[positive].astype(np.float32)
            precision = hits / np.maximum(self._counts @ above.astype(np.float32), 1)
            num_positives = weights.sum(axis=1)
            total += (weights * precision).sum(axis=1) / np.maximum(num_positives, 1)
            present += num_positives > 0
        return total / present

    def mean(self, values: npt.ArrayLike) -> Float64Array:
        """Compute the mean [R] of one value per video, [N], in each resample."""
        per_video = np.asarray(values, dtype=np.float32)
        return (self._counts @ per_video).astype(np.float64) / len(per_video)


def with_interval(value: float, replicates: Float64Array, *, least: float = 0.0) -> Mapping[str, float]:
    """Compute the bias-corrected percentile bootstrap interval (95 %) of a statistic.

    The percentiles of the resamples are shifted so that their mean is the value. A resample contains videos twice, and
    a positive next to its own copy has a higher precision, so resampled mAP is too high where a class has few videos.
    Measured on synthetic scores of 500 videos in 40 classes, 200 times with 300 resamples: plain percentiles contained
    the expected mAP (0.14) in 62 % of the cases and excluded the value itself in 12 %; shifted ones contained it in
    95 % (for 0.05: 50 and 99 %; for 0.44: 87 and 90 %).

    Args:
        value: of the statistic on all videos.
        replicates: the statistic in each resample, [R].
        least: smallest possible value of the statistic; its largest is 1. The interval is clipped to this range.

    Returns:
        value, low and high.

    Source: ours.
    """
    bias = float(replicates.mean()) - value
    low, high = np.clip(np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - bias, least, 1.0)
    return {"value": value, "low": float(low), "high": float(high)}
