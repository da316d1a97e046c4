"""What the page's templates show of one record, worked out beforehand so that templates only lay it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsq_cli import selection
from tsq_cli.record import UNSURE
from tsq_cli.report import page_words
from tsq_cli.report.page_pictures import Pictures, heat_legend, heat_map, photograph
from tsq_cli.report.page_timeline import TimelineLayout, lay_out_timeline
from tsq_cli.report.text import as_sentence, clock, way_to_choose
from tsq_cli.types import SaliencyMaps, UInt8Array

THUMBNAIL_WIDTH = 120  # twice what a slot of the time line shows, for sharp screens
COMPARED_WIDTH = 224


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A labeled bar: `share` of its full length in [0, 1]."""

    label: str
    value: str
    share: float


@dataclass(frozen=True, kw_only=True)
class IndexRow:
    """One video in the list at the page's top."""

    number: int
    name: str
    folder: str
    ok: bool
    shows: str
    score: str
    length: str
    error: str


@dataclass(frozen=True, kw_only=True)
class CandidateView:
    """A candidate in the strip, the table and the rows of comparison.

    `event` counts from 1; `same_as` is the time of a selected frame that shows the same, empty where there is none.
    """

    position: int
    frame_index: int | None
    time: str
    visual: str
    textual: str
    rank: int | None
    chosen_by: str | None
    event: int | None
    same_as: str
    is_blank: bool
    in_uniform: bool
    thumbnail: str | None
    compared: str | None


@dataclass(frozen=True, kw_only=True)
class FrameView:
    """A selected frame with all that is said of it."""

    rank: int
    chosen_by: str
    time: str
    frame_index: int | None
    why: str
    visual: str
    textual: str
    predictions: tuple[Bar, ...]
    path: str | None
    picture: str | None
    heat: str | None


@dataclass(frozen=True, kw_only=True)
class MapsView:
    """What the heat maps show, and the part of the frame that they span, in percent of its sides."""

    label: str
    comparable: bool
    legend: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True)
class VideoView:
    """A video's section. Where it failed, only its name and error stand.

    `events_shown` of `num_events` are those of the selected frames, and of the uniform ones.
    """

    number: int
    name: str
    path: str
    error: str | None
    headline: str = ""
    notes: tuple[str, ...] = ()
    pictures_missing: bool = False
    portrait: bool = False
    way: str = ""
    reason: str = ""
    query: str | None = None
    scored: bool = False
    predictions: tuple[Bar, ...] = ()
    recognizer: str = ""
    recognizer_reason: str = ""
    visual_categories: tuple[Bar, ...] = ()
    textual_categories: tuple[Bar, ...] = ()
    visual_peak: str = ""
    textual_peak: str = ""
    timeline: TimelineLayout | None = None
    candidates: tuple[CandidateView, ...] = ()
    frames: tuple[FrameView, ...] = ()
    maps: MapsView | None = None
    compared_with_uniform: bool = False
    held: tuple[tuple[str, str, str], ...] = ()
    num_events: int = 0
    events_shown: tuple[int, int] = (0, 0)
    facts: tuple[tuple[str, str], ...] = ()
    timings: tuple[Bar, ...] = ()


def index_row(record: Mapping[str, Any], number: int) -> IndexRow:
    """The line of the index for a record."""
    path = Path(record["video"]["path"])
    first = (record["predictions"] or [None])[0]
    length = record["video"].get("duration_seconds")
    return IndexRow(
        number=number,
        name=path.name or str(path),
        folder=str(path.parent) if path.name else "",
        ok=record["status"] == "ok",
        shows=(first["label"] if first["is_sure"] else UNSURE) if first else "",
        score=page_words.percent(first["score"]) if first and first["is_sure"] else "",
        length="" if length is None else clock(length),
        error=record["error"]["message"] if record["error"] else "",
    )


def video_view(record: Mapping[str, Any], number: int, pictures: Pictures | None) -> VideoView:
    """What a section shows.

    Args:
        record: as Record.to_dict gives it.
        number: of the video on the page, from 1.
        pictures: None leaves the pictures out.

    Raises:
        ValueError: pictures that do not belong to the record.
    """
    path = Path(record["video"]["path"])
    name = path.name or str(path)
    if record["status"] != "ok":
        return VideoView(number=number, name=name, path=str(path), error=record["error"]["message"])
    pixels = None if pictures is None else pictures.candidates
    maps = None if pictures is None else pictures.maps
    if pixels is not None and len(pixels) != len(record["candidates"]):
        raise ValueError(f"{path}: {len(pixels)} pictures of {len(record['candidates'])} candidates")
    if maps is not None and len(maps.values) != len(record["frames"]):
        raise ValueError(f"{path}: {len(maps.values)} maps of {len(record['frames'])} selected frames")
    candidates = _candidates(record, pixels)
    uniform = [candidate for candidate in candidates if candidate.in_uniform]
    recognizer = record["recognizer"]
    video = record["video"]
    return VideoView(
        number=number,
        name=name,
        path=str(path),
        error=None,
        headline=page_words.headline(record),
        notes=tuple(record["notes"]),
        pictures_missing=pixels is None,
        portrait=video["height"] > video["width"],
        way=way_to_choose(record["selector"], record["rule"], record["query"]),
        reason=as_sentence(record["rule_reason"] or ""),
        query=record["query"],
        scored=record["candidates"][0]["score_visual"] is not None,
        predictions=_bars(record["predictions"] or ()),
        recognizer=page_words.recognizer(recognizer) if recognizer else "",
        recognizer_reason=recognizer["reason"] if recognizer else "",
        visual_categories=_bars(record["top_categories"]["visual"]),
        textual_categories=_bars(record["top_categories"]["textual"], similarity=record["query"] is not None),
        visual_peak=page_words.multiple(record["saliency_peak_over_mean"]["visual"]),
        textual_peak=page_words.multiple(record["saliency_peak_over_mean"]["textual"]),
        timeline=lay_out_timeline(record),
        candidates=candidates,
        frames=_frames(record, candidates, pixels, maps),
        maps=None if maps is None else _maps(maps),
        compared_with_uniform={c.position for c in uniform} != {c.position for c in candidates if c.rank is not None},
        held=_held(record, candidates),
        num_events=len({c.event for c in candidates if c.event is not None}),
        events_shown=(_events([c for c in candidates if c.rank is not None]), _events(uniform)),
        facts=tuple(page_words.facts(record)),
        timings=_timings(record["timings_seconds"]),
    )


