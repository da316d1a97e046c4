"""Describe a record in words for the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from tsq_cli.printable import printable
from tsq_cli.report.text import as_sentence, clock, early_exit, query_texts, way_to_choose
from tsq_cli.types import MATCH_LEVEL

_NBSP = "\u00a0"
_TIMES = "\u00d7"
_MOST_OF_A_NAME = 80  # characters: a sentence names several classes
_STAGES = {
    "probe": "open, read the index",
    "decode": "decode the candidates",
    "preprocess": "resize and normalize",
    "encode": "encoders",
    "tsq": "TSQ layers",
    "read": "read the scores",
    "recognize": "recognizer",
    "maps": "saliency maps",
}
_COMPARED = {
    "topk": "the highest mean of both curves",
    "mmr": "maximal marginal relevance",
    "bolt": "inverse transform sampling (BOLT)",
    "aks": "adaptive keyframe sampling (AKS)",
    "dpp": "a determinantal point process",
    "kcenter": "farthest-first traversal (k-center)",
    "facility": "facility location",
}
_SOURCES = {
    "file": "weights of the pack itself",
    "timm": "weights from the hub or its cache",
    "transformers": "weights from the hub or its cache",
}


def percent(share: float) -> str:
    """Format a probability in percent, with one more digit if it is small: "52 %", "1.4 %", "< 0.1 %"."""
    hundredths = 100 * share
    if 0 < hundredths < 0.1:
        return f"<{_NBSP}0.1{_NBSP}%"
    return f"{hundredths:.1f}{_NBSP}%" if 0 < hundredths < 9.95 else f"{hundredths:.0f}{_NBSP}%"


def multiple(value: float | None, digits: int = 1) -> str:
    """Format a multiple of the mean, "2.3x" with a proper sign; empty for None."""
    return "" if value is None else f"{value:.{digits}f}{_TIMES}"


def why(frame: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    """Explain in a sentence or two why a frame was chosen, and name its defects."""
    told = _why(frame, record)
    if frame["quality"] == 0:
        told += " It is blank."
    if frame["duplicate_of"] is not None:
        told += f" It shows the same as the frame at {time_of(frame['duplicate_of'], record)}."
    return told


def _why(frame: Mapping[str, Any], record: Mapping[str, Any]) -> str:
    chosen_by = frame["chosen_by"]
    if chosen_by in _COMPARED:
        return f"Chosen by {_COMPARED[chosen_by]}, for comparison."
    if chosen_by == "event":
        return _of_its_event(frame, record["candidates"])
    if chosen_by == "coverage":
        return "Adds what the other selected frames do not show."
    if chosen_by == "spread":
        return _left_over(frame, record["frames"])
    if chosen_by == "uniform":
        return f"The middle of one of {len(record['frames'])} equal parts, chosen without looking at the frames."
    if chosen_by == "random":
        return "Drawn at random, without looking at the frames."
    if chosen_by == "middle":
        return f"One of the {len(record['frames'])} candidates around the middle, chosen without looking at the frames."
    # `auto` takes skipped frames when nothing else is left.
    is_left_over = record["selector"] == "auto" and (frame["duplicate_of"] is not None or frame["quality"] == 0)
    reasons = {
        "visual": f"It looks like {_shown(record, 'visual')}",
        "textual": f"The objects in it are named like {_shown(record, 'textual')}",
        "refill": "A place was left, and this frame is next by visual saliency"
        if is_left_over
        else "Both curves chose the same frame; this one, next by visual saliency, takes the free place",
        "query": "It shows what was asked" if shows_asked(frame, record) else "It comes near to what was asked",
    }
    module = "textual" if chosen_by in ("textual", "query") else "visual"
    what = "match" if chosen_by == "query" else f"{module} saliency"
    scores = [candidate[f"score_{module}"] for candidate in record["candidates"]]
    own = scores[frame["position"]]
    place, equals = 1 + sum(score > own for score in scores), scores.count(own) - 1
    told = f"{ordinal(place) + ' ' if place > 1 else ''}highest {what} of {len(scores)}"
    told += f", as high as {count(equals, 'other')}" if equals else ""
    chosen = {other["position"] for other in record["frames"]}
    left_out = [
        candidate
        for candidate, score in zip(record["candidates"], scores, strict=True)
        if score > own and candidate["position"] not in chosen
    ]
    if left_out and all(candidate["duplicate_of"] is not None for candidate in left_out):
        told += "; the better ones left out show the same as a selected frame"
    if round(own * len(scores), 1) < 1:
        return f"No better one was left: {told}, below the mean."
    return f"{reasons[chosen_by]}: {told}."


def shows_asked(frame: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Tell whether a frame matches any of the record's queries."""
    queries = record["query"]["queries"] if record["query"] else ()
    return any(query["matches"][frame["position"]] >= MATCH_LEVEL for query in queries)


def _of_its_event(frame: Mapping[str, Any], candidates: Sequence[Mapping[str, Any]]) -> str:
    """Name the event in which a frame is the most salient, with its time."""
    members = [candidate for candidate in candidates if candidate["event"] == frame["event"]]
    saliency = {member["position"]: member["score_visual"] + member["score_textual"] for member in members}
    is_most_salient = saliency[frame["position"]] >= max(saliency.values())
    most = "most salient frame" if is_most_salient else "most salient of the sharp frames"
    num_events = len({candidate["event"] for candidate in candidates})
    if len(members) == 1:
        most = "only candidate"
    if num_events == 1:
        return f"The {most} of the video, which is one event without a cut."
    return f"The {most} of event {frame['event'] + 1} of {num_events} ({event_time(members)})."


