"""Sheets and saved frames, read back as pictures."""

import itertools
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tests.report.page_material import asked
from tests.report.sheet_reading import rows_of_tiles, tile_center
from tsq_cli.errors import OutputError
from tsq_cli.record import Candidate, Record, SelectedFrame
from tsq_cli.report.frames import frame_name
from tsq_cli.report.sheet import (
    BACKGROUND,
    COLORS,
    EVENT_COLORS,
    FONT_SIZE,
    MARGIN,
    NEUTRAL,
    TILE_HEIGHT,
    draw_sheet,
    save_sheet,
)  # fmt: skip
from tsq_cli.types import Category, ChosenBy

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
    """Square frames, each of one gray level that tells its position."""
    return np.stack([np.full((64, 64, 3), 10 * position + 20, np.uint8) for position in range(num)])


def test_uniform_stands_above_selected_above_all_candidates() -> None:
    sheet = draw_sheet(record(16, [0, 3, 9, 14, 15]), solid(16))

    def position(row: int, column: int) -> int:
        value = sheet.getpixel(tile_center(sheet, row, column))
        assert isinstance(value, tuple)
        return (round(value[0]) - 20) // 10

    assert [position(0, column) for column in range(5)] == [1, 4, 8, 11, 14]  # centers of five segments of sixteen
    assert [position(1, column) for column in range(5)] == [0, 3, 9, 14, 15]
    assert [position(2, column) for column in range(8)] == list(range(8))
    assert [position(3, column) for column in range(8)] == list(range(8, 16))


