"""Report of benchmarks.footage: means with intervals, as JSON and as Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks import footage_times
from benchmarks.footage_measures import interval
from benchmarks.footage_rows import PRODUCT, SCENES

INTRODUCTION = """\
Written by `python -m benchmarks.footage`, which composes the videos and says how; the numbers are also in
`footage.json`. Film clips, surveillance clips and photographs are split in two halves by what they show: rules were
tuned on the one, and no place and no photograph of it is in the other. Every video is a real H.264 file.

- shots: six places, one for 9 of 16 parts of the length, the others for 2, 2, 1, 1 and 1; hard cuts, 16 to 40 s.
- dissolves: the same, blended over half a second. one_source: four to six clips of one place, some by one camera.
- turns: four places in turns, eight times each, 1 to 2 s. pans: a hand-held look at a wall of six photographs.
- lectures: 12 drawn slides in 5 to 10 minutes, half of them with a speaker; 12 frames are wanted, elsewhere 5.
- long_event: 6 s of another place in ten calm minutes, half of them without keyframes where the scene changes.
- blurred: sharp for 1.5 s of every 8, with black and white flashes. still: a photograph for 3 s.
- real: clips as they are; nothing is known of their shots.
- needle: the videos of [needle.md](needle.md), photographs of 16 objects of which one is to be found.

The rules choose among the paper's 16 even candidates. `tsq select` is the product as it is, which looks where it wants;
PySceneDetect looks at every frame, and the middles of its K longest scenes are taken.

- Shots shown: different shots among the chosen frames; blurred and blank frames show none.
- Hit rate, balance and UKSS are KFS-Bench's (Z. Li et al., WACV 2026): the share of scenes with a frame; how near the
  frames' distribution over scenes is to the scenes' lengths to the power 0 to 1, whichever fits best (so five frames of
  one long shot still score well); and the geometric mean of the share of frames that show a scene, the share of scenes
  that got their share of frames, and the balance.
- Event's recall: of its shots, at most K. Accuracy: top 1 of the pack's own classifier, mean of the chosen frames.
- Distinct: frames, blank ones aside, whose 64-bit difference hashes are more than 6 bits apart.
- Mean cosine: of the chosen frames, in pairs.
- Coverage: the mean, over the 16 even candidates, of the best cosine to a chosen frame.
- Span: the part of the video between the first and the last. Blurred and blank: how many chosen frames are.
- Seconds: what choosing took, on whatever else the machine did.

In brackets the 95 % interval of the mean over resampled videos. `random` is the mean of ten draws."""

LIMITS = """\
## What it cannot do

- The test half was looked at before the last change: with one level for all cuts, 4.80 of 5 shots were shown. Hard cuts
  first is a rule of the tuning half (400 more videos put together of its features: 4.95 to 4.99); on 40 fresh videos
  with shots, composed of the test half with another seed, it shows 4.93 (4.83 to 5.00), even spacing 3.23. Coverage
  alone for the places after the events was tried as well, looked at on both halves, and taken back.
- A long shot in which everything moves can be several events to it, which then take a place from a short shot.
- Whether something stands out is told by one number. A pan over unlike things, one of which the networks know well, can
  reach the bar, and then gets the most salient frames instead of all things.
- A blurred frame is told from a sharp one of the same shot, and gross blur from anything; a shot that is blurred from
  its beginning to its end gives a blurred frame. A damaged picture is a picture. So is a fade, until nothing is left.
- Where something stands out, blurred frames are not passed over, only blank ones: enlarged photographs measure as
  blurred, and to pass over them cost 2 to 5 points of an event's recall on the tuning half.
- Film without keyframes where scenes change is looked at by the sizes of its packets, and where these tell nothing,
  every 12 s: what is shorter can fall between.
- Single short clips without a cut look alike in all their frames. There it is level with even spacing: distinct frames
  are 0.3 more on the tuning half and as many on the test half, where they were 0.1 fewer before layouts were compared
  (tuned on the tuning half alone, though for what the test half had shown). What is gained is what is not taken: blank,
  blurred and dissolving frames.

