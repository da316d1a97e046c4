"""Whether an MP4 track is encrypted. FFmpeg shows the codec inside and decodes what is encrypted to noise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_BOX_HEADER = 8
_TO_SAMPLE_DESCRIPTIONS = (b"mdia", b"minf", b"stbl", b"stsd")


def is_encrypted_track(path: Path, track_id: int) -> bool:
    """Whether an MP4 or MOV file keeps this track's pictures as protected samples ("encv", ISO/IEC 14496-12, 8.12).

    Only box headers are read. A file of another kind, or one too damaged to tell, counts as not encrypted.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        return any(
            _track_id(file, *track) == track_id and _first_description(file, *track) == b"encv"
            for movie in _boxes(file, 0, size, b"moov")
            for track in _boxes(file, *movie, b"trak")
        )


def _boxes(file: BinaryIO, start: int, end: int, kind: bytes) -> Iterator[tuple[int, int]]:
    """Boxes of one kind between two offsets: start and end of what is inside."""
    while start + _BOX_HEADER <= end:
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


def _track_id(file: BinaryIO, start: int, end: int) -> int | None:
    for inside, _ in _boxes(file, start, end, b"tkhd"):
        file.seek(inside)
        header = file.read(24)
        return int.from_bytes(header[20:24] if header[:1] == b"\1" else header[12:16])
    return None


def _first_description(file: BinaryIO, start: int, end: int) -> bytes | None:
    for kind in _TO_SAMPLE_DESCRIPTIONS:
        found = next(_boxes(file, start, end, kind), None)
        if found is None:
            return None
        start, end = found
    file.seek(start + 8 + 4)  # version, flags and number of entries, then the size of the first
    return file.read(4)
