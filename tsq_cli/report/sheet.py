"""Room 3: a contact sheet, the uniform choice above the selected one, all candidates below."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tsq_cli import selection
from tsq_cli.printable import printable
from tsq_cli.record import UNSURE, Record
from tsq_cli.report.frames import description, new_picture, write_image
from tsq_cli.report.text import clock
from tsq_cli.types import UInt8Array

TILE_HEIGHT = 126
MARGIN = 14
CAPTION = 20
HEADING = 30
MAX_COLUMNS = 8
MOST_CHARACTERS = 300  # of one line, before it is cut to its width
SHEET_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
BACKGROUND = (250, 250, 248)
INK = (28, 28, 30)
FAINT = (120, 120, 126)
COLOURS = {
    "visual": (214, 93, 14),
    "textual": (38, 104, 196),
    "refill": (121, 85, 160),
    "query": (22, 132, 96),
    "uniform": (120, 120, 126),
    "random": (120, 120, 126),
    "middle": (120, 120, 126),
}


def save_sheet(record: Record, pixels: UInt8Array, path: Path, *, video_id: str, overwrite: bool = False) -> str:
    """Draw and write the sheet of one video.

    Args:
        record: the result, with T candidates and K frames.
        pixels: uint8 [T, H, W, 3], the candidates in order of time.
        path: where to write; its ending, one of SHEET_SUFFIXES, chooses the format.
        video_id: identity of the video file, see tsq_cli.report.frames.video_id_in.
        overwrite: whether another picture may be replaced.

    Returns:
        The path written.

    Raises:
        OutputError: the file cannot be written.
    """
    sheet = draw_sheet(record, pixels)
    with new_picture(path, video_id, is_named=True, overwrite=overwrite) as temporary:
        image_format = Image.registered_extensions()[path.suffix.lower()]
        exif = description(None, source=record.path, video_id=video_id)
        write_image(sheet, temporary, format=image_format, exif=exif)
    return str(path)


def draw_sheet(record: Record, pixels: UInt8Array) -> Image.Image:
    """The sheet as a picture: three bands (uniform, selected, all candidates), see save_sheet for the arguments."""
    height, width = pixels.shape[1:3]
    tile = (max(48, round(TILE_HEIGHT * width / height)), TILE_HEIGHT)
    tiles = [Image.fromarray(frame).resize(tile, Image.Resampling.LANCZOS) for frame in pixels]
    chosen = {frame.candidate.position: frame.chosen_by for frame in record.frames}
    uniform = [choice.position for choice in selection.uniform(len(tiles), max(1, len(record.frames)))]
    selected = [frame.candidate.position for frame in record.frames]
    bands = [
        (f"Uniform choice of {len(uniform)}", uniform),
        (f"Selected by {'query: ' + record.query if record.query else record.selector}", selected),
        (f"All {len(tiles)} candidates (visual and textual saliency, times the mean)", list(range(len(tiles)))),
    ]
    columns = min(MAX_COLUMNS, max(len(positions) for _, positions in bands))
    canvas_width = MARGIN + columns * (tile[0] + MARGIN)
    band_heights = [
        HEADING + -(-len(positions) // columns) * (TILE_HEIGHT + CAPTION + MARGIN) for _, positions in bands
    ]
    sheet = Image.new("RGB", (canvas_width, HEADING + MARGIN + sum(band_heights)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    _text(draw, (MARGIN, MARGIN), _title(record), canvas_width - 2 * MARGIN, size=17)
    top = HEADING + MARGIN // 2
    for (heading, positions), band_height in zip(bands, band_heights, strict=True):
        _text(draw, (MARGIN, top + 8), heading, canvas_width - 2 * MARGIN, size=13, fill=FAINT)
        for number, position in enumerate(positions):
            left = MARGIN + (number % columns) * (tile[0] + MARGIN)
            upper = top + HEADING + (number // columns) * (TILE_HEIGHT + CAPTION + MARGIN)
            _tile(sheet, draw, tiles[position], (left, upper), record, position, chosen.get(position))
        top += band_height
    return sheet


def _tile(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    picture: Image.Image,
    corner: tuple[int, int],
    record: Record,
    position: int,
    chosen_by: str | None,
) -> None:
    left, upper = corner
    sheet.paste(picture, corner)
    candidate = record.candidates[position]
    caption = clock(candidate.time_seconds)
    if candidate.score_visual is not None and candidate.score_textual is not None:
        times = len(record.candidates)
        caption += f"  v {candidate.score_visual * times:.1f}  t {candidate.score_textual * times:.1f}"
    colour = INK
    if chosen_by is not None:
        colour = COLOURS[chosen_by]
        box = (left - 3, upper - 3, left + picture.width + 2, upper + picture.height + 2)
        draw.rectangle(box, outline=colour, width=3)
        caption += f"  {chosen_by}"
    _text(draw, (left, upper + picture.height + 5), caption, picture.width, size=12, fill=colour)


def _title(record: Record) -> str:
    categories: Sequence[str] = [category.label for category in record.visual_categories[:3]]
    if categories and not record.visual_categories[0].is_sure:
        categories = [UNSURE]
    return Path(record.path).name + (f"  -  {', '.join(categories)}" if categories else "")


def _text(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    width: int,
    *,
    size: int,
    fill: tuple[int, int, int] = INK,
) -> None:
    font = ImageFont.load_default(size)
    text = printable(text, MOST_CHARACTERS)
    while len(text) > 1 and draw.textlength(text, font=font) > width:
        text = text[:-2] + "…" if text.endswith("…") else text[:-1] + "…"
    draw.text(corner, text, font=font, fill=fill)
