"""Decode ranges of packets with one codec context; damaged packets are skipped and counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from itertools import chain

import av
import numpy as np
from av.video.frame import VideoFrame

from tsq_cli.video.demux import NotOnGpuError, OpenStream
from tsq_cli.video.packets import NO_TIME, PacketTable, VideoPacket, read_packets
from tsq_cli.video.stop import ShouldStop, check_stop, interruptible

MAX_BAD_PACKETS = 64
"""Packets in a row that fail to decode after which a range is given up (ours)."""

MAX_UNKNOWN_PACKETS = 64
"""Packets after a seek that are not in the table, after which the seek counts as failed (ours)."""

WARM_UP_PACKETS = 8
"""Packets that an MPEG-4 decoder is fed before any other (ours)."""


class StreamDecoder:
    """A codec context with its own container, used by one thread at a time and reused for many ranges.

    Args:
        opened: an open container, which the decoder owns from now on.
        table: its packets.
        should_stop: polled before each packet of a first look at the stream.

    Raises:
        CancelledError: should_stop said so.
        NotOnGpuError: as frames.
    """

    def __init__(self, opened: OpenStream, table: PacketTable, should_stop: ShouldStop) -> None:
        self._opened = opened
        self._context = opened.stream.codec_context
        self._table = table
        self._bad_packets: set[int] = set()
        self._is_proven = opened.gpu is None  # what a GPU cannot decode shows at the first picture only
        if self._context.name == "mpeg4":
            # FFmpeg's decoder measures the time between fields once, at the first B-frame that it meets, and must not
            # meet one that lacks its references: it would then drop interlaced B-frames for good.
            deque(self.frames(0, min(len(table), WARM_UP_PACKETS), should_stop=should_stop), maxlen=0)

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    def take_bad_packets(self) -> set[int]:
        """Return and forget the positions of the packets that failed to decode since the last call."""
        bad, self._bad_packets = self._bad_packets, set()
        return bad

    def frames(
        self, start: int, stop: int, *, should_stop: ShouldStop, wanted_packets: frozenset[int] | None = None
    ) -> Generator[VideoFrame]:
        """Decode packets [start, stop) from a clean state and yield what comes out, in the order of display.

        Args:
            start, stop: positions in the packet table; start should be a keyframe.
            should_stop: polled before each packet.
            wanted_packets: positions of the packets whose frames are wanted. If given, other frames that no frame
                refers to are skipped.

        Raises:
            CancelledError: should_stop said so.
            NotOnGpuError: a GPU decodes, and a packet fails, or no frame comes out, before its first frame.
        """
        self._opened.file.should_stop = should_stop
        if self._table.has_new_headers:  # the context may know the later ones by now
            self._opened = self._opened.reopen()
            self._context = self._opened.stream.codec_context
        context = self._context
        bad_in_a_row = 0
        try:
            for position, packet in self._packets(start, stop, should_stop):
                check_stop(should_stop)
                if wanted_packets is not None:
                    context.skip_frame = "DEFAULT" if position in wanted_packets else "NONREF"
                try:
                    decoded = context.decode(packet)
                except av.FFmpegError as error:
                    if not self._is_proven:
                        raise NotOnGpuError(self._opened.path) from error
                    self._bad_packets.add(position)
                    bad_in_a_row += 1
                    if bad_in_a_row == MAX_BAD_PACKETS:
                        return
                    continue
                bad_in_a_row = 0
                self._is_proven |= bool(decoded)
                yield from decoded
            decoded = self._drain()
            self._is_proven |= bool(decoded)
            yield from decoded
            if not self._is_proven:
                raise NotOnGpuError(self._opened.path)
        finally:
            context.skip_frame = "DEFAULT"
            context.flush_buffers()

    def _drain(self) -> list[VideoFrame]:
        try:
            return self._context.decode(None)
        except av.FFmpegError:
            return []

    def _packets(self, start: int, stop: int, should_stop: ShouldStop) -> Iterator[tuple[int, VideoPacket]]:
        if self._table.packets is not None:
            return enumerate(self._table.packets[start:stop], start)
        return self._read_again(start, stop, should_stop)

    def _read_again(self, start: int, stop: int, should_stop: ShouldStop) -> Iterator[tuple[int, VideoPacket]]:
        for position, packet in self._read_from_before(start, should_stop):
            if position >= stop:
                return
            if position >= start:
                yield position, packet

    def _read_from_before(self, start: int, should_stop: ShouldStop) -> Iterator[tuple[int, VideoPacket]]:
        """Read packets from `start` or before: a seek can land late, so try earlier keyframes, then the whole file."""
        keys = np.flatnonzero(self._table.key[: start + 1])
        for back in (1, 2, 4, 8):
            if back > len(keys):
                break
            numbered = self._seek(int(keys[-back]), should_stop)
            first = next(numbered, None)
            if first is not None and first[0] <= start:
                return chain([first], numbered)
        self._opened = self._opened.reopen()
        return enumerate(packet for packet in read_packets(self._opened, should_stop) if packet is not None)

    def _seek(self, position: int, should_stop: ShouldStop) -> Iterator[tuple[int, VideoPacket]]:
        """Seek to the packet at `position` and read on; each packet comes with its true position."""
        time = self._table.dts[position] if self._table.dts[position] != NO_TIME else self._table.pts[position]
        if time == NO_TIME:
            return
        try:
            with interruptible():
                self._opened.container.seek(int(time), stream=self._opened.stream)
        except (av.FFmpegError, OSError):
            return
        unknown = 0
        for packet in read_packets(self._opened, should_stop):
            found = None if packet is None else self._table.find(packet, position)
            if packet is None or found is None:
                unknown += 1
                if unknown == MAX_UNKNOWN_PACKETS:
                    return
                continue
            yield found, packet
            position = found + 1
