"""Evidence about a video's T candidates, from which the rules choose."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tsq_cli.types import Float32Array, Float64Array


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Evidence about a video's T candidates, in order of time.

    Attributes:
        times: [T], seconds, not decreasing.
        visual, textual: S^v and S^t [T], finite; None if no network ran.
        features: [T, D] of unit length, from the visual encoder; None if no network ran.
        quality: [T], 0 for a blank frame, else its sharpness (rules/quality.py); None if it was not measured.
        layout: [T, P], where it is light and dark (rules/layout.py); None if it was not measured.

    Raises:
        ValueError: no candidate, shapes that disagree, or numbers that are not finite.
    """

    times: Float64Array
    visual: Float64Array | None = None
    textual: Float64Array | None = None
    features: Float32Array | None = None
    quality: Float64Array | None = None
    layout: Float64Array | None = None

    def __post_init__(self) -> None:
        if self.times.ndim != 1 or len(self.times) == 0:
            raise ValueError(f"times must be [T] with T >= 1, got shape {self.times.shape}")
        axes = {"times": 1, "visual": 1, "textual": 1, "features": 2, "quality": 1, "layout": 2}
        for name, ndim in axes.items():
            values = getattr(self, name)
            if values is None:
                continue
            if values.ndim != ndim or len(values) != len(self.times):
                raise ValueError(f"{name} must have {ndim} axes, the first {len(self.times)} long, got {values.shape}")
            if not np.isfinite(values).all():
                raise ValueError(f"{name} must be finite")

    def __len__(self) -> int:
        return len(self.times)

    @cached_property
    def saliency(self) -> Float64Array:
        """Mean of both curves [T], each divided by its own mean: 1 is as salient as the average candidate (ours)."""
        curves = [curve / curve.mean() if curve.mean() > 0 else np.ones(len(self)) for curve in self.both_curves()]
        mean: Float64Array = np.mean(curves, axis=0)
        return mean

    @cached_property
    def similarity(self) -> Float64Array:
        """Cosines [T, T] of the candidates' features."""
        if self.features is None:
            raise ValueError("this rule compares frames, and there are no features")
        wide = self.features.astype(np.float64)
        return np.clip(wide @ wide.T, -1.0, 1.0)

    def both_curves(self) -> tuple[Float64Array, Float64Array]:
        """Return S^v and S^t, for the rules that need both.

        Raises:
            ValueError: one is missing.
        """
        if self.visual is None or self.textual is None:
            raise ValueError("this rule reads saliency, and there is none")
        return self.visual, self.textual
