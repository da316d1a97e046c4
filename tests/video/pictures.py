"""Pictures that say which frame they are: drawn before coding, read back from decoded pixels.

A picture is a grid of 4 x 4 blocks. The top row holds four known colors, which prove orientation and color matrix;
the twelve blocks below are the bits of the frame's number, white for 1, most significant first. Blocks are so large
that lossy coding, chroma subsampling and scaling leave their middles as they were.
"""

from __future__ import annotations

import numpy as np

from tsq_cli.types import UInt8Array

COLORS = ((200, 30, 30), (30, 160, 60), (40, 60, 190), (200, 190, 40))
"""Top row of an upright picture, left to right; unsaturated: a wrong matrix or range shifts them by 12 or more."""
GRID = 4
MAX_NUMBER = 2 ** (GRID * (GRID - 1)) - 1
# Black and white keep off the ends of the range, so that nothing clips and a wrong range shows.
BLACK, WHITE = 16, 235


def draw(number: int, width: int, height: int) -> UInt8Array:
    """The upright RGB picture of a frame number: uint8 [height, width, 3]."""
    if not 0 <= number <= MAX_NUMBER:
        raise ValueError(f"number must be in [0, {MAX_NUMBER}], got {number}")
    blocks = np.zeros((GRID, GRID, 3), dtype=np.uint8)
    blocks[0] = COLORS
    for bit in range(GRID * (GRID - 1)):
        row, column = divmod(bit, GRID)
        is_set = number >> (GRID * (GRID - 1) - 1 - bit) & 1
        blocks[row + 1, column] = WHITE if is_set else BLACK
    rows = np.arange(height) * GRID // height
    columns = np.arange(width) * GRID // width
    return np.ascontiguousarray(blocks[rows][:, columns])


def block_means(pixels: UInt8Array) -> np.ndarray:
    """Mean RGB of the middle half of each block: float64 [4, 4, 3] from uint8 [H, W, 3]."""
    rows, columns = (_middles(length) for length in pixels.shape[:2])
    # Sums of all rows from one edge to the next, then of columns; every second part is a middle, the others gaps.
    sums = np.add.reduceat(pixels, rows, axis=0, dtype=np.int64)[::2]
    sums = np.add.reduceat(sums, columns, axis=1)[:, ::2]
    sizes = np.diff(rows)[::2, None] * np.diff(columns)[::2]
    return sums / sizes[:, :, None]


def _middles(length: int) -> list[int]:
    """Where the middle half of each block begins and ends, in pixels."""
    return [round((block + share) * length / GRID) for block in range(GRID) for share in (0.25, 0.75)]


def read(pixels: UInt8Array) -> int:
    """The frame number in a decoded picture uint8 [H, W, 3]; AssertionError where a block is gray."""
    levels = block_means(pixels)[1:].mean(axis=2).ravel()
    blurred = (levels > 80) & (levels < 170)
    assert not blurred.any(), f"no number can be read, the blocks' levels are {levels.round().astype(int).tolist()}"
    return int("".join("1" if level > 125 else "0" for level in levels), 2)


def assert_upright_and_true_colors(pixels: UInt8Array, *, tolerance: float = 7.0) -> None:
    """AssertionError unless the four colors stand in the top row, each channel within tolerance of what was drawn."""
    means = block_means(pixels)
    error = np.abs(means[0] - np.array(COLORS)).max(axis=1)
    assert error.max() <= tolerance, (
        f"top row is {means[0].round().astype(int).tolist()}, drawn {COLORS}; corner rows read "
        f"{means[-1].round().astype(int).tolist()}"
    )
    gray = means[1:].reshape(-1, 3)
    level_error = np.minimum(np.abs(gray - BLACK), np.abs(gray - WHITE)).max()
    assert level_error <= tolerance, f"bits are {level_error:.0f} off black {BLACK} or white {WHITE}: wrong range"


def to_yuv(rgb: UInt8Array, *, matrix: str, full_range: bool, bits: int = 8) -> list[np.ndarray]:
    """Planes Y, U, V [H, W] of an RGB picture, by the formulas of BT.601 and BT.709, not by the library under test."""
    red_weight, blue_weight = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}[matrix]
    red, green, blue = np.moveaxis(rgb.astype(np.float64) / 255, 2, 0)
    luma = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    chroma_blue = (blue - luma) / (2 * (1 - blue_weight))
    chroma_red = (red - luma) / (2 * (1 - red_weight))
    scale = 2 ** (bits - 8)
    black, luma_span, chroma_span = (0, 255, 255) if full_range else (16, 219, 224)
    planes = (black + luma_span * luma, 128 + chroma_span * chroma_blue, 128 + chroma_span * chroma_red)
    dtype = np.uint8 if bits == 8 else np.uint16
    return [np.clip(np.rint(plane * scale), 0, 2**bits - 1).astype(dtype) for plane in planes]
