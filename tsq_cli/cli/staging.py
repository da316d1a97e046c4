"""Outputs of a run in a store (s3://, gs://, az://)."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from tsq_cli import stores
from tsq_cli.cli.output import print_error
from tsq_cli.errors import OutputError, UsageError
from tsq_cli.files import VIDEO_SUFFIXES
from tsq_cli.uploads import check_folder, put

if TYPE_CHECKING:
    from tsq_cli.cli.video_options import VideoOptions


@contextmanager
def staged(options: VideoOptions, inputs: Collection[str]) -> Iterator[VideoOptions]:
    """Have the files of a whole run (`--csv`, `--html`) written on this machine, and put into their store at the end.

    Args:
        options: of the run.
        inputs: its videos.

    Yields:
        The options, with paths in a temporary folder for URLs. What the store does not take stays there.

    Raises:
        UsageError: a URL of a web server, of an unknown scheme, of a video or of another output.
        OutputError: the store does not take them.
    """
    urls = {name: url for name in ("csv", "html") if isinstance(url := getattr(options, name), str)}
    if not urls:
        yield options
        return
    _check_whole(urls | ({"sheet": options.sheet} if isinstance(options.sheet, str) else {}), inputs)
    for name, url in urls.items():
        check_folder(f"--{name}", url.rpartition("/")[0])
    folder = Path(tempfile.mkdtemp(prefix="tsq-"))
    places: dict[str, Any] = {name: folder / f"run.{name}" for name in urls}
    try:
        yield replace(options, **places)
    except BaseException:
        for error in _put_all(folder, places, urls):  # an interrupted run has files of what it did
            print_error(str(error))
        raise
    if errors := _put_all(folder, places, urls):
        for error in errors[:-1]:
            print_error(str(error))
        raise errors[-1]


def _check_whole(urls: Mapping[str, str], inputs: Collection[str]) -> None:
    """Refuse a URL that would replace a video or another output, as check_outputs does with paths."""
    for name, url in urls.items():
        if not (file := url.rpartition("/")[2]):
            raise UsageError(f"--{name} {url} ends in /", wanted="the URL of a file", fix="add a name to it")
        if url in inputs or PurePosixPath(file).suffix.lower() in VIDEO_SUFFIXES:
            raise UsageError(
                f"--{name} {url} names a video",
                wanted="an output that may be replaced",
                fix=f"give --{name} a URL of its own; was its value forgotten?",
            )
    if len({*urls.values()}) < len(urls):
        raise UsageError(
            f"{' and '.join(f'--{name}' for name in urls)} have a URL in common",
            wanted="a URL for each output",
            fix="give one of them another",
        )


def _put_all(folder: Path, places: Mapping[str, Path], urls: Mapping[str, str]) -> list[OutputError]:
    """Put the files of a folder into their store; return an error for each that it did not take, which stays there."""
    errors = []
    for name, place in places.items():
        if not place.exists():
            continue
        try:
            put(urls[name], place.read_bytes())
        except OutputError as error:
            errors.append(OutputError(error.got, wanted="a store that takes it", fix=f"copy it from {place}"))
        else:
            place.unlink()
    if not errors:
        folder.rmdir()
    return errors


def split(places: Mapping[str, Path | str | None]) -> tuple[dict[str, Path], dict[str, str]]:
    """Divide the places of outputs into paths and URLs, by their names."""
    paths = {name: place for name, place in places.items() if isinstance(place, Path)}
    return paths, {name: place for name, place in places.items() if isinstance(place, str)}


def check_urls(urls: Mapping[str, str], *, one_sheet: bool, overwrite: bool) -> None:
    """Try the stores that pictures go to, before anything is read.

    Args:
        urls: see tsq_cli.pictures.Outputs.
        one_sheet: whether the sheet's URL is that of the only sheet.
        overwrite: whether it may replace what is there.

    Raises:
        UsageError: a URL of a web server, or of an unknown scheme; or the one sheet would replace something.
        OutputError: a store that takes nothing.
    """
    options = {"frames_dir": "-o", "maps_dir": "--maps", "sheet": "--sheet"}
    for name, url in urls.items():
        check_folder(options[name], url.rpartition("/")[0] if name == "sheet" else url)
    if one_sheet and "sheet" in urls and not overwrite and stores.statuses([urls["sheet"]]):
        raise UsageError(
            f"--sheet {urls['sheet']} exists, and a store does not say whose it is",
            wanted="a new name",
            fix="give another name, or add --overwrite",
        )
