"""Write the pictures of a run (frames, maps, contact sheets) and its exports, named so that no other is replaced."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tsq_cli import export
from tsq_cli.clip import Clip
from tsq_cli.config import ExportKind, ImageFormat, MapFormat
from tsq_cli.errors import InputNotFoundError, OutputError, UsageError
from tsq_cli.inputs import file_status
from tsq_cli.record import Record, SelectedFrame
from tsq_cli.report.frames import frame_name, may_write, save_frame
from tsq_cli.report.maps import map_name, save_map
from tsq_cli.report.sheet import SHEET_SUFFIXES, save_sheet
from tsq_cli.report.text import safe_stem
from tsq_cli.stores import is_url, name_in
from tsq_cli.types import UInt8Array
from tsq_cli.uploads import put
from tsq_cli.video import decode_frames, frames_at_once


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """Pictures to write per video (selected frames, saliency maps, a contact sheet), and one page for all videos.

    Attributes:
        frames_dir, image_format: folder and format of the selected frames at full size.
        exports: kinds of exports, written to frames_dir beside the frames (see tsq_cli.export).
        max_side, image_quality: longest side and JPEG quality of the pictures in exports.
        sheet: path of the contact sheets; `{stem}` in its name stands for the video's name.
        maps_dir, map_format: folder and format of the saliency maps.
        html: path of the page.
        page_stays: whether the page will be read where it is written, so that its links can be relative.
        overwrite: whether pictures of other videos may be replaced.
        urls: places in a store, by the name of the attribute in whose stead they are: prefixes for frames_dir and
            maps_dir, for sheet a URL as its path would be.
    """

    frames_dir: Path | None = None
    image_format: ImageFormat = "jpg"
    exports: tuple[ExportKind, ...] = ()
    max_side: int | None = None
    image_quality: int = export.DEFAULT_QUALITY
    sheet: Path | None = None
    maps_dir: Path | None = None
    map_format: MapFormat = "overlay"
    html: Path | None = None
    page_stays: bool = True
    overwrite: bool = False
    urls: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sheet = Path(self.urls["sheet"]) if "sheet" in self.urls else self.sheet
        if sheet is not None and sheet.suffix.lower() not in SHEET_SUFFIXES:
            raise UsageError(
                f"the sheet's name is {sheet.name}",
                wanted="a name ending in " + ", ".join(SHEET_SUFFIXES),
                fix="try --sheet sheet.png",
            )
        if self.exports and self.frames_dir is None and "frames_dir" not in self.urls:
            raise UsageError("there is no folder for the exports", wanted="a folder", fix="add -o DIR")
        for name, value, least, most in (
            ("--max-side", self.max_side, 16, 65535),
            ("--image-quality", self.image_quality, 1, 100),
        ):
            if value is not None and not least <= value <= most:
                raise UsageError(f"{name} is {value}", wanted=f"{least} to {most}", fix="leave it at the default")
        if self._bounds_pictures and not export.has_pictures(self.exports):
            raise UsageError(
                "--max-side and --image-quality were given without an export that holds pictures",
                wanted="such an export",
                fix="add --export openai, say, or drop them",
            )

    @property
    def _bounds_pictures(self) -> bool:
        return self.max_side is not None or self.image_quality != export.DEFAULT_QUALITY

    @property
    def has_pictures(self) -> bool:
        """Whether files are written for each video."""
        return bool(self.urls) or any(path is not None for path in (self.frames_dir, self.sheet, self.maps_dir))

    def identity(self) -> dict[str, object]:
        """Return the outputs that take part in the settings hash: a run that writes other files is another run.

        The page does not take part: every run writes it anew, from records of earlier runs too.
        """
        return {
            "frames_dir": None if self.frames_dir is None else str(self.frames_dir.absolute()),
            **({"urls": {name: url.rstrip("/") for name, url in sorted(self.urls.items())}} if self.urls else {}),
            "image_format": self.image_format,
            "exports": sorted(self.exports),
            "max_side": self.max_side,
            "image_quality": self.image_quality,
            "sheet": None if self.sheet is None else str(self.sheet.absolute()),
            "maps_dir": None if self.maps_dir is None else str(self.maps_dir.absolute()),
            "map_format": self.map_format,
        }

    def staged(self, folder: Path) -> Outputs:
        """Return the same outputs with a place in a folder for each in a store, named as its attribute."""
        places = {name: folder / name for name in self.urls}
        if "sheet" in places:
            places["sheet"] /= self.urls["sheet"].rpartition("/")[2]
        return replace(self, urls={}, **places)  # type: ignore[arg-type]  # paths for attributes that take paths


def check_sheet(outputs: Outputs, paths: Sequence[str]) -> None:
    """Refuse a sheet that would replace another picture, if its name is known before a video is read.

    Raises:
        UsageError: the sheet's name is taken by a picture that is not a sheet of the video.
    """
    sheet = outputs.sheet
    if sheet is None or outputs.overwrite or len(paths) != 1:
        return
    place = sheet_path(sheet, output_stems(paths)[paths[0]])
    try:
        found = file_status(paths[0])
    except InputNotFoundError:  # the video's own turn will say so
        return
    if not may_write(place, video_id(paths[0], found.st_size, found.st_mtime_ns), is_named=True):
        raise UsageError(
            f"--sheet {place} exists and is not a sheet of {paths[0]}",
            wanted="a new name, or an older sheet of the same video",
            fix="give another name, or add --overwrite",
        )


def write_pictures(
    record: Record, clip: Clip, outputs: Outputs, stem: str, *, should_stop: Callable[[], bool] | None = None
) -> Record:
    """Write a video's selected frames (a second, planned decode at full resolution), maps and contact sheet.

    Existing pictures of the same video are replaced. If pictures of another video have the names, or if some go to a
    store, which is not asked whose its pictures are, the new names include the video's id, and nothing is replaced.

    Args:
        record: of the video.
        clip: its candidates.
        outputs: the pictures to write.
        stem: start of the file names.
        should_stop: polled while frames are decoded.

    Returns:
        The record with the paths written.

    Raises:
        OutputError: a file cannot be written.
        VideoError: the frames cannot be decoded a second time.
    """
    info = clip.source.info
    own = video_id(info.path, info.size_bytes, info.modified_ns)
    if outputs.urls:
        written = _write_to_stores(record, clip, outputs, stem, own, should_stop)
    else:
        try:
            written = _write(record, clip, outputs, _free_stem(record, outputs, stem, own), own, should_stop)
        except OutputError as error:
            if not isinstance(error.__cause__, FileExistsError):
                raise
            # Another run has just written a picture under one of the names.
            written = _write(record, clip, outputs, _free_stem(record, outputs, stem, own), own, should_stop)
    return replace(written, bytes_read=clip.bytes_read)


def _write_to_stores(
    record: Record, clip: Clip, outputs: Outputs, stem: str, own: str, should_stop: Callable[[], bool] | None
) -> Record:
    """Write the pictures, those for a store through a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        written = _write(record, clip, outputs.staged(Path(folder)), f"{stem}-{own}", own, should_stop)

        def move(path: str) -> str:
            if not Path(path).is_relative_to(folder):
                return path
            name, *_, file = Path(path).relative_to(folder).parts
            prefix = outputs.urls[name].rpartition("/")[0] if name == "sheet" else outputs.urls[name].rstrip("/")
            put(url := f"{prefix}/{file}", Path(path).read_bytes(), should_stop)
            return url

        return replace(
            written,
            frames=tuple(
                replace(frame, path=frame.path and move(frame.path), map_path=frame.map_path and move(frame.map_path))
                for frame in written.frames
            ),
            sheet=written.sheet and move(written.sheet),
            exports={kind: move(path) for kind, path in written.exports.items()},
        )


