"""Open a file with FFmpeg and list its packets without decoding one. All that depends on PyAV's version is here."""

from __future__ import annotations

import os
import stat
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Self, TypeAlias

import av
import numpy as np
import numpy.typing as npt
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from tsq_cli.config import Limits
from tsq_cli.errors import (
    NoDecodableFrameError,
    NotAVideoError,
    NoVideoStreamError,
    NvdecError,
    TooLargeError,
)
from tsq_cli.inputs import file_status
from tsq_cli.types import Int64Array
from tsq_cli.video.formats import options, playlist
from tsq_cli.video.hidden import HIDING_CODECS, shows_nothing
from tsq_cli.video.stop import ShouldStop, StoppableFile, check_stop, interruptible, never

NO_TIME = np.iinfo(np.int64).min
"""Stands for a missing pts, dts or position, as AV_NOPTS_VALUE does in FFmpeg."""

MAX_READ_ERRORS = 16
"""Read errors in a row after which the rest of a file counts as unreadable (ours)."""

PACKETS_AT_A_TIME = 32

PADDING_PIXELS = 2**18
"""A decoder pads frames to whole blocks before it counts their pixels. Twice the limit and these leave room for that,
and still stop a file whose header says less than its frames before they are allocated."""

FFMPEG_MAX_PIXELS = 2**31 - 1
"""The largest limit that a decoder takes; its own is lower (2^28 less a border)."""

VOP_START = b"\0\0\1\xb6"
"""What each picture of MPEG-4 Part 2 begins with."""

OPEN_ERRORS = (av.FFmpegError, OSError, ValueError, NotImplementedError, RuntimeError)
"""What PyAV raises for files that it cannot open."""

VideoPacket: TypeAlias = "Packet[VideoStream]"  # in quotes: the class is generic to type checkers only


