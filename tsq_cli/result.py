"""The result for one video in Python: its frames as pictures, and every output of the command line."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import Image

from tsq_cli.clip import Clip
from tsq_cli.config import ImageFormat, SelectSettings
from tsq_cli.errors import NoDecodableFrameError, TsqError, VideoError
from tsq_cli.pictures import Outputs, full_frames, output_stems, write_pictures
from tsq_cli.printable import printable
from tsq_cli.record import Record, SelectedFrame
from tsq_cli.report import page_words
from tsq_cli.report.page import Page
from tsq_cli.report.page_pictures import Pictures, photograph_uris
from tsq_cli.report.sheet import draw_sheet
from tsq_cli.report.text import clock, way_to_choose
from tsq_cli.types import Category, SaliencyMaps, UInt8Array
from tsq_cli.video import MediaBytes, VideoSource, decode_frames
from tsq_cli.video.demux import check_file

THUMBNAIL_WIDTH = 200
_THUMBNAILS_BYTES = 100_000
_TIMES_IN_REPR = 8
_FIGURE = Markup(
    '<figure style="margin:0;width:{width}px">{picture}<figcaption><b>{time}</b> {why}</figcaption></figure>'
)
_PICTURE = Markup('<img src="{uri}" alt="frame at {time}" width="{width}">')


class FrameDecoder:
    """Decodes frames of a result's video once more, when they are asked for. Several threads may ask.

    Args:
        clip: as it was looked at; its candidates' pixels are let go.
        positions: of the selected candidates.
        settings: of the run.
    """

    def __init__(self, clip: Clip, positions: Sequence[int], settings: SelectSettings) -> None:
        no_pixels: UInt8Array = np.empty((len(clip.batch), 0, 0, 3), dtype=np.uint8)
        self._clip = replace(clip, batch=replace(clip.batch, pixels=no_pixels))
        self._positions = positions
        self._short_side = settings.short_side
        self._lock = threading.RLock()
        self._images: dict[int, Image.Image] = {}

    def image(self, position: int) -> Image.Image:
        """Return a selected frame at full size; the first call decodes all of them in one pass, and keeps them."""
        with self._lock:
            if not self._images:
                with self.opened() as clip:
                    pictures = full_frames(clip, self._positions)
                    self._images = {place: Image.fromarray(pixels) for place, pixels in pictures}
            return self._images[position]

    def small(self, positions: Sequence[int] | None = None) -> UInt8Array:
        """Decode candidates as they were looked at, all or some: uint8 [n, H, W, 3]."""
        with self.opened() as clip:
            indices = clip.batch.frame_indices if positions is None else clip.batch.frame_indices[list(positions)]
            batch = decode_frames(clip.source, indices, short_side=self._short_side)
        if len(batch) != len(indices):
            raise NoDecodableFrameError(
                f"{clip.path} now gives {len(batch)} of {len(indices)} frames",
                wanted="a video whose frames can be decoded twice",
                fix="check that the file is complete",
            )
        return batch.pixels

    @property
    def file(self) -> str | None:
        """The video's path or URL; None for bytes and frames in memory."""
        source = self._clip.source
        return (
            str(source.media) if isinstance(source, VideoSource) and not isinstance(source.media, MediaBytes) else None
        )

    @contextmanager
    def opened(self) -> Iterator[Clip]:
        """Lend the clip, without pixels, for a pass over its source; what is opened for it is closed again.

        Raises:
            InputNotFoundError, NotAVideoError: the file is gone.
            VideoError: it is not the file any more that was looked at.
        """
        source = self._clip.source
        with self._lock:
            if self.file is not None:
                found, seen = check_file(self.file), (source.info.size_bytes, source.info.modified_ns)
                if found != seen:
                    raise VideoError(
                        f"{source.info.path} has changed since its frames were selected",
                        wanted="the same file for its pictures",
                        fix="select its frames again",
                    )
            try:
                yield self._clip
            finally:
                source.close()


