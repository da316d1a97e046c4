"""The record of one video, the same for --json, --jsonl and Python (docs/schema.json describes it)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from operator import attrgetter
from typing import Any, Literal

from tsq_cli import __version__
from tsq_cli.config import RECORD_SCHEMA_VERSION, ExportKind
from tsq_cli.consensus import Pooling
from tsq_cli.types import Category, ChosenBy, QueryAnswer, SaliencyMaps, VideoInfo

CLOCK_RATE = 1000.0
"""Ticks per second of the clock that replaces the frame rate of a video whose rate does not give its times (ours)."""

OWN_RATE_ERROR_SECONDS = 0.002
"""Largest error of index / rate as a frame's time: containers that store milliseconds round by up to this (ours)."""


UNSURE = "unsure"
"""Replaces the name of a class that is too unsure to be stated."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One of the T candidate frames.

    Attributes:
        position: 0 .. T-1, in order of time.
        frame_index: index among the frames shown, from 0; None if unknown.
        pts, time_base: the frame's presentation time stamp in the file, and seconds per unit of it.
        time_seconds: time of the frame relative to the first frame shown.
        shift_seconds: time of the frame minus the requested time: not 0 if the nearest keyframe was taken (keyframe
            mode), if the frame replaces one that cannot be decoded, or if it is a sharper neighbor (--sharpest).
        score_visual, score_textual: S^v and S^t, each summing to one over the candidates; None if not computed.
        quality: 0 for a blank frame, else its sharpness (tsq_cli.rules.quality); None if not measured.
        event: the event that the frame belongs to, from 0; None if frames were not compared.
        duplicate_of: position of a selected frame that shows the same, or None; for a selected frame, of one chosen
            before it.
    """

    position: int
    frame_index: int | None
    pts: int
    time_base: Fraction
    time_seconds: float
    score_visual: float | None
    score_textual: float | None
    shift_seconds: float = 0.0
    quality: float | None = None
    event: int | None = None
    duplicate_of: int | None = None


@dataclass(frozen=True, kw_only=True)
class SelectedFrame:
    """A candidate that was selected.

    Attributes:
        rank: 1.. in the order listed.
        chosen_by: the rule that chose it.
        candidate: the frame itself.
        predictions: of the recognizer for this frame alone, most likely first; None if it did not see the frame.
        path, map_path: the files that the frame and its saliency map were saved to, if any.
    """

    rank: int
    chosen_by: ChosenBy
    candidate: Candidate
    predictions: tuple[Category, ...] | None = None
    path: str | None = None
    map_path: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Flatten to rank, position, chosen_by, the candidate's other fields, predictions, path, map."""
        described = candidate_dict(self.candidate)
        position = described.pop("position")
        return {
            "rank": self.rank,
            "position": position,
            "chosen_by": self.chosen_by,
            **described,
            "predictions": category_dicts(self.predictions),
            "path": self.path,
            "map": self.map_path,
        }


@dataclass(frozen=True, kw_only=True)
class RecognizerInfo:
    """The network that named the classes.

    Attributes:
        name: timm's name of the network.
        requested: the user's choice ("auto", "embedded", a name).
        source: origin of its weights: "timm" (hub or its cache), or "file" (of the pack).
        reason: reason for this network, a sentence.
        pooling, evidence_visual, evidence_textual: what made the video's scores out of the frames', see
            tsq_cli.consensus.Consensus.
        frames_used: frames that it saw: all that were selected, or those up to where it was sure (early exit).
    """

    name: str
    requested: str
    source: str
    reason: str
    pooling: Pooling = "logits"
    evidence_visual: float = 0.0
    evidence_textual: float = 0.0
    frames_used: int | None = None


