"""The bootstrap for many rankings of the same videos, resampled once for all, so that they compare in pairs.

Each resample is kept as how often it holds each video, so that the average precision of all resamples is two matrix
products for each class.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tsq_cli.types import BoolArray, Float32Array, Float64Array

LEVEL = 0.95


class Bootstrap:
    """Resamples of N videos with known classes.

    Args:
        targets: bool [N, C], the true classes, at least one a video.
        resamples: R, at least 1.
        seed: of the drawing.
    """

    def __init__(self, targets: BoolArray, *, resamples: int = 1000, seed: int = 0) -> None:
        self._targets = targets
        n = len(targets)
        generator = np.random.default_rng(seed)
        drawn = (generator.integers(n, size=n) for _ in range(resamples))
        self._counts: Float32Array = np.stack([np.bincount(some, minlength=n) for some in drawn]).astype(np.float32)

    def mean_average_precision(self, scores: npt.ArrayLike) -> Float64Array:
        """mAP [R] of scores [N, C] in each resample; over the classes that the resample holds, as in metrics.py."""
        values = np.asarray(scores)
        total, present = np.zeros(len(self._counts)), np.zeros(len(self._counts))
        for of_class, truth in zip(values.T, self._targets.T, strict=True):
            positive = np.flatnonzero(truth)
            above = of_class[:, None] >= of_class[None, positive]  # [N, P]: who scores as high as each positive
            weights = self._counts[:, positive]  # [R, P]
            hits = weights @ above[positive].astype(np.float32)
            precision = hits / np.maximum(self._counts @ above.astype(np.float32), 1)
            num_positives = weights.sum(axis=1)
            total += (weights * precision).sum(axis=1) / np.maximum(num_positives, 1)
            present += num_positives > 0
        return total / present

    def mean(self, values: npt.ArrayLike) -> Float64Array:
        """Mean [R] of a number a video, [N], in each resample."""
        per_video = np.asarray(values, dtype=np.float32)
        return (self._counts @ per_video).astype(np.float64) / len(per_video)


def with_interval(value: float, replicates: Float64Array, *, least: float = 0.0) -> Mapping[str, float]:
    """A statistic with its 95 % interval from resamples [R]: their percentiles, moved so that their mean is the value.

    The interval is cut off at what the statistic can be at all: from `least` to 1.

    A resample holds videos twice, and a positive that stands beside its own copy has a higher precision: resampled mAP
    is too high where videos of a class are few. Measured on made scores of 500 videos in 40 classes, 200 times with 300
    resamples: plain percentiles held the expected mAP (0.14) in 62 % of the cases, and left out the value itself in
    12 %; moved ones held it in 95 % (0.05: 50 and 99 %; 0.44: 87 and 90 %).
    """
    bias = float(replicates.mean()) - value
    low, high = np.clip(np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - bias, least, 1.0)
    return {"value": value, "low": float(low), "high": float(high)}