@dataclass(kw_only=True, eq=False)
class PacketTable:
    """The packets of one video stream in the order of the file (P of them, empty ones left out).

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
        """Position of a packet that was read again, tried first where it is expected; None where it is unknown."""
        pts, dts, pos = _number(packet.pts), _number(packet.dts), _number(packet.pos)
        if expected < len(self) and (self.pts[expected], self.dts[expected], self.pos[expected]) == (pts, dts, pos):
            return expected
        found = np.flatnonzero((self.pts == pts) & (self.dts == dts) & (self.pos == pos))
        return int(found[0]) if len(found) else None


@dataclass(frozen=True, eq=False)
class OpenStream:
    """A container and the video stream chosen from it, with a codec context that decodes in the calling thread.

    Attributes:
        container, stream: PyAV's.
        file: what the container reads from.
        path: the file.
        limits: of the video.
        nvdec: whether its frames are decoded by an NVIDIA GPU.
    """

    container: InputContainer
    stream: VideoStream
    file: StoppableFile
    path: str
    limits: Limits
    nvdec: bool = False

    def again(self) -> OpenStream:
        """Close the file and open it in the same way, at its beginning."""
        self.close()
        return open_stream(self.path, limits=self.limits, nvdec=self.nvdec, should_stop=self.file.should_stop)

    def close(self) -> None:
        """Close the file."""
        self.container.close()
        self.file.close()


@dataclass(frozen=True, kw_only=True)
class StreamFacts:
    """What the container says of the stream, copied out: a PyAV stream must not be asked once its file is closed.

    Attributes:
        index: of the stream in the file.
        codec: the codec's name, whichever decoder is used.
        time_base: seconds per unit of pts.
        rate: frames per second as stated or guessed; None where there is no hint.
        sample_aspect_ratio: width of a pixel over its height; None where it is not stated.
    """

    index: int
    codec: str
    time_base: Fraction
    rate: Fraction | None
    sample_aspect_ratio: Fraction | None

    @classmethod
    def of(cls, stream: VideoStream) -> Self:
        """The facts of an open stream. PyAV 19 will give zeros where these properties now give None."""
        return cls(
            index=stream.index,
            codec=stream.codec_context.codec.canonical_name,
            time_base=stream.time_base or Fraction(1, 1000),
            rate=stream.guessed_rate or stream.average_rate or None,
            sample_aspect_ratio=stream.sample_aspect_ratio or None,
        )


def check_file(path: str | os.PathLike[str]) -> os.stat_result:
    """What the system says of a file that can be tried as a video (its size, when it was changed).

    Raises:
        InputNotFoundError: nothing is there, or nothing can be (see tsq_cli.inputs.file_status).
        NotAVideoError: a directory, an empty file, or no regular file at all.
    """
    fix = "give the path of a video file"
    status = file_status(path)
    if stat.S_ISDIR(status.st_mode):
        raise NotAVideoError(f"{path} is a directory", wanted="a video file", fix=fix)
    if not stat.S_ISREG(status.st_mode):  # reading a device or a pipe may wait for ever
        raise NotAVideoError(f"{path} is not a regular file", wanted="a video file", fix=fix)
    if status.st_size == 0:
        raise NotAVideoError(
            f"{path} is empty (0 bytes)", wanted="a video file", fix="check that the copy or download finished"
        )
    return status


def open_stream(
    path: str | os.PathLike[str], *, limits: Limits, nvdec: bool = False, should_stop: ShouldStop = never
) -> OpenStream:
    """Open a file and choose its best video stream (FFmpeg's choice; a cover picture never counts).

    Args:
        path: the file.
        limits: larger frames than these allow are refused by the decoder.
        nvdec: decode on an NVIDIA GPU; frames come back to the host, with the pixels that a CPU would give.
        should_stop: asked before each block is read, now and until another one takes its place.

    Raises:
        NvdecError: nvdec where there is no such GPU, or where it does not know the codec; the file is known to open.
        NotAVideoError: no demuxer reads the file, or one that would go on to read others.
        NoVideoStreamError: there is no picture stream.
        NoDecodableFrameError: the stream's codec is not supported.
        TooLargeError: the stream says that its frames have more pixels than are allowed.
        CancelledError: should_stop said so.
    """
    decoder_options = {"max_pixels": str(min(2 * limits.max_pixels + PADDING_PIXELS, FFMPEG_MAX_PIXELS))}
    try:
        file = StoppableFile(path, should_stop)
    except OSError as error:
        raise _unreadable(path, error) from error
    container: InputContainer | None = None
    try:
        with interruptible():
            container = av.open(
                file,
                "r",
                options=decoder_options,
                container_options=options(path),
                metadata_errors="replace",
                hwaccel=HWAccel("cuda", allow_software_fallback=False) if nvdec else None,
            )
        stream = _choose_stream(container, path)
        check_pixels(path, stream.codec_context.width, stream.codec_context.height, limits)
        stream.codec_context.options = decoder_options
        return OpenStream(container, stream, file, os.fspath(path), limits, nvdec)
    except BaseException as error:
        if container is not None:
            container.close()
        file.close()
        if container is None and isinstance(error, OPEN_ERRORS):
            raise (_no_nvdec if nvdec else _unreadable)(path, error) from error
        raise


def _no_nvdec(path: str | os.PathLike[str], error: Exception) -> NvdecError:
    return NvdecError(
        f"{path} cannot be decoded by NVDEC ({error})",
        wanted="an NVIDIA GPU with its driver, and a codec that it decodes",
        fix="use --decode exact, which gives the same frames",
    )


def _unreadable(path: str | os.PathLike[str], error: Exception) -> NotAVideoError:
    if isinstance(error, OSError) and not isinstance(error, av.FFmpegError):  # the system's own, not FFmpeg's
        return NotAVideoError(
            f"{path} cannot be read ({error.strerror})",
            wanted="a readable file",
            fix="check its permissions and the disk",
        )
    with Path(path).open("rb") as file:
        is_mp4 = file.read(8)[4:] == b"ftyp"
    if is_mp4:
        return NotAVideoError(
            f"{path} is an MP4 file without a usable index (moov box)",
            wanted="a complete video file",
            fix="the recording or download was probably cut off: fetch it again",
        )
    return playlist(path) or NotAVideoError(
        f"{path} is not a video that FFmpeg can read", wanted="a video file", fix="check the file"
    )


def check_pixels(path: str | os.PathLike[str], width: int, height: int, limits: Limits) -> None:
    """Raise TooLargeError where a frame of this size has more pixels than are allowed."""
    if width * height > limits.max_pixels:
        raise TooLargeError(
            f"{path} has frames of {width}x{height}, {width * height} pixels",
            wanted=f"at most {limits.max_pixels} pixels",
            fix="make a smaller copy of it, or give a larger --max-pixels",
        )


def _choose_stream(container: InputContainer, path: str | os.PathLike[str]) -> VideoStream:
    if container.format.name == "tty":  # FFmpeg draws any .txt file as ANSI art
        raise playlist(path) or NotAVideoError(f"{path} is a text file", wanted="a video file", fix="check the file")
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not moving:
        kinds = sorted({"cover picture" if s.type == "video" else s.type for s in container.streams})
        raise NoVideoStreamError(
            f"{path} holds no video stream ({', '.join(kinds) or 'nothing'} only)",
            wanted="a file with moving pictures",
            fix="leave this file out",
        )
    best = container.streams.best("video")
    stream = best if isinstance(best, VideoStream) and best in moving else moving[0]
    if stream.codec_context is None:
        raise NoDecodableFrameError(
            f"{path} uses a video codec that this FFmpeg cannot decode",
            wanted="a codec such as H.264, HEVC, VP9 or AV1",
            fix="convert the file first",
        )
    for other in container.streams:
        if other is not stream:
            other.discard = av.stream.Discard.all
    stream.codec_context.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    return stream


def read_table(opened: OpenStream, *, max_packet_bytes: int, should_stop: ShouldStop) -> PacketTable:
    """Read all packets of the chosen stream once, keeping them only while they fit into max_packet_bytes.

    A file that ends early, or that cannot be read at places, gives the packets that could be read.

    Raises:
        CancelledError: should_stop said so.
    """
    codec = opened.stream.codec_context.name
    may_hide = codec in HIDING_CODECS
    columns = {name: array("q") for name in ("pts", "dts", "pos", "duration", "size")}
    key, shown = bytearray(), bytearray()
    packets: list[VideoPacket] | None = []
    total, read_errors = 0, 0
    is_encrypted = is_packed = has_new_headers = False
    results = read_packets(opened, should_stop)
    while batch := list(islice(results, PACKETS_AT_A_TIME)):
        found = [packet for packet in batch if packet is not None]
        read_errors += len(batch) - len(found)
        if not key and found:
            is_encrypted = found[0].has_sidedata("encryption_info")
            is_packed = codec == "mpeg4" and any(bytes(packet).count(VOP_START) > 1 for packet in found)
        late = found if key else found[1:]
        has_new_headers = has_new_headers or any(packet.has_sidedata("new_extradata") for packet in late)
        # One attribute at a time: a third of the time that a loop over packets takes, which counts in long videos.
        columns["pts"].extend([NO_TIME if (time := packet.pts) is None else time for packet in found])
        columns["dts"].extend([NO_TIME if (time := packet.dts) is None else time for packet in found])
        columns["pos"].extend([NO_TIME if (place := packet.pos) is None else place for packet in found])
        columns["duration"].extend([packet.duration or 0 for packet in found])
        key.extend([packet.is_keyframe for packet in found])
        shown.extend(
            [not (packet.is_discard or (may_hide and shows_nothing(codec, memoryview(packet)))) for packet in found]
        )
        sizes = [packet.size for packet in found]
        columns["size"].extend(sizes)
        total += sum(sizes)
        if packets is not None:
            packets.extend(found)
            if total > max_packet_bytes:
                packets = None
    if has_new_headers:  # they come with one packet, and decoding that starts behind it would lack them
        key[1:] = bytes(len(key) - 1)
    return PacketTable(
        **{name: np.array(column, dtype=np.int64) for name, column in columns.items()},
        key=np.frombuffer(bytes(key), dtype=np.bool_),
        shown=np.frombuffer(bytes(shown), dtype=np.bool_),
        packets=packets,
        read_errors=read_errors,
        is_encrypted=is_encrypted,
        is_packed=is_packed,
        has_new_headers=has_new_headers,
    )


def read_packets(opened: OpenStream, should_stop: ShouldStop) -> Iterator[VideoPacket | None]:
    """The chosen stream's packets from where the container stands, empty ones left out; None for each read error.

    Raises:
        CancelledError: should_stop said so; it is asked before each packet, and before each block of the file.
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