@dataclass(frozen=True, kw_only=True)
class Record:
    """The result for one video; `status` is "error" (with `error_type`, `error_message`) if it failed.

    `selector` is the requested rule, `rule` the one that was followed (they differ for "auto"), and `rule_reason` the
    reason, a sentence.

    `predictions` (most likely first) and `recognizer` are None if no recognizer ran; `maps` holds one map per frame of
    `frames` that it saw, in their order. `dtype` ("float32", "bfloat16", "float16"), `device` ("cpu", "cuda:0") and
    `engine` ("onnx", "torch") are those of the networks, the recognizer's where one ran, None if none did.
    `size_bytes` and `modified_ns` (nanoseconds since 1970) are those of a file whose video failed, if known; otherwise
    `video` has them. `snap_seconds` is the largest distance of a requested time from its nearest keyframe, None where
    exact frames were decoded. `bytes_read` counts what was fetched of a video in a store, None for others.
    """

    path: str
    status: Literal["ok", "error"]
    settings_hash: str
    requested_k: int | Literal["auto"]
    error_type: str | None = None
    error_message: str | None = None
    size_bytes: int | None = None
    modified_ns: int | None = None
    video: VideoInfo | None = None
    decode_errors: int = 0
    snap_seconds: float | None = None
    bytes_read: int | None = None
    pack_name: str | None = None
    pack_sha256: str | None = None
    dtype: str | None = None
    device: str | None = None
    engine: str | None = None
    selector: str = "auto"
    rule: str | None = None
    rule_reason: str = ""
    query: QueryAnswer | None = None
    candidates: tuple[Candidate, ...] = ()
    frames: tuple[SelectedFrame, ...] = ()
    visual_categories: tuple[Category, ...] = ()
    textual_categories: tuple[Category, ...] = ()
    visual_peak_over_mean: float | None = None
    textual_peak_over_mean: float | None = None
    recognizer: RecognizerInfo | None = None
    predictions: tuple[Category, ...] | None = None
    maps: SaliencyMaps | None = field(default=None, repr=False, compare=False)
    sheet: str | None = None
    exports: dict[ExportKind, str] = field(default_factory=dict)
    timings_seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def stated(self) -> dict[str, str | None]:
        """The names that may be stated: the first class of each module and of the recognizer, or UNSURE.

        None if there is none: for the modules without a pack, for the textual one with a query (its categories are
        near the query, not seen in the video), for the prediction without a recognizer.
        """
        return {
            "visual": name_of(self.visual_categories),
            "textual": None if self.query is not None else name_of(self.textual_categories),
            "prediction": name_of(self.predictions),
        }

    def to_dict(self) -> dict[str, Any]:
        """Convert to a dictionary for JSON in the shape of docs/schema.json."""
        error = None if self.status == "ok" else {"type": self.error_type, "message": self.error_message}
        return {
            "schema_version": RECORD_SCHEMA_VERSION,
            "tsq_version": __version__,
            "status": self.status,
            "error": error,
            "settings_hash": self.settings_hash,
            "video": self._file_dict() if self.video is None else self._video_dict(self.video),
            "pack": None if self.pack_name is None else {"name": self.pack_name, "sha256": self.pack_sha256},
            "dtype": self.dtype,
            "device": self.device,
            "engine": self.engine,
            "selector": self.selector,
            "rule": self.rule,
            "rule_reason": self.rule_reason or None,
            "query": None if self.query is None else _query_dict(self.query),
            "candidates": [candidate_dict(candidate) for candidate in self.candidates],
            "requested_k": self.requested_k,
            "frames": [frame.to_dict() for frame in self.frames],
            "top_categories": {
                "visual": category_dicts(self.visual_categories),
                "textual": category_dicts(self.textual_categories),
            },
            "saliency_peak_over_mean": {"visual": self.visual_peak_over_mean, "textual": self.textual_peak_over_mean},
            "predictions": category_dicts(self.predictions),
            "stated": self.stated,
            "recognizer": None if self.recognizer is None else asdict(self.recognizer),
            "maps": None if self.maps is None else _maps_dict(self.maps),
            "video_metadata": None if self.video is None else video_metadata(self.video, self.frames),
            "sheet": self.sheet,
            "exports": dict(self.exports),
            "timings_seconds": {name: round(seconds, 6) for name, seconds in self.timings_seconds.items()},
            "notes": list(self.notes),
        }

    def _file_dict(self) -> dict[str, Any]:
        """Describe the file of a video that failed, as far as known."""
        known = {"path": self.path, "size_bytes": self.size_bytes, "modified_ns": self.modified_ns}
        return {name: value for name, value in known.items() if value is not None}

    def _video_dict(self, video: VideoInfo) -> dict[str, Any]:
        return {
            "path": self.path,
            "size_bytes": video.size_bytes,
            "modified_ns": video.modified_ns,
            "codec": video.codec,
            "width": video.width,
            "height": video.height,
            "rotation": video.rotation,
            "duration_seconds": video.duration_seconds,
            "average_fps": video.average_fps,
            "is_vfr": video.is_vfr,
            "start_seconds": video.start_seconds,
            "total_num_frames": video.total_num_frames,
            "decode_errors": self.decode_errors,
            "snap_seconds": self.snap_seconds,
            **({} if self.bytes_read is None else {"bytes_read": self.bytes_read}),
        }


