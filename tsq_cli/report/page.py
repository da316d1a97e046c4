"""Write one self-contained HTML page for one or many videos: no script, no external files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Self

from markupsafe import Markup

from tsq_cli import __version__
from tsq_cli.files import atomic_path, cannot_write, is_written_straight
from tsq_cli.report import page_index, page_view, page_words
from tsq_cli.report.page_links import moment
from tsq_cli.report.page_pictures import Pictures
from tsq_cli.report.sheet import COLORS, NEUTRAL
from tsq_cli.report.templates import environment
from tsq_cli.report.text import as_sentence, clock, query_texts, safe_stem, way_to_choose

__all__ = ["Page", "Pictures"]

MOST_AT_ONCE = 5
"""Videos up to which a page shows all sections; of more, it shows the one that its reader chose (ours)."""


class Page:
    """Receives the records of a run one by one; leaving the block writes the whole page under its final name.

    Sections wait in an unnamed temporary file beside the page, so that memory stays flat for any number of videos, and
    nothing is left behind. A run that is interrupted after some videos still gives a page of those, with a notice.

    Args:
        path: of the page, or a stream.
        title: of the page; None for the usual one.
        stays: whether the page will be read where it is written, so that links can be relative.

    Example:
        >>> with Page(Path("report.html")) as page:  # doctest: +SKIP
        ...     page.add(record.to_dict(), Pictures(candidates=clip.batch.pixels, maps=record.maps))
    """

    def __init__(self, path: Path, *, title: str | None = None, stays: bool = True) -> None:
        self._path = path
        self._place = path if stays else None
        self._title = title
        self._spool: IO[bytes] | None = None
        self._lengths: list[tuple[int, int]] = []  # bytes of each card, and of the section behind it
        self._entries: list[page_index.IndexEntry] = []

    def __enter__(self) -> Self:
        """Create the temporary file beside the page.

        Raises:
            OutputError: nothing can be written there; reported before the work starts.
        """
        try:
            beside = None if is_written_straight(self._path) else self._path.parent
            self._place = None if beside is None else self._place
            if beside is not None:
                beside.mkdir(parents=True, exist_ok=True)
            self._spool = tempfile.TemporaryFile(dir=beside, buffering=0)
        except OSError as error:
            raise cannot_write(self._path, error) from error
        return self

    def add(self, record: dict[str, Any], pictures: Pictures | None, *, is_file: bool = True) -> None:
        """Add the next video.

        Args:
            record: as Record.to_dict gives it (docs/schema.json), of status "ok" or "error".
            pictures: None for a video that failed, or whose record comes from an earlier run; its section then
                explains how to get them.
            is_file: False for a video that was never a file, to which nothing can link.

        Raises:
            OutputError: the disk is full. Earlier sections stay whole.
            ValueError: pictures that do not belong to the record.
        """
        if self._spool is None:
            raise RuntimeError("add() outside the page's with block")
        number = len(self._lengths) + 1
        view = page_view.video_view(record, number, pictures, self._place, is_file=is_file)
        section = _rendered(
            "page_video.html.j2",
            video=view,
            words=page_words,
            class_bars=page_view.class_bars,
            query_bars=page_view.query_bars,
            timing_bars=page_view.timing_bars,
            clock=clock,
            moment=moment,
            safe_stem=safe_stem,
            way_to_choose=way_to_choose,
            query_texts=query_texts,
            as_sentence=as_sentence,
        )
        card = _rendered("page_card.html.j2", card=page_index.card_of(record, number, pictures))
        try:
            self._spool.seek(sum(map(sum, self._lengths)))  # overwrites a section that a full disk cut short
            left = memoryview(card + section)
            while left:
                left = left[self._spool.write(left) :]
        except OSError as error:
            raise cannot_write(self._path, error) from error
        self._lengths.append((len(card), len(section)))
        self._entries.append(page_index.entry_of(record, number))

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
            index=page_index.build_index(self._entries),
            cards=self._cards(),
            sections=self._sections(),
            is_long=len(self._entries) > MOST_AT_ONCE,
            stopped_early=stopped_early,
            colors={**COLORS, "neutral": NEUTRAL},
            version=__version__,
        )
        with path.open("wb") as file:
            stream.dump(file, encoding="utf-8")

    def _cards(self) -> Iterator[Markup]:
        return self._spooled(0)

    def _sections(self) -> Iterator[Markup]:
        return self._spooled(1)

    def _spooled(self, part: int) -> Iterator[Markup]:
        """Read the cards (0) or the sections (1) back, one by one."""
        assert self._spool is not None  # opened by __enter__, for the type checker
        begin = 0
        for lengths in self._lengths:
            self._spool.seek(begin + sum(lengths[:part]))
            yield Markup(self._spool.read(lengths[part]).decode())
            begin += sum(lengths)


def _rendered(template: str, **values: Any) -> bytes:
    return environment().get_template(template).render(**values).encode()
