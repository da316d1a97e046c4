"""Room 0: the record of one video, the same for --json, --jsonl and Python (docs/schema.json describes it)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any, Literal

from tsq_cli import __version__
from tsq_cli.config import SCHEMA_VERSION
from tsq_cli.types import Category, ChosenBy, VideoInfo


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One of the T frames looked at.

    Attributes:
        position: 0 .. T-1, in order of time.
        frame_index: index among the frames shown, from 0; None where it cannot be known.
        pts, time_base: the frame's presentation time stamp in the file, and seconds per unit of it.
        time_seconds: time of the frame relative to the first frame shown.
        score_visual, score_textual: S^v and S^t, each summing to one over the candidates; None where not computed.
    """

    position: int
    frame_index: int | None
    pts: int
    time_base: Fraction
    time_seconds: float
    score_visual: float | None
    score_textual: float | None


@dataclass(frozen=True, kw_only=True)
class SelectedFrame:
    """A candidate that was selected: rank 1.. in the order listed, the rule that chose it, the file it was saved to."""

    rank: int
    chosen_by: ChosenBy
    candidate: Candidate
    path: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Flat: rank, position, chosen_by, the candidate's other fields, path."""
        described = candidate_dict(self.candidate)
        position = described.pop("position")
        return {"rank": self.rank, "position": position, "chosen_by": self.chosen_by, **described, "path": self.path}


@dataclass(frozen=True, kw_only=True)
class Record:
    """Everything said of one video; `status` is "error" (with `error_type`, `error_message`) where it failed."""

    path: str
    status: Literal["ok", "error"]
    settings_hash: str
    requested_k: int
    error_type: str | None = None
    error_message: str | None = None
    video: VideoInfo | None = None
    decode_errors: int = 0
    pack_name: str | None = None
    pack_sha256: str | None = None
    selector: str = "tsq"
    query: str | None = None
    candidates: tuple[Candidate, ...] = ()
    frames: tuple[SelectedFrame, ...] = ()
    visual_categories: tuple[Category, ...] = ()
    textual_categories: tuple[Category, ...] = ()
    visual_peak_over_mean: float | None = None
    textual_peak_over_mean: float | None = None
    sheet: str | None = None
    timings_seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary in the shape of docs/schema.json."""
        error = None if self.status == "ok" else {"type": self.error_type, "message": self.error_message}
        return {
            "schema_version": SCHEMA_VERSION,
            "tsq_version": __version__,
            "status": self.status,
            "error": error,
            "settings_hash": self.settings_hash,
            "video": {"path": self.path} if self.video is None else self._video_dict(self.video),
            "pack": None if self.pack_name is None else {"name": self.pack_name, "sha256": self.pack_sha256},
            "selector": self.selector,
            "query": self.query,
            "candidates": [candidate_dict(candidate) for candidate in self.candidates],
            "requested_k": self.requested_k,
            "frames": [frame.to_dict() for frame in self.frames],
            "top_categories": {
                "visual": [asdict(category) for category in self.visual_categories],
                "textual": [asdict(category) for category in self.textual_categories],
            },
            "saliency_peak_over_mean": {"visual": self.visual_peak_over_mean, "textual": self.textual_peak_over_mean},
            "predictions": None,
            "recognizer": None,
            "video_metadata": None if self.video is None else self._video_metadata(self.video),
            "sheet": self.sheet,
            "timings_seconds": {name: round(seconds, 6) for name, seconds in self.timings_seconds.items()},
            "notes": list(self.notes),
        }

    def _video_dict(self, video: VideoInfo) -> dict[str, Any]:
        return {
            "path": self.path,
            "size_bytes": video.size_bytes,
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
        }

    def _video_metadata(self, video: VideoInfo) -> dict[str, Any]:
        """The keys that video-language processors read next to pre-extracted frames, in the order of `frames`."""
        return {
            "fps": video.average_fps,
            "duration": video.duration_seconds,
            "total_num_frames": video.total_num_frames,
            "frames_indices": [frame.candidate.frame_index for frame in self.frames],
            "video_backend": "pyav",
        }


def candidate_dict(candidate: Candidate) -> dict[str, Any]:
    """JSON-ready dictionary of a candidate, the time base written as "1/12800"."""
    described = asdict(candidate)
    base = candidate.time_base
    described["time_base"] = f"{base.numerator}/{base.denominator}"
    return described
