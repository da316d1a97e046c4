"""Records and pictures for the page's tests, and a reader of what the page says."""

from dataclasses import dataclass, field, replace
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from tsq_cli.record import Candidate, RecognizerInfo, Record, SelectedFrame
from tsq_cli.report.page import Page, Pictures
from tsq_cli.types import Category, ChosenBy, QueryAnswer, QueryMatches, SaliencyMaps, VideoInfo

VOID = {"meta", "link", "img", "input", "br", "hr"}
SHAPES = {"line", "path", "circle", "rect", "polyline"}
NASTY = """<script>alert(1)</script>"><img src=x onerror=alert(2)> & 'co' {{ 7 * 7 }} {% raw %}"""
BOX = (0.25, 0.0625, 0.75, 0.9375)
CATEGORIES = (
    Category(index=285, label="Egyptian cat", score=0.52),
    Category(index=282, label="tiger cat", score=0.29),
    Category(index=920, label="traffic light", score=0.0004),
)


def record(
    num: int = 16,
    chosen: dict[int, ChosenBy] | None = None,
    *,
    path: str = "clips/cat.mp4",
    scores: tuple[list[float], list[float]] | None = None,
    times: list[float] | None = None,
    recognized: bool = True,
    events: list[int] | None = None,
    duplicate_of: dict[int, int] | None = None,
    blank: tuple[int, ...] = (),
    **changes: Any,
) -> Record:
    """A record of `num` candidates 1.6 s apart; visual saliency rises over time and textual saliency falls."""
    times = times or [1.6 * position + 0.8 for position in range(num)]
    rising = np.arange(1, num + 1) / np.arange(1, num + 1).sum()
    visual, textual = scores or (rising.tolist(), rising[::-1].tolist())
    candidates = tuple(
        Candidate(
            position=position,
            frame_index=round(25 * times[position]),
            pts=round(12800 * times[position]),
            time_base=Fraction(1, 12800),
            time_seconds=times[position],
            score_visual=visual[position] if visual else None,
            score_textual=textual[position] if textual else None,
            quality=0.0 if position in blank else 0.2,
            event=events[position] if events else None,
            duplicate_of=(duplicate_of or {}).get(position),
        )
        for position in range(num)
    )
    chosen = chosen or {0: "textual", num - 2: "refill", num - 1: "visual"}
    frames = tuple(
        SelectedFrame(
            rank=rank,
            chosen_by=chosen_by,
            candidate=candidates[position],
            predictions=CATEGORIES[:2] if recognized else None,
        )
        for rank, (position, chosen_by) in enumerate(sorted(chosen.items()), start=1)
    )
    made = Record(
        path=path,
        status="ok",
        settings_hash="0123456789abcdef",
        requested_k=len(frames),
        video=VideoInfo(
            path=path,
            size_bytes=1_234_567,
            modified_ns=1_700_000_000_123_456_789,
            codec="h264",
            width=640,
            height=360,
            rotation=0,
            duration_seconds=1.6 * num,
            average_fps=25.0,
            is_vfr=False,
            start_seconds=0.0,
            total_num_frames=40 * num,
            stream_index=0,
            time_base=Fraction(1, 12800),
        ),
        pack_name="imagenet-lite",
        pack_sha256="ab" * 32,
        candidates=candidates,
        frames=frames,
        visual_categories=CATEGORIES[:2] if visual else (),
        textual_categories=CATEGORIES[:1] if textual else (),
        visual_peak_over_mean=max(visual) * num if visual else None,
        textual_peak_over_mean=max(textual) * num if textual else None,
        timings_seconds={"probe": 0.05, "decode": 0.2, "encode": 0.5, "total": 1.0},
    )
    if recognized:
        made = replace(
            made,
            predictions=CATEGORIES,
            recognizer=RecognizerInfo(name="resnet101", requested="auto", source="timm", reason="it was at hand"),
        )
    return replace(made, **changes)


def failed(path: str = "clips/broken.mp4", message: str = "it is empty; wanted a video; look at it") -> Record:
    return Record(
        path=path,
        status="error",
        settings_hash="0" * 16,
        requested_k=5,
        error_type="NotAVideoError",
        error_message=message,
    )


