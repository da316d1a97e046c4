"""Read a video's properties and the times of its frames in one pass over its packets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Self

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from tsq_cli.config import Limits
from tsq_cli.errors import NoDecodableFrameError
from tsq_cli.stores import check_url, is_url
from tsq_cli.types import Float64Array, Int64Array, VideoInfo
from tsq_cli.video.convert import Geometry
from tsq_cli.video.decoder import StreamDecoder
from tsq_cli.video.demux import OpenStream, StreamFacts, check_file, check_pixels, open_stream
from tsq_cli.video.encryption import check_not_encrypted, encrypted
from tsq_cli.video.media import Media
from tsq_cli.video.packets import PacketTable, read_table
from tsq_cli.video.plan import plan_runs
from tsq_cli.video.remote import RemoteMedia
from tsq_cli.video.stop import ShouldStop, deadline, never

DEFAULT_RATE = Fraction(25)
"""Frames per second of a file without time stamps and rate (FFmpeg's own default for raw streams)."""

MAX_FIRST_FRAME_TRIES = 8
"""Packets tried for a first frame that decodes (ours)."""

COARSE_TICKS = 4
"""Ticks per frame up to which a time base counts as exact (ours)."""

LONGEST_GAP_SECONDS = 86400.0
LONGEST_MEAN_GAP_SECONDS = 3600.0
HIGHEST_RATE = 1000.0
"""A frame longer than a day, fewer than one per hour on average, or more than 1000 per second are doubted (ours)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Timeline:
    """Times of the N frames shown, and the packet that each comes from.

    Attributes:
        pts: int64 [N], strictly increasing, in units of time_base.
        packets: int64 [N], position of each frame's packet in the packet table.
        time_base: seconds per unit of pts.
        last_duration: duration of the last frame, in units of time_base; 0 if the file does not state it.
        is_counted: whether frames are known only by the order in which the decoder gives them from the first packet
            on, because the file has no times or the decoder mixes them up.
    """

    pts: Int64Array
    packets: Int64Array
    time_base: Fraction
    last_duration: int
    is_counted: bool

    def index_of(self, frame: VideoFrame, count: int) -> int | None:
        """Find the index of a decoded frame, before which `count` came out; None if it is not shown."""
        if self.is_counted:
            return count if count < len(self.pts) else None
        if frame.pts is None:
            return None
        index = int(self.pts.searchsorted(frame.pts))
        return index if index < len(self.pts) and self.pts[index] == frame.pts else None

    @classmethod
    def of(cls, table: PacketTable, facts: StreamFacts) -> Self:
        """Build the time line of a packet table, without the packets before the first keyframe, which show nothing."""
        shown = table.shown.copy()
        keys = np.flatnonzero(table.key)
        shown[: keys[0] if len(keys) else 0] = False
        packets = np.flatnonzero(shown)
        # Damaged time stamps beyond what the arithmetic below can hold count as missing, as NO_TIME itself does.
        largest = 2**61 // facts.time_base.numerator
        timed = packets[(-largest < table.pts[packets]) & (table.pts[packets] < largest)]
        if 2 * len(timed) < len(packets):
            rate = facts.rate or DEFAULT_RATE
            return cls(
                pts=np.arange(len(packets)), packets=packets, time_base=1 / rate, last_duration=1, is_counted=True
            )
        pts, first = np.unique(table.pts[timed], return_index=True)
        return cls(
            pts=pts,
            packets=timed[first],
            time_base=facts.time_base,
            last_duration=int(table.duration[timed[first[-1]]]) if len(first) else 0,
            is_counted=table.is_packed,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoSource:
    """A video whose packets are known and whose frames can be decoded in any order, by several threads at once.

    Attributes:
        info: properties of the video.
        media: the file.
        pts: int64 [N], times of the frames shown, strictly increasing, in units of info.time_base.
        pts_seconds: float64 [N], the same in seconds from the first frame shown.
        end_seconds: end of the last frame shown, in seconds from the first.
        limits: of time and pixels; each decoding pass has the full time.
        gpu: index of the NVIDIA GPU that decodes where NVDEC is asked for.
        notes: sentences for the record about times that can hardly be true.
    """

    info: VideoInfo
    media: Media = field(repr=False)
    pts: Int64Array
    pts_seconds: Float64Array
    end_seconds: float
    limits: Limits
    notes: tuple[str, ...]
    table: PacketTable = field(repr=False)
    timeline: Timeline = field(repr=False)
    geometry: Geometry = field(repr=False)
    gpu: int = 0
    _idle: dict[bool, list[StreamDecoder]] = field(repr=False, default_factory=lambda: {False: [], True: []})

    @property
    def is_key(self) -> npt.NDArray[np.bool_]:
        """Bool [N]: whether a frame can be decoded alone; none can if frames are known only by counting."""
        return self.table.key[self.timeline.packets] & (not self.timeline.is_counted)

    @property
    def packet_bytes(self) -> Int64Array:
        """Int64 [N]: size of each frame's packet, larger where the picture is new."""
        return self.table.size[self.timeline.packets]

    @contextmanager
    def decoder(self, *, nvdec: bool = False, should_stop: ShouldStop = never) -> Iterator[StreamDecoder]:
        """Borrow a decoder that no other thread uses; it is kept for the next caller.

        Raises:
            NvdecError: nvdec without such a GPU.
            NotOnGpuError: nvdec, and this GPU cannot decode the video; decoding may find that out later as well.
            CancelledError: should_stop said so while a new decoder was made.
        """
        idle = self._idle[nvdec]
        try:
            decoder = idle.pop()
        except IndexError:
            gpu = self.gpu if nvdec else None
            opened = open_stream(self.media, limits=self.limits, gpu=gpu, should_stop=should_stop)
            try:
                decoder = StreamDecoder(opened, self.table, should_stop)
            except BaseException:
                opened.close()
                raise
        try:
            yield decoder
        finally:
            idle.append(decoder)

    @property
    def bytes_read(self) -> int | None:
        """Bytes fetched from a store so far; None for a file and for bytes in memory."""
        return self.media.bytes_read if isinstance(self.media, RemoteMedia) else None

    def close(self) -> None:
        """Close the file and free its packets. Frames can still be decoded, by reading the file again."""
        self.table.packets = None
        if isinstance(self.media, RemoteMedia):
            self.media.forget()
        for idle in self._idle.values():
            while idle:
                idle.pop().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_video(
    path: Media,
    *,
    packet_cache_bytes: int = 64 * 2**20,
    limits: Limits | None = None,
    should_stop: ShouldStop | None = None,
    gpu: int = 0,
) -> VideoSource:
    """Read a video's packets once and decode one picture of it.

    Args:
        path: a file, or its bytes.
        packet_cache_bytes: keep the packets in memory if they are no larger than this in total; otherwise decoding
            reads the file again, and memory stays the same however long the video is.
        limits: seconds that opening and each later decoding pass may take, and pixels of a frame; None for the
            defaults of tsq_cli.config.Limits.
        should_stop: polled while the file is read.
        gpu: index of the NVIDIA GPU that decodes where NVDEC is asked for.

    Raises:
        InputNotFoundError: the file does not exist.
        NotAVideoError: a directory, an empty file, a playlist, or not a video.
        NoVideoStreamError: audio only, or a cover picture only.
        EncryptedVideoError: the pictures are encrypted.
        NoDecodableFrameError: an unsupported codec, or no frame can be decoded.
        TooLargeError: a frame has more pixels than are allowed.
        VideoTimeoutError: the file was not read in the time allowed.
        CancelledError: should_stop said so.
    """
    limits = limits or Limits()
    should_stop = deadline(path, limits.timeout_seconds, should_stop)
    if isinstance(path, str) and is_url(path):
        check_url(path, allow_url=limits.allow_url)
        path = RemoteMedia(path, should_stop)
    status = check_file(path)
    opened = open_stream(path, limits=limits, should_stop=should_stop)
    try:
        check_not_encrypted(opened.media, opened.stream, should_stop)
        return replace(_read_source(status, opened, packet_cache_bytes, should_stop), gpu=gpu)
    except BaseException:
        opened.close()
        raise


def _read_source(
    status: tuple[int, int], opened: OpenStream, packet_cache_bytes: int, should_stop: ShouldStop
) -> VideoSource:
    path, limits = opened.path, opened.limits
    table = _read_table(opened, packet_cache_bytes, should_stop)
    if table.is_encrypted:
        raise encrypted(path)
    facts = StreamFacts.of(opened.stream)
    timeline = Timeline.of(table, facts)
    if len(timeline.pts) == 0:
        raise _no_frame(path, "holds no picture")
    decoder = StreamDecoder(opened, table, should_stop)
    geometry = _first_geometry(decoder, facts, table, timeline, should_stop)
    if geometry is None:
        within = f" and has at most {limits.max_pixels} pixels" if limits.max_pixels < Limits().max_pixels else ""
        raise _no_frame(path, f"holds no picture that can be decoded{within}")
    check_pixels(path, *geometry.displayed_size, limits)  # oblong pixels are stretched to squares
    return _build_source(status, opened, facts, table, timeline, geometry, decoder)


def _read_table(opened: OpenStream, packet_cache_bytes: int, should_stop: ShouldStop) -> PacketTable:
    """List the packets; of a long MP4 in a store from its index alone, and none is kept."""
    alone = opened.index_alone()
    if alone is None:
        return read_table(opened, max_packet_bytes=packet_cache_bytes, should_stop=should_stop)
    with closing(alone):
        return replace(read_table(alone, max_packet_bytes=0, should_stop=should_stop), packets=None)


def _no_frame(path: str, what: str) -> NoDecodableFrameError:
    return NoDecodableFrameError(f"{path} {what}", wanted="a video with frames", fix="check that the file is complete")


def _first_geometry(
    decoder: StreamDecoder, facts: StreamFacts, table: PacketTable, timeline: Timeline, should_stop: ShouldStop
) -> Geometry | None:
    """Find the shape of the first frame that decodes: keyframes first, then whole runs, spread over the video."""
    keyed = table.key[timeline.packets]
    candidates = timeline.packets[keyed] if keyed.any() else timeline.packets
    last = len(candidates) - 1
    spread = sorted({last * number // (MAX_FIRST_FRAME_TRIES - 1) for number in range(MAX_FIRST_FRAME_TRIES)})
    for targets in (candidates[spread] if keyed.any() else candidates[:0], timeline.packets[:1], candidates[spread]):
        for target in targets:
            (run,) = plan_runs(table.pts, table.key, np.array([target]))
            for frame in decoder.frames(run.start, run.stop, should_stop=should_stop):
                return Geometry.of(frame, facts.sample_aspect_ratio)
    return None


def _build_source(
    status: tuple[int, int],
    opened: OpenStream,
    facts: StreamFacts,
    table: PacketTable,
    timeline: Timeline,
    geometry: Geometry,
    decoder: StreamDecoder,
) -> VideoSource:
    pts, time_base = timeline.pts, timeline.time_base
    last_gap, is_known = _last_duration(timeline)
    span = int(pts[-1] - pts[0])
    end_seconds = float((span + last_gap) * time_base)
    width, height = geometry.displayed_size
    info = VideoInfo(
        path=opened.path,
        size_bytes=status[0],
        modified_ns=status[1],
        codec=facts.codec,
        width=width,
        height=height,
        rotation=geometry.orientation.rotation,
        duration_seconds=end_seconds if is_known else None,
        average_fps=len(pts) / end_seconds if len(pts) > 1 else None,
        is_vfr=has_variable_rate(np.diff(pts), time_base),
        start_seconds=float(int(pts[0]) * time_base),
        total_num_frames=len(pts),
        stream_index=facts.index,
        time_base=time_base,
    )
    # One rounding, of the quotient, so that equal times compare equal.
    pts_seconds = (pts - pts[0]) * time_base.numerator / time_base.denominator
    return VideoSource(
        info=info,
        media=opened.media,
        pts=pts,
        pts_seconds=pts_seconds,
        end_seconds=end_seconds,
        limits=opened.limits,
        notes=tuple(_doubts(pts_seconds, end_seconds)),
        table=table,
        timeline=timeline,
        geometry=geometry,
        _idle={False: [decoder], True: []},
    )


def _last_duration(timeline: Timeline) -> tuple[Fraction, bool]:
    """Return the last frame's duration in units of the time base, and whether the file determines it."""
    if timeline.last_duration > 0:
        return Fraction(timeline.last_duration), True
    if len(timeline.pts) > 1:
        return Fraction(int(np.median(np.diff(timeline.pts)))), True
    return 1 / (DEFAULT_RATE * timeline.time_base), False


def _doubts(pts_seconds: Float64Array, end_seconds: float) -> Iterator[str]:
    """Describe times that hardly any camera or editor would write (ours).

    A long video alone is no reason: a camera that takes one picture per minute for a month has regular, short gaps.
    """
    count = len(pts_seconds)
    longest = float(np.diff(pts_seconds, append=end_seconds).max())
    frames = f"{count} frame{'s' if count > 1 else ''}"
    if longest > LONGEST_GAP_SECONDS or (count > 1 and end_seconds / count > LONGEST_MEAN_GAP_SECONDS):
        yield f"The time stamps spread {frames} over {end_seconds / 86400:.3g} days: they may be damaged."
    if count > 1 and count / end_seconds > HIGHEST_RATE:
        yield f"The time stamps put {frames} into {end_seconds:.3g} s: they may be damaged."


def has_variable_rate(gaps: npt.NDArray[np.int64], time_base: Fraction) -> bool:
    """Test whether the gaps [N-1] between frames differ by more than rounding explains.

    Times rounded to ticks, or to the milliseconds of an earlier container, change a gap by up to one of these. If a
    frame lasts only a few ticks, the writer chose a time base that holds every time exactly, and any difference counts.
    """
    if len(gaps) == 0:
        return False
    spread = int(gaps.max() - gaps.min())
    if spread == 0:
        return False
    if np.median(gaps) <= COARSE_TICKS:
        return spread > 0
    return spread > 1 and spread * time_base > Fraction(3, 2000)
