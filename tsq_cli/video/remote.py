"""A video in a store, read in ranges: blocks fetched ahead where reading goes on, each kept for all decoders.

FFmpeg lists the packets of a file by reading all of it. Where an MP4 says in its index where they lie, the pictures
between are not fetched for that: the list is read from a file that is hollow there (ours).
"""

from __future__ import annotations

import io
import os
import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError

from tsq_cli import stores

BLOCK = 2**16
"""Bytes that are fetched and kept as one (ours)."""

FIRST_BLOCKS, MOST_BLOCKS = 2, 64
"""Blocks of a fetch after a jump, and at most; each fetch that goes on doubles them (ours)."""

SLOW_SECONDS = 2.0
"""Time of a fetch beyond which the next is no larger, so that slow lines answer in time (ours)."""

KEPT_BLOCKS = 1024
"""Blocks kept of a video: 64 MiB, as much as of its packets. The index of a long film has some MiB (ours)."""

WHOLE_BYTES = 8 * 2**20
"""Size of a video up to which all of it is read: that costs less than the requests for its parts (ours)."""

HOLLOW_BYTES = 2**20
"""Smallest media data box that is left out; smaller ones, as in fragmented files, are read along (ours)."""

HOLLOW_CODECS = frozenset({"h264", "hevc", "av1", "mpeg2video", "mjpeg", "prores", "dnxhd"})
"""Codecs whose packets in an MP4 are listed without a look into them (ours). VP8 and VP9 hide frames there, old MPEG-4
packs two into one packet, and FFmpeg's parsers split what others have."""


class RemoteMedia:
    """An object in a store or a file on a web server. Every decoder reads it for itself, from the same blocks.

    Attributes:
        url: as the user named it.
        status: of the object when it was opened first, see tsq_cli.stores.status.
        bytes_read: fetched so far.
    """

    def __init__(self, url: str, should_stop: Callable[[], bool] | None = None) -> None:
        self.url = url
        self.status = stores.status(url, should_stop)
        self.bytes_read = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def __str__(self) -> str:
        return self.url

    @property
    def size(self) -> int:
        """Bytes of the object."""
        return self.status.st_size

    def block(self, number: int) -> bytes | None:
        """Return a block that is kept, or None."""
        with self._lock:
            found = self._blocks.get(number)
            if found is not None:
                self._blocks.move_to_end(number)
            return found

    def forget(self) -> None:
        """Free the blocks that are kept; reading on fetches them again."""
        with self._lock:
            self._blocks.clear()

    def fetch(self, first: int, count: int, should_stop: Callable[[], bool]) -> None:
        """Fetch blocks [first, first + count), up to the end of the object or a block that is kept.

        Raises:
            InputNotFoundError, StoreError, CancelledError: as tsq_cli.stores.fetch.
        """
        with self._lock:
            stop = next((n for n in range(first + 1, first + count) if n in self._blocks), first + count)
        start = first * BLOCK
        data = stores.fetch(self.url, start, min(stop * BLOCK, self.size), should_stop)
        with self._lock:
            self.bytes_read += len(data)
            for place in range(0, len(data), BLOCK):
                self._blocks[first + place // BLOCK] = data[place : place + BLOCK]
            while len(self._blocks) > KEPT_BLOCKS:
                self._blocks.popitem(last=False)


class RemoteFile(io.RawIOBase):
    """A position in a RemoteMedia, for one reader.

    Attributes:
        hollow: whether large boxes of media data of an MP4 read as zeros, without being fetched.
    """

    def __init__(self, media: RemoteMedia, should_stop: Callable[[], bool]) -> None:
        self.hollow = False
        self._media = media
        self._should_stop = should_stop
        self._position = 0
        self._next = -1  # the block behind the last fetch
        self._count = FIRST_BLOCKS
        self._boxes = _media_boxes(media.size, self._bytes, should_stop)
        self._starts: list[int] = []
        self._ends: list[int] = []

    def readable(self) -> bool:
        """It can be read."""
        return True

    def seekable(self) -> bool:
        """It can be sought in."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset in bytes from the place that `whence` names, and return the new position."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._media.size}[whence]
        if base + offset < 0:
            raise OSError(f"cannot seek to {base + offset}")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes, and at least one before the end.

        Raises:
            InputNotFoundError, StoreError, CancelledError: as tsq_cli.stores.fetch.
        """
        left = max(0, self._media.size - self._position)
        size = left if size < 0 else min(size, left)
        if size == 0:
            return b""
        end = self._hollow_end() if self.hollow else None
        data = self._bytes(self._position, size) if end is None else bytes(min(size, end - self._position))
        self._position += len(data)
        return data

    def _bytes(self, offset: int, size: int) -> bytes:
        """Read at most `size` bytes at an offset, fetching what is missing."""
        end = min(offset + size, self._media.size)
        parts = []
        while offset < end:
            number = offset // BLOCK
            found = self._media.block(number)
            if found is None:
                self._fetch(number, (end - 1) // BLOCK + 1 - number)
                continue
            inside = offset - number * BLOCK
            part = found[inside : inside + end - offset]
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def _fetch(self, number: int, needed: int) -> None:
        goes_on = number == self._next
        if not goes_on:
            self._count = FIRST_BLOCKS
        count = min(max(needed, self._count), MOST_BLOCKS)
        began = time.monotonic()
        self._media.fetch(number, count, self._should_stop)
        if time.monotonic() - began < SLOW_SECONDS:
            self._count = min(2 * count, MOST_BLOCKS)
        self._next = number + count

    def _hollow_end(self) -> int | None:
        """Return the end of the media data box that the position lies in; None outside of all."""
        while not self._ends or self._ends[-1] <= self._position:
            box = next(self._boxes, None)
            if box is None:
                break
            self._starts.append(box[0])
            self._ends.append(box[1])
        number = bisect_right(self._starts, self._position) - 1
        return self._ends[number] if number >= 0 and self._position < self._ends[number] else None


def _media_boxes(
    size: int, read: Callable[[int, int], bytes], should_stop: Callable[[], bool]
) -> Iterator[tuple[int, int]]:
    """Find the large media data boxes of an MP4 (ISO/IEC 14496-12, 8.1.1); yield start and end of their contents."""
    place = 0
    while place + 8 <= size:
        if should_stop():
            raise CancelledError("the read was stopped")
        header = read(place, 16)
        length, inside = int.from_bytes(header[:4]), 8
        if length == 1:
            length, inside = int.from_bytes(header[8:16]), 16
        elif length == 0:
            length = size - place
        if length < inside:
            return
        if header[4:8] == b"mdat" and length >= HOLLOW_BYTES:
            yield place + inside, min(place + length, size)
        place += length
