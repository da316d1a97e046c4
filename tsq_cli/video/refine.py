"""Further candidates between first ones that look unlike, and both merged (pure functions over arrays; ours)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np

from tsq_cli.types import Float64Array, FrameBatch, Int64Array, SamplePlan

CLOSEST_SECONDS = 0.2
CLOSEST_FRAMES = 2
"""A frame closer than either of these to another shows the same as that one."""

ALIKE = 0.1
"""Step of cosine similarity: gaps whose cosines lie in the same step count as equally different."""


class _Gap(NamedTuple):
    """The gap between two frames, by index: its step of difference and of width, and how much its ends differ.

    Gaps that differ more come first; among equally different ones, those that are wider by half or more.
    """

    urgency: tuple[int, int]
    left: int
    right: int
    difference: float

    @classmethod
    def of(cls, pts_seconds: Float64Array, left: int, right: int, difference: float) -> Self:
        octave = math.log2(pts_seconds[right] - pts_seconds[left])
        return cls((math.floor(difference / ALIKE + 1e-9), math.floor(2 * octave + 1e-9)), left, right, difference)


def closer_frames(pts_seconds: Float64Array, taken: Int64Array, similarity: Float64Array, budget: int) -> Int64Array:
    """Choose further frames by halving, again and again, the gap between frames that look most unlike.

    Among equally different gaps the wider one is halved first; among equally wide ones, the one farthest from the gaps
    halved before, so that a video that looks the same everywhere is sampled everywhere. Each half of a gap counts with
    half of its difference.

    Args:
        pts_seconds: float64 [N], strictly increasing times of the frames shown.
        taken: int64 [T], strictly increasing, indices of the frames seen, each in [0, N).
        similarity: float64 [T - 1], cosine of what each frame and the next one show, from -1 to 1.
        budget: largest number of frames, 0 or more.

    Returns:
        int64 [at most budget], rising; at least 0.2 s and 2 frames from each other and from any taken. Fewer than the
        budget where gaps are too narrow.

    Raises:
        ValueError: similarity is not [T - 1].
    """
    if len(similarity) != max(len(taken) - 1, 0):
        raise ValueError(f"similarity must be [T - 1] for {len(taken)} frames, got {similarity.shape}")
    gaps = [
        _Gap.of(pts_seconds, *ends, 1 - cosine)
        for ends, cosine in zip(pairwise(taken.tolist()), similarity.tolist(), strict=True)
    ]
    found: list[int] = []
    while gaps and len(found) < budget:
        most = max(gap.urgency for gap in gaps)
        alike = [gap for gap in gaps if gap.urgency == most]
        middles = np.array([(pts_seconds[gap.left] + pts_seconds[gap.right]) / 2 for gap in alike])
        distance = np.abs(middles[:, None] - pts_seconds[found]).min(axis=1, initial=np.inf)
        gap = alike[int(distance.argmax())]
        gaps.remove(gap)
        middle = _middle(pts_seconds, gap.left, gap.right)
        if middle is not None:
            found.append(middle)
            gaps.append(_Gap.of(pts_seconds, gap.left, middle, gap.difference / 2))
            gaps.append(_Gap.of(pts_seconds, middle, gap.right, gap.difference / 2))
    return np.array(sorted(found), dtype=np.int64)


def _middle(pts_seconds: Float64Array, left: int, right: int) -> int | None:
    """Find the frame nearest to the middle between two, if there is one that is not too close to either."""
    inside = np.arange(left + CLOSEST_FRAMES, right - CLOSEST_FRAMES + 1)
    times = pts_seconds[inside]
    start, end = pts_seconds[left], pts_seconds[right]
    is_far = (times - start >= CLOSEST_SECONDS - 1e-9) & (end - times >= CLOSEST_SECONDS - 1e-9)
    if not is_far.any():
        return None
    return int(inside[is_far][np.abs(times[is_far] - (start + end) / 2).argmin()])


def merge_batches(first: FrameBatch, more: FrameBatch) -> FrameBatch:
    """Merge the frames of both batches by time; of a frame in both, the first's is taken. Sizes must be equal.

    Decoding errors are the larger count of the two, since both batches can meet the same errors.
    """
    position = _merged(first.frame_indices, more.frame_indices)
    return FrameBatch(
        pixels=np.concatenate([first.pixels, more.pixels])[position],
        frame_indices=np.concatenate([first.frame_indices, more.frame_indices])[position],
        pts=np.concatenate([first.pts, more.pts])[position],
        time_base=first.time_base,
        pts_seconds=np.concatenate([first.pts_seconds, more.pts_seconds])[position],
        snap_seconds=np.concatenate([first.snap_seconds, more.snap_seconds])[position],
        furthest_snap_seconds=max(
            (batch.furthest_snap_seconds for batch in (first, more) if batch.furthest_snap_seconds is not None),
            default=None,
        ),
        decode_errors=max(first.decode_errors, more.decode_errors),
        notes=tuple(dict.fromkeys(first.notes + more.notes)),
    )


def merge_plans(first: SamplePlan, more: SamplePlan) -> SamplePlan:
    """Merge the frames of both plans by time, each once."""
    position = _merged(first.frame_indices, more.frame_indices)
    return SamplePlan(
        frame_indices=np.concatenate([first.frame_indices, more.frame_indices])[position],
        times_seconds=np.concatenate([first.times_seconds, more.times_seconds])[position],
        requested=first.requested + more.requested,
        notes=tuple(dict.fromkeys(first.notes + more.notes)),
    )


def _merged(first: Int64Array, more: Int64Array) -> Int64Array:
    """Return positions in the concatenation that sort its values, each value once, at its first place."""
    _, position = np.unique(np.concatenate([first, more]), return_index=True)
    return position.astype(np.int64)
