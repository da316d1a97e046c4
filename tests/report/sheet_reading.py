"""Find the tiles of a contact sheet in its pixels."""

import numpy as np
from PIL import Image

from tsq_cli.report.sheet import BACKGROUND, MARGIN, TILE_HEIGHT


def rows_of_tiles(sheet: Image.Image) -> list[int]:
    """y of the middle of each row of large tiles, which are at least 100 pixels wide: runs of rows without a gap."""
    part = np.asarray(sheet.convert("RGB"))[:, MARGIN + 4 : MARGIN + 96]
    covered = (part != np.array(BACKGROUND)).any(axis=2).all(axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], covered, [False]]).astype(int)))
    runs = edges.reshape(-1, 2)  # of the tile, and of its border where it is chosen
    return [int(first + last) // 2 for first, last in runs if TILE_HEIGHT <= last - first <= TILE_HEIGHT + 6]


def tile_center(sheet: Image.Image, row: int, column: int, *, tile_width: int = TILE_HEIGHT) -> tuple[int, int]:
    """The middle of a tile; rows are counted over all bands."""
    return MARGIN + column * (tile_width + MARGIN) + tile_width // 2, rows_of_tiles(sheet)[row]
