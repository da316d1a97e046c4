"""Lay out the page's time line in SVG units (pixels at full width)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tsq_cli import selection
from tsq_cli.report.page_words import multiple
from tsq_cli.report.text import clock

SLOT = 60.0  # room for a candidate's thumbnail
LEAST_PLOT = 840.0
LEFT, RIGHT = 50.0, 66.0  # for the scale's numbers and the curves' names
EVENTS, BADGE, PLOT, AXIS, LEADER = 20.0, 30.0, 150.0, 24.0, 14.0  # heights, from the top down
LABEL_GAP = 15.0
TICK_GAP = 90.0
DIGIT, WORD = 8.0, 44.0  # widths of a digit, and of "event" before it
_CURVE_OF = {"visual": "visual", "refill": "visual", "textual": "textual", "query": "textual"}
_STEPS = [a * 10.0**b for b in (-3, -2, -1) for a in (1, 2, 5)] + [
    1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0, 14400.0, 43200.0,
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One module's saliency over the candidates: its name, its points, and the position of its label."""

    module: str
    name: str
    points: tuple[tuple[float, float], ...]
    label_y: float


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A selected candidate: its column, its rank, and its point on the curve that chose it (None: no curve did)."""

    rank: int
    chosen_by: str
    x: float
    point_y: float | None


@dataclass(frozen=True, kw_only=True)
class Event:
    """An event between its cuts, with its name, shortened to the room there is."""

    left: float
    right: float
    name: str


@dataclass(frozen=True, kw_only=True)
class TimelineLayout:
    """The whole layout; `slots` are the thumbnails' centers, `times` the candidates' true places on the axis.

    `events` is empty if there is only one, or none is known.
    """

    width: float
    height: float
    top: float
    plot_left: float
    plot_right: float
    axis_y: float
    leader_y: float
    slot: float
    left_share: float
    right_share: float
    levels: tuple[tuple[float, str], ...]
    ticks: tuple[tuple[float, str], ...]
    slots: tuple[float, ...]
    times: tuple[float, ...]
    curves: tuple[Curve, ...]
    marks: tuple[Mark, ...]
    uniform: tuple[float, ...]
    events: tuple[Event, ...]


def lay_out_timeline(record: Mapping[str, Any]) -> TimelineLayout:
    """Lay out the time line of a record (status "ok")."""
    candidates: Sequence[Mapping[str, Any]] = record["candidates"]
    num = len(candidates)
    plot = max(LEAST_PLOT, num * SLOT)
    slot = plot / num
    seconds: list[float] = [candidate["time_seconds"] for candidate in candidates]
    # Evenly spread candidates are centers of equal segments: half a gap on both sides puts each above its thumbnail.
    gap: float = (seconds[-1] - seconds[0]) / (num - 1) if num > 1 else record["video"]["duration_seconds"] or 1.0
    start = seconds[0] - gap / 2

    def across(time: float) -> float:
        return LEFT + (time - start) / (num * gap) * plot

    scored = all(candidate["score_visual"] is not None for candidate in candidates)
    plot_height = PLOT if scored else 0.0
    times = tuple(across(time) for time in seconds)
    events = _events(candidates, times, LEFT, LEFT + plot)
    top = EVENTS if events else 0.0
    axis_y = top + BADGE + plot_height
    curves, levels = _curves(record, times, axis_y) if scored else ((), ())
    heights = {curve.module: [y for _, y in curve.points] for curve in curves}
    uniform = selection.uniform(num, max(1, len(record["frames"])))
    return TimelineLayout(
        width=LEFT + plot + RIGHT,
        height=axis_y + AXIS + LEADER,
        top=top,
        plot_left=LEFT,
        plot_right=LEFT + plot,
        axis_y=axis_y,
        leader_y=axis_y + AXIS,
        slot=slot,
        left_share=LEFT / (LEFT + plot + RIGHT),
        right_share=RIGHT / (LEFT + plot + RIGHT),
        levels=levels,
        ticks=tuple((across(time), label) for time, label in _ticks(start, num * gap, plot)),
        slots=tuple(LEFT + (position + 0.5) * slot for position in range(num)),
        times=times,
        curves=curves,
        marks=tuple(_mark(frame, times, heights) for frame in record["frames"]),
        uniform=tuple(times[choice.position] for choice in uniform),
        events=events,
    )


def _events(
    candidates: Sequence[Mapping[str, Any]], times: Sequence[float], left: float, right: float
) -> tuple[Event, ...]:
    """Place the events between the left and the right end, cut halfway between candidates; none without a cut."""
    cuts = [place for place in range(1, len(times)) if candidates[place]["event"] != candidates[place - 1]["event"]]
    if not cuts:
        return ()
    ends = [left, *((times[place - 1] + times[place]) / 2 for place in cuts), right]
    events = []
    for number, (begin, end) in enumerate(pairwise(ends), start=1):
        room = end - begin - 4
        digits = DIGIT * len(str(number))
        name = f"event {number}" if room >= WORD + digits else str(number) if room >= digits else ""
        events.append(Event(left=begin, right=end, name=name))
    return tuple(events)


def _curves(
    record: Mapping[str, Any], times: Sequence[float], axis_y: float
) -> tuple[tuple[Curve, ...], tuple[tuple[float, str], ...]]:
    """Place both curves as multiples of the mean (a saliency sums to one, so its mean is 1 / T), and level lines."""
    candidates = record["candidates"]
    names = {"visual": "visual", "textual": "query" if record["query"] else "textual"}
    values = {module: [candidate[f"score_{module}"] * len(candidates) for candidate in candidates] for module in names}
    top: float = 1.08 * max(1.0, *values["visual"], *values["textual"])

    def up(value: float) -> float:
        return axis_y - value / top * PLOT

    ends = sorted((up(values[module][-1]), module) for module in names)
    label_y = _apart([y for y, _ in ends], LABEL_GAP, lowest=axis_y - 2)
    places = dict(zip((module for _, module in ends), label_y, strict=True))
    curves = tuple(
        Curve(
            module=module,
            name=names[module],
            points=tuple(zip(times, map(up, values[module]), strict=True)),
            label_y=places[module],
        )
        for module in names
    )
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10**9) if top / step < 5)
    marks = [1, *(n * step for n in range(1, int(top / step) + 1) if n * step > 1)]
    return curves, tuple((up(value), "mean" if value == 1 else multiple(value, digits=0)) for value in marks)


def _mark(frame: Mapping[str, Any], times: Sequence[float], heights: Mapping[str, Sequence[float]]) -> Mark:
    curve = _CURVE_OF.get(frame["chosen_by"], "")
    position = frame["position"]
    return Mark(
        rank=frame["rank"],
        chosen_by=frame["chosen_by"],
        x=times[position],
        point_y=heights[curve][position] if curve in heights else None,
    )


def _apart(sorted_y: Sequence[float], gap: float, *, lowest: float) -> list[float]:
    """Move labels at `sorted_y` so that they are at least `gap` apart and none is below `lowest`."""
    places = [min(sorted_y[-1], lowest)]
    for wanted in reversed(sorted_y[:-1]):
        places.insert(0, min(wanted, places[0] - gap))
    return places


def _ticks(start: float, span: float, plot: float) -> list[tuple[float, str]]:
    """Choose round times on the axis, from zero on, with their labels."""
    step = next((step for step in _STEPS if span / step <= plot / TICK_GAP), _STEPS[-1])
    first = max(0, math.ceil(start / step - 1e-9))
    last = math.floor((start + span) / step + 1e-9)
    times = [number * step for number in range(first, last + 1)]
    return [(time, clock(time)[:-4] if step >= 1 else clock(time)) for time in times]
