"""Sampling and time codes: tables worked out by hand, and what must hold for any video."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsq_cli.errors import TimeRangeError, UsageError
from tsq_cli.video import parse_timecode, sample_frames
from tsq_cli.video.sample import displayed_at


def test_centers_of_equal_segments() -> None:
    # 20 frames of 0.1 s, 4 segments of 0.5 s: centers 0.25, 0.75, 1.25, 1.75 meet frames 2, 7, 12, 17.
    plan = sample_frames(np.arange(20) / 10, 2.0, 4)
    assert plan.frame_indices.tolist() == [2, 7, 12, 17]
    np.testing.assert_allclose(plan.times_seconds, [0.25, 0.75, 1.25, 1.75], rtol=1e-12)
    assert (plan.requested, plan.notes) == (4, ())


def test_range_is_half_open_and_cut_at_the_end_of_the_video() -> None:
    pts = np.arange(20) / 10
    assert sample_frames(pts, 2.0, 2, start_seconds=1.0, end_seconds=1.4).frame_indices.tolist() == [11, 13]
    # [1.8, 2.0) shows frames 18 and 19; what lies beyond the end of the video is not stretched over.
    assert sample_frames(pts, 2.0, 2, start_seconds=1.8, end_seconds=99).frame_indices.tolist() == [18, 19]
    # [1.0, 1.1) ends where frame 11 begins.
    assert sample_frames(pts, 2.0, 4, start_seconds=1.0, end_seconds=1.1).frame_indices.tolist() == [10]


def test_short_video_takes_each_frame_once_and_says_so() -> None:
    plan = sample_frames(np.arange(3) / 10, 0.3, 16)
    assert plan.frame_indices.tolist() == [0, 1, 2]
    assert plan.requested == 16
    assert plan.notes == ("16 candidates were asked for, but the range shows only 3 frames, each taken once.",)
    one = sample_frames(np.zeros(1), 0.04, 16)
    assert one.frame_indices.tolist() == [0]
    assert "only 1 frame," in one.notes[0]
    assert sample_frames(np.arange(16) / 10, 1.6, 16).notes == ()


def test_frames_met_twice_count_once() -> None:
    # One frame is on screen for 10 s among quick ones: 5 of 8 centers meet it.
    pts = np.array([0, 1, 2, 3, 4, 5, 15, 16, 17.0])
    plan = sample_frames(pts, 18.0, 8)
    centers = [1.125, 3.375, 5.625, 7.875, 10.125, 12.375, 14.625, 16.875]
    assert plan.frame_indices.tolist() == [1, 3, 5, 7]
    np.testing.assert_allclose(plan.times_seconds, [centers[0], centers[1], centers[2], centers[7]])
    assert plan.notes == ("8 candidates were asked for, but they meet 4 different frames, each taken once.",)


def test_target_on_a_frame_takes_that_frame() -> None:
    # 30000/1001 fps, as many centers as hit frame times exactly: rounding must not pull one to the frame before.
    pts = [Fraction(1001 * i, 30000) for i in range(48)]
    plan = sample_frames(np.array([float(p) for p in pts]), float(48 * pts[1]), 24)
    assert plan.frame_indices.tolist() == list(range(1, 48, 2))


def test_time_before_the_first_frame_shows_the_first() -> None:
    assert displayed_at(np.array([0.0, 0.5]), np.array([-1.0, 0.0, 0.49, 0.5, 9.0])).tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("start", "end"), [(2.0, 1.0), (1.0, 1.0), (-1.0, None), (None, -1.0), (float("nan"), None), (0.0, float("inf"))]
)
def test_ranges_that_make_no_sense(start: float | None, end: float | None) -> None:
    with pytest.raises(UsageError):
        sample_frames(np.arange(20) / 10, 2.0, 4, start_seconds=start, end_seconds=end)


def test_range_beyond_the_video_names_its_duration() -> None:
    with pytest.raises(TimeRangeError, match=r"2\.000 s"):
        sample_frames(np.arange(20) / 10, 2.0, 4, start_seconds=2.0)
    with pytest.raises(UsageError, match="0 candidates"):
        sample_frames(np.arange(20) / 10, 2.0, 0)


@given(
    gaps=st.lists(st.integers(1, 5000), min_size=1, max_size=200),
    count=st.integers(1, 64),
    window=st.tuples(st.integers(0, 999), st.integers(1, 1000)),
)
def test_every_target_is_the_frame_on_screen(gaps: list[int], count: int, window: tuple[int, int]) -> None:
    """Against plain integer arithmetic in milliseconds."""
    pts = [sum(gaps[:i]) for i in range(len(gaps))]
    duration = sum(gaps)
    start, end = duration * window[0] // 1000, max(duration * window[0] // 1000 + 1, duration * window[1] // 1000)
    plan = sample_frames(
        np.array(pts) / 1000, duration / 1000, count, start_seconds=start / 1000, end_seconds=end / 1000
    )
    end = min(end, duration)
    on_screen = [i for i in range(len(pts)) if pts[i] < end and (pts[i] + gaps[i] > start)]
    centers = [start + Fraction(end - start) * (2 * i + 1) / (2 * count) for i in range(count)]
    met = sorted({max(i for i in range(len(pts)) if pts[i] <= center) for center in centers})
    assert plan.frame_indices.tolist() == (on_screen if len(on_screen) <= count else met)
    assert bool(plan.notes) == (len(plan.frame_indices) < count)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90.5", 90.5),
        (".5", 0.5),
        ("0", 0),
        ("1:30", 90),
        ("90:00", 5400),
        ("00:01:30.5", 90.5),
        ("10:00:00", 36000),
        (" 1:02 ", 62),
        ("1:2", 62),
    ],
)
def test_timecodes(text: str, seconds: float) -> None:
    assert parse_timecode(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "abc", "-1", "-0:30", "nan", "inf", "1e3", "1:60", "1:60:00", "1:2:3:4", ":30", "1:", "1 30", "1,5", "٣"],
)
def test_timecodes_that_make_no_sense(text: str) -> None:
    with pytest.raises(UsageError, match="the time"):
        parse_timecode(text)