def _left_over(frame: Mapping[str, Any], frames: Sequence[Mapping[str, Any]]) -> str:
    """Explain why a frame was taken as a last resort."""
    if all(other["chosen_by"] == "spread" and other["quality"] != 0 for other in frames):
        return "All of the video looks the same, so the frames lie evenly over it."
    if frame["quality"] == 0 or frame["duplicate_of"] is not None:
        return "Nothing else was left."
    return "Nothing better was left: it is blurred beside its neighbors."


def time_of(position: int, record: Mapping[str, Any]) -> str:
    """Format the time of a candidate."""
    return clock(record["candidates"][position]["time_seconds"])


def event_time(members: Sequence[Mapping[str, Any]]) -> str:
    """Format the time of an event: "0:04 to 0:07", or the time of its only candidate."""
    first, last = members[0]["time_seconds"], members[-1]["time_seconds"]
    if first == last:
        return f"at {clock(first)}"
    if int(first) == int(last):
        return f"{clock(first)} to {clock(last)}"
    return f"{clock(int(first))[:-4]} to {clock(int(last))[:-4]}"


def _shown(record: Mapping[str, Any], module: str) -> str:
    """Name the categories behind a curve that are at least a third as likely as the first, if it may be named."""
    categories = record["top_categories"][module]
    if categories and not categories[0]["is_sure"]:
        return "what stands out in the video, of which no name is sure"
    likely = [category["label"] for category in categories if 3 * category["score"] >= categories[0]["score"]]
    return " or ".join(f"“{printable(label, _MOST_OF_A_NAME)}”" for label in likely) or "what the video shows"


def ordinal(number: int) -> str:
    """Format an ordinal: 1st, 2nd, 3rd, 4th, 11th, 21st."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def count(number: int, thing: str) -> str:
    """Format a count: 1 frame, 2 frames, 1,000 frames."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def stage(name: str) -> str:
    """Name a stage of the pipeline in plain words; an unknown one keeps its name."""
    return _STAGES.get(name, name.replace("_", " "))


def recognizer(described: Mapping[str, Any]) -> str:
    """Name the network that classified the frames, and the origin of its weights."""
    source = _SOURCES.get(described["source"], described["source"])
    return f"{described['name']} ({source})"


def looked_at(record: Mapping[str, Any]) -> str:
    """Say what the video's classes come from: the selected frames or the best of them, and the sampler's evidence."""
    described, seen = record["recognizer"], "the selected frames"
    if early_exit(record):
        seen = f"the best {described['frames_used']} of the {len(record['frames'])} selected frames"
    has_evidence = described["evidence_visual"] > 0 or described["evidence_textual"] > 0
    return f"{seen} and the sampler's own classes" if has_evidence else f"{seen} alone"


def headline(record: Mapping[str, Any]) -> str:
    """Summarize a video's size, length and rate, and the number of selected frames, on one line."""
    video = record["video"]
    parts = [f"{video['codec']} {video['width']} {_TIMES} {video['height']}"]
    if video["duration_seconds"] is not None:
        parts.append(clock(video["duration_seconds"]))
    if video["average_fps"] is not None:
        parts.append(f"{video['average_fps']:.4g} fps" + (" (variable)" if video["is_vfr"] else ""))
    parts.append(f"{len(record['frames'])} of {len(record['candidates'])} candidates selected")
    return " · ".join(parts)


def facts(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """List the record's facts as pairs of a term and its text."""
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
    yield "Candidates", f"{len(record['candidates'])}{_gaps(record['candidates'])}{_events(record['candidates'])}"
    yield "Selected by", f"{way_to_choose(record['selector'], record['rule'], query_texts(record))}, {_wanted(record)}"
    if record["rule_reason"]:
        yield "Why so", as_sentence(record["rule_reason"])
    pack = record["pack"]
    yield "Pack", "none needed" if pack is None else f"{pack['name']}, sha256 {pack['sha256']}"
    if record["recognizer"]:
        yield "Recognizer", f"{recognizer(record['recognizer'])}; asked for: {record['recognizer']['requested']}"
    yield "Settings hash", record["settings_hash"]
    yield "Made by", f"tsq {record['tsq_version']}, record schema {record['schema_version']}"
    yield from _written(record)


def _wanted(record: Mapping[str, Any]) -> str:
    wanted = record["requested_k"]
    return "as many frames as differ" if wanted == "auto" else f"{count(wanted, 'frame')} asked for"


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
    return "" if number is None else f", {count(number, 'frame')}"


def _errors(number: int) -> str:
    return "no damaged packets" if number == 0 else f"{number} damaged packets or frames skipped"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:,.1f} kB"


def _events(candidates: Sequence[Mapping[str, Any]]) -> str:
    """State the number of events, if the candidates were compared."""
    events = {candidate["event"] for candidate in candidates} - {None}
    return f", in {count(len(events), 'event')}" if events else ""


def _gaps(candidates: Sequence[Mapping[str, Any]]) -> str:
    """State the gaps between candidates: a shorter event can fall between them."""
    times = [candidate["time_seconds"] for candidate in candidates]
    gaps = sorted(later - earlier for earlier, later in pairwise(times))
    if not gaps:
        return ""
    least, most = f"{gaps[0]:.2f}", f"{gaps[-1]:.2f}"
    return f", {most} s apart" if least == most else f", {least} to {most} s apart"