def test_selected_tiles_have_a_border_of_their_color_and_others_none() -> None:
    sheet = draw_sheet(record(16, [9]), solid(16))
    x, y = tile_center(sheet, 3, 1)  # candidate 9
    assert sheet.getpixel((x - TILE_HEIGHT // 2 - 2, y)) == COLORS["visual"]
    x, y = tile_center(sheet, 3, 2)
    assert sheet.getpixel((x - TILE_HEIGHT // 2 - 2, y)) != COLORS["visual"]


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (40, 7)])
def test_odd_numbers_of_frames_fit(size: tuple[int, int]) -> None:
    num_candidates, k = size
    assert draw_sheet(
        record(num_candidates, list(range(k))), solid(num_candidates % 20 + 1)[:1].repeat(num_candidates, 0)
    )


# Ways to be chosen, events, duplicates


@pytest.mark.parametrize("chosen_by", get_args(ChosenBy))
def test_every_way_to_be_chosen_has_a_color(chosen_by: ChosenBy) -> None:
    made = record(4, [1])
    frames = (replace(made.frames[0], chosen_by=chosen_by),)
    sheet = draw_sheet(replace(made, frames=frames), solid(4))
    x, y = tile_center(sheet, 2, 1)
    assert sheet.getpixel((x - TILE_HEIGHT // 2 - 2, y)) == COLORS.get(chosen_by, NEUTRAL)


def test_what_shows_the_same_as_a_selected_frame_is_faded_below_and_nowhere_else() -> None:
    made = known(record(4, [1]), duplicate_of=[None, None, 1, None])
    sheet = draw_sheet(made, solid(4))
    x, y = tile_center(sheet, 2, 2)
    # Candidate 2 is of the gray level 40; 60 % of the way to the background, 250 and 248, it is 166 and 165.
    assert np.abs(np.array(sheet.getpixel((x, y))) - (166, 166, 165)).max() <= 1
    assert [sheet.getpixel(tile_center(sheet, 2, column)) for column in (0, 1, 3)] == [(v, v, v) for v in (20, 30, 50)]
    alone = draw_sheet(known(record(4, [2]), duplicate_of=[None, None, 1, None]), solid(4))
    assert alone.getpixel(tile_center(alone, 2, 2)) == (40, 40, 40)  # selected, so it is to be seen


def bar_colors(sheet: Image.Image, row: int, x: int) -> set[tuple[int, ...]]:
    """Colors of events in the 24 pixels above a tile, at an x."""
    upper = rows_of_tiles(sheet)[row] - TILE_HEIGHT // 2
    column = {tuple(pixel) for pixel in np.asarray(sheet)[upper - 24 : upper, x].tolist()}
    return column & set(EVENT_COLORS)


def test_events_have_bars_of_two_colors_in_turns_that_run_over_the_gaps() -> None:
    sheet = draw_sheet(known(record(16, [0]), event=[0] * 3 + [1] * 7 + [2] * 6), solid(16))
    first, second = ({color} for color in EVENT_COLORS)
    cell = TILE_HEIGHT + MARGIN
    middles = [MARGIN + column * cell + TILE_HEIGHT // 2 for column in range(8)]
    assert [bar_colors(sheet, 2, x) for x in middles] == [first] * 3 + [second] * 5
    assert [bar_colors(sheet, 3, x) for x in middles] == [second] * 2 + [first] * 6
    gaps = [MARGIN + column * cell - MARGIN // 2 for column in range(1, 8)]
    assert [bar_colors(sheet, 2, x) for x in gaps] == [first] * 2 + [set()] + [second] * 4
    assert [bar_colors(sheet, row, x) for row in (0, 1) for x in middles[:1]] == [set(), set()]


@pytest.mark.parametrize("event", [[0] * 4, [None] * 4])
def test_one_event_or_none_has_no_bar(event: list[int | None]) -> None:
    made = record(4, [1])
    assert draw_sheet(known(made, event=event), solid(4)).tobytes() == draw_sheet(made, solid(4)).tobytes()


def known(made: Record, **values: list[Any]) -> Record:
    """The record with more said of its candidates, a value for each."""
    told = [{name: each[i] for name, each in values.items()} for i in range(len(made.candidates))]
    candidates = tuple(replace(old, **new) for old, new in zip(made.candidates, told, strict=True))
    frames = tuple(replace(frame, candidate=candidates[frame.candidate.position]) for frame in made.frames)
    return replace(made, candidates=candidates, frames=frames)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, str]]:
    """Every text that is drawn, with its left upper corner."""
    texts = []
    own = ImageDraw.ImageDraw.text

    def text(draw: ImageDraw.ImageDraw, corner: tuple[int, int], words: str, **rest: Any) -> None:
        texts.append((*corner, words))
        own(draw, corner, words, **rest)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return texts


def test_captions_say_what_is_known(drawn: list[tuple[int, int, str]]) -> None:
    made = known(record(6, [1, 4]), duplicate_of=[None] * 4 + [1, 1], quality=[0.2, 0.3, 0.0, 0.1, 0.2, 0.2])
    wide = solid(6).repeat(2, axis=2)
    draw_sheet(replace(made, frames=(replace(made.frames[0], chosen_by="event"), made.frames[1])), wide)
    captions = [text for _, _, text in drawn if text.startswith("0:")]
    assert captions == [
        "0:00.040  v 1.0  t 1.0  event",
        "0:00.160  v 1.0  t 1.0  visual",
        "0:00.040  v 1.0  t 1.0  event",
        "0:00.160  v 1.0  t 1.0  visual  = 0:00.040",
        "0:00.000  v 1.0  t 1.0",
        "0:00.040  v 1.0  t 1.0  event",
        "0:00.080  v 1.0  t 1.0  blank",
        "0:00.120  v 1.0  t 1.0",
        "0:00.160  v 1.0  t 1.0  visual  = 0:00.040",
        "0:00.200  v 1.0  t 1.0  = 0:00.040",
    ]


def test_an_event_s_frame_names_it(drawn: list[tuple[int, int, str]]) -> None:
    made = known(record(3, [2]), event=[0, 0, 1])
    draw_sheet(replace(made, frames=(replace(made.frames[0], chosen_by="event"),)), solid(3).repeat(2, axis=2))
    texts = [text for _, _, text in drawn]
    assert texts.count("0:00.080  v 1.0  t 1.0  event 2") == 2
    assert "All 3 candidates in 2 events" in texts
    assert [text for text in texts if text in ("1", "2")] == ["1", "2"]


def test_a_portrait_clip_s_captions_are_whole_and_keep_to_their_cells(drawn: list[tuple[int, int, str]]) -> None:
    made = known(record(16, [3]), duplicate_of=[None] * 15 + [3], quality=[0.0] + [1.0] * 15, event=[0] * 8 + [1] * 8)
    made = known(made, time_seconds=[3600 + position / 25 for position in range(16)])
    made = replace(made, path="x.mp4", rule="cover", rule_reason="nothing stands out: " + " ".join(["some words"] * 20))
    sheet = draw_sheet(made, np.zeros((16, 160, 90, 3), np.uint8))
    assert not [text for _, _, text in drawn if "…" in text]
    font = ImageFont.load_default(FONT_SIZE)
    below = [entry for entry in drawn if entry[2].startswith(("1:", "v 1", "visual", "blank", "= "))]
    lefts = sorted({x for x, _, _ in below})
    assert len(lefts) == 16
    cell = min(later - earlier for earlier, later in itertools.pairwise(lefts))
    assert max(font.getlength(text) for _, _, text in below) <= cell - MARGIN
    assert [text for x, _, text in below if x == lefts[3]][-3:] == ["1:00:00.120", "v 1.0  t 1.0", "visual"]
    assert [text for x, _, text in below if x == lefts[15]] == ["1:00:00.600", "v 1.0  t 1.0", "= 1:00:00.120"]
    assert [text for x, _, text in below if x == lefts[0]][-3:] == ["1:00:00.000", "v 1.0  t 1.0", "blank"]
    reason = " ".join(text for x, y, text in drawn if "some words" in text)
    assert reason == "Nothing stands out: " + " ".join(["some words"] * 20) + "."
    assert "Selected by auto (cover)" in [text for _, _, text in drawn]
    assert all(x + font.getlength(text) <= sheet.width for x, _, text in drawn if "some words" in text)


def test_many_candidates_are_small_and_twelve_or_more_in_a_row(drawn: list[tuple[int, int, str]]) -> None:
    made = record(272, [100])
    sheet = draw_sheet(made, np.zeros((272, 90, 160, 3), np.uint8))
    times = [(x, y) for x, y, text in drawn if text.startswith("0:")][2:]  # the uniform and the selected one first
    assert len(times) == 272
    assert len({x for x, _ in times}) >= 12
    rows = sorted({y for _, y in times})
    assert len(rows) == -(-272 // len({x for x, _ in times}))
    assert rows[1] - rows[0] < TILE_HEIGHT
    assert sheet.width < 2000
    assert sheet.getpixel((sheet.width - 1, sheet.height - 1)) == BACKGROUND


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
    long = replace(record(4, [1]), path="x" * 251 + ".mp4", visual_categories=(category,), query=asked("y\n" * 10**6))
    sheet = draw_sheet(long, solid(4))
    assert sheet.size == short.size
    # Tiles, below title and headings, are the same.
    middle = rows_of_tiles(short)[0]
    box = (0, middle - TILE_HEIGHT // 2, short.width, middle + TILE_HEIGHT // 2)
    assert sheet.crop(box).tobytes() == short.crop(box).tobytes()


def test_a_query_that_no_frame_shows_says_so_above_the_frames(drawn: list[tuple[int, int, str]]) -> None:
    for best, says in ((0.4, True), (0.6, False)):
        drawn.clear()
        draw_sheet(replace(record(4, [1]), query=asked("a dog", matches=(0.1, 0.2, 0.3, best))), solid(4))
        texts = [text for _, _, text in drawn]
        assert "Selected by query: a dog" in texts
        assert ("No frame shows this: the nearest." in texts) == says