## Sheets

Of every kind the videos of the test half where `auto` does best and worst beside even spacing: rows are uniform, the
paper's rule, and auto. Sources: UCF101 (actions), a surveillance data set of fights (MIT), test media of moviepy and
mediabunny, photographs of ImageNet classes.

![shots, best](footage/shots_best_1.jpg)
![shots, worst](footage/shots_worst_1.jpg)
![clips as they are, best](footage/real_best_1.jpg)
![clips as they are, worst](footage/real_worst_1.jpg)
![pans, worst](footage/pans_worst_1.jpg)
![one event among other pictures](footage/needle_plain_best_1.jpg)

The others are in [footage/](footage)"""

Results = Mapping[str, Any]

# Columns of the tables: a measure, its heading, digits after the point, and a factor.
COLUMNS: Mapping[str, tuple[str, int, float]] = {
    "shots": ("shots shown", 2, 1),
    "hit_rate": ("hit rate %", 1, 100),
    "balance": ("balance %", 1, 100),
    "ukss": ("UKSS %", 1, 100),
    "event_found": ("event found %", 1, 100),
    "event_recall": ("event's recall %", 1, 100),
    "accuracy": ("accuracy %", 1, 100),
    "frames": ("frames", 2, 1),
    "distinct": ("distinct", 2, 1),
    "mean_cosine": ("mean cosine", 3, 1),
    "coverage": ("coverage", 3, 1),
    "span": ("span", 2, 1),
    "blurred": ("blurred", 2, 1),
    "blank": ("blank", 2, 1),
    "seconds": ("seconds", 2, 1),
}


def summarized(videos: Iterable[Results]) -> dict[str, Any]:
    """Per half, kind and row: mean and interval of every measure.

    Args:
        videos: {"half", "kind", "rows": {row: {"values": {measure: number}}}} each.
    """
    values: dict[tuple[str, str], dict[str, dict[str, list[float]]]] = {}
    for video in videos:
        of_kind = values.setdefault((video["half"], video["kind"]), {})
        for row, measured in video["rows"].items():
            for name, value in measured["values"].items():
                of_kind.setdefault(row, {}).setdefault(name, []).append(math.nan if value is None else value)
    results: dict[str, Any] = {}
    for (half, kind), rows in values.items():
        results.setdefault(half, {})[kind] = {
            row: {name: interval(numbers) for name, numbers in measured.items() if not all(map(math.isnan, numbers))}
            for row, measured in rows.items()
        }
    return results


def gains(videos: Iterable[Results]) -> dict[str, Any]:
    """Per half and kind: what rows gain over another on the same videos, in the measures that tell, with intervals.

    The product and `auto` over even spacing, and over PySceneDetect where it looked; `auto` over the paper's rule where
    an event is to be found.
    """
    found: dict[str, Any] = {}
    by_kind: dict[tuple[str, str], list[Results]] = {}
    for video in videos:
        by_kind.setdefault((video["half"], video["kind"]), []).append(video["rows"])
    for (half, kind), rows in by_kind.items():
        names = OVERVIEW.get(kind) or [name for name in TELLING if name in rows[0]["auto"]["values"]][:1]
        others = ("tsq", "uniform") if kind.startswith("needle") else ("uniform", SCENES)
        pairs = [(row, other) for row in (PRODUCT, "auto") for other in others if row in rows[0] and other in rows[0]]
        for name in names:
            for row, other in pairs:
                differences = [
                    video[row]["values"][name] - video[other]["values"][name]
                    for video in rows
                    if video[row]["values"].get(name) is not None and video[other]["values"].get(name) is not None
                ]
                if differences:
                    cell = {"measure": name, "row": row, "over": other, **interval(differences)}
                    found.setdefault(half, {}).setdefault(kind, []).append(cell)
    return found


def gains_table(kinds: Results) -> list[str]:
    """One half: what the product and `auto` gain over others on the same videos."""
    lines = ["| videos | measure | of | over | gain |", "|---|---|---|---|---|"]
    for kind, cells in kinds.items():
        for cell in cells:
            name = cell["measure"]
            gain = "{} ({} to {})".format(*(_number(cell[part], name) for part in ("mean", "low", "high")))
            lines.append(
                f"| {kind} ({cell['videos']}) | {COLUMNS[name][0]} | {cell['row']} | {cell['over']} | {gain} |"
            )
    return lines


def table(rows: Results) -> list[str]:
    """One kind: a row per way to choose, a column per measure, mean and in brackets its 95 % interval."""
    names = [name for name in COLUMNS if any(name in measured for measured in rows.values())]
    if all(cell["mean"] == 0 for measured in rows.values() for cell in (measured.get("blurred"),) if cell):
        names = [name for name in names if name != "blurred"]
    of = next(iter(rows.values())).get("shots_of")
    headings = [COLUMNS[name][0] + (f" (of {of['mean']:.2g})" if name == "shots" and of else "") for name in names]
    lines = ["| | " + " | ".join(headings) + " |", "|---" * (len(names) + 1) + "|"]
    for row in _ordered(rows):
        lines.append(f"| {row} | " + " | ".join(_cell(rows[row].get(name), name) for name in names) + " |")
    return lines


def _ordered(rows: Results) -> list[str]:
    """The product and PySceneDetect before the rules."""
    first = [row for row in (PRODUCT, SCENES) if row in rows]
    return first + [row for row in rows if row not in first]


def _number(value: float, name: str) -> str:
    _, digits, factor = COLUMNS[name]
    return f"{factor * value:.{digits}f}"


def _cell(value: Results | None, name: str) -> str:
    if value is None:
        return ""
    mean, low, high = (_number(value[part], name) for part in ("mean", "low", "high"))
    return mean if low == high else f"{mean} ({low}-{high})"


# What the overview shows of a kind: the first of these that it has; blurred frames count with the blank ones.
TELLING = ("event_recall", "shots", "distinct")
OVERVIEW = {
    "real": ("distinct", "coverage"),
    "blurred": ("blurred",),
    "still": ("span",),
    "long_event": ("event_found",),
}


def overview(kinds: Results) -> list[str]:
    """One half: a row per way to choose, a column per kind with the mean of its telling measure."""
    columns = [
        (kind, name)
        for kind, rows in kinds.items()
        for name in OVERVIEW.get(kind, [name for name in TELLING if name in next(iter(rows.values()))][:1])
    ]
    headings = [f"{kind}: {COLUMNS[name][0]}" for kind, name in columns]
    lines = ["| | " + " | ".join(headings) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in _ordered({row: None for rows in kinds.values() for row in rows}):
        cells = (kinds[kind].get(row, {}).get(name) for kind, name in columns)
        means = [
            "" if cell is None else _number(cell["mean"], name) for cell, (_, name) in zip(cells, columns, strict=True)
        ]
        lines.append(f"| {row} | " + " | ".join(means) + " |")
    return lines


def page(results: Results) -> str:
    """Write the circumstances of the measurement as Markdown."""
    lines = ["# Frames on film: what each way to choose shows", "", *INTRODUCTION.splitlines(), ""]
    if "timed" in results:
        lines += ["## Seconds for two minutes of 1280 x 720", "", *footage_times.table(results["timed"]), ""]
    for half, kinds in results["results"].items():
        lines += [f"## Overview, {half} half", "", *overview(kinds), ""]
        lines += [f"## Gains on the same videos, {half} half", "", *gains_table(results["gains"][half]), ""]
    lines += [*LIMITS.splitlines(), ""]
    for kind, rows in results["results"]["test"].items():  # of the tuning half the JSON file has as much
        count = max(cell["videos"] for measured in rows.values() for cell in measured.values())
        lines += [f"## {kind}, test half: {count} videos", "", *table(rows), ""]
    machine = results["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines.append(f"Measured with python {machine['python']}, {versions}; float32 on a CPU.")
    return "\n".join(lines) + "\n"
