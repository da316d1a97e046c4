"""Values that pass between packages: frozen, validated on construction, free of torch and av."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from tsq_cli.config import MapScale

ChosenBy = Literal[
    "visual", "textual", "refill", "query", "event", "coverage", "spread",
    "topk", "mmr", "bolt", "aks", "dpp", "kcenter", "facility", "uniform", "random", "middle",
]  # fmt: skip
"""Reason for choosing a frame: a module's curve, an event or coverage (`cover`), or the name of another rule."""


BoolArray = npt.NDArray[np.bool_]
UInt8Array = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]

Progress: TypeAlias = Callable[[str, int, int], None]
"""Callback for progress: the current activity, its steps done, and its total steps."""


def no_progress(_what: str, _done: int, _total: int) -> None:
    """Do nothing (the default Progress callback)."""


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Properties of a video that are known before a frame is decoded.

    Attributes:
        path: as the user gave it.
        size_bytes, modified_ns: size of the file, and time of its last change in nanoseconds since 1970;
            of bytes in memory a hash in the place of the time, of frames in memory 0.
        codec: name of the codec ("h264", "hevc", "vp9", ...).
        width, height: size in pixels as displayed, i.e. with the rotation applied.
        rotation: clockwise degrees applied for display: 0, 90, 180 or 270.
        duration_seconds: from the first frame shown to the end of the last one; None if unknown.
        average_fps: frames shown per second; None if unknown (a single frame).
        is_vfr: whether the gaps between frames differ by more than rounding to the time base explains.
        start_seconds: time of the first frame shown on the file's own clock (may be negative).
        total_num_frames: frames shown; None if unknown.
        stream_index: index of the chosen video stream in the file.
        time_base: seconds per unit of pts.
    """

    path: str
    size_bytes: int
    modified_ns: int
    codec: str
    width: int
    height: int
    rotation: int
    duration_seconds: float | None
    average_fps: float | None
    is_vfr: bool
    start_seconds: float
    total_num_frames: int | None
    stream_index: int
    time_base: Fraction

    def __post_init__(self) -> None:
        if self.rotation not in (0, 90, 180, 270):
            raise ValueError(f"rotation must be 0, 90, 180 or 270, got {self.rotation}")
        if self.width < 1 or self.height < 1:
            raise ValueError(f"width and height must be at least 1, got {self.width} x {self.height}")


@dataclass(frozen=True, kw_only=True)
class SamplePlan:
    """The frames to decode as candidates.

    Attributes:
        frame_indices: int64 [T], strictly increasing, indices of displayed frames.
        times_seconds: float64 [T], requested times (centers of the segments), relative to the first frame shown.
        requested: requested number of candidates; T can be smaller for a short video.
        notes: sentences for the record (why T shrank, for example).
    """

    frame_indices: Int64Array
    times_seconds: Float64Array
    requested: int
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.frame_indices.shape != self.times_seconds.shape or self.frame_indices.ndim != 1:
            raise ValueError(
                f"need [T] alike: frame_indices {self.frame_indices.shape}, times_seconds {self.times_seconds.shape}"
            )
        if len(self.frame_indices) == 0 or len(self.frame_indices) > self.requested:
            raise ValueError(f"need 1 to {self.requested} frames, got {len(self.frame_indices)}")
        if np.any(np.diff(self.frame_indices) <= 0):
            raise ValueError("frame_indices must be strictly increasing")


@dataclass(frozen=True, kw_only=True)
class FrameBatch:
    """Decoded frames with their source times.

    Attributes:
        pixels: uint8 [T, H, W, 3], RGB, upright (rotation applied).
        frame_indices: int64 [T], index of each frame among the frames shown (the frame really decoded).
        pts: int64 [T], presentation time stamps in units of time_base, as in the file.
        time_base: seconds per unit of pts.
        pts_seconds: float64 [T], time of each frame relative to the first frame shown.
        snap_seconds: float64 [T], decoded minus requested frame time; 0 in exact mode unless a frame was replaced.
        furthest_snap_seconds: the largest distance of a requested time from its nearest keyframe, 0 or more, also of
            requests that share a keyframe; None where exact frames were decoded.
        decode_errors: damaged packets or frames that were skipped.
        notes: sentences for the record.
    """

    pixels: UInt8Array
    frame_indices: Int64Array
    pts: Int64Array
    time_base: Fraction
    pts_seconds: Float64Array
    snap_seconds: Float64Array
    furthest_snap_seconds: float | None = None
    decode_errors: int = 0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        shapes = {
            name: getattr(self, name).shape
            for name in ("pixels", "frame_indices", "pts", "pts_seconds", "snap_seconds")
        }
        if self.pixels.ndim != 4 or self.pixels.shape[3] != 3 or self.pixels.dtype != np.uint8:
            raise ValueError(f"pixels must be uint8 [T, H, W, 3], got {self.pixels.dtype} {self.pixels.shape}")
        if any(shape != (len(self.pixels),) for name, shape in shapes.items() if name != "pixels"):
            raise ValueError(f"leading dimensions differ: {shapes}")

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True, kw_only=True)
class Category:
    """One category behind a module's saliency, or a class predicted by a recognizer.

    Attributes:
        index, label: of the class, or of the object near a query.
        score: probability in [0, 1], or an object's cosine to the query.
        is_sure: whether it may be named; False below the pack's threshold (its settings' `words`).
    """

    index: int
    label: str
    score: float
    is_sure: bool = True


@dataclass(frozen=True, kw_only=True)
class Saliency:
    """TSQNet's scores of one video's T candidates.

    Attributes:
        visual, textual: float64 [T], each summing to one over the candidates (S^v, S^t of docs/method.md, section 5).
        visual_categories, textual_categories: the categories behind each, most confident first.
    """

    visual: Float64Array
    textual: Float64Array
    visual_categories: tuple[Category, ...] = field(default=())
    textual_categories: tuple[Category, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.visual.shape != self.textual.shape or self.visual.ndim != 1:
            raise ValueError(f"visual {self.visual.shape} and textual {self.textual.shape} must both be [T]")


MATCH_LEVEL = 0.5
"""Match from which on a frame shows what is asked: every matcher scales its own level to this one."""


@dataclass(frozen=True, kw_only=True)
class QueryMatches:
    """Matches of one free text query with the T candidates.

    Attributes:
        text: the query.
        matches: [T], from 0 to 1; MATCH_LEVEL and more says that the frame shows it.
    """

    text: str
    matches: tuple[float, ...]

    @property
    def matched(self) -> bool:
        """Whether any frame shows it."""
        return max(self.matches) >= MATCH_LEVEL


@dataclass(frozen=True, kw_only=True)
class QueryAnswer:
    """What a run's queries found in one video.

    Attributes:
        model: network that matched frames with texts: "names" (the object recognizer's names) or the id of an
            image-text model.
        reason: reason for this network, a sentence.
        queries: matches of each query, in the order of the request.
    """

    model: str
    reason: str
    queries: tuple[QueryMatches, ...]

    @property
    def matched(self) -> bool:
        """Whether any frame shows what any query asks."""
        return any(query.matched for query in self.queries)

    @property
    def texts(self) -> tuple[str, ...]:
        """The queries as the user gave them."""
        return tuple(query.text for query in self.queries)


@dataclass(frozen=True, kw_only=True)
class SaliencyMaps:
    """Saliency maps: where in each of K frames a recognizer sees one class.

    Attributes:
        values: float32 [K, h, w] in [0, 1], of the K frames that it saw, on the network's own grid; 0 is no evidence
            for the class, 1 the most.
        category: the class, with its score for the clip.
        box: the part of each frame that the network saw, and that the grid spans: left, top, right, bottom as shares
            of the frame's width and height, 0 <= left < right <= 1 and 0 <= top < bottom <= 1.
        scale: "clip": 1 is the highest value of all K frames, so that they compare; "frame": of each frame.
    """

    values: Float32Array
    category: Category
    box: tuple[float, float, float, float]
    scale: MapScale = "clip"

    def __post_init__(self) -> None:
        if self.values.ndim != 3 or self.values.dtype != np.float32 or 0 in self.values.shape:
            raise ValueError(f"values must be float32 [K, h, w], got {self.values.dtype} {self.values.shape}")
        if not (self.values.min() >= 0 and self.values.max() <= 1):
            raise ValueError(f"values must lie in [0, 1], got {self.values.min()} to {self.values.max()}")
        left, top, right, bottom = self.box
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(f"box must be left, top, right, bottom as shares of the frame, got {self.box}")
