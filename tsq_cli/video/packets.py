"""List the packets of a video stream without decoding them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TypeAlias

import av
import numpy as np
import numpy.typing as npt
from av.packet import Packet
from av.video.stream import VideoStream

from tsq_cli.types import Int64Array
from tsq_cli.video.demux import OpenStream
from tsq_cli.video.hidden import HIDING_CODECS, shows_nothing
from tsq_cli.video.stop import ShouldStop, check_stop, interruptible

NO_TIME = np.iinfo(np.int64).min
"""Stands for a missing pts, dts or position, as AV_NOPTS_VALUE does in FFmpeg."""

MAX_READ_ERRORS = 16
"""Read errors in a row after which the rest of a file counts as unreadable (ours)."""

PACKETS_AT_A_TIME = 32
"""Packets per batch of a table's columns."""

VOP_START = b"\0\0\1\xb6"
"""Start code of each picture of MPEG-4 Part 2."""

VideoPacket: TypeAlias = "Packet[VideoStream]"  # in quotes: the class is generic to type checkers only


@dataclass(kw_only=True, eq=False)
class PacketTable:
    """The P packets of one video stream in file order, without empty ones.

    Attributes:
        pts, dts, pos: int64 [P], presentation and decoding time in units of the stream's time base and byte position;
            NO_TIME where the file gives none.
        duration: int64 [P], 0 where the file gives none.
        size: int64 [P], bytes.
        key: bool [P], whether decoding can start here.
        shown: bool [P], False for packets that are decoded but never displayed (the lead-in of an edit list).
        packets: the packets themselves, or None where they exceeded the size allowed for them.
        read_errors: places where the file could not be read.
        is_encrypted: whether the first packet comes with a key.
        is_packed: whether packets hold two pictures each (old DivX and Xvid files), which spoils the decoder's times.
        has_new_headers: whether the codec's headers change on the way; the first packet is then the only key.
    """

    pts: Int64Array
    dts: Int64Array
    pos: Int64Array
    duration: Int64Array
    size: Int64Array
    key: npt.NDArray[np.bool_]
    shown: npt.NDArray[np.bool_]
    packets: list[VideoPacket] | None
    read_errors: int
    is_encrypted: bool
    is_packed: bool
    has_new_headers: bool

    def __len__(self) -> int:
        return len(self.pts)

    def find(self, packet: VideoPacket, expected: int) -> int | None:
        """Find the position of a packet that was read again, first where it is expected; None if it is unknown."""
        pts, dts, pos = _number(packet.pts), _number(packet.dts), _number(packet.pos)
        if expected < len(self) and (self.pts[expected], self.dts[expected], self.pos[expected]) == (pts, dts, pos):
            return expected
        found = np.flatnonzero((self.pts == pts) & (self.dts == dts) & (self.pos == pos))
        return int(found[0]) if len(found) else None


def read_table(opened: OpenStream, *, max_packet_bytes: int, should_stop: ShouldStop) -> PacketTable:
    """Read all packets of the chosen stream once.

    A file that ends early, or parts of which cannot be read, gives the packets that could be read.

    Args:
        opened: the stream, at its beginning.
        max_packet_bytes: the packets themselves are kept in memory if they are no larger than this in total.
        should_stop: polled before each packet and each block of the file.

    Raises:
        CancelledError: should_stop said so.
    """
    builder = _TableBuilder(opened.stream.codec_context.name, max_packet_bytes)
    read_errors = 0
    results = read_packets(opened, should_stop)
    while batch := list(islice(results, PACKETS_AT_A_TIME)):
        found = [packet for packet in batch if packet is not None]
        read_errors += len(batch) - len(found)
        builder.add(found)
    return builder.table(read_errors)


class _TableBuilder:
    """The columns of a packet table, growing batch by batch."""

    def __init__(self, codec: str, max_packet_bytes: int) -> None:
        self._codec = codec
        self._max_packet_bytes = max_packet_bytes
        self._columns = {name: array("q") for name in ("pts", "dts", "pos", "duration", "size")}
        self._key, self._shown = bytearray(), bytearray()
        self._packets: list[VideoPacket] | None = []
        self._total_bytes = 0
        self._is_encrypted = self._is_packed = self._has_new_headers = False

    def add(self, found: list[VideoPacket]) -> None:
        """Append packets, and drop all of them (not their rows) once they exceed the size allowed."""
        codec, columns, key = self._codec, self._columns, self._key
        if not key and found:
            self._is_encrypted = found[0].has_sidedata("encryption_info")
            self._is_packed = codec == "mpeg4" and any(bytes(packet).count(VOP_START) > 1 for packet in found)
        late = found if key else found[1:]
        self._has_new_headers = self._has_new_headers or any(packet.has_sidedata("new_extradata") for packet in late)
        # One attribute at a time: a third of the time that a loop over packets takes, which counts in long videos.
        columns["pts"].extend([NO_TIME if (time := packet.pts) is None else time for packet in found])
        columns["dts"].extend([NO_TIME if (time := packet.dts) is None else time for packet in found])
        columns["pos"].extend([NO_TIME if (place := packet.pos) is None else place for packet in found])
        columns["duration"].extend([packet.duration or 0 for packet in found])
        key.extend([packet.is_keyframe for packet in found])
        may_hide = codec in HIDING_CODECS
        self._shown.extend(
            [not (packet.is_discard or (may_hide and shows_nothing(codec, memoryview(packet)))) for packet in found]
        )
        sizes = [packet.size for packet in found]
        columns["size"].extend(sizes)
        self._total_bytes += sum(sizes)
        if self._packets is not None:
            self._packets.extend(found)
            if self._total_bytes > self._max_packet_bytes:
                self._packets = None

    def table(self, read_errors: int) -> PacketTable:
        """Build the table of all packets added."""
        if self._has_new_headers:  # they come with one packet, and decoding that starts behind it would lack them
            self._key[1:] = bytes(len(self._key) - 1)
        return PacketTable(
            **{name: np.array(column, dtype=np.int64) for name, column in self._columns.items()},
            key=np.frombuffer(bytes(self._key), dtype=np.bool_),
            shown=np.frombuffer(bytes(self._shown), dtype=np.bool_),
            packets=self._packets,
            read_errors=read_errors,
            is_encrypted=self._is_encrypted,
            is_packed=self._is_packed,
            has_new_headers=self._has_new_headers,
        )


def read_packets(opened: OpenStream, should_stop: ShouldStop) -> Iterator[VideoPacket | None]:
    """Read the chosen stream's packets from the container's position, without empty ones; None for each read error.

    Raises:
        CancelledError: should_stop said so; it is polled before each packet and each block of the file.
    """
    opened.file.should_stop = should_stop
    errors_in_a_row = 0
    while errors_in_a_row < MAX_READ_ERRORS:
        try:
            with interruptible():
                for packet in opened.container.demux(opened.stream):
                    check_stop(should_stop)
                    errors_in_a_row = 0
                    if packet.size > 0:  # an empty one is a repeated frame in AVI, or the end
                        yield packet
        except (av.FFmpegError, OSError):
            errors_in_a_row += 1
            yield None
        except IndexError:  # PyAV's way to end a file in which further streams turned up
            return
        else:
            return


def _number(value: int | None) -> int:
    return NO_TIME if value is None else value
