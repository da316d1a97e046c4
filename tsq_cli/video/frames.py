"""Frames that are in memory already: arrays, tensors and lists of pictures, in the place of a video file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from PIL import Image

from tsq_cli.config import Limits
from tsq_cli.errors import UsageError
from tsq_cli.types import BoolArray, Float64Array, FrameBatch, Int64Array, UInt8Array, VideoInfo
from tsq_cli.video.convert import Converter, Geometry, Orientation
from tsq_cli.video.demux import check_pixels
from tsq_cli.video.probe import DEFAULT_RATE, VideoSource, has_variable_rate

if TYPE_CHECKING:
    from torch import Tensor

Frames: TypeAlias = "npt.NDArray[np.uint8] | Tensor | Sequence[Image.Image]"
"""Frames of one size in order of time: uint8 [T, H, W, 3] RGB, or T pictures."""

TICK = Fraction(1, 1_000_000)
"""Unit of pts where times are given as seconds (ours)."""

MOST_SECONDS = 1e9
"""Largest time that is taken (ours): some thirty years."""

_HASHED_FRAMES, _HASHED_STEP = 16, 4


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameSource:
    """Frames in memory, with what a VideoSource has. They are looked at, not copied: they must not change meanwhile.

    Attributes:
        info, pts, pts_seconds, end_seconds, limits, notes, geometry: as of a VideoSource.
        picture: gives the frame of an index in [0, N) as uint8 [H, W, 3].
    """

    info: VideoInfo
    pts: Int64Array
    pts_seconds: Float64Array
    end_seconds: float
    limits: Limits
    notes: tuple[str, ...]
    geometry: Geometry = field(repr=False)
    picture: Callable[[int], UInt8Array] = field(repr=False)

    @property
    def is_key(self) -> BoolArray:
        """Bool [N]: every frame can be had alone."""
        return np.ones(len(self.pts), dtype=np.bool_)

    @property
    def packet_bytes(self) -> Int64Array:
        """Int64 [N]: there are no packets whose size would tell of a cut."""
        return np.zeros(len(self.pts), dtype=np.int64)

    def batch(self, frame_indices: Int64Array, short_side: int | None) -> FrameBatch:
        """Gather frames as decode_frames does: each once, scaled by the same scaler."""
        indices = np.array(list(dict.fromkeys(frame_indices.tolist())), dtype=np.int64)
        geometry = self.geometry.scaled(short_side)
        converter = Converter(geometry)
        pixels: UInt8Array = np.empty((len(indices), geometry.height, geometry.width, 3), dtype=np.uint8)
        for slot, index in enumerate(indices.tolist()):
            picture = self.picture(index)
            if geometry != self.geometry:
                picture, _ = converter.to_rgb(VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24"))
            pixels[slot] = picture
        return FrameBatch(
            pixels=pixels,
            frame_indices=indices,
            pts=self.pts[indices],
            time_base=self.info.time_base,
            pts_seconds=self.pts_seconds[indices],
            snap_seconds=np.zeros(len(indices)),
        )

    def close(self) -> None:
        """Do nothing: the frames belong to the caller."""


Source: TypeAlias = VideoSource | FrameSource
"""Where candidates come from."""


def frame_source(
    frames: Frames, *, fps: float | None = None, times: npt.ArrayLike | None = None, limits: Limits | None = None
) -> FrameSource:
    """Make frames in memory a source of candidates.

    Args:
        frames: at least one, all of one size; a tensor on a GPU is copied to the host as a whole.
        fps: frames per second, above 0.
        times: [T] seconds of the frames, rising. Without either, frame i is at i seconds, and a note says so.
        limits: of pixels per frame and of memory; the defaults of Limits where None.

    Raises:
        UsageError: frames of another shape or type, or times that do not fit them.
        TooLargeError: a frame has more pixels than are allowed.
    """
    limits = limits or Limits()
    count, width, height, picture = _pictures(frames)
    clock = _clock(count, fps, times)
    digest = hashlib.sha256(repr((count, width, height)).encode() + clock.pts_seconds.tobytes())
    for index in np.unique(np.linspace(0, count - 1, _HASHED_FRAMES).astype(np.int64)).tolist():
        digest.update(picture(index)[::_HASHED_STEP, ::_HASHED_STEP].tobytes())
    name = f"frames-{digest.hexdigest()[:8]}"
    check_pixels(name, width, height, limits)
    info = VideoInfo(
        path=name,
        size_bytes=3 * count * width * height,
        modified_ns=0,
        codec="rawvideo",
        width=width,
        height=height,
        rotation=0,
        duration_seconds=clock.end_seconds if count > 1 or fps is not None else None,
        average_fps=count / clock.end_seconds if count > 1 else None,
        is_vfr=has_variable_rate(np.diff(clock.pts), clock.time_base),
        start_seconds=clock.start_seconds,
        total_num_frames=count,
        stream_index=0,
        time_base=clock.time_base,
    )
    return FrameSource(
        info=info,
        pts=clock.pts,
        pts_seconds=clock.pts_seconds,
        end_seconds=clock.end_seconds,
        limits=limits,
        notes=clock.notes,
        geometry=Geometry(width, height, Orientation()),
        picture=picture,
    )


def _pictures(frames: Frames) -> tuple[int, int, int, Callable[[int], UInt8Array]]:
    """Return the number of frames, their width and height, and a way to each."""
    if isinstance(frames, list | tuple):
        return _listed(frames)
    given: Any = frames
    array = given.detach().cpu().numpy() if hasattr(given, "detach") else np.asarray(given)
    if array.ndim != 4 or array.shape[3] != 3 or array.dtype != np.uint8 or 0 in array.shape:
        fix = "stack frames of one size"
        if array.ndim == 4 and array.shape[1] == 3:
            fix = "move the channels last: frames.transpose(0, 2, 3, 1), of a tensor frames.permute(0, 2, 3, 1)"
        elif array.ndim == 4 and array.shape[3] == 3 and array.dtype != np.uint8:
            fix = "convert them: shares of one are multiplied by 255"
        raise UsageError(
            f"the frames are {array.dtype} {list(array.shape)}",
            wanted="uint8 [T, H, W, 3] in RGB, T at least 1",
            fix=fix,
        )
    count, height, width, _ = array.shape
    return count, width, height, lambda index: array[index]


def _listed(images: Sequence[Image.Image]) -> tuple[int, int, int, Callable[[int], UInt8Array]]:
    for number, image in enumerate(images):
        if not isinstance(image, Image.Image):
            raise UsageError(
                f"item {number} of the list is of type {type(image).__name__}",
                wanted="PIL images in order of time",
                fix="give several videos to select_many",
            )
        if image.size != images[0].size:
            raise UsageError(
                f"image {number} is {image.width}x{image.height} and the first {images[0].width}x{images[0].height}",
                wanted="images of one size",
                fix="resize them",
            )
    if not images:
        raise UsageError("the list of images is empty", wanted="at least one image", fix="check what filled it")
    return len(images), *images[0].size, lambda index: np.asarray(images[index].convert("RGB"))


@dataclass(frozen=True, kw_only=True)
class _Clock:
    """Times of N frames, as a VideoSource has them."""

    pts: Int64Array
    pts_seconds: Float64Array
    end_seconds: float
    time_base: Fraction
    start_seconds: float = 0.0
    notes: tuple[str, ...] = ()


def _clock(count: int, fps: float | None, times: npt.ArrayLike | None) -> _Clock:
    if fps is not None and times is not None:
        raise UsageError("fps and times were both given", wanted="one of them", fix="drop fps: times say more")
    if times is not None:
        return _timed(count, times)
    notes = () if fps is not None else ("No times were given with the frames: frame i counts as the one at i seconds.",)
    rate = 1.0 if fps is None else fps
    if not (isinstance(rate, int | float | Fraction | np.number) and 1e-3 <= float(rate) <= 1e6):
        raise UsageError(
            f"fps is {fps!r}", wanted="frames per second, 0.001 to 1,000,000", fix="give times for uneven frames"
        )
    base = 1 / Fraction(float(rate)).limit_denominator(1_000_000)
    return _Clock(
        pts=np.arange(count, dtype=np.int64),
        pts_seconds=np.arange(count) / float(rate),
        end_seconds=count / float(rate),
        time_base=base,
        notes=notes,
    )


def _timed(count: int, times: npt.ArrayLike) -> _Clock:
    try:
        given = np.asarray(times, dtype=np.float64)
    except (TypeError, ValueError):
        given = np.empty(0)
    if given.shape != (count,) or not (np.abs(given) < MOST_SECONDS).all() or np.any(np.diff(given) <= 0):
        raise UsageError(
            f"times of shape {list(given.shape)} were given for {count} frames",
            wanted="a rising number of seconds for each frame",
            fix="sort the frames by time, each once",
        )
    start, seconds = float(given[0]), given - given[0]
    last = float(np.median(np.diff(seconds))) if count > 1 else float(1 / DEFAULT_RATE)
    note = f"The first frame's time is {start:g} s: all times here count from it (start_seconds of the video)."
    return _Clock(
        pts=np.rint(given / float(TICK)).astype(np.int64),
        pts_seconds=seconds,
        end_seconds=float(seconds[-1]) + last,
        time_base=TICK,
        start_seconds=start,
        notes=(note,) if start != 0 else (),
    )
