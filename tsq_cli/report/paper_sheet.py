"""Draw one sheet in the layout of S's figures: uniform frames beside selected ones, one video per row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

from tsq_cli import selection
from tsq_cli.record import Record
from tsq_cli.report.sheet import (
    BACKGROUND,
    COLORS,
    FAINT,
    HEADING,
    INK,
    LEAST_CELL,
    LINE,
    MARGIN,
    MOST_WIDTH,
    NEUTRAL,
    draw_text,
)
from tsq_cli.report.text import clock
from tsq_cli.types import UInt8Array

MOST_TILE = 178
"""Longest side of a frame in pixels: five beside five are as wide as a sheet may be."""

COLUMN_GAP = 2 * MARGIN
COLUMNS = ("uniform sampling", "TSQNet")
Color = tuple[int, int, int]


class ComparedVideo(NamedTuple):
    """A row of the sheet.

    Attributes:
        title: the line above its frames.
        record: its T candidates and K selected frames.
        pixels: uint8 [T, H, W, 3], the candidates in order of time.
    """

    title: str
    record: Record
    pixels: UInt8Array


def draw_paper_sheet(title: str, groups: Mapping[str, Sequence[ComparedVideo]]) -> Image.Image:
    """Draw groups of videos below each other; in each row K uniform frames on the left, K selected ones on the right.

    Args:
        title: of the sheet.
        groups: at least one video in each, by the group's heading.

    Source: S's figures (docs/method.md, section 7); sizes and colors are ours.
    """
    num_frames = max(len(video.record.frames) for videos in groups.values() for video in videos)
    cell = min(MOST_TILE, (MOST_WIDTH - MARGIN - COLUMN_GAP) // (2 * num_frames) - MARGIN)
    column_width = num_frames * (cell + MARGIN)
    width = MARGIN + 2 * column_width + COLUMN_GAP
    tops = 2 * HEADING + MARGIN
    height = tops + sum(HEADING + sum(_row_height(video, cell) for video in videos) for videos in groups.values())
    sheet = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    lefts = (MARGIN, MARGIN + column_width + COLUMN_GAP)
    draw_text(draw, (MARGIN, MARGIN), title, width - 2 * MARGIN, size=17)
    for left, name in zip(lefts, COLUMNS, strict=True):
        draw_text(draw, (left, HEADING + MARGIN), name, column_width, size=14)
    _draw_key(draw, (lefts[1] + 2 * LEAST_CELL, HEADING + MARGIN + 2), groups)
    top = tops
    for heading, videos in groups.items():
        draw_text(draw, (MARGIN, top + 4), heading, width - 2 * MARGIN, size=14, fill=FAINT)
        top += HEADING
        for video in videos:
            draw_text(draw, (MARGIN, top), video.title, width - 2 * MARGIN)
            for left, frames in zip(lefts, (_uniform(video.record), _selected(video.record)), strict=True):
                for number, (position, color) in enumerate(frames):
                    corner = left + number * (cell + MARGIN), top + LINE + 4
                    _draw_frame(sheet, draw, video, position, corner, cell, color)
            top += _row_height(video, cell)
    return sheet


def _draw_key(
    draw: ImageDraw.ImageDraw, corner: tuple[int, int], groups: Mapping[str, Sequence[ComparedVideo]]
) -> None:
    """Name the reasons for selected frames, each in its color."""
    reasons = {frame.chosen_by for videos in groups.values() for video in videos for frame in video.record.frames}
    for number, reason in enumerate(reason for reason in COLORS if reason in reasons):
        place = corner[0] + number * LEAST_CELL, corner[1]
        draw_text(draw, place, reason, LEAST_CELL, fill=COLORS[reason])


def _uniform(record: Record) -> Iterator[tuple[int, Color | None]]:
    for choice in selection.uniform(len(record.candidates), len(record.frames)):
        yield choice.position, None


def _selected(record: Record) -> Iterator[tuple[int, Color | None]]:
    for frame in record.frames:
        yield frame.candidate.position, COLORS.get(frame.chosen_by, NEUTRAL)


def _tile(video: ComparedVideo, cell: int) -> tuple[int, int]:
    """Fit a frame into a square cell, as (width, height)."""
    height, width = video.pixels.shape[1:3]
    scale = cell / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _row_height(video: ComparedVideo, cell: int) -> int:
    return LINE + 4 + _tile(video, cell)[1] + 4 + LINE + MARGIN


def _draw_frame(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    video: ComparedVideo,
    position: int,
    corner: tuple[int, int],
    cell: int,
    color: Color | None,
) -> None:
    """Draw a candidate and its time; a selected one in a frame of its reason's color."""
    (left, top), (width, height) = corner, _tile(video, cell)
    picture = Image.fromarray(video.pixels[position]).resize((width, height), Image.Resampling.LANCZOS)
    sheet.paste(picture, corner)
    if color is not None:
        draw.rectangle((left - 3, top - 3, left + width + 2, top + height + 2), outline=color, width=3)
    time = clock(video.record.candidates[position].time_seconds)
    draw_text(draw, (left, top + height + 4), time, cell, fill=INK if color is None else color)
