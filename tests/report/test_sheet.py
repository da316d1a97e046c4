"""Sheets and saved frames, read back as pictures."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tsq_cli.errors import OutputError
from tsq_cli.record import Candidate, Record, SelectedFrame
from tsq_cli.report.frames import frame_name
from tsq_cli.report.sheet import CAPTION, COLORS, HEADING, MARGIN, TILE_HEIGHT, draw_sheet, save_sheet
from tsq_cli.types import Category

ID = "0123abcd"


def record(num_candidates: int, selected: list[int]) -> Record:
    candidates = tuple(
        Candidate(
            position=position,
            frame_index=position,
            pts=position,
            time_base=Fraction(1, 25),
            time_seconds=position / 25,
            score_visual=1 / num_candidates,
            score_textual=1 / num_candidates,
        )
        for position in range(num_candidates)
    )
    frames = tuple(
        SelectedFrame(rank=rank, chosen_by="visual", candidate=candidates[position])
        for rank, position in enumerate(selected, start=1)
    )
    return Record(
        path="clip.mp4", status="ok", settings_hash="0" * 16, requested_k=5, candidates=candidates, frames=frames
    )


def solid(num: int) -> np.ndarray:
    """Square frames, each of one grey level that tells its position."""
    return np.stack([np.full((64, 64, 3), 10 * position + 20, np.uint8) for position in range(num)])


def tile_centre(row: int, column: int) -> tuple[int, int]:
    """Centre of a tile in a sheet of square tiles whose first two bands have one row each."""
    left = MARGIN + column * (TILE_HEIGHT + MARGIN)
    band = HEADING + TILE_HEIGHT + CAPTION + MARGIN
    top = HEADING + MARGIN // 2 + (row * band if row < 2 else 2 * band + (row - 2) * (TILE_HEIGHT + CAPTION + MARGIN))
    return left + TILE_HEIGHT // 2, top + HEADING + TILE_HEIGHT // 2


def test_uniform_stands_above_selected_above_all_candidates() -> None:
    sheet = draw_sheet(record(16, [0, 3, 9, 14, 15]), solid(16))

    def position(row: int, column: int) -> int:
        value = sheet.getpixel(tile_centre(row, column))
        assert isinstance(value, tuple)
        return (round(value[0]) - 20) // 10

    assert [position(0, column) for column in range(5)] == [1, 4, 8, 11, 14]  # centres of five segments of sixteen
    assert [position(1, column) for column in range(5)] == [0, 3, 9, 14, 15]
    assert [position(2, column) for column in range(8)] == list(range(8))
    assert [position(3, column) for column in range(8)] == list(range(8, 16))


def test_selected_tiles_have_a_border_of_their_colour_and_others_none() -> None:
    sheet = draw_sheet(record(16, [9]), solid(16))
    x, y = tile_centre(3, 1)  # candidate 9
    assert sheet.getpixel((x - TILE_HEIGHT // 2 - 2, y)) == COLORS["visual"]
    x, y = tile_centre(3, 2)
    assert sheet.getpixel((x - TILE_HEIGHT // 2 - 2, y)) != COLORS["visual"]


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (40, 7)])
def test_odd_numbers_of_frames_fit(size: tuple[int, int]) -> None:
    num_candidates, k = size
    assert draw_sheet(
        record(num_candidates, list(range(k))), solid(num_candidates % 20 + 1)[:1].repeat(num_candidates, 0)
    )


def test_a_sheet_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "sheet.jpg"
    assert save_sheet(record(4, [1]), solid(4), path, video_id=ID) == str(path)
    with Image.open(path) as picture:
        assert picture.format == "JPEG"
    (tmp_path / "blocked.png").mkdir()
    with pytest.raises(OutputError):
        save_sheet(record(4, [1]), solid(4), tmp_path / "blocked.png", video_id=ID)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_names_sort_by_rank_and_say_the_time() -> None:
    frame = record(16, [9]).frames[0]
    assert frame_name("clip", frame, "jpg") == "clip-01-000000360.jpg"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("new\nline.mp4", r"new\nline.mp4"),
        ("caf\udce9\x1b[31m.mp4", r"caf\xe9\x1b[31m.mp4"),
        ("\u202egpj.mp4", r"\u202egpj.mp4"),
    ],
)
def test_a_name_is_drawn_as_its_escapes(name: str, shown: str) -> None:
    drawn = draw_sheet(replace(record(4, [1]), path=f"clips/{name}"), solid(4))
    assert drawn.tobytes() == draw_sheet(replace(record(4, [1]), path=f"clips/{shown}"), solid(4)).tobytes()
    assert drawn.tobytes() != draw_sheet(replace(record(4, [1]), path="clips/another.mp4"), solid(4)).tobytes()


def test_names_of_any_length_leave_the_sheet_as_it_is() -> None:
    short = draw_sheet(record(4, [1]), solid(4))
    category = Category(index=0, label="\n" * 10**6, score=1.0)
    long = replace(record(4, [1]), path="x" * 251 + ".mp4", visual_categories=(category,), query="y\n" * 10**6)
    sheet = draw_sheet(long, solid(4))
    assert sheet.size == short.size
    # Tiles, below title and headings, are the same.
    box = (0, HEADING + MARGIN // 2 + HEADING, short.width, HEADING + MARGIN // 2 + HEADING + TILE_HEIGHT)
    assert sheet.crop(box).tobytes() == short.crop(box).tobytes()
