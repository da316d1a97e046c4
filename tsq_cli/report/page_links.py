"""Links of the page: to a moment of a video's file, and to the record inside the page."""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from tsq_cli.stores import is_url, is_web

NEAR = 2
"""Folders up from the page's own within which a video is linked to by a relative path (ours)."""

MOST_PATH = 4096
"""Longest link (ours), as long as the longest path of Linux: a longer name leads to no file."""

MOST_PLAIN = 16_000
"""Longest JSON of a record that a page carries as it is (ours): some 25 candidates; of more it is compressed."""


@dataclass(frozen=True)
class RecordLink:
    """A record as a data: URI to be downloaded, and the suffix of its file: ".json", or ".json.gz"."""

    uri: Markup
    suffix: str


def video_link(video: str, page: Path | None) -> Markup | None:
    """Link to a video's file from the page: by a relative path if it lies near, so that both can be moved together.

    Args:
        video: the path as the user named it.
        page: where the page will be read; None if that is not known, and the link is then absolute.

    Returns:
        A percent-encoded URL, which has no character of markup, and no fragment yet (see moment); None if it is longer
        than a path can be, or leads into a store, which no browser opens.
    """
    if is_url(video):  # what is quoted already stays so
        link = quote(video.partition("#")[0], safe="/:?=%;,+~@!$*()[]&") if is_web(video) else ""
        return Markup.escape(link) if 0 < len(link) <= MOST_PATH else None
    link = _video_url(video, page)
    return Markup(link) if len(link) <= MOST_PATH else None


def _video_url(video: str, page: Path | None) -> str:
    target = Path(os.path.abspath(video))  # noqa: PTH100 - resolve() would follow links that the user means
    if page is not None:
        try:
            relative = Path(os.path.relpath(target, os.path.dirname(os.path.abspath(page))))  # noqa: PTH100, PTH120
        except ValueError:  # another drive of Windows
            return target.as_uri()
        if relative.parts.count("..") <= NEAR:
            begin = "" if relative.parts[:1] == ("..",) else "./"  # a name with a colon is no scheme
            return begin + quote(os.fsencode(relative.as_posix()))
    return target.as_uri()


def moment(link: Markup, seconds: float) -> Markup:
    """Point a video's link at a time (W3C Media Fragments)."""
    return Markup(f"{link}#t={seconds:.3f}")


def record_link(record: Mapping[str, Any]) -> RecordLink:
    """Put a record into a data: URI, as JSON, which is compressed by gzip if it is long."""
    text = json.dumps(record, separators=(",", ":")).encode()
    kind, suffix = "application/json", ".json"
    if len(text) > MOST_PLAIN:
        text, kind, suffix = gzip.compress(text, mtime=0), "application/gzip", ".json.gz"
    return RecordLink(Markup(f"data:{kind};base64,{base64.b64encode(text).decode()}"), suffix)
