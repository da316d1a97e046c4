"""Edit the boxes of an mp4 file by hand, for what no muxer writes on request: edit lists, rotations, foreign codecs.

Only for files whose moov box follows mdat (the muxer's default): moov may then change its size without moving samples.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_HEADERS = {b"stsd": 8, b"avc1": 78, b"hvc1": 78, b"hev1": 78}
"""Bytes between a box's own header and its first child, where that is not 0."""

_TURNS = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
"""Clockwise degrees to the a, b, c, d of a track's display matrix (ISO/IEC 14496-12, 8.3.2)."""


@dataclass(frozen=True)
class Box:
    """A box's kind and where it lies: [start, end) with its header of 8 bytes."""

    kind: bytes
    start: int
    end: int


def children(data: bytes, start: int, end: int) -> Iterator[Box]:
    """The boxes that follow each other in data[start:end]."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        yield Box(kind, start, start + size if size else end)
        start += size or end - start


def find(data: bytes, path: str, track: int = 0) -> list[Box]:
    """The boxes on the way down a path such as "moov/trak/tkhd"; track counts the trak boxes."""
    found: list[Box] = []
    start, end = 0, len(data)
    for name in path.split("/"):
        kind = name.encode("latin-1")
        matches = [box for box in children(data, start, end) if box.kind == kind]
        found.append(matches[track if kind == b"trak" else 0])
        start, end = found[-1].start + 8 + _HEADERS.get(kind, 0), found[-1].end
    return found


def replace(data: bytes, parents: Sequence[Box], start: int, end: int, new: bytes) -> bytes:
    """data with [start, end) replaced, the sizes of the boxes around it corrected."""
    patched = bytearray(data)
    for box in parents:
        struct.pack_into(">I", patched, box.start, box.end - box.start + len(new) - (end - start))
    patched[start:end] = new
    return bytes(patched)


def box(kind: bytes, payload: bytes) -> bytes:
    """A whole box."""
    return struct.pack(">I4s", len(payload) + 8, kind) + payload


def rotate(path: Path, clockwise_degrees: int) -> None:
    """Tell players to turn the picture clockwise for display."""
    data = bytearray(path.read_bytes())
    header = find(bytes(data), "moov/trak/tkhd")[-1]
    a, b, c, d = (value << 16 for value in _TURNS[clockwise_degrees])
    # Version 0: version and flags 4, times and id 20, reserved 8, layer, group, volume 8: the matrix starts at 40.
    struct.pack_into(">9i", data, header.start + 8 + 40, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def media_time_of_first_frame(path: Path) -> int:
    """The media time that the muxer's own edit list starts at: the composition time of the first frame shown."""
    data = path.read_bytes()
    edit_list = find(data, "moov/trak/edts/elst")[-1]
    return int(struct.unpack_from(">i", data, edit_list.start + 8 + 8 + 4)[0])


def set_edits(path: Path, edits: Sequence[tuple[int, int]]) -> None:
    """Replace the edit list: (duration in ms, media time in units of the track's time scale; -1 is an empty edit)."""
    data = path.read_bytes()
    movie, track, old = find(data, "moov/trak/edts")
    entries = b"".join(struct.pack(">IiI", duration, media_time, 1 << 16) for duration, media_time in edits)
    payload = box(b"elst", struct.pack(">II", 0, len(edits)) + entries)
    path.write_bytes(replace(data, [movie, track], old.start, old.end, box(b"edts", payload)))


def rename_codec(path: Path, old: bytes, new: bytes) -> None:
    """Give the first track's sample entry another four-character code."""
    data = bytearray(path.read_bytes())
    entry = find(bytes(data), f"moov/trak/mdia/minf/stbl/stsd/{old.decode('latin-1')}")[-1]
    data[entry.start + 4 : entry.start + 8] = new
    path.write_bytes(data)


def mark_encrypted(path: Path) -> None:
    """Declare the first track's avc1 samples encrypted (common encryption), as a protected download is."""
    data = path.read_bytes()
    boxes = find(data, "moov/trak/mdia/minf/stbl/stsd/avc1")
    key_info = box(b"tenc", bytes(4) + bytes([0, 0, 1, 8]) + bytes(range(16)))
    scheme = box(b"schm", bytes(4) + b"cenc" + struct.pack(">I", 0x10000))
    protection = box(b"sinf", box(b"frma", b"avc1") + scheme + box(b"schi", key_info))
    data = replace(data, boxes, boxes[-1].end, boxes[-1].end, protection)
    path.write_bytes(data)
    rename_codec(path, b"avc1", b"encv")


def put_first_in_movie(path: Path, kind: bytes) -> None:
    """Move a child of moov (udta, say, where cover art lies) before its other children."""
    data = path.read_bytes()
    movie, child = find(data, f"moov/{kind.decode('latin-1')}")
    whole = data[child.start : child.end]
    without = data[: child.start] + data[child.end :]
    path.write_bytes(without[: movie.start + 8] + whole + without[movie.start + 8 :])