def _write(
    record: Record, clip: Clip, outputs: Outputs, stem: str, own: str, should_stop: Callable[[], bool] | None
) -> Record:
    frames, jpegs = record.frames, dict[int, export.Jpeg]()
    if outputs.frames_dir is not None:
        frames, jpegs = _save_frames(record, clip, outputs, stem, own, should_stop)
    if outputs.maps_dir is not None and record.maps is not None:
        seen = [frame for frame in frames if frame.predictions is not None]
        saved = {
            frame.rank: save_map(
                clip.batch.pixels[frame.candidate.position],
                record.maps,
                number,
                frame=frame,
                source=record.path,
                video_id=own,
                folder=outputs.maps_dir,
                stem=stem,
                map_format=outputs.map_format,
                overwrite=outputs.overwrite,
            )
            for number, frame in enumerate(seen)
        }
        frames = tuple(replace(frame, map_path=saved.get(frame.rank)) for frame in frames)
    sheet = None
    if outputs.sheet is not None:
        sheet = save_sheet(
            record, clip.batch.pixels, sheet_path(outputs.sheet, stem), video_id=own, overwrite=outputs.overwrite
        )
    record = replace(record, frames=frames, sheet=sheet)
    return replace(record, exports=_write_exports(record, jpegs, outputs, stem, own))


def _write_exports(
    record: Record, jpegs: Mapping[int, export.Jpeg], outputs: Outputs, stem: str, own: str
) -> dict[ExportKind, str]:
    """Write the exports of a video's frames, whose pictures are given by rank, and return the paths."""
    if outputs.frames_dir is None:
        return {}
    document, images = record.to_dict(), [jpegs[frame.rank] for frame in record.frames if jpegs]
    return {
        kind: export.write(
            kind,
            document,
            images,
            folder=outputs.frames_dir,
            stem=stem,
            video_id=own,
            overwrite=outputs.overwrite,
        )
        for kind in outputs.exports
    }


