"""Layout of a picture: where it is light and where dark, and how alike two pictures are in that."""

from __future__ import annotations

import numpy as np

from tsq_cli.types import Float64Array, Int64Array, UInt8Array

PLACES = 16
"""Rows, and columns, of the grid that a picture is divided into."""

PIXEL_STEP = 2
"""Every second pixel counts, across and down."""

ALIKE_DISTANCE = 0.05
"""Root mean square difference, 1 is full light, over which likeness falls to 1/e: two candidates of one real clip
differ by 0.06 in the median (ours)."""


def layouts(pixels: UInt8Array) -> Float64Array:
    """Measure where each frame is light and dark: mean light of 16 x 16 places, minus their mean (ours).

    Light is the green channel. Sums are whole numbers, so that equal pixels give equal values on every machine.

    Args:
        pixels: uint8 [T, H, W, 3], RGB.

    Returns:
        float64 [T, P] in [-1, 1], where 1 is full light. P is 256; smaller pictures have no more places than every
        second row and column.
    """
    light = pixels[:, ::PIXEL_STEP, ::PIXEL_STEP, 1]
    rows, columns = (_starts(size) for size in light.shape[1:])
    sums = np.add.reduceat(np.add.reduceat(light, rows, axis=1, dtype=np.int64), columns, axis=2)
    sizes = np.diff(rows, append=light.shape[1])[:, None] * np.diff(columns, append=light.shape[2])
    means = (sums / (255.0 * sizes)).reshape(len(pixels), -1)
    centered: Float64Array = means - means.mean(axis=1, keepdims=True)
    return centered


def layout_likeness(layout: Float64Array) -> Float64Array:
    """Compare layouts (ours).

    Args:
        layout: [T, P], see layouts.

    Returns:
        float64 [T, T], above 0; 1 is the same. It falls as exp(-distance / ALIKE_DISTANCE), fastest where frames are
        nearly the same: beyond that it matters little how much they differ.
    """
    # One row of pairs at a time: all at once are T * T * P numbers.
    distance = np.array([np.sqrt(((layout - one) ** 2).mean(axis=1)) for one in layout])
    likeness: Float64Array = np.exp(-distance / ALIKE_DISTANCE)
    return likeness


def _starts(size: int) -> Int64Array:
    """First pixel of each of PLACES parts, fewer if there are fewer pixels."""
    places = min(PLACES, size)
    return np.arange(places, dtype=np.int64) * size // places