def video_metadata(video: VideoInfo, frames: Sequence[SelectedFrame]) -> dict[str, Any]:
    """Build the metadata that video-language processors read beside given frames; frames are in order of time.

    A processor takes frames_indices / fps as the time of each frame. So these are the video's own indices and rate if
    they give the times, and otherwise counts of a clock of CLOCK_RATE ticks per second, as for variable frame rates.

    Returns:
        The time fields of transformers' VideoMetadata, and do_sample_frames, which vLLM reads too: the frames are to be
        taken as they are.
    """
    rate, count, indices = _clocked(video, sorted((frame.candidate for frame in frames), key=attrgetter("position")))
    return {
        "fps": rate,
        "duration": video.duration_seconds,
        "total_num_frames": count,
        "frames_indices": indices,
        "video_backend": "pyav",
        "do_sample_frames": False,
    }


def _clocked(video: VideoInfo, candidates: Sequence[Candidate]) -> tuple[float, int, list[int]]:
    """Return ticks per second, total ticks, and the tick of each candidate, such that tick / rate is its time."""
    rate, count = video.average_fps, video.total_num_frames
    if rate is not None and count is not None:
        most = min(OWN_RATE_ERROR_SECONDS, 0.5 / rate)
        own = [(candidate.frame_index, candidate.time_seconds) for candidate in candidates]
        indices = [index for index, time in own if index is not None and abs(index / rate - time) <= most]
        if len(indices) == len(candidates):
            return rate, count, indices
    ticks = [round(candidate.time_seconds * CLOCK_RATE) for candidate in candidates]
    end = round((video.duration_seconds or 0.0) * CLOCK_RATE)
    return CLOCK_RATE, max([end, *(tick + 1 for tick in ticks)]), ticks


def candidate_dict(candidate: Candidate) -> dict[str, Any]:
    """Convert a candidate to a dictionary for JSON, with the time base as "1/12800"."""
    described = asdict(candidate)
    base = candidate.time_base
    described["time_base"] = f"{base.numerator}/{base.denominator}"
    return described


def name_of(categories: Sequence[Category] | None) -> str | None:
    """Return the first category's name, UNSURE if it may not be named, or None without a category."""
    if not categories:
        return None
    return categories[0].label if categories[0].is_sure else UNSURE


def category_dicts(categories: tuple[Category, ...] | None) -> list[dict[str, Any]] | None:
    """Convert categories to a list for JSON; None stays None."""
    return None if categories is None else [asdict(category) for category in categories]


def _query_dict(answer: QueryAnswer) -> dict[str, Any]:
    return {
        "model": answer.model,
        "reason": answer.reason,
        "matched": answer.matched,
        "queries": [
            {"text": query.text, "matched": query.matched, "matches": list(query.matches)} for query in answer.queries
        ],
    }


def _maps_dict(maps: SaliencyMaps) -> dict[str, Any]:
    """Describe the maps' class, scale and box; their values go to files."""
    return {**asdict(maps.category), "scale": maps.scale, "box": list(maps.box)}