def pictures(of: Record, *, height: int = 36, width: int = 64, maps: bool = True) -> Pictures:
    """Candidates of one gray level each, 10 apart; maps of what was recognized, whose one hot cell moves right."""
    levels = [10 * position % 250 for position in range(len(of.candidates))]
    candidates = np.stack([np.full((height, width, 3), level, np.uint8) for level in levels])
    values = np.zeros((sum(frame.predictions is not None for frame in of.frames), 4, 4), np.float32)
    if not maps or len(values) == 0:
        return Pictures(candidates=candidates, maps=None)
    for place in range(len(values)):
        values[place, 1, place % 4] = 1.0
    return Pictures(candidates=candidates, maps=SaliencyMaps(values=values, category=CATEGORIES[0], box=BOX))


def page(path: Path, *records: Record, with_pictures: bool = True, title: str | None = None) -> Path:
    """A page of some records, with pictures for those that went well."""
    with Page(path, title=title) as made:
        for each in records:
            made.add(each.to_dict(), pictures(each) if with_pictures and each.status == "ok" else None)
    return path


def asked(*texts: str, matches: tuple[float, ...] = (0.1,) * 15 + (0.8,)) -> QueryAnswer:
    """What queries found, each with the same matches."""
    queries = tuple(QueryMatches(text=text, matches=matches) for text in texts)
    return QueryAnswer(model="names", reason="the names of the objects in the frames", queries=queries)


def hostile(words: str) -> Record:
    """A record all of whose texts are the same words."""
    categories = tuple(replace(category, label=words) for category in CATEGORIES)
    made = record(
        path=f"clips/{words.replace('/', '|')}.mp4",
        predictions=categories,
        visual_categories=categories,
        textual_categories=categories,
        query=asked(words),
        pack_name=words,
        selector=words,
        rule_reason=words,
        notes=(words, words),
        timings_seconds={words: 0.5, "total": 0.7},
        sheet=words,
    )
    assert made.recognizer
    assert made.video
    return replace(
        made,
        recognizer=replace(made.recognizer, name=words, reason=words, requested=words, source=words),
        video=replace(made.video, codec=words),
        frames=tuple(replace(frame, path=words, map_path=words, predictions=categories[:2]) for frame in made.frames),
    )


def hostile_page(path: Path, words: str) -> Path:
    """A page with a section of every kind, all of whose words are the same."""
    made = hostile(words)
    shown = pictures(made)
    assert shown.maps
    shown = replace(shown, maps=replace(shown.maps, category=replace(CATEGORIES[0], label=words)))
    with Page(path, title=words) as one:
        one.add(made.to_dict(), shown)
        one.add(failed(message=words).to_dict(), None)
        one.add(record().to_dict(), None)
    return path


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    own: list[str] = field(default_factory=list)
    children: list["Element"] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text inside, with single spaces."""
        return " ".join("".join(self._pieces()).split())

    def _pieces(self) -> list[str]:
        return [*self.own, *(piece for child in self.children for piece in child._pieces())]

    def all(self, tag: str | None = None, **attributes: str) -> list["Element"]:
        """Elements inside, in document order; class_ asks for one of the classes."""
        wanted = attributes.pop("class_", None)
        found = []
        for child in self.children:
            if (
                tag in (None, child.tag)
                and (wanted is None or wanted in child.attributes.get("class", "").split())
                and all(child.attributes.get(name) == value for name, value in attributes.items())
            ):
                found.append(child)
            found += child.all(tag, **({"class_": wanted} if wanted else {}), **attributes)
        return found


class _Reader(HTMLParser):
    """Builds the tree; text lands as an element of its own, so that it stays in order."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(element)
        if tag not in VOID | SHAPES:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID | SHAPES:
            assert self._open[-1].tag == tag, f"</{tag}> closes <{self._open[-1].tag}>"
            self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(Element("#text", {}, [data]))


def read(path: Path) -> Element:
    """The page as a tree; every element that was opened must have been closed."""
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    assert len(reader._open) == 1, f"left open: {[element.tag for element in reader._open[1:]]}"
    return reader.root
