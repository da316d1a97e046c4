"""The index of a page: a card per video, and the orders and filters that its readers can choose without a script."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from markupsafe import Markup

from tsq_cli.printable import printable
from tsq_cli.record import UNSURE
from tsq_cli.report import page_words
from tsq_cli.report.page_pictures import Pictures, photograph_uris
from tsq_cli.report.templates import MOST_OF_A_NAME
from tsq_cli.report.text import clock

CARD_WIDTH = 200
CARD_PICTURE = 4_500
"""Characters of a card's picture (ours)."""

MOST_LABELS = 12
"""Classes that the index can be filtered by, the most common ones that several videos have (ours)."""

State = Literal["ok", "notes", "failed"]


@dataclass(frozen=True, kw_only=True)
class Card:
    """One video in the index, for the template; picture and error are of one kind of video each."""

    number: int
    name: str
    folder: str
    picture: Markup
    picture_time: str
    shows: str
    score: str
    facts: str
    error: str


@dataclass(frozen=True, kw_only=True)
class IndexEntry:
    """Part of a record that is kept for the index's orders and filters: little, so that memory stays flat.

    Attributes:
        number: of the video on the page, from 1.
        name: of its file.
        seconds: its length; None if unknown.
        state: "notes" for a video that went well and has notes.
        label: first class, "unsure" if it may not be named; empty if nothing was recognized.
    """

    number: int
    name: str
    seconds: float | None
    state: State
    label: str


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A filter that a reader can choose: the class of the elements it keeps, its name, and how many those are."""

    kind: str
    name: str
    count: int


@dataclass(frozen=True, kw_only=True)
class Index:
    """All entries, with their places in each order and the classes that filters go by.

    Attributes:
        entries: in the order of the page.
        orders: names of the orders by their key.
        places: per entry its place in each order, as CSS custom properties.
        classes: per entry the classes of its card and its section.
        states, labels: filters; empty if there is nothing to choose.
    """

    entries: Sequence[IndexEntry]
    orders: Mapping[str, str]
    places: Sequence[Markup]
    classes: Sequence[Markup]
    states: Sequence[Choice]
    labels: Sequence[Choice]


def card_of(record: Mapping[str, Any], number: int, pictures: Pictures | None) -> Card:
    """Build the card of a record."""
    path = Path(record["video"]["path"])
    first = (record["predictions"] or [None])[0]
    is_ok = record["status"] == "ok"
    picture, time = Markup(), ""
    if is_ok and pictures is not None:
        frame = _most_salient(record["frames"])
        pixels = pictures.candidates[frame["position"]]
        (picture,) = photograph_uris([pixels], width=CARD_WIDTH, at_most=CARD_PICTURE)
        time = clock(frame["time_seconds"])
    facts = []
    if is_ok:
        length = record["video"]["duration_seconds"]
        facts = [] if length is None else [clock(length)[:-2]]  # tenths are enough here
        facts.append(page_words.count(len(record["frames"]), "frame"))
        facts += [page_words.count(len(record["notes"]), "note")] if record["notes"] else []
    return Card(
        number=number,
        name=path.name or str(path),
        folder=str(path.parent) if path.name and str(path.parent) != "." else "",
        picture=picture,
        picture_time=time,
        shows=_label(first),
        score=page_words.percent(first["score"]) if first and first["is_sure"] else "",
        facts=" · ".join(facts),
        error=record["error"]["message"].removeprefix(str(path)).lstrip(" :") if record["error"] else "",
    )


def entry_of(record: Mapping[str, Any], number: int) -> IndexEntry:
    """Keep of a record what the index orders and filters by."""
    state: State = "failed" if record["status"] != "ok" else "notes" if record["notes"] else "ok"
    return IndexEntry(
        number=number,
        name=printable(Path(record["video"]["path"]).name, MOST_OF_A_NAME),
        seconds=record["video"].get("duration_seconds"),
        state=state,
        label=printable(_label((record["predictions"] or [None])[0]), MOST_OF_A_NAME),
    )


def build_index(entries: Sequence[IndexEntry]) -> Index:
    """Order and group the entries of a page."""
    labels = Counter(entry.label for entry in entries if entry.label)
    common = [label for label, times in labels.most_common(MOST_LABELS) if times > 1]
    kinds = {label: f"shows-{number}" for number, label in enumerate(common)}
    orders: dict[str, str] = {"page": "Order of the run", "name": "Name", "length": "Length"}
    sort_keys: dict[str, Callable[[IndexEntry], Any]] = {
        "page": lambda entry: entry.number,
        "name": lambda entry: _natural(entry.name),
        "length": lambda entry: -(entry.seconds if entry.seconds is not None else -1.0),
    }
    states = Counter(entry.state for entry in entries)
    if len(states) > 1:
        orders["state"] = "Failed first"
        sort_keys["state"] = lambda entry: ("failed", "notes", "ok").index(entry.state)
    if len(labels) > 1:
        orders["class"] = "Class"
        sort_keys["class"] = lambda entry: (entry.label in ("", UNSURE), entry.label.casefold())
    places = [
        Markup(";").join(parts)
        for parts in zip(*(_places(entries, key, sort_keys[key]) for key in orders), strict=True)
    ]
    names: dict[State, str] = {"ok": "Without notes", "notes": "With notes", "failed": "Failed"}
    return Index(
        entries=entries,
        orders=orders,
        places=places,
        classes=[Markup(f"is-{entry.state} {kinds.get(entry.label, '')}".strip()) for entry in entries],
        states=[
            Choice(kind=f"is-{state}", name=name, count=states[state]) for state, name in names.items() if states[state]
        ]
        if len(states) > 1
        else [],
        labels=[Choice(kind=kinds[label], name=label, count=labels[label]) for label in common]
        if len(labels) > 1
        else [],
    )


def _places(entries: Sequence[IndexEntry], name: str, key: Callable[[IndexEntry], Any]) -> Iterable[Markup]:
    """Give each entry's place in an order; equal ones keep the order of the page."""
    ranks = {entry.number: place for place, entry in enumerate(sorted(entries, key=key))}
    return [Markup(f"--by-{name}:{ranks[entry.number]}") for entry in entries]


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Sort key under which clip2 comes before clip10."""
    return [
        (not part.isdecimal(), int(part) if part.isdecimal() else 0, part.casefold())
        for part in re.split("([0-9]+)", name)
        if part
    ]


def _most_salient(frames: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Choose the selected frame with the highest saliency, or the middle one if none was scored."""
    if frames[0]["score_visual"] is None:
        return frames[len(frames) // 2]
    return max(frames, key=lambda frame: frame["score_visual"] + frame["score_textual"])


def _label(first: Mapping[str, Any] | None) -> str:
    if first is None:
        return ""
    label: str = first["label"] if first["is_sure"] else UNSURE
    return label
