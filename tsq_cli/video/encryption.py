"""Detect encrypted videos, whose samples FFmpeg would decode to noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import BinaryIO

from av.video.stream import VideoStream

from tsq_cli.errors import EncryptedVideoError
from tsq_cli.video.media import Media, open_media
from tsq_cli.video.stop import ShouldStop, check_stop, never

_BOX_HEADER = 8
_TO_SAMPLE_DESCRIPTIONS = (b"mdia", b"minf", b"stbl", b"stsd")

Boxes = Callable[[int, int, bytes], Iterator[tuple[int, int]]]
"""Boxes of one kind between two offsets of a file."""


def check_not_encrypted(media: Media, stream: VideoStream, should_stop: ShouldStop) -> None:
    """Refuse a stream that its container (Matroska or MP4) declares to be encrypted.

    Raises:
        EncryptedVideoError: it is.
        CancelledError: should_stop said so.
    """
    if "enc_key_id" in stream.metadata or is_encrypted_track(media, stream.id, should_stop):
        raise encrypted(media)


def encrypted(media: Media) -> EncryptedVideoError:
    """Build the error for a file whose pictures are encrypted."""
    return EncryptedVideoError(
        f"{media} is encrypted (DRM)", wanted="an unencrypted video", fix="use an unprotected copy of it"
    )


def is_encrypted_track(media: Media, track_id: int, should_stop: ShouldStop = never) -> bool:
    """Test whether an MP4 or MOV track has protected samples ("encv", ISO/IEC 14496-12, 8.12).

    Only box headers are read; should_stop is polled before each. A file of another kind, or one too damaged to tell,
    counts as not encrypted.
    """
    with open_media(media, should_stop) as file:
        size = file.seek(0, 2)
        boxes = partial(_boxes, file, should_stop)
        return any(
            _track_id(file, boxes, *track) == track_id and _first_description(file, boxes, *track) == b"encv"
            for movie in islice(boxes(0, size, b"moov"), 1)  # FFmpeg, too, goes by the first
            for track in boxes(*movie, b"trak")
        )


def _boxes(file: BinaryIO, should_stop: ShouldStop, start: int, end: int, kind: bytes) -> Iterator[tuple[int, int]]:
    """Find the boxes of one kind between two offsets; yield start and end of their contents."""
    while start + _BOX_HEADER <= end:
        check_stop(should_stop)
        file.seek(start)
        header = file.read(16)
        size, header_size = int.from_bytes(header[:4]), _BOX_HEADER
        if size == 1:  # a 64-bit size follows
            size, header_size = int.from_bytes(header[8:16]), 16
        elif size == 0:  # up to the end
            size = end - start
        if size < header_size:
            return
        if header[4:8] == kind:
            yield start + header_size, min(start + size, end)
        start += size


def _track_id(file: BinaryIO, boxes: Boxes, start: int, end: int) -> int | None:
    for inside, _ in boxes(start, end, b"tkhd"):
        file.seek(inside)
        header = file.read(24)
        return int.from_bytes(header[20:24] if header[:1] == b"\1" else header[12:16])
    return None


def _first_description(file: BinaryIO, boxes: Boxes, start: int, end: int) -> bytes | None:
    for kind in _TO_SAMPLE_DESCRIPTIONS:
        found = next(boxes(start, end, kind), None)
        if found is None:
            return None
        start, end = found
    file.seek(start + 8 + 4)  # version, flags and number of entries, then the size of the first
    return file.read(4)
