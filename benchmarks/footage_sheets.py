"""Pictures of what some ways to choose have chosen of a video, one row each, to be looked at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from tsq_cli.types import UInt8Array
from tsq_cli.video import decode_frames, open_video
from tsq_cli.video.sample import displayed_at

TILE_HEIGHT, MARGIN, HEADING = 110, 8, 22
WIDEST = 12
JUDGED_BY = ("shots", "event_recall", "distinct")


def extremes(measured: Sequence[Mapping[str, Any]], row: str, other: str, count: int) -> list[Mapping[str, Any]]:
    """The videos where a row does best and worst beside another: `count` each, the best first.

    By the first of JUDGED_BY that the video has; equal differences by distinct frames.
    """

    def gain(video: Mapping[str, Any]) -> tuple[float, float]:
        ours, theirs = (video["rows"][name]["values"] for name in (row, other))
        name = next(name for name in JUDGED_BY if name in ours)
        return ours[name] - theirs[name], ours["distinct"] - theirs["distinct"]

    ordered = sorted((video for video in measured if {row, other} <= set(video["rows"])), key=gain, reverse=True)
    return ordered[:count] + ordered[max(count, len(ordered) - count) :]


def sheet(video: Mapping[str, Any], rows: Sequence[str]) -> Image.Image:
    """One video: a heading, and a row of pictures with their times for each way to choose."""
    bands = {row: video["rows"][row] for row in rows if row in video["rows"]}
    pictures = {row: _frames(Path(video["path"]), measured["times"][:WIDEST]) for row, measured in bands.items()}
    height, width = next(iter(pictures.values())).shape[1:3]
    tile = (round(TILE_HEIGHT * width / height), TILE_HEIGHT)
    columns = max(len(frames) for frames in pictures.values())
    size = (MARGIN + columns * (tile[0] + MARGIN), HEADING + len(bands) * (TILE_HEIGHT + HEADING + MARGIN))
    drawn = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(drawn)
    draw.text((MARGIN, 4), f"{video['kind']}, {video['half']} half: {Path(video['path']).name}", "black", font_size=14)
    for number, (row, measured) in enumerate(bands.items()):
        top = HEADING + number * (TILE_HEIGHT + HEADING + MARGIN)
        draw.text((MARGIN, top + 4), _caption(row, measured), "black", font_size=12)
        for i, (frame, seconds) in enumerate(zip(pictures[row], measured["times"], strict=False)):
            corner = (MARGIN + i * (tile[0] + MARGIN), top + HEADING)
            drawn.paste(Image.fromarray(frame).resize(tile, Image.Resampling.LANCZOS), corner)
            draw.text(
                (corner[0] + 4, corner[1] + 3),
                f"{seconds:.1f} s",
                "yellow",
                font_size=12,
                stroke_width=2,
                stroke_fill="black",
            )
    return drawn


def _caption(row: str, measured: Mapping[str, Any]) -> str:
    values = measured["values"]
    shown = [
        f"{values[name]:g} {word}" for name, word in (("distinct", "distinct"), ("shots", "shots")) if name in values
    ]
    return f"{row}: " + ", ".join(shown)


def _frames(path: Path, times: Sequence[float]) -> UInt8Array:
    with closing(open_video(path)) as source:
        indices = displayed_at(source.pts_seconds, np.array(times))
        return decode_frames(source, indices, short_side=TILE_HEIGHT * 2).pixels
