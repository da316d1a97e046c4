"""Choose candidates that cover a long video at the cost of few: keyframes, and frames at likely cuts (pure; ours)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from tsq_cli.config import PAPER_CANDIDATES
from tsq_cli.types import BoolArray, Float64Array, Int64Array, SamplePlan
from tsq_cli.video.sample import checked_range, displayed_at, sample_frames, shown_between

MOST = 256
"""Largest number of candidates."""

SECONDS_EACH = 4.0
"""Seconds per candidate in videos of 64 s and more."""

WIDEST_SECONDS = 12.0
"""Gaps between candidates stay below this, or below three times the usual gap if that is more, at any cost."""

STANDS_OUT = 1.6
"""Size of a packet, as a multiple of those around it, from which a cut is likely. Measured on H.264 and MPEG-4 with
regular keyframes: 1.9 to 6 at cuts; elsewhere the largest packet within 4 s has 1.6 in the median."""

AFTER_CUT_SECONDS = 0.2
"""Delay after a cut: by then the picture is well coded again, and no B-frame shows both sides."""

KEYFRAME_COST, PICTURE_COST = 5, 2
"""Costs of decoding a keyframe, and of scaling and converting any frame, in packets of other frames (measured)."""


def auto_frames(
    pts_seconds: Float64Array,
    video_end_seconds: float,
    is_key: BoolArray,
    packet_bytes: Int64Array,
    *,
    least: int = PAPER_CANDIDATES,
    most: int = MOST,
    start_seconds: float | None = None,
    end_seconds: float | None = None,
    keyframes_only: bool = False,
) -> SamplePlan:
    """Choose candidates in proportion to the range's length, at about the decoding cost of 16 exact ones.

    Up to 64 s they are those of sample_frames. Beyond, there is up to one per 4 s. Keyframes cost one packet each: all
    are taken or, if they are too many, the one nearest to the middle of each segment. As long as the cost allows,
    frames behind packets so large that a cut is likely follow, then, cheapest first, the middles of segments that have
    no candidate. Gaps of more than 12 s are divided at any cost.

    Args:
        pts_seconds: float64 [N], strictly increasing times of the frames shown, N at least 1.
        video_end_seconds: end of the last frame, on the same clock.
        is_key: bool [N], whether a frame can be decoded alone.
        packet_bytes: int64 [N], size of each frame's packet.
        least: smallest number of candidates if the range has as many frames, 1 or more.
        most: largest number of candidates, 1 or more; overrules least.
        start_seconds, end_seconds: the range, as for sample_frames.
        keyframes_only: take only keyframes from a long range that has some.

    Returns:
        The plan. In a long range the requested times are the frames' own, and a note states the largest gap.

    Raises:
        UsageError, TimeRangeError: as sample_frames.
    """
    start, end = checked_range(start_seconds, end_seconds, video_end_seconds)
    num = min(most, max(least, math.ceil((end - start) / SECONDS_EACH)))
    if end - start <= PAPER_CANDIDATES * SECONDS_EACH:
        return sample_frames(pts_seconds, video_end_seconds, num, start_seconds=start, end_seconds=end)
    look = _Look(pts_seconds, is_key, start, end, num)
    if len(look.shown) <= num and not keyframes_only:
        look.take_all(look.shown)
        return look.plan()
    look.take_keyframes()
    if keyframes_only and look.taken:
        return look.plan()
    usual = sample_frames(pts_seconds, video_end_seconds, PAPER_CANDIDATES, start_seconds=start, end_seconds=end)
    look.allow(usual.frame_indices)
    look.take_cuts(packet_bytes)
    look.take_all(look.gap_points(look.times()))
    look.take_middles()
    if len(look.taken) < min(least, num):
        return sample_frames(pts_seconds, video_end_seconds, min(least, num), start_seconds=start, end_seconds=end)
    return look.plan()


class _Look:
    """The frames taken so far, and their cost of decoding.

    Args:
        pts_seconds, is_key: of all frames, as for auto_frames.
        start, end: the range in seconds.
        num: candidates that there may be.
    """

    def __init__(self, pts_seconds: Float64Array, is_key: BoolArray, start: float, end: float, num: int) -> None:
        self._pts, self._is_key, self._start, self._end, self._num = pts_seconds, is_key, start, end, num
        self.shown = shown_between(pts_seconds, start, end)
        self._step = (end - start) / num
        self._widest = max(WIDEST_SECONDS, 3 * self._step)
        # The first frame where none before is a key: decoding then begins with the file.
        self._key_before = np.maximum.accumulate(np.where(is_key, np.arange(len(is_key)), 0))
        self._reach: dict[int, int] = {}
        self._allowed = math.inf
        self.taken: set[int] = set()
        self.cost = 0

    def times(self) -> Float64Array:
        """Return the times of the frames taken in seconds, rising."""
        return self._pts[sorted(self.taken)]

    def plan(self) -> SamplePlan:
        taken = np.array(sorted(self.taken), dtype=np.int64)
        times = np.maximum(self._pts[taken], self._start)
        gap = float(np.diff(times).max(initial=0.0))
        keys = int(self._is_key[taken].sum())
        note = (
            f"{len(taken)} candidates (at most {self._num}) for {self._end - self._start:.0f} s, up to {gap:.1f} s "
            f"apart: keyframes {keys}, others {len(taken) - keys}."
        )
        return SamplePlan(frame_indices=taken, times_seconds=times, requested=self._num, notes=(note,))

    def take_all(self, indices: Int64Array) -> None:
        for index in indices.tolist():
            self._take(index)

    def take_keyframes(self) -> None:
        keys = self.shown[self._is_key[self.shown]]
        if len(keys) + len(self.gap_points(self._pts[keys])) > self._num:
            nearest = _nearest(self._pts[keys], self._middles())
            is_inside = np.abs(self._pts[keys[nearest]] - self._middles()) <= self._step / 2
            keys = np.unique(keys[nearest[is_inside]])
        self.take_all(keys)

    def allow(self, indices: Int64Array) -> None:
        """Limit the total cost from now on to the cost of these frames."""
        others = _Look(self._pts, self._is_key, self._start, self._end, len(indices))
        others.take_all(indices)
        self._allowed = others.cost

    def take_cuts(self, packet_bytes: Int64Array) -> None:
        """Take frames behind packets that stand out, largest first, as far as the cost and the wide gaps allow."""
        room = self._num - len(self.gap_points(self.times()))
        for packet in self._cuts(packet_bytes):
            index = int(displayed_at(self._pts, self._pts[packet] + AFTER_CUT_SECONDS))
            times, after = self.times(), self._pts[index] + self._step / 2
            is_soon_seen = bool(np.any((times >= self._pts[packet]) & (times < after)))
            if len(times) < room and index <= self.shown[-1] and not is_soon_seen and self._is_allowed(index):
                self._take(index)

    def take_middles(self) -> None:
        """Take the middles of segments without a frame, cheapest first, as far as the cost allows."""
        empty = np.setdiff1d(np.arange(self._num), self._segments(self.times()))
        middles = displayed_at(self._pts, self._middles()[empty])
        for index in middles[np.argsort(middles - self._key_before[middles], kind="stable")].tolist():
            if self._is_allowed(index):
                self._take(index)

    def gap_points(self, times: Float64Array) -> Int64Array:
        """Find frames that divide the gaps wider than allowed between rising times.

        They lie near a gap's beginning, as far as that divides it enough: its end costs most to decode.
        """
        points: list[float] = []
        edges = [self._start, *times.tolist(), self._end]
        for left, right in pairwise(edges):
            count = math.ceil((right - left) / self._widest) - 1
            last = max(right - left - self._widest, (right - left) * count / (count + 3))
            points.extend(left + last * i / count for i in range(1, count + 1))
        return np.unique(displayed_at(self._pts, np.array(points)))

    def _middles(self) -> Float64Array:
        return self._start + (np.arange(self._num, dtype=np.float64) + 0.5) * self._step

    def _segments(self, times: Float64Array) -> Int64Array:
        return ((times - self._start) / self._step).astype(np.int64).clip(0, self._num - 1)

    def _cuts(self, packet_bytes: Int64Array) -> Iterator[int]:
        """List the frame whose packet stands out in each segment, the largest ratio first."""
        edges = np.searchsorted(self._segments(self._pts[self.shown]), np.arange(self._num + 1))
        sizes = np.where(self._is_key[self.shown], 0, packet_bytes[self.shown])
        found: list[tuple[float, int]] = []
        for i in range(self._num):
            own = sizes[edges[i] : edges[i + 1]]
            around = sizes[edges[max(i - 1, 0)] : edges[min(i + 2, self._num)]]
            if own.any():
                coded = around[around > 0]
                usual = np.partition(coded, len(coded) * 9 // 10)[len(coded) * 9 // 10]
                if own.max() >= STANDS_OUT * usual:
                    found.append((-float(own.max() / usual), int(self.shown[edges[i] + own.argmax()])))
        return iter([index for _, index in sorted(found)])

    def _cost_of(self, index: int) -> int:
        key = int(self._key_before[index])
        return PICTURE_COST + max(0, index - key - self._reach.get(key, -KEYFRAME_COST))

    def _is_allowed(self, index: int) -> bool:
        cost = self._cost_of(index)
        return cost == PICTURE_COST or self.cost + cost <= self._allowed  # what is decoded anyway always is

    def _take(self, index: int) -> None:
        if index not in self.taken and len(self.taken) < self._num:
            key = int(self._key_before[index])
            self.cost += self._cost_of(index)
            self.taken.add(index)
            self._reach[key] = max(self._reach.get(key, 0), index - key)


def _nearest(times: Float64Array, wanted: Float64Array) -> Int64Array:
    """Find the position in rising times, at least one, of the time nearest to each wanted one."""
    after = np.searchsorted(times, wanted).clip(1, max(len(times) - 1, 1))
    before = after - 1
    after = after.clip(max=len(times) - 1)
    return np.where(wanted - times[before] <= times[after] - wanted, before, after)