@dataclass(frozen=True, eq=False, kw_only=True)
class Frame:
    """A selected frame.

    Attributes:
        selected: its part of the record, with everything that is known of it.
        score: of a query, how well the frame matches it, from 0 to 1 (the best of several queries); 0.5 and more says
            that it shows it. Else the saliency that it was chosen for, a share of the whole video's (the candidates'
            sum is 1): of the textual or the visual curve where that chose it, else the mean of both. None where no
            network ran.
        why: the reason for it, a sentence or two.
    """

    selected: SelectedFrame
    score: float | None
    why: str
    _decoder: FrameDecoder = field(repr=False)

    @property
    def time_seconds(self) -> float:
        """Time relative to the first frame shown."""
        return self.selected.candidate.time_seconds

    @property
    def frame_index(self) -> int:
        """Index among the frames shown, from 0: also of the array or list that was given."""
        index = self.selected.candidate.frame_index
        assert index is not None  # known of everything that is decoded here
        return index

    @property
    def predictions(self) -> tuple[Category, ...] | None:
        """Classes of this frame alone, most likely first; None if no recognizer saw it."""
        return self.selected.predictions

    @property
    def image(self) -> Image.Image:
        """The picture at full resolution, upright. The first access decodes those of all frames, in one pass.

        Raises:
            InputNotFoundError, VideoError: the file is gone or has changed, or cannot be decoded again.
        """
        return self._decoder.image(self.selected.candidate.position)

    def __repr__(self) -> str:
        return f"<Frame {clock(self.time_seconds)}: {self.why}>"


