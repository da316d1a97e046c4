"""Replace selected frames by sharper neighbors (ours)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tsq_cli.clip import Clip
from tsq_cli.config import SelectSettings
from tsq_cli.errors import NoDecodableFrameError
from tsq_cli.rules.quality import frame_quality
from tsq_cli.types import Float64Array, FrameBatch, Int64Array, UInt8Array
from tsq_cli.video import Source, decode_frames
from tsq_cli.video.decode import NOT_ON_GPU
from tsq_cli.video.sample import shown_between

REACH_SECONDS = 0.5
"""Largest distance from a selected frame to its replacement."""

NEIGHBORS = 8
"""Frames examined per selected one, spread over the reach."""

CLEARLY_SHARPER = 1.25
"""Multiple of a frame's quality that its replacement must exceed."""

SHOT_CHANGE = 12.0
"""Mean difference of two frames' thumbnails, in levels of 255, above which they count as different shots."""

THUMBNAIL_SIDE = 8

BYTES_AT_ONCE = 200 * 10**6
"""Pixels of neighbors held in memory at once."""


def sharpen(
    clip: Clip,
    positions: Sequence[int],
    settings: SelectSettings,
    *,
    threads: int = 2,
    should_stop: Callable[[], bool] | None = None,
) -> FrameBatch:
    """Replace each selected candidate by the sharpest frame near it, if that is clearly sharper.

    Examined are 8 frames within half a second, closer to this selected frame than to any other, between the candidates
    before and after, inside the settings' range, and of the same shot: from the candidate outwards, as long as
    thumbnails stay alike. A blank candidate belongs to no shot: any frame that is not blank is better.

    Args:
        clip: with its candidates; it is not changed.
        positions: of the selected candidates in clip.batch, in any order.
        settings: range, size and decoding mode of the candidates.
        threads, should_stop: as for decode_frames.

    Returns:
        The clip's batch with those frames replaced and their shift added to snap_seconds; frame_indices still rise. A
        note states how many moved, and how far. A note also states it if the CPU
        decoded in NVDEC's place. The batch itself if there is nothing to state.

    Raises:
        VideoTimeoutError, CancelledError, NvdecError: as decode_frames.
    """
    batch = clip.batch
    beside = _beside(clip, sorted(set(positions)), settings)
    frame_bytes = batch.pixels[0].nbytes
    at_once = max(1, BYTES_AT_ONCE // (NEIGHBORS * frame_bytes))
    waiting = [position for position, indices in beside.items() if len(indices)]
    better: dict[int, tuple[UInt8Array, int]] = {}
    refusals: set[str] = set()
    for first in range(0, len(waiting), at_once):
        part = waiting[first : first + at_once]
        try:
            found = decode_frames(
                clip.source,
                np.unique(np.concatenate([beside[position] for position in part])),
                short_side=settings.short_side,
                mode="exact" if settings.decode_mode == "keyframes" else settings.decode_mode,
                threads=threads,
                should_stop=should_stop,
            )
        except NoDecodableFrameError:  # the candidates themselves could be decoded
            continue
        refusals |= {note for note in found.notes if note.startswith(NOT_ON_GPU)} - set(batch.notes)
        for position in part:
            near = np.flatnonzero(np.isin(found.frame_indices, beside[position]))
            best = _sharpest(batch.pixels[position], int(batch.frame_indices[position]), found, near)
            if best is not None:
                better[position] = found.pixels[best], int(found.frame_indices[best])
    if refusals:
        batch = replace(batch, notes=(*batch.notes, *refusals))
    return _replaced(clip.source, batch, better, len(beside))


def _beside(clip: Clip, positions: list[int], settings: SelectSettings) -> dict[int, Int64Array]:
    """List the frames to examine, by the candidate's position."""
    pts, taken = clip.source.pts_seconds, clip.batch.frame_indices
    end = clip.source.end_seconds if settings.end_seconds is None else settings.end_seconds
    shown = shown_between(pts, settings.start_seconds or 0.0, end)
    times = pts[taken[positions]]
    # Halfway to the selected frames before and after; a frame exactly there belongs to the earlier one.
    half = np.concatenate([[-np.inf], (times[:-1] + times[1:]) / 2, [np.inf]])
    beside = {}
    for i, position in enumerate(positions):
        first = max(shown[0], taken[position - 1] + 1 if position else 0)
        last = min(shown[-1], taken[position + 1] - 1 if position + 1 < len(taken) else len(pts) - 1)
        inside = np.arange(first, last + 1)
        is_near = np.abs(pts[inside] - times[i]) <= REACH_SECONDS
        is_own = (pts[inside] > half[i]) & (pts[inside] <= half[i + 1])
        inside = inside[is_near & is_own & (inside != taken[position])]
        spread = np.linspace(0, len(inside) - 1, min(NEIGHBORS, len(inside)))
        beside[position] = inside[np.rint(spread).astype(np.int64)]
    return beside


def _sharpest(candidate: UInt8Array, index: int, found: FrameBatch, near: Int64Array) -> int | None:
    """Find the position in `found` of a candidate's replacement, among the frames near it; None for none."""
    (own,) = frame_quality(candidate[None])
    if own > 0:
        distance = np.abs(_thumbnails(found.pixels[near]) - _thumbnails(candidate[None])).mean(axis=(1, 2, 3))
        is_other = distance > SHOT_CHANGE
        before, after = found.frame_indices[near] < index, found.frame_indices[near] > index
        is_cut_off = (np.maximum.accumulate((is_other & before)[::-1])[::-1] & before) | (
            np.maximum.accumulate(is_other & after) & after
        )
        near = near[~is_cut_off]
    quality = frame_quality(found.pixels[near])
    if len(near) == 0 or quality.max() <= CLEARLY_SHARPER * own:
        return None
    return int(near[quality.argmax()])


def _thumbnails(pixels: UInt8Array) -> Float64Array:
    """Average 8 x 8 equal parts (fewer for smaller frames): float64 [T, h, w, 3] from uint8 [T, H, W, 3]."""
    thumbnails: Float64Array = pixels.astype(np.float64)
    for axis in (1, 2):
        length = pixels.shape[axis]
        edges = np.linspace(0, length, min(THUMBNAIL_SIDE, length), endpoint=False).astype(np.int64)
        sizes = np.diff(edges, append=length).reshape([-1 if i == axis else 1 for i in range(4)])
        thumbnails = np.add.reduceat(thumbnails, edges, axis=axis) / sizes
    return thumbnails


def _replaced(
    source: Source, batch: FrameBatch, better: dict[int, tuple[UInt8Array, int]], num_selected: int
) -> FrameBatch:
    if not better:
        return batch
    pixels, indices = batch.pixels.copy(), batch.frame_indices.copy()
    for position, (frame, index) in better.items():
        pixels[position], indices[position] = frame, index
    shift = source.pts_seconds[indices] - batch.pts_seconds
    note = (
        f"{len(better)} of {num_selected} frames are up to {np.abs(shift).max():.2f} s beside their candidate, where "
        "the picture is sharper."
    )
    return replace(
        batch,
        pixels=pixels,
        frame_indices=indices,
        pts=source.pts[indices],
        pts_seconds=source.pts_seconds[indices],
        snap_seconds=batch.snap_seconds + shift,
        notes=(*batch.notes, note),
    )
