"""Resize frames as Pillow does, by multiplying matrices, in less than half its time.

A new pixel is a weighted mean of a few neighbors, so the matrix of a line is a band, which is multiplied in blocks.
Bytes times Pillow's weights of 22 bits exceed float32 by 6 bits. That shows where a mean lies between two levels: in
float64 all pixels would be Pillow's, but that takes two thirds of its time, and fewer bits choose other frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

from tsq_cli.types import Float32Array, Float64Array, Int64Array, UInt8Array

Interpolation = Literal["nearest", "bilinear", "bicubic"]

Box = tuple[float, float, float, float]
"""Left, top, right and bottom of a part of a frame, in its pixels, which need not be whole ones."""

_REACH = {"bilinear": 1, "bicubic": 2}  # pixels on either side that a pixel between them is made of
_BLOCK = 6  # new pixels per matrix: with more of them more zeros are multiplied, with fewer there are more calls

ONE_THREAD = 2**18
"""Multiplications up to which OpenBLAS works alone; its threads, once called, spin for the core they wait for."""


class _Block(NamedTuple):
    """New pixels `made` of a line, of its pixels `of`, by weights float32 [of, made]."""

    of: slice
    made: slice
    weights: Float32Array


class _Bands(NamedTuple):
    """The blocks of a line; `used` are the pixels that they need, from the first of which a block counts its own."""

    used: slice
    blocks: tuple[_Block, ...]


def resize(frames: UInt8Array, size: int, box: Box, interpolation: Interpolation) -> UInt8Array:
    """Resize a part of each frame to a square, across and then down, rounded to bytes after each.

    Args:
        frames: uint8 RGB [T, H, W, 3].
        size: S, side of the square, in pixels.
        box: the part.
        interpolation: with antialias, except "nearest".

    Returns:
        uint8 [T, S, S, 3]. Pillow's, but for one value of 50,000 (bicubic; at worst one of a thousand) that lies in the
        middle between two levels and is rounded to the other one.

    Source: Pillow's Resample.c, whose two passes these are.
    """
    height, width = frames.shape[1:3]
    left, top, right, bottom = box
    if interpolation == "nearest":
        return frames[:, _nearest(top, bottom, size)[:, None], _nearest(left, right, size)]
    across = _bands(width, left, right, size, interpolation, channels=3)
    down = _bands(height, top, bottom, size, interpolation, channels=1)
    kept = frames[:, down.used, across.used]
    rows, columns = kept.shape[1:3]
    source = np.empty((rows, 3 * columns), np.float32)
    narrow = np.empty((rows, 3 * size), np.float32)
    square = np.empty((size, 3 * size), np.float32)
    products_across = [
        (source[some, of], weights, narrow[some, made])
        for of, made, weights in across.blocks
        for some in _pieces(rows, weights)
    ]
    products_down = [
        (weights.T, narrow[of, some], square[made, some])
        for of, made, weights in down.blocks
        for some in _pieces(3 * size, weights)
    ]
    resized = np.empty((len(frames), size, 3 * size), np.uint8)
    for frame, result in zip(kept, resized, strict=True):  # one at a time, so that it stays in the cache
        source[:] = frame.reshape(rows, -1)
        _multiply(products_across)
        _round(narrow)
        _multiply(products_down)
        _round(square)
        result[:] = square
    return resized.reshape(len(frames), size, size, 3)


def _multiply(products: list[tuple[Float32Array, Float32Array, Float32Array]]) -> None:
    for left, right, result in products:
        np.matmul(left, right, out=result)


def _pieces(length: int, weights: Float32Array) -> Iterator[slice]:
    """Cut lines that are multiplied by the same weights so that one thread multiplies them."""
    step = max(1, ONE_THREAD // weights.size)
    return (slice(start, start + step) for start in range(0, length, step))


def _round(values: Float32Array) -> None:
    """Round to levels 0 to 255, in place, halves up."""
    values += 0.5
    np.clip(values, 0, 255, out=values)
    np.floor(values, out=values)


def _nearest(low: float, high: float, size: int) -> Int64Array:
    """Find the pixels in which the middles of `size` equal parts of [low, high) lie."""
    places: Float64Array = np.floor(low + (np.arange(size) + 0.5) * ((high - low) / size))
    return places.astype(np.int64)


@lru_cache(maxsize=32)
def _bands(length: int, low: float, high: float, size: int, interpolation: Interpolation, *, channels: int) -> _Bands:
    """Make the blocks that resize [low, high) of a line of `length` pixels to `size`, each of interleaved channels."""
    first, weights = _weights(length, low, high, size, interpolation)
    last = np.minimum(first + weights.shape[1], length)
    origin = int(first[0])
    blocks = []
    for start in range(0, size, _BLOCK):
        stop = min(start + _BLOCK, size)
        begin, end = int(first[start]), int(last[stop - 1])
        matrix = np.zeros((end - begin, stop - start), np.float32)
        for pixel in range(start, stop):
            own = slice(first[pixel], last[pixel])
            matrix[own.start - begin : own.stop - begin, pixel - start] = weights[pixel, : own.stop - own.start]
        blocks.append(
            _Block(
                slice(channels * (begin - origin), channels * (end - origin)),
                slice(channels * start, channels * stop),
                np.kron(matrix, np.eye(channels, dtype=np.float32)),
            )
        )
    return _Bands(slice(origin, int(last[-1])), tuple(blocks))


def _weights(
    length: int, low: float, high: float, size: int, interpolation: Interpolation
) -> tuple[Int64Array, Float64Array]:
    """Compute the first pixel [size] that each new one is made of, and the weights [size, taps] from it on."""
    # The box in float32 and weights in 22 bits, as Pillow has them: without, twenty times as many values differ.
    scale = float(np.float32(high) - np.float32(low)) / size
    stretch = max(scale, 1.0)  # antialias: where the line shrinks, the kernel is as wide as a new pixel's share
    reach = _REACH[interpolation] * stretch
    middle = float(np.float32(low)) + (np.arange(size) + 0.5) * scale
    first = np.maximum(np.floor(middle - reach + 0.5), 0).astype(np.int64)
    pixels = first[:, None] + np.arange(2 * math.ceil(reach) + 1)
    distance = np.abs(pixels + 0.5 - middle[:, None]) / stretch
    weights = np.where(pixels < length, _kernel(distance, interpolation), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    return first, np.rint(weights * 2**22) / 2**22


def _kernel(distance: Float64Array, interpolation: Interpolation) -> Float64Array:
    """Weight pixels by their distance from the middle; "bicubic" is Keys' cubic convolution with a = -0.5."""
    if interpolation == "bilinear":
        return np.maximum(1 - distance, 0)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0.0))
