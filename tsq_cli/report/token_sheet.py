"""Draw frames with their times as one picture that costs a vision-language model a bounded number of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from tsq_cli.errors import UsageError
from tsq_cli.report.sheet import BACKGROUND, FONT_SIZE, INK, LINE
from tsq_cli.types import UInt8Array

PIXELS_PER_TOKEN = 750
"""Tokens of a picture are its width times its height by this: Anthropic's published estimate for Claude."""

MOST_SIDE = 1568
"""Longest side in pixels; Anthropic's models scale larger pictures down."""

LEAST_TILE = 48
"""Width in pixels below which a frame shows nothing, and cannot carry its time (ours)."""

GAP = 4


@dataclass(frozen=True)
class _Grid:
    """A grid of tiles: its columns and rows, and the size of a tile without its caption."""

    columns: int
    rows: int
    tile_width: int
    tile_height: int

    @property
    def size(self) -> tuple[int, int]:
        width = GAP + self.columns * (self.tile_width + GAP)
        return width, GAP + self.rows * (self.tile_height + LINE + GAP)

    @property
    def tokens(self) -> int:
        return image_tokens(*self.size)


def image_tokens(width: int, height: int) -> int:
    """Estimate the tokens of a picture, rounded up."""
    return -(-width * height // PIXELS_PER_TOKEN)


def draw_token_sheet(frames: Sequence[UInt8Array], captions: Sequence[str], *, max_tokens: int) -> Image.Image:
    """Draw frames in a grid, in reading order, each above its caption, as large as the budget allows.

    Args:
        frames: at least one, uint8 [H, W, 3], all of one size; none is enlarged.
        captions: one per frame, short, such as a time.
        max_tokens: largest estimate for the picture, see image_tokens.

    Raises:
        UsageError: so many frames do not fit into the budget.
    """
    height, width = frames[0].shape[:2]
    grids = [_largest(columns, len(frames), width, height, max_tokens) for columns in range(1, len(frames) + 1)]
    fitting = [grid for grid in grids if grid is not None]
    if not fitting:
        raise UsageError(
            f"{len(frames)} frames do not fit into {max_tokens} tokens",
            wanted=f"tiles at least {LEAST_TILE} pixels wide",
            fix="allow more tokens, or ask for fewer frames",
        )
    grid = max(fitting, key=lambda grid: (grid.tile_width, -grid.tokens))
    sheet = Image.new("RGB", grid.size, BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    for number, (pixels, caption) in enumerate(zip(frames, captions, strict=True)):
        row, column = divmod(number, grid.columns)
        left, top = GAP + column * (grid.tile_width + GAP), GAP + row * (grid.tile_height + LINE + GAP)
        tile = Image.fromarray(pixels).resize((grid.tile_width, grid.tile_height), Image.Resampling.LANCZOS)
        sheet.paste(tile, (left, top))
        draw.text((left, top + grid.tile_height), caption, font=font, fill=INK)
    return sheet


def _largest(columns: int, num: int, width: int, height: int, max_tokens: int) -> _Grid | None:
    """Find the largest tiles of so many columns that fit into the budget; None if the smallest do not."""
    rows = -(-num // columns)
    for tile_width in range(width, min(LEAST_TILE, width) - 1, -1):
        grid = _Grid(columns, rows, tile_width, max(1, round(tile_width * height / width)))
        if grid.tokens <= max_tokens and max(grid.size) <= MOST_SIDE:
            return grid
    return None