def _candidates(record: Mapping[str, Any], pixels: UInt8Array | None) -> tuple[CandidateView, ...]:
    num = len(record["candidates"])
    chosen = {frame["position"]: frame for frame in record["frames"]}
    uniform = {choice.position for choice in selection.uniform(num, max(1, len(chosen)))}
    views = []
    for position, candidate in enumerate(record["candidates"]):
        frame = chosen.get(position)
        compared = frame is not None or position in uniform
        same = candidate["duplicate_of"]
        views.append(
            CandidateView(
                position=position,
                frame_index=candidate["frame_index"],
                time=clock(candidate["time_seconds"]),
                visual=_over_mean(candidate["score_visual"], num),
                textual=_over_mean(candidate["score_textual"], num),
                rank=frame and frame["rank"],
                chosen_by=frame and frame["chosen_by"],
                event=None if candidate["event"] is None else candidate["event"] + 1,
                same_as="" if same is None else page_words.time_of(same, record),
                is_blank=candidate["quality"] == 0,
                in_uniform=position in uniform,
                thumbnail=None if pixels is None else photograph(pixels[position], width=THUMBNAIL_WIDTH),
                compared=photograph(pixels[position], width=COMPARED_WIDTH)
                if pixels is not None and compared
                else None,
            )
        )
    return tuple(views)


def _events(candidates: Sequence[CandidateView]) -> int:
    """How many events some candidates show."""
    return len({candidate.event for candidate in candidates})


def _frames(
    record: Mapping[str, Any],
    candidates: Sequence[CandidateView],
    pixels: UInt8Array | None,
    maps: SaliencyMaps | None,
) -> tuple[FrameView, ...]:
    views = []
    for place, frame in enumerate(record["frames"]):
        candidate = candidates[frame["position"]]
        views.append(
            FrameView(
                rank=frame["rank"],
                chosen_by=frame["chosen_by"],
                time=candidate.time,
                frame_index=frame["frame_index"],
                why=page_words.why(frame, record),
                visual=candidate.visual,
                textual=candidate.textual,
                predictions=_bars((frame.get("predictions") or ())[:2]),
                path=frame["path"],
                picture=None if pixels is None else photograph(pixels[frame["position"]]),
                heat=None if maps is None or pixels is None else heat_map(maps.values[place]),
            )
        )
    return tuple(views)


def _maps(maps: SaliencyMaps) -> MapsView:
    left, top, right, bottom = (100 * side for side in maps.box)
    return MapsView(
        label=maps.category.label if maps.category.is_sure else "the likeliest class",
        comparable=maps.scale == "clip",
        legend=heat_legend(),
        left=left,
        top=top,
        width=right - left,
        height=bottom - top,
    )


def _held(record: Mapping[str, Any], candidates: Sequence[CandidateView]) -> tuple[tuple[str, str, str], ...]:
    """How much of both saliencies the selected frames hold, and the uniform ones: (who, visual, textual) in percent."""
    if record["candidates"][0]["score_visual"] is None:
        return ()
    groups = (
        ("selected", [c.position for c in candidates if c.rank is not None]),
        ("uniform", [c.position for c in candidates if c.in_uniform]),
    )
    shares = {
        (who, module): sum(record["candidates"][position][f"score_{module}"] for position in positions)
        for who, positions in groups
        for module in ("visual", "textual")
    }
    return tuple(
        (who, page_words.percent(shares[who, "visual"]), page_words.percent(shares[who, "textual"]))
        for who, _ in groups
    )


def _bars(categories: Sequence[Mapping[str, Any]], *, similarity: bool = False) -> tuple[Bar, ...]:
    """Bars of classes by probability; of a query's objects by cosine similarity, which can be negative.

    Where the first may not be named, one bar stands for all of them, without a name.
    """
    is_sure = all(category["is_sure"] for category in categories[:1])
    return tuple(
        Bar(
            label=category["label"] if is_sure else UNSURE,
            value=f"{category['score']:.2f}" if similarity else page_words.percent(category["score"]),
            share=min(1.0, max(0.0, category["score"])),
        )
        for category in (categories if is_sure else categories[:1])
    )


def _timings(seconds: Mapping[str, float]) -> tuple[Bar, ...]:
    """A bar for each stage in the order they ran, what no stage accounts for, and the total."""
    stages = {page_words.stage(name): spent for name, spent in seconds.items() if name != "total"}
    total = seconds.get("total", sum(stages.values()))
    rest = total - sum(stages.values())
    if rest >= 0.001:
        stages["everything else"] = rest
    longest = max([total, *stages.values()], default=0.0) or 1.0
    stages["total"] = total
    return tuple(Bar(label=name, value=f"{spent:.3f} s", share=spent / longest) for name, spent in stages.items())


def _over_mean(score: float | None, num_candidates: int) -> str:
    return "" if score is None else page_words.multiple(score * num_candidates)
