"""Where the bytes of a video come from: a file, named by its path, a store, or memory."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from tsq_cli.errors import NotAVideoError, UsageError, one_line
from tsq_cli.video.remote import RemoteFile, RemoteMedia

MOST_BYTES = 2 * 2**30
"""Largest video that is taken from a file object: all of it lies in memory (ours)."""

_BLOCK = 2**20


@dataclass(frozen=True, eq=False)
class MediaBytes:
    """A whole video file in memory. Every decoder reads it for itself, so that several threads can.

    Attributes:
        name: stands for a path in records, messages and file names; nothing of that name is ever opened.
        data: the file's bytes.
        sha256: their hash, 64 hex digits: computed once, however often the video is opened.
    """

    name: str
    data: bytes = field(repr=False)
    sha256: str = field(repr=False)

    def __str__(self) -> str:
        return self.name


Media: TypeAlias = str | os.PathLike[str] | MediaBytes | RemoteMedia
"""A video file: its path, its bytes, or an object in a store. Its str() names it."""


def media_of(video: bytes | bytearray | memoryview, name: str | None = None) -> MediaBytes:
    """Wrap the bytes of a video; without a name, a hash of them is one."""
    data = bytes(video)
    sha256 = hashlib.sha256(data).hexdigest()
    return MediaBytes(name or f"bytes-{sha256[:8]}", data, sha256)


def read_media(file: BinaryIO) -> MediaBytes:
    """Read a binary file object from its position to its end; it need not be seekable, and is not closed.

    Raises:
        NotAVideoError: it gives no bytes, cannot be read, or has more than MOST_BYTES.
        UsageError: it gives anything but bytes.
    """
    name = getattr(file, "name", None)
    name = name if isinstance(name, str) else None  # a file made from a descriptor has a number for a name
    shown = name or "the file object"
    found = io.BytesIO()
    try:
        while block := file.read(_BLOCK):
            if not isinstance(block, bytes | bytearray | memoryview):
                raise UsageError(
                    f"{shown} gives {type(block).__name__}",
                    wanted="a file opened in binary mode",
                    fix="open it in 'rb', or give the bytes themselves",
                )
            found.write(block)
            if found.tell() > MOST_BYTES:
                raise NotAVideoError(
                    f"{shown} holds more than {MOST_BYTES >> 30} GiB",
                    wanted="a video that fits into memory",
                    fix="save it to a file and give the path",
                )
    except (OSError, ValueError) as error:
        raise NotAVideoError(
            f"{shown} cannot be read ({one_line(error)})", wanted="an open, readable file", fix="open it again"
        ) from error
    if found.tell() == 0:
        raise NotAVideoError(
            f"{shown} has no bytes left to read", wanted="a video", fix="seek(0) if it was read before"
        )
    return media_of(found.getbuffer(), name)


def open_media(media: Media, should_stop: Callable[[], bool] | None = None) -> BinaryIO:
    """Open a video file for reading; each call has its own position.

    Args:
        media: the file.
        should_stop: polled while a store is waited for.
    """
    if isinstance(media, RemoteMedia):
        return cast("BinaryIO", RemoteFile(media, should_stop or (lambda: False)))
    return io.BytesIO(media.data) if isinstance(media, MediaBytes) else Path(media).open("rb")
