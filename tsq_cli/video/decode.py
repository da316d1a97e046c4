"""Decode chosen frames: plan runs of packets, share them among threads, convert each frame once, report losses."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing
from threading import Event

import av
import numpy as np
import numpy.typing as npt

from tsq_cli.config import DecodeMode
from tsq_cli.errors import NoDecodableFrameError
from tsq_cli.types import FrameBatch, Int64Array, UInt8Array
from tsq_cli.video.convert import Converter
from tsq_cli.video.decoder import StreamDecoder
from tsq_cli.video.demux import NotOnGpuError
from tsq_cli.video.frames import FrameSource, Source
from tsq_cli.video.plan import PacketRun, expand_to_neighbor_gops, join_overlapping, plan_runs
from tsq_cli.video.probe import VideoSource
from tsq_cli.video.stop import ShouldStop, deadline

SKIPPABLE = frozenset({"h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video"})
"""Codecs whose decoders skip exactly the frames that no frame refers to; other decoders lose wanted frames too."""

LOST = -1
"""Index of a frame that was not decoded."""

LARGE_PIXELS = 2**26
"""Pixels of a frame above which one decoder works at a time: each holds several frames of its own (ours)."""

FEW_PIXELS = 2**19
"""Pixels of all frames to decode up to which a second decoder saves no time, since it has to be opened (measured)."""

NOT_ON_GPU = "NVDEC gave no frame"
"""How the note begins that says that the CPU decoded in the place of the GPU."""

FULL_SIZE_BYTES = 400 * 10**6
"""Pixels of full-size frames held at once (ours)."""


def frames_at_once(source: Source) -> int:
    """Count the full-size frames that fit into 400 MB of pixels: four of 8K, and one in any case."""
    width, height = source.geometry.displayed_size
    return max(1, FULL_SIZE_BYTES // (3 * width * height))


def decode_frames(
    source: Source,
    frame_indices: npt.ArrayLike,
    *,
    short_side: int | None = 256,
    mode: DecodeMode = "exact",
    threads: int = 2,
    should_stop: ShouldStop | None = None,
) -> FrameBatch:
    """Decode frames of a video to upright RGB.

    Frames are scaled so that the short side as displayed is short_side; smaller ones stay as they are. Memory holds the
    frames of the result and a few more, however long the video.

    Args:
        source: an open video, or frames in memory, which are only scaled.
        frame_indices: int [T], T at least 1, in any order, each in [0, N).
        short_side: pixels, or None for full resolution.
        mode: "exact" for the requested frames; "nvdec" for the same, decoded by an NVIDIA GPU, or on the CPU, as a note
            then says, where it cannot decode the video; "keyframes" for the keyframe nearest to each, each once;
            faster, and off by up to half the distance of two keyframes (see FrameBatch.snap_seconds).
        threads: decoders that work at once, one of them in the calling thread.
        should_stop: polled before each packet, from all threads.

    Returns:
        The frames in the order of frame_indices. A frame that cannot be decoded is replaced by the nearest of its
        surroundings that can, or left out where that one is in the batch already; notes say so.

    Raises:
        NoDecodableFrameError: none of the frames, nor any around them, can be decoded.
        NvdecError: "nvdec" where there is no such GPU.
        VideoTimeoutError: it took longer than source.limits allow for one pass.
        CancelledError: should_stop said so.
        ValueError: no index, or one outside [0, N).
    """
    wanted = np.asarray(frame_indices, dtype=np.int64)
    if wanted.ndim != 1 or len(wanted) == 0 or wanted.min() < 0 or wanted.max() >= len(source.pts):
        raise ValueError(f"frame_indices must be [T] with T >= 1, each in [0, {len(source.pts)}), got {wanted}")
    if isinstance(source, FrameSource):
        return source.batch(wanted, short_side)
    targets = _nearest_keyframes(source, wanted) if mode == "keyframes" else wanted
    should_stop = deadline(source.info.path, source.limits.timeout_seconds, should_stop)
    job = _Job(source, np.unique(targets), short_side, should_stop, nvdec=mode == "nvdec")
    runs = job.plan()
    pixels = source.geometry.width * source.geometry.height
    if pixels > LARGE_PIXELS or pixels * sum(map(len, runs)) < FEW_PIXELS:
        runs, threads = join_overlapping(runs), 1
    waiting = deque(runs)
    workers = max(1, min(threads, len(waiting)))
    errors: list[BaseException] = []
    with ThreadPoolExecutor(max_workers=workers) as pool:  # which starts no thread that has nothing to do
        others = [pool.submit(job.decode, waiting) for _ in range(workers - 1)]
        try:
            job.decode(waiting)
        except CancelledError as canceled:  # another thread may have failed
            errors.append(canceled)
        try:
            errors += [error for future in others if (error := future.exception()) is not None]
        except BaseException:
            job.has_failed.set()
            raise
    if errors:  # the others were canceled because of the one that is not a cancellation
        raise min(errors, key=lambda error: isinstance(error, CancelledError))
    return _batch(job, wanted, targets, mode)


def _nearest_keyframes(source: VideoSource, indices: Int64Array) -> Int64Array:
    """Find the keyframe nearest in time to each frame [T]; if the file marks none, return the frames themselves."""
    keys = np.flatnonzero(source.is_key)
    if len(keys) == 0:
        return indices
    after = np.searchsorted(keys, indices).clip(max=len(keys) - 1)
    before = (after - 1).clip(min=0)
    pts = source.pts
    is_before_nearer = pts[indices] - pts[keys[before]] <= np.abs(pts[keys[after]] - pts[indices])
    return keys[np.where(is_before_nearer, before, after)]


class _Job:
    """The frames of one call, rising indices int64 [U], and their results: pixels [U, H, W, 3], decoded [U]."""

    def __init__(
        self,
        source: VideoSource,
        indices: Int64Array,
        short_side: int | None,
        should_stop: ShouldStop,
        *,
        nvdec: bool,
    ) -> None:
        self.source = source
        self._nvdec = nvdec
        self.left_the_gpu = False
        self.indices = indices
        self._pts = source.timeline.pts[indices]
        self._slots = {packet: slot for slot, packet in enumerate(source.timeline.packets[indices].tolist())}
        self.geometry = source.geometry.scaled(short_side)
        width, height = self.geometry.displayed_size
        self.pixels: UInt8Array = np.empty((len(indices), height, width, 3), dtype=np.uint8)
        self.decoded: Int64Array = np.full(len(indices), LOST, dtype=np.int64)
        self.bad_packets: set[int] = set()
        self.damaged: set[int] = set()
        self.recolored: set[int] = set()
        self._should_stop = should_stop
        self.has_failed = Event()

    def plan(self) -> list[PacketRun]:
        """Plan the runs of packets to decode, longest first."""
        timeline, table = self.source.timeline, self.source.table
        if timeline.is_counted:  # frames are known only by counting them from the first
            return [PacketRun(0, len(table), tuple(self._slots))]
        return plan_runs(table.pts, table.key, timeline.packets[self.indices])

    def decode(self, waiting: deque[PacketRun]) -> None:
        """Decode runs, in one of several threads, until none is waiting.

        A frame that a damaged file lacks is replaced by the nearest that can be decoded.
        """
        converter = Converter(self.geometry)
        try:
            while waiting:
                try:
                    run = waiting.popleft()
                except IndexError:  # another thread took the last one
                    return
                try:
                    self._decode_run(run, converter, nvdec=self._nvdec)
                except NotOnGpuError:  # all of the run is decoded again: frames that are there get the same pixels
                    self._nvdec, self.left_the_gpu = False, True
                    self._decode_run(run, converter, nvdec=False)
        except BaseException:
            self.has_failed.set()
            raise

    def _decode_run(self, run: PacketRun, converter: Converter, *, nvdec: bool) -> None:
        can_skip = self.source.info.codec in SKIPPABLE and not self.source.timeline.is_counted
        slots = [self._slots[packet] for packet in run.targets]
        wanted = {pts: [slot] for pts, slot in zip(self._pts[slots].tolist(), slots, strict=True)}
        with self.source.decoder(nvdec=nvdec, should_stop=self._is_stopping) as decoder:
            if can_skip:
                self._pass(run, decoder, converter, wanted, skip=True)
            if wanted:
                around = expand_to_neighbor_gops(run, self.source.table.key)
                seen = self._pass(run, decoder, converter, wanted)
                if wanted:
                    seen |= self._pass(around, decoder, converter, wanted)
                if wanted and seen:
                    self._pass(around, decoder, converter, _at_nearest(wanted, seen))
            self.bad_packets |= decoder.take_bad_packets()

    def _is_stopping(self) -> bool:
        return self.has_failed.is_set() or self._should_stop()

    def _pass(
        self,
        run: PacketRun,
        decoder: StreamDecoder,
        converter: Converter,
        wanted: dict[int, list[int]],
        *,
        skip: bool = False,
    ) -> set[int]:
        """Decode a run once, store the wanted frames (slots by pts), and return the pts of all frames that came out."""
        timeline = self.source.timeline
        seen: set[int] = set()
        decoded = decoder.frames(
            run.start,
            run.stop,
            should_stop=self._is_stopping,
            wanted_packets=frozenset(run.targets) if skip else None,
        )
        with closing(decoded) as frames:
            for count, frame in enumerate(frames):
                index = timeline.index_of(frame, count)
                if index is None or (skip and frame.is_corrupt):
                    continue
                pts = int(timeline.pts[index])
                seen.add(pts)
                slots = wanted.pop(pts, None)
                if slots is None:
                    continue
                try:
                    self.pixels[slots], is_own_matrix = converter.to_rgb(frame)
                except av.FFmpegError:  # lost like a frame that is not decoded
                    wanted[pts] = slots
                    seen.discard(pts)
                    continue
                self.decoded[slots] = index
                if not is_own_matrix:
                    self.recolored.add(index)
                if frame.is_corrupt:
                    self.damaged.add(index)
                if not wanted:
                    break
        return seen


def _at_nearest(wanted: dict[int, list[int]], seen: set[int]) -> dict[int, list[int]]:
    """Move the slots of frames that were not decoded to the nearest pts that was."""
    nearest: dict[int, list[int]] = {}
    for pts, slots in wanted.items():
        nearest.setdefault(min(seen, key=lambda other: (abs(other - pts), other)), []).extend(slots)
    return nearest


def _batch(job: _Job, wanted: Int64Array, targets: Int64Array, mode: DecodeMode) -> FrameBatch:
    """Build the result in the order of wanted [T]; each frame appears once, for the request nearest to it."""
    source = job.source
    slots = np.searchsorted(job.indices, targets)
    decoded = job.decoded[slots]
    snap = np.where(decoded == LOST, np.inf, source.pts_seconds[decoded] - source.pts_seconds[wanted])
    best: dict[int, int] = {}
    for request in np.argsort(np.abs(snap), kind="stable").tolist():
        if decoded[request] != LOST:
            best.setdefault(int(decoded[request]), request)
    if not best:
        raise NoDecodableFrameError(
            f"{source.info.path} gives none of the {len(wanted)} frames wanted, nor any near them",
            wanted="a video whose frames can be decoded",
            fix="check that the file is complete, or choose another part of it",
        )
    kept = np.sort(np.fromiter(best.values(), dtype=np.int64))
    if np.all(np.diff(wanted) > 0):  # what stands in for a lost frame can be earlier than the frame before it
        kept = kept[np.argsort(decoded[kept], kind="stable")]
    furthest = None
    if mode == "keyframes":
        furthest = float(np.abs(source.pts_seconds[targets] - source.pts_seconds[wanted]).max())
    is_whole = np.array_equal(slots[kept], np.arange(len(job.indices)))
    return FrameBatch(
        pixels=job.pixels if is_whole else job.pixels[slots[kept]],
        frame_indices=decoded[kept],
        pts=source.pts[decoded[kept]],
        time_base=source.info.time_base,
        pts_seconds=source.pts_seconds[decoded[kept]],
        snap_seconds=snap[kept],
        furthest_snap_seconds=furthest,
        decode_errors=len(job.bad_packets) + source.table.read_errors,
        notes=tuple(_notes(job, wanted, targets, decoded, kept, furthest)),
    )


def _notes(
    job: _Job,
    wanted: Int64Array,
    targets: Int64Array,
    decoded: Int64Array,
    kept: Int64Array,
    furthest_snap: float | None,
) -> Iterator[str]:
    if furthest_snap is not None:
        yield f"Keyframes only: each frame is the keyframe nearest to its time, up to {furthest_snap:.3f} s away."
        if len(np.unique(targets)) < len(wanted):
            yield f"{len(wanted)} frames were asked for, but they are nearest to {len(np.unique(targets))} keyframes."
    if job.left_the_gpu:
        yield f"{NOT_ON_GPU} of this {job.source.info.codec} video, or of a part of it; the CPU decoded that instead."
    lost = int((decoded != targets).sum())
    if lost:
        yield f"{lost} of {len(wanted)} frames could not be decoded and are replaced by the nearest ones that could."
    damaged = len(job.damaged & set(decoded[kept].tolist()))
    if damaged:
        yield f"{damaged} of {len(kept)} frames are damaged in the file; the decoder filled in the missing parts."
    recolored = len(job.recolored & set(decoded[kept].tolist()))
    if recolored:
        yield f"{recolored} of {len(kept)} frames state a color matrix that cannot be used; BT.601 is used instead."