def _save_frames(
    record: Record,
    clip: Clip,
    outputs: Outputs,
    stem: str,
    own: str,
    should_stop: Callable[[], bool] | None,
) -> tuple[tuple[SelectedFrame, ...], dict[int, export.Jpeg]]:
    """Decode and save the frames; return them with their paths, and by rank the pictures for exports, if any."""
    assert outputs.frames_dir is not None  # for the type checker
    frames = {frame.candidate.position: frame for frame in record.frames}
    paths: dict[int, str] = {}
    jpegs: dict[int, export.Jpeg] = {}
    for position, pixels in full_frames(clip, list(frames), should_stop=should_stop):
        frame = frames[position]
        paths[frame.rank] = save_frame(
            pixels,
            frame,
            source=record.path,
            video_id=own,
            folder=outputs.frames_dir,
            stem=stem,
            image_format=outputs.image_format,
            overwrite=outputs.overwrite,
        )
        if export.has_pictures(outputs.exports):
            jpegs[frame.rank] = export.encode(pixels, max_side=outputs.max_side, quality=outputs.image_quality)
    return tuple(replace(frame, path=paths[frame.rank]) for frame in record.frames), jpegs


def full_frames(
    clip: Clip, positions: Sequence[int], *, should_stop: Callable[[], bool] | None = None
) -> Iterator[tuple[int, UInt8Array]]:
    """Decode candidates at full size in one planned pass, or in as few as memory allows.

    Args:
        clip: with its source; the pixels of its candidates are not needed.
        positions: of the candidates, in any order.
        should_stop: polled while frames are decoded.

    Yields:
        Position and pixels, uint8 [H, W, 3] of each, in order of time.

    Raises:
        VideoError: the frames cannot be decoded a second time.
    """
    by_time, at_once = sorted(positions), frames_at_once(clip.source)
    for first in range(0, len(by_time), at_once):
        some = by_time[first : first + at_once]
        full = decode_frames(clip.source, clip.batch.frame_indices[some], short_side=None, should_stop=should_stop)
        yield from zip(some, full.pixels, strict=True)
        del full  # before as many come again


def output_stems(paths: Sequence[str]) -> dict[str, str]:
    """Choose the start of each video's file names: its stem, with a hash of its path if two stems are equal."""
    stems = {path: safe_stem(Path(name_in(path)).stem) for path in paths}
    counts = Counter(stem.lower() for stem in stems.values())
    return {path: stem if counts[stem.lower()] == 1 else hashed_stem(path) for path, stem in stems.items()}


def hashed_stem(path: str) -> str:
    """Build the start of a video's file names that no other video has: its stem, with a hash of its path."""
    return f"{safe_stem(Path(name_in(path)).stem)}-{hashlib.sha256(os.fsencode(_place(path))).hexdigest()[:6]}"


def _place(path: str) -> str:
    """Return where a video lies, from wherever it is named."""
    return path if is_url(path) else str(Path(path).absolute())


def sheet_path(template: Path, stem: str) -> Path:
    """Build the path of a video's sheet: `{stem}` in the file name stands for the video's name."""
    return template.with_name(template.name.replace("{stem}", stem))


def video_id(path: str, size_bytes: int, modified_ns: int) -> str:
    """Hash a video file's path, size and time of modification into its identity, 8 hex digits (ours)."""
    place = os.fsencode(path if is_url(path) else os.path.realpath(path))
    return hashlib.sha256(place + f"\0{size_bytes}\0{modified_ns}".encode()).hexdigest()[:8]


def _free_stem(record: Record, outputs: Outputs, stem: str, own: str) -> str:
    """Return the stem, with the video's id added if pictures of other videos have the stem's names."""
    if outputs.overwrite:
        return stem
    taken: list[Path] = []
    for attempt in (stem, f"{stem}-{own}"):
        names = _names(record, outputs, attempt)
        in_the_way = [path for path, is_named in names if not may_write(path, own, is_named=is_named)]
        in_the_way += [path for path in _export_paths(outputs, attempt) if not export.may_write(path, own)]
        if not in_the_way:
            return attempt
        taken += in_the_way
    raise OutputError(
        f"{taken[-1]} is not a picture of {record.path}, and would be replaced",
        wanted="free names, or files of the same video",
        fix="choose another folder for the pictures, or add --overwrite",
    )


def _export_paths(outputs: Outputs, stem: str) -> list[Path]:
    return [export.export_path(kind, outputs.frames_dir, stem) for kind in outputs.exports if outputs.frames_dir]


def _names(record: Record, outputs: Outputs, stem: str) -> Iterator[tuple[Path, bool]]:
    """List every picture to be written, and whether the user named it (frames and maps get generated names)."""
    for frame in record.frames:
        if outputs.frames_dir is not None:
            yield outputs.frames_dir / frame_name(stem, frame, outputs.image_format), False
        if outputs.maps_dir is not None and record.maps is not None:
            yield outputs.maps_dir / map_name(stem, frame, outputs.map_format), False
    if outputs.sheet is not None:
        yield sheet_path(outputs.sheet, stem), True
