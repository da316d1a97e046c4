"""Print results to stdout, messages and progress bars to stderr (bars on a terminal only)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar, Self

from rich import box
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from tsq_cli import types
from tsq_cli.cli.csv_rows import write_csv
from tsq_cli.cli.lines import facts, video_line
from tsq_cli.files import is_stdout
from tsq_cli.inputs import Inputs
from tsq_cli.journal import Journal
from tsq_cli.printable import printable
from tsq_cli.record import UNSURE
from tsq_cli.record_file import RecordFile
from tsq_cli.report.console import SafeConsole
from tsq_cli.report.text import chosen_for, clock, early_exit, sparkline, way_to_choose
from tsq_cli.types import MATCH_LEVEL

MOST_TABLES = 5
"""Videos of a run up to which each gets its table (ours); of more videos, each gets a line."""

_QUIET: ContextVar[bool] = ContextVar("quiet", default=False)


@contextmanager
def quietly(quiet: bool) -> Iterator[None]:
    """Run the block without progress bars and without messages that are no errors, if `quiet`."""
    token = _QUIET.set(quiet)
    try:
        yield
    finally:
        _QUIET.reset(token)


def info(message: str) -> None:
    """Print a message for the user on one line of stderr, unless the run is quiet."""
    if not _QUIET.get():
        print_error(message)


def print_error(message: str) -> None:
    """Print a message on one line of stderr, however quiet the run is."""
    print(f"tsq: {printable(message)}", file=sys.stderr)


class DescriptionColumn(ProgressColumn):
    """The description of a progress bar's task, made printable."""

    def render(self, task: Task) -> Text:
        """Render the column of one task."""
        return Text(printable(task.description, 80))


class ProgressBar(Progress):
    """Progress bar on stderr (terminals only); print to stdout inside `pause_progress()`."""

    shown: ClassVar[ProgressBar | None] = None

    def __init__(self, *columns: ProgressColumn) -> None:
        console = SafeConsole(stderr=True)
        # By default rich redirects stdout to its console, here stderr: output would miss the user's file.
        super().__init__(
            *columns,
            console=console,
            transient=True,
            redirect_stdout=False,
            disable=_QUIET.get() or not console.is_terminal,
        )

    def start(self) -> None:
        """Show the bar."""
        super().start()
        ProgressBar.shown = self

    def stop(self) -> None:
        """Remove the bar."""
        ProgressBar.shown = None
        super().stop()


@contextmanager
def pause_progress() -> Iterator[None]:
    """Hide the progress bar, if one is shown, while the block prints to stdout, perhaps to the same terminal."""
    bar = ProgressBar.shown
    if bar is None:
        yield
        return
    bar.stop()
    try:
        yield
    finally:
        bar.start()


def print_json(document: dict[str, Any]) -> None:
    """Print a JSON document on stdout."""
    with pause_progress():
        print(json.dumps(document, indent=1))


@contextmanager
def progress_bar(waiting_for: str) -> Iterator[types.Progress]:
    """Show a progress bar while the block runs; yields the callback that updates it."""
    with _bar() as bar:
        task = bar.add_task(waiting_for, total=None)
        shown = waiting_for

        def tell(what: str, done: int, total: int) -> None:
            nonlocal shown
            if what != shown:
                bar.reset(task, description=what, total=total)
                shown = what
            bar.update(task, completed=done, total=total)

        yield tell


def _bar() -> ProgressBar:
    return ProgressBar(SpinnerColumn(), DescriptionColumn(), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())


