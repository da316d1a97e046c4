"""The data of the page's templates: a record, and values that are computed once per video."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tsq_cli import selection
from tsq_cli.config import PAPER_CANDIDATES
from tsq_cli.record import UNSURE
from tsq_cli.report import page_words
from tsq_cli.report.page_links import RecordLink, record_link, video_link
from tsq_cli.report.page_pictures import Pictures, heat_legend_uri, heat_map_uri, photograph_uris
from tsq_cli.report.page_timeline import TimelineLayout, lay_out_timeline
from tsq_cli.types import SaliencyMaps

THUMBNAIL_WIDTH = 120  # twice what a slot of the time line shows, for sharp screens
COMPARED_WIDTH = 200
# Characters of the pictures of a video with PAPER_CANDIDATES candidates, by group (ours): with text, maps and record
# they keep it below 150 kB. Each further candidate takes CANDIDATE characters of text, at the pictures' expense.
PICTURES, THUMBNAILS, COMPARED = 50_000, 22_000, 16_000
CANDIDATE = 750
LEAST_SHARE = 0.2


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A labeled bar: `share` of its full length in [0, 1]."""

    label: str
    value: str
    share: float


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
        link: to the video's file, see page_links; None if its path is too long.
        json: the record, to be downloaded.
        timeline: places of the time line's parts.
        selected, uniform: positions of the selected candidates, and of as many uniform ones, in order of time.
        thumbnails: of all candidates; empty without pictures.
        compared: pictures of the selected and the uniform candidates, by position.
        pictures: of the selected frames, in the order of the record's frames.
        heats: of the maps, by the rank of their frames.
        maps: None where there are no heats.
    """

    number: int
    record: Mapping[str, Any]
    link: Markup | None = None
    json: RecordLink | None = None
    timeline: TimelineLayout | None = None
    selected: tuple[int, ...] = ()
    uniform: tuple[int, ...] = ()
    thumbnails: tuple[Markup, ...] = ()
    compared: Mapping[int, Markup] = field(default_factory=dict)
    pictures: tuple[Markup, ...] = ()
    heats: Mapping[int, Markup] = field(default_factory=dict)
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


def video_view(
    record: Mapping[str, Any], number: int, pictures: Pictures | None, page: Path | None, *, is_file: bool = True
) -> VideoView:
    """Build the data of a video's section.

    Args:
        record: as Record.to_dict gives it.
        number: of the video on the page, from 1.
        pictures: None leaves the pictures out.
        page: where the page will be read, for links to the video; None if that is not known.
        is_file: whether the video is a file, so that there is something to link to.

    Raises:
        ValueError: the pictures do not match the record.
    """
    if record["status"] != "ok":
        return VideoView(number=number, record=record, json=record_link(record))
    path, frames = record["video"]["path"], record["frames"]
    num = len(record["candidates"])
    pixels, maps = (None, None) if pictures is None else (pictures.candidates, pictures.maps)
    if pixels is not None and len(pixels) != num:
        raise ValueError(f"{path}: {len(pixels)} pictures of {num} candidates")
    seen = [frame["rank"] for frame in frames if frame["predictions"] is not None]
    if maps is not None and len(maps.values) != len(seen):
        raise ValueError(f"{path}: {len(maps.values)} maps of {len(seen)} recognized frames")
    selected = tuple(sorted(frame["position"] for frame in frames))
    uniform = tuple(choice.position for choice in selection.uniform(num, max(1, len(frames))))
    view = VideoView(
        number=number,
        record=record,
        link=video_link(path, page) if is_file else None,
        json=record_link(record),
        timeline=lay_out_timeline(record),
        selected=selected,
        uniform=uniform,
    )
    if pixels is None:
        return view
    share = _share_of_pictures(num)
    shown = sorted({*selected, *uniform})
    compared = photograph_uris(
        [pixels[place] for place in shown], width=COMPARED_WIDTH, at_most=round(share * COMPARED)
    )
    return replace(
        view,
        thumbnails=photograph_uris(list(pixels), width=THUMBNAIL_WIDTH, at_most=round(share * THUMBNAILS)),
        compared=dict(zip(shown, compared, strict=True)),
        pictures=photograph_uris([pixels[frame["position"]] for frame in frames], at_most=round(share * PICTURES)),
        heats={} if maps is None else dict(zip(seen, map(heat_map_uri, maps.values), strict=True)),
        maps=None if maps is None else _maps(maps),
    )


def _share_of_pictures(num: int) -> float:
    """Return the part of the pictures' budget that is left beside the text of so many candidates."""
    text = CANDIDATE * max(0, num - PAPER_CANDIDATES)
    return max(LEAST_SHARE, 1 - text / (PICTURES + THUMBNAILS + COMPARED))


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
