"""One line of text per video, for runs over many videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tsq_cli.record import UNSURE
from tsq_cli.report.text import clock, early_exit, query_texts, way_to_choose

MOST_TIMES = 8
"""Times that a line lists at most (ours): with a path of usual length it then fits into 120 characters."""


def video_line(record: Mapping[str, Any]) -> str:
    """Summarize a record (status "ok"): frames with their times, rule, first class, early exit, number of notes.

    Returns:
        "5 frames at 0:05.680 0:07.280 0:08.880 0:12.160 0:21.920  auto (cover)"; not made printable yet.
    """
    times = [clock(frame["time_seconds"]) for frame in record["frames"]]
    parts = [
        f"{_count(len(times), 'frame')} at {_shortened(times)}",
        way_to_choose(record["selector"], record["rule"], query_texts(record)),
    ]
    if record["query"] and not record["query"]["matched"]:
        parts.append("no frame shows it")
    if record["predictions"]:
        first = record["predictions"][0]
        parts.append(f"{first['label']} {first['score']:.3f}" if first["is_sure"] else UNSURE)
    if ended := early_exit(record):
        parts.append(ended)
    if record["notes"]:
        parts.append(_count(len(record["notes"]), "note"))
    return "  ".join(parts)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _shortened(times: Sequence[str]) -> str:
    """Join times with spaces; of many, the first ones and the last."""
    shown = times if len(times) <= MOST_TIMES else [*times[: MOST_TIMES - 1], "…", times[-1]]
    return " ".join(shown)


def facts(video: dict[str, Any]) -> str:
    """Say of what kind a video is: codec, size, length, frame rate."""
    told = [f"{video['codec']} {video['width']}x{video['height']}"]
    if video["duration_seconds"] is not None:
        told.append(clock(video["duration_seconds"]))
    if video["average_fps"] is not None:
        told.append(f"{video['average_fps']:.4g} fps" + (" variable" if video["is_vfr"] else ""))
    if video["rotation"]:
        told.append(f"rotated {video['rotation']}°")
    if "bytes_read" in video:
        told.append(f"{video['bytes_read'] / 1e6:.1f} of {video['size_bytes'] / 1e6:.1f} MB read")
    return ", ".join(told)