class Output:
    """Receives the records of a run one by one and writes them to the outputs that the user chose.

    A table per video goes to stdout as it finishes, or a line of text if there are more than MOST_TABLES videos and
    the user did not ask for more (`verbose`); nothing in a quiet run, or if one JSON document (`--json`) or lines
    (`--jsonl -`) go there. Videos that the `--jsonl` file had already are counted only. Lines of that file are written
    as videos finish; the CSV is written at the end, even of an interrupted run.
    """

    def __init__(
        self,
        inputs: Inputs,
        *,
        verb: str,
        as_json: bool,
        jsonl: Path | None,
        csv: Path | None,
        html: Path | None,
        verbose: bool = False,
        total: int | None = None,
    ) -> None:
        self.num_failed = 0
        self._total = len(inputs.paths) if total is None else total
        self._inputs = inputs
        self._verb = verb
        self._as_json = as_json
        self._lines_to_stdout = jsonl is not None and is_stdout(jsonl)
        self._jsonl = None if jsonl is None or self._lines_to_stdout else RecordFile(jsonl)
        self._csv = csv
        stdout_is_taken = as_json or any(path is not None and is_stdout(path) for path in (jsonl, csv, html))
        self._prints_text = not (stdout_is_taken or _QUIET.get())
        self._prints_tables = verbose or self._total <= MOST_TABLES
        self._keeps_records = as_json or csv is not None  # a million take more memory than a machine has
        self._records: list[dict[str, Any]] = []
        self._num_added = self._num_resumed = 0
        self._stdout = SafeConsole()
        self._progress = _bar()
        self._task = self._progress.add_task("videos", total=self._total)

    def __enter__(self) -> Self:
        if self._jsonl is not None:
            self._jsonl.__enter__()
        if self._inputs.skipped:
            info(f"{self._inputs.skipped} files in folders skipped: not videos by their suffix")
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._progress.stop()
        with ExitStack() as stack:
            if self._jsonl is not None:
                stack.callback(self._jsonl.__exit__)
                if kind is None:
                    stack.callback(self._jsonl.finish)
            if self._csv is not None and (kind is None or self._records):
                write_csv(self._csv, self._records)
        if kind is not None:
            if self._num_added:
                print_error(f"stopped after {self._num_added} of {self._total} videos")
            return
        if self._as_json:
            document = self._records[0] if self._inputs.single else self._records
            print(json.dumps(document, indent=2))
        if self._total > 1 or self._num_resumed:
            done = self._num_added - self._num_resumed - self.num_failed
            info(f"{done} {self._verb}, {self._num_resumed} done before, {self.num_failed} failed")

    @property
    def journal(self) -> Journal | None:
        """The journal of videos being read; None without a `--jsonl` file."""
        return None if self._jsonl is None else self._jsonl.journal

    def finished(self, settings_hash: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield path and record of the videos of the `--jsonl` file that need not be redone.

        Only those of this run; of a run whose names are not known yet (`--files-column`) all that the file has.
        """
        return iter(()) if self._jsonl is None else self._jsonl.finished(settings_hash, set(self._inputs.paths) or None)

    def keep(self, record: Mapping[str, Any]) -> None:
        """Write a record to the `--jsonl` file before its video's turn."""
        if self._jsonl is not None:
            self._jsonl.append(record)

    @contextmanager
    def waiting(self, description: str) -> Iterator[None]:
        """Show what the run is waiting for beside the progress bar."""
        self._progress.update(self._task, description=description)
        try:
            yield
        finally:
            self._progress.update(self._task, description="videos")

    def add(self, record: dict[str, Any], *, resumed: bool = False) -> None:
        """Output the next video's record (docs/schema.json).

        Args:
            record: of the video.
            resumed: whether it came from the `--jsonl` file.
        """
        self._num_resumed += resumed and record["status"] == "ok"
        if self._jsonl is None or resumed:
            self._count(record)
        else:
            before = self._jsonl.progress
            try:
                self._jsonl.append(record)
            finally:  # a signal may come just behind the write: the CSV has the rows of every line, and no others
                if self._jsonl.progress > before:
                    self._count(record)
        if record["status"] == "error":
            self.num_failed += 1
            print_error(record["error"]["message"])
        with pause_progress():
            if self._lines_to_stdout:
                print(json.dumps(record), flush=True)
            elif self._prints_text and record["status"] == "ok" and not resumed:
                if self._prints_tables:
                    self._print_table(record)
                else:
                    self._print_line(record)
        self._progress.advance(self._task)

    def _count(self, record: dict[str, Any]) -> None:
        self._num_added += 1
        if self._keeps_records:
            self._records.append(record)

    def _print_line(self, record: dict[str, Any]) -> None:
        self._stdout.print(record["video"]["path"], style="bold", end="  ", soft_wrap=True)
        self._stdout.print(video_line(record), soft_wrap=True)

    def _print_table(self, record: dict[str, Any]) -> None:
        self._stdout.print(record["video"]["path"], style="bold", end="  ", soft_wrap=True)
        self._stdout.print(facts(record["video"]), soft_wrap=True)
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
            self._stdout.print("no frame shows this; the nearest:", style="yellow")
        self._stdout.print(table)
        if record["rule_reason"]:
            way = way_to_choose(record["selector"], record["rule"], ())
            self._print_sentence("rule", f"{way}, because {record['rule_reason']}")
        if record["predictions"] is not None:
            self._stdout.print(_predictions_table(record))
        for line in _reasons(record, sys.stdout.encoding):
            self._stdout.print(line, soft_wrap=True)
        for note in record["notes"]:
            self._print_sentence("note", note, style="yellow")
        saved = [frame["path"] for frame in record["frames"] if frame["path"]]
        if saved:
            self._stdout.print(f"frames {os.path.dirname(saved[0])}: {len(saved)} saved", soft_wrap=True)  # noqa: PTH120
        maps = [Path(frame["map"]) for frame in record["frames"] if frame["map"]]
        if maps:
            shown = record["maps"]["label"] if record["maps"]["is_sure"] else f"the likeliest class ({UNSURE})"
            self._stdout.print(f"maps   {maps[0].parent}: {len(maps)} saved, of {shown}", soft_wrap=True)
        if record["sheet"]:
            self._stdout.print(f"sheet  {record['sheet']}", soft_wrap=True)
        for path in record["exports"].values():
            self._stdout.print(f"export {path}", soft_wrap=True)
        self._stdout.print()

    def _print_sentence(self, label: str, sentence: str, *, style: str = "") -> None:
        """Print a sentence: beside its label on a terminal, over several lines if it is long; otherwise on one line."""
        if self._stdout.is_terminal:
            grid = Table.grid(padding=(0, 3))
            grid.add_row(Text(label, style=style), sentence)
            self._stdout.print(grid)
        else:
            self._stdout.print(f"{label}   {sentence}", soft_wrap=True)


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
