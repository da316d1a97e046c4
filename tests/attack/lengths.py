"""Where a file says how long its parts are: boxes (mp4, mov), EBML (mkv, webm), RIFF (avi), FLV tags, MPEG-TS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple


class Field(NamedTuple):
    """A number of `size` bytes at `start`. For EBML `bits` of it are the number, the first ones its own length."""

    start: int
    size: int
    order: Literal["big", "little"]
    bits: int

    def read(self, data: bytes) -> int:
        """The number that stands there."""
        return int.from_bytes(data[self.start : self.start + self.size], self.order) & ((1 << self.bits) - 1)

    def write(self, data: bytearray, number: int) -> None:
        """Put another number there; what does not fit is cut off at the top."""
        mask = (1 << self.bits) - 1
        old = int.from_bytes(data[self.start : self.start + self.size], self.order)
        data[self.start : self.start + self.size] = ((old & ~mask) | (number & mask)).to_bytes(self.size, self.order)


def find(data: bytes, container: str) -> list[Field]:
    """All lengths of a sound file's parts, in the order of the file."""
    walk = {"mp4": _boxes, "mov": _boxes, "mkv": _ebml, "webm": _ebml, "avi": _riff, "flv": _flv, "ts": _ts}[container]
    return list(walk(data, 0, len(data)))


_PARENTS = b"moov trak mdia minf stbl edts dinf udta mvex moof traf".split()


def _boxes(data: bytes, start: int, end: int) -> Iterator[Field]:
    while start + 8 <= end:
        size = int.from_bytes(data[start : start + 4], "big")
        yield Field(start, 4, "big", 32)
        if size < 8:  # to the end of the file, or 64 bits long
            return
        if data[start + 4 : start + 8] in _PARENTS:
            yield from _boxes(data, start + 8, start + size)
        start += size


_MASTERS = {  # IDs of EBML elements that hold others
    0x1A45DFA3, 0x18538067, 0x114D9B74, 0x4DBB, 0x1549A966, 0x1654AE6B, 0xAE, 0xE0, 0x1F43B675, 0xA0, 0x1C53BB6B, 0xBB,
    0xB7, 0x1254C367, 0x7373, 0x67C8, 0x55B0,
}  # fmt: skip


def _ebml(data: bytes, start: int, end: int) -> Iterator[Field]:
    while start + 2 <= end:
        id_bytes, size_at = 9 - data[start].bit_length(), start
        size_at += id_bytes
        if not 1 <= id_bytes <= 4 or size_at >= end:
            return
        size_bytes = 9 - data[size_at].bit_length()
        if size_bytes > 8:
            return
        length = Field(size_at, size_bytes, "big", 7 * size_bytes)
        yield length
        body, size = size_at + size_bytes, length.read(data)
        unknown = size == (1 << length.bits) - 1
        if int.from_bytes(data[start:size_at], "big") in _MASTERS:
            yield from _ebml(data, body, end if unknown else min(end, body + size))
        if unknown:
            return
        start = body + size


def _riff(data: bytes, start: int, end: int) -> Iterator[Field]:
    while start + 8 <= end:
        length = Field(start + 4, 4, "little", 32)
        yield length
        size = length.read(data)
        if data[start : start + 4] in (b"RIFF", b"LIST"):
            yield from _riff(data, start + 12, min(end, start + 8 + size))
        start += 8 + size + size % 2


def _flv(data: bytes, start: int, end: int) -> Iterator[Field]:
    start += 13  # the header, and the length of the tag before the first, which is 0
    while start + 11 <= end:
        length = Field(start + 1, 3, "big", 24)
        yield length
        start += 11 + length.read(data)
        yield Field(start, 4, "big", 32)
        start += 4


def _ts(data: bytes, start: int, end: int) -> Iterator[Field]:
    for packet in range(start, end - 187, 188):
        has_adaptation, has_payload = data[packet + 3] & 0x20, data[packet + 3] & 0x10
        body = packet + 4
        if has_adaptation:
            yield Field(body, 1, "big", 8)
            body += 1 + data[body]
        if has_payload and data[packet + 1] & 0x40 and body + 6 <= packet + 188:  # a unit begins here
            if data[body : body + 3] == b"\0\0\1":
                yield Field(body + 4, 2, "big", 16)  # of a PES packet
            else:
                yield Field(body + 2, 2, "big", 12)  # of a section: the tables of programs and streams
