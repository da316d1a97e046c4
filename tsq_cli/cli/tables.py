"""The table of one video on a console."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from tsq_cli.cli.lines import facts
from tsq_cli.record import UNSURE
from tsq_cli.report.console import SafeConsole
from tsq_cli.report.text import chosen_for, clock, early_exit, sparkline, way_to_choose
from tsq_cli.types import MATCH_LEVEL


def print_table(console: SafeConsole, record: dict[str, Any]) -> None:
    """Print a record (status "ok"): its frames, the rule, its classes, both modules' curves, notes, files written."""
    console.print(record["video"]["path"], style="bold", end="  ", soft_wrap=True)
    console.print(facts(record["video"]), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("rank", "time", "frame", *(["match"] if record["query"] else ["S^v", "S^t"])):
        table.add_column(heading, justify="right")
    table.add_column("query" if record["query"] else "chosen by")
    for frame in record["frames"]:
        table.add_row(
            str(frame["rank"]),
            clock(frame["time_seconds"]),
            "-" if frame["frame_index"] is None else str(frame["frame_index"]),
            *(_matched(frame, record) if record["query"] else _scored(frame, record)),
        )
    if record["query"] and not record["query"]["matched"]:
        console.print("no frame shows this; the nearest:", style="yellow")
    console.print(table)
    if record["rule_reason"]:
        way = way_to_choose(record["selector"], record["rule"], ())
        _print_sentence(console, "rule", f"{way}, because {record['rule_reason']}")
    if record["predictions"] is not None:
        console.print(_predictions_table(record))
    for line in _reasons(record, sys.stdout.encoding):
        console.print(line, soft_wrap=True)
    for note in record["notes"]:
        _print_sentence(console, "note", note, style="yellow")
    saved = [frame["path"] for frame in record["frames"] if frame["path"]]
    if saved:
        console.print(f"frames {os.path.dirname(saved[0])}: {len(saved)} saved", soft_wrap=True)  # noqa: PTH120
    maps = [frame["map"] for frame in record["frames"] if frame["map"]]
    if maps:
        shown = record["maps"]["label"] if record["maps"]["is_sure"] else f"the likeliest class ({UNSURE})"
        console.print(f"maps   {os.path.dirname(maps[0])}: {len(maps)} saved, of {shown}", soft_wrap=True)  # noqa: PTH120
    if record["sheet"]:
        console.print(f"sheet  {record['sheet']}", soft_wrap=True)
    for path in record["exports"].values():
        console.print(f"export {path}", soft_wrap=True)
    console.print()


def _print_sentence(console: SafeConsole, label: str, sentence: str, *, style: str = "") -> None:
    """Print a sentence: beside its label on a terminal, over several lines if it is long; otherwise on one line."""
    if console.is_terminal:
        grid = Table.grid(padding=(0, 3))
        grid.add_row(Text(label, style=style), sentence)
        console.print(grid)
    else:
        console.print(f"{label}   {sentence}", soft_wrap=True)


def _predictions_table(record: dict[str, Any]) -> Table:
    """Tabulate the video's classes, most likely first, with the number of selected frames that each is first in.

    If the first class may not be named, none is; the record has them.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption=early_exit(record) or None, caption_justify="left")
    table.add_column("class")
    table.add_column("score", justify="right")
    table.add_column("")
    table.add_column("frames", justify="right")
    first = [frame["predictions"][0]["index"] for frame in record["frames"] if frame["predictions"]]
    is_sure = record["predictions"][0]["is_sure"]
    for prediction in record["predictions"] if is_sure else record["predictions"][:1]:
        table.add_row(
            prediction["label"] if is_sure else UNSURE,
            f"{prediction['score']:.3f}",
            "█" * round(20 * prediction["score"]),
            f"{first.count(prediction['index'])} of {len(first)}",
        )
    return table


def _reasons(record: dict[str, Any], encoding: str) -> Iterator[str]:
    """Draw the curves of both modules with their categories, or of the queries, and mark the selected candidates."""
    candidates = record["candidates"]
    chosen = {frame["position"] for frame in record["frames"]}
    for query in record["query"]["queries"] if record["query"] and len(candidates) <= 120 else ():
        yield f"    {sparkline([1.0, *query['matches']], encoding)[1:]}  {query['text']}"
    for name, module in () if record["query"] else (("S^v", "visual"), ("S^t", "textual")):
        scores = [candidate[f"score_{module}"] for candidate in candidates]
        if None in scores or len(scores) > 120:
            continue
        top = record["top_categories"][module]
        named = ", ".join(f"{entry['label']} {entry['score']:.2f}" for entry in top) if top[0]["is_sure"] else UNSURE
        yield f"{name} {sparkline(scores, encoding)}  {named}"
    if len(candidates) <= 120:
        yield from _marks(candidates, chosen)
    else:
        yield f"    {len(chosen)} of {len(candidates)} candidates"


def _marks(candidates: Sequence[dict[str, Any]], chosen: Collection[int]) -> Iterator[str]:
    """Mark the selected candidates and their duplicates, and give the last digit of each candidate's event."""
    marks = "".join(
        "^" if candidate["position"] in chosen else " " if candidate["duplicate_of"] is None else "="
        for candidate in candidates
    )
    num_same = marks.count("=")
    same = f" (^), {num_same} more show{'s' if num_same == 1 else ''} the same as one of them (=)" if num_same else ""
    yield f"    {marks}  {len(chosen)} of {len(candidates)} candidates{same}"
    events = [candidate["event"] for candidate in candidates]
    if len({*events}) > 1:
        yield f"    {''.join(str((event + 1) % 10) for event in events)}  {events[-1] + 1} events"


def _chosen_for(frame: dict[str, Any], record: dict[str, Any]) -> str:
    """Name the reason for a frame, and the frame that it repeats, if any."""
    told, same = chosen_for(frame["chosen_by"], frame["event"]), frame["duplicate_of"]
    return told if same is None else f"{told}, same as {clock(record['candidates'][same]['time_seconds'])}"


def _scored(frame: dict[str, Any], record: dict[str, Any]) -> tuple[str, str, str]:
    return _score(frame["score_visual"]), _score(frame["score_textual"]), _chosen_for(frame, record)


def _matched(frame: dict[str, Any], record: dict[str, Any]) -> tuple[str, str]:
    """Return a frame's best match with the queries, and the queries that it shows (the nearest one, if none)."""
    matches = {query["text"]: query["matches"][frame["position"]] for query in record["query"]["queries"]}
    shown = [text for text, match in matches.items() if match >= MATCH_LEVEL]
    told = "; ".join(shown) or f"nearest to {max(matches, key=lambda text: matches[text])}"
    return f"{max(matches.values()):.2f}", told


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"
