"""Write one self-contained HTML page for one or many videos: no script, no external files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self

from markupsafe import Markup

from tsq_cli import __version__
from tsq_cli.files import atomic_path, cannot_write, is_written_straight
from tsq_cli.report import page_view, page_words
from tsq_cli.report.page_pictures import Pictures
from tsq_cli.report.sheet import COLORS, NEUTRAL
from tsq_cli.report.templates import environment
from tsq_cli.report.text import as_sentence, clock, query_texts, way_to_choose

__all__ = ["Page", "Pictures"]


class Page:
    """Receives the records of a run one by one; leaving the block writes the whole page under its final name.

    Sections wait in an unnamed temporary file beside the page, so that memory stays flat for any number of videos, and
    nothing is left behind. A run that is interrupted after some videos still gives a page of those, with a notice.

    Example:
        >>> with Page(Path("report.html")) as page:  # doctest: +SKIP
        ...     page.add(record.to_dict(), Pictures(candidates=clip.batch.pixels, maps=record.maps))
    """

    def __init__(self, path: Path, *, title: str | None = None) -> None:
        self._path = path
        self._title = title
        self._spool: IO[bytes] | None = None
        self._lengths: list[int] = []  # bytes of each section
        self._index: list[page_view.IndexRow] = []

    def __enter__(self) -> Self:
        """Create the temporary file beside the page.

        Raises:
            OutputError: nothing can be written there; reported before the work starts.
        """
        try:
            beside = None if is_written_straight(self._path) else self._path.parent
            if beside is not None:
                beside.mkdir(parents=True, exist_ok=True)
            self._spool = tempfile.TemporaryFile(dir=beside, buffering=0)
        except OSError as error:
            raise cannot_write(self._path, error) from error
        return self

    def add(self, record: dict[str, Any], pictures: Pictures | None) -> None:
        """Add the next video.

        Args:
            record: as Record.to_dict gives it (docs/schema.json), of status "ok" or "error".
            pictures: None for a video that failed, or whose record comes from an earlier run; its section then
                explains how to get them.

        Raises:
            OutputError: the disk is full. Earlier sections stay whole.
            ValueError: pictures that do not belong to the record.
        """
        if self._spool is None:
            raise RuntimeError("add() outside the page's with block")
        number = len(self._lengths) + 1
        view = page_view.video_view(record, number, pictures)
        template = environment().get_template("page_video.html.j2")
        section = template.render(
            video=view,
            words=page_words,
            class_bars=page_view.class_bars,
            query_bars=page_view.query_bars,
            timing_bars=page_view.timing_bars,
            clock=clock,
            way_to_choose=way_to_choose,
            query_texts=query_texts,
            as_sentence=as_sentence,
        ).encode()
        try:
            self._spool.seek(sum(self._lengths))  # overwrites a section that a full disk cut short
            left = memoryview(section)
            while left:
                left = left[self._spool.write(left) :]
        except OSError as error:
            raise cannot_write(self._path, error) from error
        self._lengths.append(len(section))
        self._index.append(page_view.index_row(record, number))

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Write the page, unless the run stopped before its first video.

        Raises:
            OutputError: the page cannot be written; an older page of that name stays as it was.
        """
        if self._spool is None:
            return
        with self._spool:
            if kind is None or self._lengths:
                with atomic_path(self._path) as temporary:
                    self._write(temporary, stopped_early=kind is not None)

    def _write(self, path: Path, *, stopped_early: bool) -> None:
        template = environment().get_template("page.html.j2")
        stream = template.stream(
            title=self._title,
            index=self._index,
            sections=self._sections(),
            stopped_early=stopped_early,
            colors={**COLORS, "neutral": NEUTRAL},
            version=__version__,
        )
        with path.open("wb") as file:
            stream.dump(file, encoding="utf-8")

    def _sections(self) -> Iterator[Markup]:
        assert self._spool is not None  # opened by __enter__, for the type checker
        self._spool.seek(0)
        for length in self._lengths:
            yield Markup(self._spool.read(length).decode())
