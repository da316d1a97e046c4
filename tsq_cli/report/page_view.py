"""The data of the page's templates: a record, and values that are computed once per video."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tsq_cli import selection
from tsq_cli.record import UNSURE
from tsq_cli.report import page_words
from tsq_cli.report.page_pictures import Pictures, heat_legend_uri, heat_map_uri, photograph_uri
from tsq_cli.report.page_timeline import TimelineLayout, lay_out_timeline
from tsq_cli.report.text import clock
from tsq_cli.types import SaliencyMaps

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
    """One video in the list at the page's top. It outlives the record, so that memory stays flat."""

    number: int
    name: str
    folder: str
    ok: bool
    shows: str
    score: str
    length: str
    error: str


@dataclass(frozen=True, kw_only=True)
class MapsView:
    """The class that the heat maps show, and the part of the frame that they span, in percent of its sides."""

    label: str
    comparable: bool
    legend: Markup
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True)
class VideoView:
    """A video's section. For a video that failed, only `number` and `record` are set.

    Attributes:
        number: of the video on the page, from 1.
        record: as Record.to_dict gives it.
        timeline: places of the time line's parts.
        selected, uniform: positions of the selected candidates, and of as many uniform ones, in order of time.
        thumbnails: of all candidates; empty without pictures.
        compared: pictures of the selected and the uniform candidates, by position.
        pictures, heats: of the selected frames and of their maps, in the order of the record's frames.
        maps: None where there are no heats.
    """

    number: int
    record: Mapping[str, Any]
    timeline: TimelineLayout | None = None
    selected: tuple[int, ...] = ()
    uniform: tuple[int, ...] = ()
    thumbnails: tuple[Markup, ...] = ()
    compared: Mapping[int, Markup] = field(default_factory=dict)
    pictures: tuple[Markup, ...] = ()
    heats: tuple[Markup, ...] = ()
    maps: MapsView | None = None

    @property
    def path(self) -> Path:
        """The video's path as the user gave it."""
        return Path(self.record["video"]["path"])

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.name or str(self.path)

    @property
    def frames(self) -> dict[int, Mapping[str, Any]]:
        """The selected frames by position."""
        return {frame["position"]: frame for frame in self.record["frames"]}

    @property
    def scored(self) -> bool:
        """Whether a network scored the candidates."""
        return self.record["candidates"][0]["score_visual"] is not None

    def num_events(self, positions: Iterable[int] | None = None) -> int:
        """Count the events of some candidates, or of all."""
        candidates = self.record["candidates"]
        some = candidates if positions is None else [candidates[position] for position in positions]
        return len({candidate["event"] for candidate in some} - {None})

    def over_mean(self, score: float) -> str:
        """Format a saliency as a multiple of its mean, which is 1 / T."""
        return page_words.multiple(score * len(self.record["candidates"]))

    def saliency(self, module: str, positions: Sequence[int]) -> str:
        """Format the share of a module's saliency that some candidates have, in percent."""
        return page_words.percent(sum(self.record["candidates"][place][f"score_{module}"] for place in positions))


def index_row(record: Mapping[str, Any], number: int) -> IndexRow:
    """Build the index's row of a record."""
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
    """Build the data of a video's section.

    Args:
        record: as Record.to_dict gives it.
        number: of the video on the page, from 1.
        pictures: None leaves the pictures out.

    Raises:
        ValueError: the pictures do not match the record.
    """
    if record["status"] != "ok":
        return VideoView(number=number, record=record)
    path, frames = record["video"]["path"], record["frames"]
    num = len(record["candidates"])
    pixels, maps = (None, None) if pictures is None else (pictures.candidates, pictures.maps)
    if pixels is not None and len(pixels) != num:
        raise ValueError(f"{path}: {len(pixels)} pictures of {num} candidates")
    if maps is not None and len(maps.values) != len(frames):
        raise ValueError(f"{path}: {len(maps.values)} maps of {len(frames)} selected frames")
    selected = tuple(sorted(frame["position"] for frame in frames))
    uniform = tuple(choice.position for choice in selection.uniform(num, max(1, len(frames))))
    view = VideoView(
        number=number, record=record, timeline=lay_out_timeline(record), selected=selected, uniform=uniform
    )
    if pixels is None:
        return view
    return replace(
        view,
        thumbnails=tuple(photograph_uri(candidate, width=THUMBNAIL_WIDTH) for candidate in pixels),
        compared={place: photograph_uri(pixels[place], width=COMPARED_WIDTH) for place in {*selected, *uniform}},
        pictures=tuple(photograph_uri(pixels[frame["position"]]) for frame in frames),
        heats=() if maps is None else tuple(heat_map_uri(values) for values in maps.values),
        maps=None if maps is None else _maps(maps),
    )


def _maps(maps: SaliencyMaps) -> MapsView:
    left, top, right, bottom = (100 * side for side in maps.box)
    return MapsView(
        label=maps.category.label if maps.category.is_sure else "the likeliest class",
        comparable=maps.scale == "clip",
        legend=heat_legend_uri(),
        left=left,
        top=top,
        width=right - left,
        height=bottom - top,
    )


def class_bars(categories: Sequence[Mapping[str, Any]] | None, *, similarity: bool = False) -> tuple[Bar, ...]:
    """Build bars of classes by probability, or of a query's objects by cosine similarity, which can be negative.

    If the first may not be named, one bar without a name stands for all of them.
    """
    categories = categories or ()
    is_sure = all(category["is_sure"] for category in categories[:1])
    return tuple(
        Bar(
            label=category["label"] if is_sure else UNSURE,
            value=f"{category['score']:.2f}" if similarity else page_words.percent(category["score"]),
            share=min(1.0, max(0.0, category["score"])),
        )
        for category in (categories if is_sure else categories[:1])
    )


def query_bars(answer: Mapping[str, Any]) -> tuple[Bar, ...]:
    """Build bars of a run's queries by the best match of each."""
    best = ((query["text"], max(query["matches"])) for query in answer["queries"])
    return tuple(Bar(label=text, value=f"{match:.2f}", share=match) for text, match in best)


def timing_bars(seconds: Mapping[str, float]) -> tuple[Bar, ...]:
    """Build bars of the stages' times in the order they ran, then of the remaining time and the total."""
    stages = {page_words.stage(name): spent for name, spent in seconds.items() if name != "total"}
    total = seconds.get("total", sum(stages.values()))
    rest = total - sum(stages.values())
    if rest >= 0.001:
        stages["everything else"] = rest
    longest = max([total, *stages.values()], default=0.0) or 1.0
    stages["total"] = total
    return tuple(Bar(label=name, value=f"{spent:.3f} s", share=spent / longest) for name, spent in stages.items())
