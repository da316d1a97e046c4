"""Draw a contact sheet: the uniform choice, the selected frames, all candidates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from tsq_cli import selection
from tsq_cli.printable import printable
from tsq_cli.record import UNSURE, Candidate, Record
from tsq_cli.report.frames import description, new_picture, write_image
from tsq_cli.report.text import as_sentence, chosen_for, clock, way_to_choose
from tsq_cli.types import ChosenBy, UInt8Array

TILE_HEIGHT, SMALL_HEIGHT = 126, 72
MANY = 48  # tiles in a band, from which on they are small
MARGIN = 14
FONT_SIZE, LINE = 12, 16  # of captions
HEADING = 30
MOST_WIDTH, LEAST_WIDTH = 1918, 480
LEAST_CELL = 84  # wide enough for "v 10.0 t 10.0" and for a time
MOST_CHARACTERS = 300  # of one line, before it is cut to its width
SHEET_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
BACKGROUND = (250, 250, 248)
INK = (28, 28, 30)
FAINT = (112, 112, 118)
EVENT_COLORS = ((150, 160, 178), (200, 178, 128))
"""Alternating colors of events."""

NEUTRAL = (120, 120, 126)
COLORS: dict[ChosenBy, tuple[int, int, int]] = {
    "visual": (214, 93, 14),
    "textual": (38, 104, 196),
    "refill": (121, 85, 160),
    "query": (22, 132, 96),
    "event": (178, 42, 98),
    "coverage": (14, 116, 140),
}
"""Color of each reason for a frame. NEUTRAL is for rules that use no scores, or are there for comparison."""


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """A candidate in a band: its picture, and the lines of its caption."""

    candidate: Candidate
    picture: Image.Image
    caption: tuple[str, ...]
    color: tuple[int, int, int]
    is_chosen: bool


@dataclass(frozen=True, kw_only=True)
class _Band:
    """A heading with rows of equal cells below it; events are shown if their numbers, from 0, are given."""

    heading: str
    explanation: str
    cells: tuple[_Cell, ...]
    cell_width: int
    columns: int
    events: tuple[int, ...] | None

    @property
    def bar_height(self) -> int:
        return 0 if self.events is None else LINE

    @property
    def row_height(self) -> int:
        lines = max(len(cell.caption) for cell in self.cells)
        return self.bar_height + self.cells[0].picture.height + 5 + lines * LINE + MARGIN

    @property
    def width(self) -> int:
        return MARGIN + self.columns * (self.cell_width + MARGIN)

    def lines(self, sheet_width: int) -> tuple[str, ...]:
        """Wrap the explanation to the sheet's width."""
        return _wrapped(self.explanation.split(), sheet_width - 2 * MARGIN, gap=" ")

    def top_height(self, sheet_width: int) -> int:
        """Compute the height of everything above the cells."""
        return HEADING + len(self.lines(sheet_width)) * LINE

    def height(self, sheet_width: int) -> int:
        return self.top_height(sheet_width) + -(-len(self.cells) // self.columns) * self.row_height


def save_sheet(record: Record, pixels: UInt8Array, path: Path, *, video_id: str, overwrite: bool = False) -> str:
    """Draw and write the sheet of one video.

    Args:
        record: the result, with T candidates and K frames.
        pixels: uint8 [T, H, W, 3], the candidates in order of time.
        path: the file to write; its suffix, one of SHEET_SUFFIXES, chooses the format.
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
    """Draw the sheet as a picture with three bands: uniform, selected, all candidates.

    Args:
        record, pixels: as for save_sheet.
    """
    num = len(record.candidates)
    uniform = [choice.position for choice in selection.uniform(num, max(1, len(record.frames)))]
    selected = [frame.candidate.position for frame in record.frames]
    num_events = len({candidate.event for candidate in record.candidates})
    bands = [
        _band(record, pixels, uniform, f"Uniform choice of {len(uniform)}"),
        _band(
            record,
            pixels,
            selected,
            f"Selected by {way_to_choose(record.selector, record.rule, record.query.texts if record.query else ())}",
            explanation=_why_these(record),
            compares=True,
        ),
        _band(
            record,
            pixels,
            range(num),
            f"All {num} candidates" + (f" in {num_events} events" if num_events > 1 else ""),
            explanation=_key(record),
            compares=True,
            shows_events=num_events > 1,
        ),
    ]
    sheet_width = max(LEAST_WIDTH, *(band.width for band in bands))
    sheet_height = HEADING + MARGIN + sum(band.height(sheet_width) for band in bands)
    sheet = Image.new("RGB", (sheet_width, sheet_height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    draw_text(draw, (MARGIN, MARGIN), _title(record), sheet_width - 2 * MARGIN, size=17)
    top = HEADING + MARGIN // 2
    for band in bands:
        _draw_band(sheet, draw, band, top)
        top += band.height(sheet_width)
    return sheet


def _why_these(record: Record) -> str:
    if record.query is not None and not record.query.matched:
        return "No frame shows this: the nearest."
    return as_sentence(record.rule_reason)


def _band(
    record: Record,
    pixels: UInt8Array,
    positions: Sequence[int],
    heading: str,
    *,
    explanation: str = "",
    compares: bool = False,
    shows_events: bool = False,
) -> _Band:
    """Lay out a band of candidates; if it `compares`, duplicates of selected candidates are marked."""
    height, width = pixels.shape[1:3]
    tile_height = SMALL_HEIGHT if len(positions) > MANY else TILE_HEIGHT
    tile = (max(24, round(tile_height * width / height)), tile_height)
    cell_width = max(LEAST_CELL, tile[0])
    most = max(1, (MOST_WIDTH - MARGIN) // (cell_width + MARGIN))
    rows = -(-len(positions) // most)
    chosen = {frame.candidate.position: frame.chosen_by for frame in record.frames}
    cells = []
    for position in positions:
        candidate, chosen_by = record.candidates[position], chosen.get(position)
        picture = Image.fromarray(pixels[position]).resize(tile, Image.Resampling.LANCZOS)
        fades = compares and chosen_by is None and candidate.duplicate_of is not None
        cells.append(
            _Cell(
                candidate=candidate,
                picture=Image.blend(picture, Image.new("RGB", tile, BACKGROUND), 0.6) if fades else picture,
                caption=_wrapped([*_caption(record, candidate, chosen_by, compares)], cell_width, gap="  "),
                color=FAINT if fades else INK if chosen_by is None else COLORS.get(chosen_by, NEUTRAL),
                is_chosen=chosen_by is not None,
            )
        )
    return _Band(
        heading=heading,
        explanation=explanation,
        cells=tuple(cells),
        cell_width=cell_width,
        columns=-(-len(positions) // rows),
        events=tuple(cell.candidate.event or 0 for cell in cells) if shows_events else None,
    )


def _caption(record: Record, candidate: Candidate, chosen_by: ChosenBy | None, compares: bool) -> Iterator[str]:
    """Yield the pieces of a candidate's caption; a line is not broken inside a piece."""
    yield clock(candidate.time_seconds)
    if candidate.score_visual is not None and candidate.score_textual is not None:
        times = len(record.candidates)
        yield f"v {candidate.score_visual * times:.1f}  t {candidate.score_textual * times:.1f}"
    if chosen_by is not None:
        yield chosen_for(chosen_by, candidate.event)
    if candidate.quality == 0:
        yield "blank"
    if compares and candidate.duplicate_of is not None:
        yield f"= {clock(record.candidates[candidate.duplicate_of].time_seconds)}"


def _key(record: Record) -> str:
    """Explain the marks of the last band, as far as they occur."""
    parts = []
    if record.candidates[0].score_visual is not None:
        parts.append("v and t: visual and textual saliency, times the mean.")
    if any(candidate.duplicate_of is not None for candidate in record.candidates):
        parts.append("Faded, with = and a time: shows the same as the selected frame of that time.")
    return " ".join(parts)


def _draw_band(sheet: Image.Image, draw: ImageDraw.ImageDraw, band: _Band, top: int) -> None:
    draw_text(draw, (MARGIN, top + 8), band.heading, sheet.width - 2 * MARGIN, size=14)
    for number, line in enumerate(band.lines(sheet.width)):
        draw_text(draw, (MARGIN, top + HEADING - 3 + number * LINE), line, sheet.width - 2 * MARGIN, fill=FAINT)
    for number, cell in enumerate(band.cells):
        row, column = divmod(number, band.columns)
        left = MARGIN + column * (band.cell_width + MARGIN)
        upper = top + band.top_height(sheet.width) + row * band.row_height
        if band.events is not None:
            _draw_event(draw, band, number, (left, upper))
        _draw_cell(sheet, draw, cell, (left, upper + band.bar_height), band.cell_width)


def _draw_event(draw: ImageDraw.ImageDraw, band: _Band, number: int, corner: tuple[int, int]) -> None:
    """Draw an event's bar above one cell: it begins with the event's number and continues to its next cell."""
    assert band.events is not None  # for the type checker
    (left, upper), event = corner, band.events[number]
    starts_event = number % band.columns == 0 or band.events[number - 1] != event
    is_last = number + 1 in (len(band.cells), number // band.columns * band.columns + band.columns)
    goes_on = not is_last and band.events[number + 1] == event
    begin = left
    if starts_event:
        name = str(event + 1)
        draw_text(draw, (left, upper - 3), name, band.cell_width, fill=FAINT)
        begin += round(draw.textlength(name, font=ImageFont.load_default(FONT_SIZE))) + 4
    end = left + band.cell_width + (MARGIN if goes_on else 0)
    draw.rectangle((begin, upper + 2, end - 1, upper + 6), fill=EVENT_COLORS[event % len(EVENT_COLORS)])


def _draw_cell(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, cell: _Cell, corner: tuple[int, int], cell_width: int
) -> None:
    left, upper = corner
    sheet.paste(cell.picture, corner)
    if cell.is_chosen:
        box = (left - 3, upper - 3, left + cell.picture.width + 2, upper + cell.picture.height + 2)
        draw.rectangle(box, outline=cell.color, width=3)
    for number, line in enumerate(cell.caption):
        draw_text(draw, (left, upper + cell.picture.height + 5 + number * LINE), line, cell_width, fill=cell.color)


def _title(record: Record) -> str:
    categories: Sequence[str] = [category.label for category in record.visual_categories[:3]]
    if categories and not record.visual_categories[0].is_sure:
        categories = [UNSURE]
    return Path(record.path).name + (f"  -  {', '.join(categories)}" if categories else "")


def _wrapped(pieces: Sequence[str], width: int, *, gap: str) -> tuple[str, ...]:
    """Join pieces into lines no wider than `width`; a line is broken between pieces only."""
    font = ImageFont.load_default(FONT_SIZE)
    lines: list[str] = []
    for piece in pieces:
        longer = f"{lines[-1]}{gap}{piece}" if lines else piece
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(piece)
    return tuple(lines)


def draw_text(
    draw: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    text: str,
    width: int,
    *,
    size: int = FONT_SIZE,
    fill: tuple[int, int, int] = INK,
) -> None:
    """Draw a line of text from its upper left corner, cut to a width in pixels."""
    font = ImageFont.load_default(size)
    text = printable(text, MOST_CHARACTERS)
    while len(text) > 1 and draw.textlength(text, font=font) > width:
        text = text[:-2] + "…" if text.endswith("…") else text[:-1] + "…"
    draw.text(corner, text, font=font, fill=fill)
