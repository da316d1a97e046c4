"""Print results to stdout, messages and progress bars to stderr (bars on a terminal only)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar, Self

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TimeRemainingColumn,
)
from rich.text import Text

from tsq_cli import types
from tsq_cli.cli.csv_rows import write_csv
from tsq_cli.cli.lines import video_line
from tsq_cli.cli.parquet_shards import ParquetShards
from tsq_cli.cli.tables import print_table
from tsq_cli.files import is_stdout
from tsq_cli.inputs import Inputs
from tsq_cli.journal import Journal
from tsq_cli.printable import printable
from tsq_cli.record_file import RecordFile
from tsq_cli.report.console import SafeConsole

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
    as videos finish, Parquet files as they are full; the CSV is written at the end, even of an interrupted run.
    """

    def __init__(
        self,
        inputs: Inputs,
        *,
        verb: str,
        as_json: bool,
        jsonl: Path | None,
        csv: Path | None,
        parquet: Path | None = None,
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
        self._shards = None if parquet is None else ParquetShards(parquet)
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
        with ExitStack() as undone:
            if self._shards is not None:
                undone.enter_context(self._shards)
            if self._jsonl is not None:
                self._jsonl.__enter__()
            undone.pop_all()
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
            if self._shards is not None:
                stack.callback(self._shards.__exit__)
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
                    print_table(self._stdout, record)
                else:
                    self._print_line(record)
        self._progress.advance(self._task)

    def _count(self, record: dict[str, Any]) -> None:
        self._num_added += 1
        if self._keeps_records:
            self._records.append(record)
        if self._shards is not None:
            self._shards.append(record)

    def _print_line(self, record: dict[str, Any]) -> None:
        self._stdout.print(record["video"]["path"], style="bold", end="  ", soft_wrap=True)
        self._stdout.print(video_line(record), soft_wrap=True)
