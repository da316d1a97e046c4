"""Times for players and editors: WebVTT thumbnails, FFmpeg chapters, EDL and OpenTimelineIO markers."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

from tsq_cli.errors import UsageError, install_extra
from tsq_cli.export.material import Material
from tsq_cli.printable import printable
from tsq_cli.stores import is_url

EDITING_RATES = (24, 25, 30, 48, 50, 60)
"""Frames per second that timecode counts in editors, 23.976 as 24."""

_TIMECODE_ERROR = 0.002  # 23.976 is 24 and 29.97 is 30 to a timecode, which counts frames: 0.1 % apart


def webvtt(material: Material) -> str:
    """Write a WebVTT track of thumbnails: each frame's picture, from its time until the next frame's.

    The text of a cue is the name of the saved picture, as players of thumbnail tracks want it; a title without one.
    """
    cues = []
    for frame, title, (start, end) in zip(material.frames, _titles(material), material.spans(), strict=True):
        shown = quote(PurePath(frame["path"]).name) if frame["path"] else title
        cues.append(f"{title}\n{_vtt_time(start)} --> {_vtt_time(end)}\n{shown}")
    return "\n\n".join(["WEBVTT", f"NOTE tsq_video_id: {material.video_id}", *cues]) + "\n"


def ffmetadata(material: Material) -> str:
    """Write chapters in FFmpeg's metadata format: one per frame, until the next frame's time.

    Chapters of an MP4 file cover it from 0 on, so the time before the first frame is a chapter of its own.
    """
    lines = [";FFMETADATA1", f"; tsq_video_id: {material.video_id}"]
    chapters = list(zip(_titles(material), material.spans(), strict=True))
    first = chapters[0][1][0]
    for title, (start, end) in [*([("Start", (0, first))] if first > 0 else []), *chapters]:
        escaped = re.sub(r"[=;#\\\n]", r"\\\g<0>", title)
        lines += ["", "[CHAPTER]", "TIMEBASE=1/1000", f"START={start}", f"END={end}", f"title={escaped}"]
    return "\n".join(lines) + "\n"


def edl(material: Material) -> str:
    """Write a CMX 3600 list: an event of one frame at each selected frame, with its marker.

    Timecode counts frames from 0:00:00:00 at the first frame shown, and never drops numbers: at 29.97 frames per second
    it runs behind the clock, 3.6 s per hour, and still names the exact frame. `LOC` lines are markers for Avid and
    OpenTimelineIO, lines with `|` for DaVinci Resolve.
    """
    rate, numbers = _numbered(material)
    source = printable(PurePath(material.record["video"]["path"]).name, 200)
    lines = [
        f"TITLE: {printable(PurePath(source).stem, 70).replace('tsq_video_id', 'video')}",  # the id comes behind it
        "FCM: NON-DROP FRAME",
    ]
    about = [f"* tsq_video_id: {material.video_id}", f"* {rate} frames per second of timecode"]
    for event, (number, title) in enumerate(zip(numbers, _titles(material), strict=True), 1):
        start, end = _timecode(number, rate), _timecode(number + 1, rate)
        lines += [
            "",
            f"{event:03d}  AX       V     C        {start} {end} {start} {end}",
            *(about if event == 1 else []),  # readers take comments only behind an event
            f"* FROM CLIP NAME: {source}",
            f"* LOC: {start} RED     {title}",
            f" |C:ResolveColorRed |M:{title.replace('|', '/')} |D:1",
        ]
    return "\n".join(lines).encode("ascii", "replace").decode() + "\n"


def otio(material: Material) -> str:
    """Write an OpenTimelineIO timeline: the video as one clip, with a marker at each selected frame.

    Times are frames at the video's own rate, or milliseconds where frames do not have one (variable frame rates).

    Raises:
        UsageError: opentimelineio is not installed.
    """
    check_otio()
    import opentimelineio as otio
    from opentimelineio.opentime import RationalTime, TimeRange

    video, given = material.record["video"], material.record["video_metadata"]
    rate = given["fps"]
    name = printable(PurePath(video["path"]).name)
    span = TimeRange(RationalTime(0, rate), RationalTime(given["total_num_frames"], rate))
    clip = otio.schema.Clip(
        name=name,
        source_range=span,
        media_reference=otio.schema.ExternalReference(target_url=_url(video["path"]), available_range=span),
    )
    for index, title, frame in zip(given["frames_indices"], _titles(material), material.frames, strict=True):
        at = TimeRange(RationalTime(index, rate), RationalTime(1, rate))
        tsq = {"time_seconds": frame["time_seconds"], "chosen_by": frame["chosen_by"]}
        clip.markers.append(otio.schema.Marker(name=title, marked_range=at, metadata={"tsq": tsq}))
    track = otio.schema.Track(name="video", kind=otio.schema.TrackKind.Video, children=[clip])
    timeline = otio.schema.Timeline(name=PurePath(name).stem, tracks=[track], metadata=material.mark)
    return str(otio.adapters.write_to_string(timeline, "otio_json", indent=1)) + "\n"


def _url(path: str) -> str:
    """Link to a video, from wherever the file with the link lies; frames and bytes in memory only have a name."""
    if is_url(path):
        return quote(path, safe="/:?&=%#")
    place = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow links that the user means
    return place.as_uri() if os.path.lexists(place) else quote(printable(path))


def check_otio() -> None:
    """Refuse a run that needs opentimelineio where it is not installed.

    Raises:
        UsageError: it is not.
    """
    try:
        import opentimelineio  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "opentimelineio is not installed", wanted="the library that writes .otio", fix=install_extra("otio")
        ) from error


def _titles(material: Material) -> list[str]:
    return [printable(title).replace("-->", "->") for title in material.titles()]


def _vtt_time(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:03d}"


def _numbered(material: Material) -> tuple[int, list[int]]:
    """Return a timecode's rate, and the number of each frame on a timeline of that rate.

    The rate is the video's own, or its smallest multiple that editors have (30 for 15). A video without one, as with
    variable frame rates, is put on the nearest timeline (ours).
    """
    given: Mapping[str, Any] = material.record["video_metadata"]
    average = material.record["video"]["average_fps"]
    own = round(average or 0)
    if average is not None and given["fps"] == average and abs(own - average) <= _TIMECODE_ERROR * average:
        for rate in EDITING_RATES:
            if rate % own == 0:
                return rate, [index * (rate // own) for index in given["frames_indices"]]
    rate = min(EDITING_RATES, key=lambda rate: abs(rate - (average or 25)))
    return rate, [round(frame["time_seconds"] * rate) for frame in material.frames]


def _timecode(number: int, rate: int) -> str:
    seconds, frame = divmod(number, rate)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{frame:02d}"
