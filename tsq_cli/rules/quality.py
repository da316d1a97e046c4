"""Picture quality of frames from their pixels alone, without knowing what they show."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tsq_cli.types import BoolArray, Float64Array, UInt8Array

LEAST_CONTRAST = 3.0
"""Standard deviation, in levels of 255 and without noise, below which a frame counts as blank: a photograph at a tenth
of its brightness has 4 to 8, the end of a fade less than 2 (ours)."""

LEAST_STRUCTURE = 0.1
"""Correlation of neighboring pixels below which a frame is mere noise: photographs have 0.6 to 1 (ours)."""

POINT_STEP = 16
"""Pixels between the points at which a dissolve is measured (ours)."""

MIXED_CONTRAST = 20.0
"""Least root mean square difference, in levels of 255, between the two pictures that a frame mixes (ours)."""

MIXED_QUALITY = 0.1
"""Factor on the sharpness of a frame that mixes two pictures (ours)."""

ROW_STEP = 6
"""Three of this many rows are measured (ours)."""


def frame_quality(pixels: UInt8Array) -> Float64Array:
    """Measure the sharpness of each frame, 0 for a blank one (ours).

    The measure is 1 - c(2) / c(1), where c(d) is the covariance of pixels d apart, horizontally and vertically: the
    share of what neighbors have in common that is lost one pixel further. Brightness and contrast cancel out of the
    ratio, and so does white noise, which no two pixels share; blur makes c(2) approach c(1). The green channel is
    measured, and the others if it is flat. Sums are whole numbers, so that equal pixels give equal values on every
    machine.

    Args:
        pixels: uint8 [T, H, W, 3], RGB.

    Returns:
        float64 [T]: 0 for a blank frame (black, white, one color, the end of a fade, mere noise, fewer than 3 x 3
        pixels), else above 0, mostly below 0.5. Values are comparable between frames of one scene at one size: a scene
        with smooth surfaces has less than one with fine detail.
    """
    quality = np.zeros(len(pixels))
    if min(pixels.shape[1:3]) < 3:
        return quality
    for channel in (1, 0, 2):
        left = np.flatnonzero(quality == 0)
        if len(left):
            quality[left] = _sharpness(pixels[left] if channel != 1 else pixels, channel)
    return quality


def candidate_quality(pixels: UInt8Array) -> Float64Array:
    """Measure frame_quality of candidates, uint8 [T, H, W, 3] in order of time, a tenth of it if they mix two pictures.

    Returns:
        float64 [T], as frame_quality.
    """
    return frame_quality(pixels) * np.where(is_mixed(pixels), MIXED_QUALITY, 1.0)


def _sharpness(pixels: UInt8Array, channel: int) -> Float64Array:
    """Measure frame_quality in one channel: float64 [T]."""
    stop = pixels.shape[1] - 2
    row, below, second = (pixels[:, i : stop + i : ROW_STEP, :, channel].astype(np.int16) for i in range(3))
    near = (_mean_square(row[..., 1:] - row[..., :-1]) + _mean_square(below - row)) / 2
    far = (_mean_square(row[..., 2:] - row[..., :-2]) + _mean_square(second - row)) / 2
    variance = _mean_square(row) - (row.sum((1, 2), dtype=np.int64) / row[0].size) ** 2
    # The mean square of a difference is twice the variance less twice the covariance.
    shared, shared_further = variance - near / 2, variance - far / 2
    is_blank = shared < np.maximum(LEAST_CONTRAST**2, LEAST_STRUCTURE * variance)
    ratio = shared_further / np.where(is_blank, 1.0, shared)
    return np.where(is_blank, 0.0, np.maximum(1.0 - ratio, np.finfo(np.float64).eps))


def _mean_square(values: npt.NDArray[np.int16]) -> Float64Array:
    """Return the mean square of int16 [T, R, W] in [-255, 255]: float64 [T]."""
    squares = values.astype(np.int32)
    squares *= squares
    mean: Float64Array = squares.sum((1, 2), dtype=np.int64) / squares[0].size
    return mean


def is_mixed(pixels: UInt8Array) -> BoolArray:
    """Mark frames in the middle of a dissolve or a fade: weighted means of the frames before and after (ours).

    A frame x between a and b is mixed if a + w (b - a) with 0.15 < w < 0.85 explains most of its difference from the
    nearer of them, at points 16 pixels apart, and if a and b differ by at least MIXED_CONTRAST on average. If several
    frames in a row are mixed, the light changes slowly, and none of them counts.

    Args:
        pixels: uint8 [T, H, W, 3], in order of time.

    Returns:
        Bool [T].
    """
    mixed = np.zeros(len(pixels), dtype=bool)
    points = pixels[:, POINT_STEP // 2 :: POINT_STEP, POINT_STEP // 2 :: POINT_STEP].reshape(len(pixels), -1)
    if len(pixels) < 3 or points.shape[1] == 0:
        return mixed
    points = points.astype(np.float64)
    before, frame, after = points[:-2], points[1:-1], points[2:]
    change = after - before
    square = (change**2).mean(axis=1)
    weight = ((frame - before) * change).mean(axis=1) / np.where(square > 0, square, 1.0)
    unexplained = ((frame - before - weight[:, None] * change) ** 2).mean(axis=1)
    nearer = np.minimum(weight, 1.0 - weight)
    mixed[1:-1] = (square >= MIXED_CONTRAST**2) & (nearer > 0.15) & (unexplained <= (nearer / 2) ** 2 * square)
    in_a_row = np.convolve(mixed, [1, 1, 1], mode="same") > 1  # a slow change of light, not a dissolve
    return mixed & ~in_a_row
