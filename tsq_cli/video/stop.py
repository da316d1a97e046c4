"""End reading and decoding early: the caller asks for it, or a video takes too long."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from tsq_cli.errors import VideoTimeoutError
from tsq_cli.video.media import Media, MediaBytes, open_media
from tsq_cli.video.remote import RemoteFile, RemoteMedia

ShouldStop = Callable[[], bool]


def never() -> bool:
    """Never ask to stop (the default should_stop)."""
    return False


def check_stop(should_stop: ShouldStop) -> None:
    """Raise CancelledError if the caller asks to stop."""
    if should_stop():
        raise CancelledError("the decode was stopped")


def deadline(path: Media, seconds: float, should_stop: ShouldStop | None = None) -> ShouldStop:
    """Extend a should_stop so that it also ends work on a video when its time is over.

    Args:
        path: the video, for the error.
        seconds: the time allowed, from now on.
        should_stop: asked first, so that a stopped run does not report a timeout.

    Returns:
        A function that answers as should_stop does, and raises VideoTimeoutError after the deadline.
    """
    stops, end = should_stop or never, time.monotonic() + seconds

    def stops_or_is_late() -> bool:
        if stops():
            return True
        if time.monotonic() > end:
            raise timed_out(path, seconds)
        return False

    return stops_or_is_late


def timed_out(path: Media, seconds: float) -> VideoTimeoutError:
    """Build the error for a video that takes too long."""
    return VideoTimeoutError(
        f"{path} was not read within {seconds:g} s",
        wanted="a video that can be read and decoded in that time",
        fix="give a larger --timeout, or a part of the video with --start and --end",
    )


class _InterruptError(Exception):
    """Ctrl-C on its way through PyAV, which passes on Exceptions only."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Re-raise Ctrl-C from a block in which FFmpeg reads a StoppableFile."""
    try:
        yield
    except _InterruptError as error:
        raise KeyboardInterrupt from error


class StoppableFile:
    """A file that FFmpeg reads, and that ends whatever FFmpeg is doing with it when the caller asks to stop.

    FFmpeg can search gigabytes for the next packet in one call. It reads block by block, though, and PyAV passes on
    what is raised here.

    Attributes:
        name: the file's name for FFmpeg; "file:" keeps a colon in a name from being read as a protocol. Bytes in memory
            and URLs have none, so that FFmpeg can neither open what has that name nor go by its ending.
        should_stop: polled before each block is read.
    """

    def __init__(self, media: Media, should_stop: ShouldStop) -> None:
        self._descriptor = -1
        self.should_stop = should_stop
        self._has_ended = False
        self._other: BinaryIO | RemoteFile | None = None
        if isinstance(media, MediaBytes | RemoteMedia):
            self.name = ""
            self._other = open_media(media, lambda: self.should_stop())
        else:
            self.name = f"file:{Path(media).absolute()}"
            self._descriptor = os.open(media, os.O_RDONLY | getattr(os, "O_BINARY", 0))

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes; none once reading was stopped, since FFmpeg may try again.

        Raises:
            CancelledError: should_stop said so.
        """
        if self._has_ended:
            return b""
        try:
            check_stop(self.should_stop)
            return os.read(self._descriptor, size) if self._other is None else self._other.read(size)
        except BaseException as error:
            self._has_ended = not isinstance(error, OSError)
            if isinstance(error, Exception):
                raise
            raise _InterruptError from error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset in bytes from the place that `whence` names, and return the new position."""
        if self._other is not None:
            return self._other.seek(offset, whence)
        return os.lseek(self._descriptor, offset, whence)

    def leave_out_pictures(self) -> None:
        """From now on, read the media data of an MP4 in a store as zeros (see tsq_cli.video.remote)."""
        if isinstance(self._other, RemoteFile):
            self._other.hollow = True

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self.seek(0, os.SEEK_CUR)

    def close(self) -> None:
        """Close the file; the last reference to it does so too."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    __del__ = close
