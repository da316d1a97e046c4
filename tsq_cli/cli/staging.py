"""Outputs of a run in a store (s3://, gs://, az://)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsq_cli import stores
from tsq_cli.errors import UsageError
from tsq_cli.uploads import check_folder, put

if TYPE_CHECKING:
    from tsq_cli.cli.video_options import VideoOptions


@contextmanager
def staged(options: VideoOptions) -> Iterator[VideoOptions]:
    """Have the files of a whole run (`--csv`, `--html`) written on this machine, and put into their store at the end.

    Yields:
        The options, with paths in a temporary folder for URLs.

    Raises:
        UsageError: a URL of a web server, or of an unknown scheme.
        OutputError: the store does not take them.
    """
    urls = {name: url for name in ("csv", "html") if isinstance(url := getattr(options, name), str)}
    if not urls:
        yield options
        return
    for name, url in urls.items():
        check_folder(f"--{name}", url.rpartition("/")[0])
    with tempfile.TemporaryDirectory() as folder:
        places: dict[str, Any] = {name: Path(folder) / f"run.{name}" for name in urls}
        try:
            yield replace(options, **places)
        finally:  # an interrupted run has files of what it did
            for name, place in places.items():
                if place.exists():
                    put(urls[name], place.read_bytes())


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
