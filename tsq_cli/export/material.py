"""The input of every export: a record, its pictures, and the times and titles of its frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tsq_cli.export.images import Jpeg
from tsq_cli.report.text import chosen_for, clock

PROMPT = "Describe what happens."
"""Placeholder for the user's own question, the last text of every message."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """One video's record and pictures.

    Attributes:
        record: of the video (docs/schema.json).
        pictures: one per selected frame, in order of time; empty for exports without pictures.
        video_id: identity of the video file, 8 hex digits, or None. It marks whose file an export is.
    """

    record: Mapping[str, Any]
    pictures: Sequence[Jpeg] = ()
    video_id: str | None = None

    @property
    def frames(self) -> list[Mapping[str, Any]]:
        """The selected frames in order of time, whatever the record's order."""
        return by_time(self.record)

    @property
    def mark(self) -> dict[str, str | None]:
        """The first entry of an export: whose video it is of."""
        return {"tsq_video_id": self.video_id}

    @property
    def question(self) -> str:
        """The text behind the pictures."""
        return f"These are {len(self.frames)} frames of one video, each after its time. {PROMPT}"

    def spans(self) -> list[tuple[int, int]]:
        """The time of each frame, and that of the next one or the end of the video, in milliseconds; never empty."""
        starts = [round(frame["time_seconds"] * 1000) for frame in self.frames]
        end = round((self.record["video"]["duration_seconds"] or 0) * 1000)
        return [(start, max(after, start + 1)) for start, after in pairwise([*starts, end])]

    def titles(self) -> list[str]:
        """A name for each frame: its number and class, or the reason for it where no class may be stated."""
        return [f"Frame {number}: {_named(frame)}" for number, frame in enumerate(self.frames, 1)]


def by_time(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Sort a record's selected frames by time."""
    return sorted(record["frames"], key=lambda frame: frame["position"])


def time_text(frame: Mapping[str, Any]) -> str:
    """Write a frame's time for a model: "at 0:05.680"."""
    return f"at {clock(frame['time_seconds'])}"


def _named(frame: Mapping[str, Any]) -> str:
    first = (frame["predictions"] or [None])[0]
    if first is not None and first["is_sure"]:
        return str(first["label"])
    return chosen_for(frame["chosen_by"], frame["event"])