class Result:
    """The frames selected from one video, or the error for which there are none.

    Pictures are decoded when they are asked for, so a result that nobody looks at holds none. It keeps the list of the
    video's packets (some 60 bytes per frame), and opens a path again; of other inputs it keeps the bytes, the array or
    the list itself.

    Attributes:
        record: the whole record, the same as the command line's.
        frames: in order of time, or best first with order="score"; empty if the video failed.
        error: why the video failed, from select_many; None if it did not.
    """

    def __init__(
        self, record: Record, clip: Clip | None, settings: SelectSettings, error: Exception | None = None
    ) -> None:
        self.record = record
        self.error = error
        positions = tuple(frame.candidate.position for frame in record.frames)
        self._decoder = None if clip is None else FrameDecoder(clip, positions, settings)
        self.frames = self._described()

    def _described(self) -> tuple[Frame, ...]:
        if self._decoder is None:
            return ()
        described = self.record.to_dict()
        return tuple(
            Frame(
                selected=frame,
                score=_score(frame, self.record),
                why=page_words.why(as_dict, described).replace("\u00a0", " "),
                _decoder=self._decoder,
            )
            for frame, as_dict in zip(self.record.frames, described["frames"], strict=True)
        )

    @property
    def path(self) -> str:
        """The video's path as given; a name made of a hash for bytes and frames in memory."""
        return self.record.path

    @property
    def predictions(self) -> tuple[Category, ...] | None:
        """Classes of the video, most likely first; None from select, which recognizes nothing."""
        return self.record.predictions

    @property
    def maps(self) -> SaliencyMaps | None:
        """Saliency maps of the video's first class, one per recognized frame, in order; None if not asked for."""
        return self.record.maps

    def save(
        self, folder: str | Path, *, image_format: ImageFormat = "jpg", overwrite: bool = False
    ) -> tuple[Path, ...]:
        """Write the frames at full size, as `tsq select -o` does; the record then has their paths.

        Args:
            folder: made where it is missing.
            image_format: "jpg", "png" or "webp".
            overwrite: whether pictures of other videos may be replaced; without it, the new names carry the video's id.

        Returns:
            The files, in the order of frames.

        Raises:
            OutputError: a file cannot be written.
            InputNotFoundError, VideoError: as Frame.image.
        """
        outputs = Outputs(frames_dir=Path(folder), image_format=image_format, overwrite=overwrite)
        with self._decodable().opened() as clip:
            self.record = write_pictures(self.record, clip, outputs, output_stems([self.path])[self.path])
        self.frames = self._described()
        return tuple(Path(frame.path) for frame in self.record.frames if frame.path is not None)

    def sheet(self) -> Image.Image:
        """Draw the contact sheet: even spacing, the selected frames, all candidates."""
        return draw_sheet(self.record, self._decodable().small())

    def to_html(self) -> str:
        """Make the page that `--html` writes: one file, no script."""
        pictures = None if self._decoder is None else Pictures(candidates=self._decoder.small(), maps=self.maps)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / "page.html"
            with Page(place, stays=False) as page:
                page.add(self.to_dict(), pictures, is_file=self._decoder is None or self._decoder.file is not None)
            return place.read_text(encoding="utf-8")

    def to_dict(self) -> dict[str, Any]:
        """Return the record as a dictionary for JSON (docs/schema.json)."""
        return self.record.to_dict()

    def to_json(self) -> str:
        """Return the record as the command line's `--json` prints it."""
        return json.dumps(self.to_dict(), indent=2)

    def _decodable(self) -> FrameDecoder:
        if self._decoder is None:
            assert self.error is not None  # a result has one of the two
            raise self.error
        return self._decoder

    def __repr__(self) -> str:
        if self.error is not None:
            return f"<Result {printable(self.path)}: {type(self.error).__name__}>"
        times = [clock(frame.time_seconds) for frame in self.frames]
        shown = ", ".join(times[:_TIMES_IN_REPR]) + (", ..." if len(times) > _TIMES_IN_REPR else "")
        return f"<Result {printable(self.path)}: {len(times)} of {len(self.record.candidates)} frames, {shown}>"

    def _repr_html_(self) -> str:
        """Show the frames in a notebook, with their times and reasons; without pictures if they cannot be decoded."""
        if self.error is not None:
            return Markup("<p>{}</p>").format(printable(str(self.error)))
        asked = () if self.record.query is None else self.record.query.texts
        way = way_to_choose(self.record.selector, self.record.rule, asked)
        stated = self.record.stated["prediction"]
        title = f"{printable(self.path)}, {printable(way)}" + ("" if stated is None else f": {printable(stated)}")
        figures = Markup("").join(
            _FIGURE.format(width=THUMBNAIL_WIDTH, picture=picture, time=clock(frame.time_seconds), why=frame.why)
            for frame, picture in zip(self.frames, self._thumbnails(), strict=True)
        )
        notes = Markup("").join(Markup("<br>{}").format(printable(note)) for note in self.record.notes)
        return Markup('<p>{title}{notes}</p><div style="display:flex;flex-wrap:wrap;gap:8px">{figures}</div>').format(
            title=title, notes=notes, figures=figures
        )

    def _thumbnails(self) -> list[Markup]:
        try:
            pixels = self._decodable().small([frame.selected.candidate.position for frame in self.frames])
        except TsqError:
            return [Markup("")] * len(self.frames)
        uris = photograph_uris(list(pixels), width=THUMBNAIL_WIDTH, at_most=_THUMBNAILS_BYTES)
        return [
            _PICTURE.format(
                uri=uri,
                time=clock(frame.time_seconds),
                width=THUMBNAIL_WIDTH,
            )
            for frame, uri in zip(self.frames, uris, strict=True)
        ]


def _score(frame: SelectedFrame, record: Record) -> float | None:
    if record.query is not None:
        return max(query.matches[frame.candidate.position] for query in record.query.queries)
    visual, textual = frame.candidate.score_visual, frame.candidate.score_textual
    if visual is None or textual is None:
        return None
    if frame.chosen_by == "textual":
        return textual
    return visual if frame.chosen_by in ("visual", "refill") else (visual + textual) / 2
