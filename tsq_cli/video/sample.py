"""Choose the frames of a video that become its candidates (pure functions over arrays)."""

from __future__ import annotations

import math
import re

import numpy as np

from tsq_cli.errors import TimeRangeError, UsageError
from tsq_cli.types import Float64Array, Int64Array, SamplePlan

_TIMECODE = re.compile(
    r"(?:(?:(?P<hours>[0-9]+):(?=[0-5]?[0-9]:))?(?P<minutes>[0-9]+):(?=[0-5]?[0-9](?:\.|$)))?"
    r"(?P<seconds>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
)

_SAME_TIME_SECONDS = 1e-9
"""Far below any frame's duration: keeps a time equal to a frame's from falling to the frame before by rounding."""


def displayed_at(pts_seconds: Float64Array, times_seconds: Float64Array | float) -> Int64Array:
    """Find the frames on screen at given times: the largest pts <= time, or the first frame before its time.

    Args:
        pts_seconds: float64 [N], strictly increasing, N at least 1.
        times_seconds: any shape, on the same clock.

    Returns:
        int64 of the shape of times_seconds, each in [0, N).
    """
    times = np.asarray(times_seconds, dtype=np.float64)
    indices = np.searchsorted(pts_seconds, times + _SAME_TIME_SECONDS, side="right") - 1
    return np.maximum(indices, 0).astype(np.int64)


def sample_frames(
    pts_seconds: Float64Array,
    video_end_seconds: float,
    num_candidates: int,
    *,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> SamplePlan:
    """Choose the frames on screen at the centers of T equal segments of the half-open range [start, end).

    No frame is repeated (ours): if fewer than T frames are on screen during the range, each is taken once and T
    shrinks. Centers that fall on the same frame (a slide show, a variable frame rate) also count once. A note reports
    both cases.

    Args:
        pts_seconds: float64 [N], strictly increasing times of the frames shown, N at least 1.
        video_end_seconds: end of the last frame, on the same clock.
        num_candidates: T, at least 1.
        start_seconds: start of the range, at least 0; the start of the video where None.
        end_seconds: end of the range, after its start; the end of the video where None or beyond it.

    Raises:
        UsageError: T below 1, a range that is empty, negative or not a number.
        TimeRangeError: a range that starts after the video's end.
    """
    if num_candidates < 1:
        raise UsageError(f"{num_candidates} candidates", wanted="at least 1", fix="use 16, as the paper does")
    start, end = checked_range(start_seconds, end_seconds, video_end_seconds)
    available = shown_between(pts_seconds, start, end)
    if len(available) <= num_candidates:
        indices, times = available, np.maximum(pts_seconds[available], start)
        why = f"the range shows only {len(available)} frame{'s' if len(available) > 1 else ''}, each taken once"
    else:
        centers = start + (np.arange(num_candidates, dtype=np.float64) + 0.5) * ((end - start) / num_candidates)
        indices, first = np.unique(displayed_at(pts_seconds, centers), return_index=True)
        times = centers[first]
        why = f"they meet {len(indices)} different frame{'s' if len(indices) > 1 else ''}, each taken once"
    short = len(indices) < num_candidates
    return SamplePlan(
        frame_indices=indices.astype(np.int64),
        times_seconds=times,
        requested=num_candidates,
        notes=(f"{num_candidates} candidates were asked for, but {why}.",) if short else (),
    )


def shown_between(pts_seconds: Float64Array, start: float, end: float) -> Int64Array:
    """List the frames on screen at some time in [start, end): at least one; the first may have begun before it."""
    last = np.searchsorted(pts_seconds, end - _SAME_TIME_SECONDS, side="left") - 1
    return np.arange(int(displayed_at(pts_seconds, start)), max(int(last), 0) + 1)


def checked_range(start: float | None, end: float | None, video_end: float) -> tuple[float, float]:
    """Check a range and cut it at the video's end; return it in seconds.

    Raises:
        UsageError, TimeRangeError: as sample_frames.
    """
    for name, value in (("start", start), ("end", end)):
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise UsageError(f"{name} is {value} s", wanted="a time of 0 s or more", fix="give seconds or 1:30")
    begin = start or 0.0
    if end is not None and end <= begin:
        raise UsageError(f"the range {begin:g} to {end:g} s", wanted="an end after the start", fix="swap or widen it")
    if begin >= video_end:
        raise TimeRangeError(
            f"the range starts at {begin:g} s, but the video lasts {video_end:.3f} s",
            wanted="a start before the video's end",
            fix="choose an earlier start",
        )
    return begin, video_end if end is None else min(end, video_end)


def parse_timecode(text: str) -> float:
    """Parse "90", "90.5", "1:30" or "00:01:30.5" into seconds; minutes and seconds after a colon lie in [0, 60).

    Raises:
        UsageError: anything else, negative times and "nan" included.
    """
    match = _TIMECODE.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f"the time {text!r}", wanted="seconds or [hours:]minutes:seconds", fix="write it as 90, 1:30 or 00:01:30.5"
        )
    hours, minutes, seconds = (float(match[part] or 0) for part in ("hours", "minutes", "seconds"))
    return hours * 3600 + minutes * 60 + seconds
