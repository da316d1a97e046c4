"""A video opened, sampled and decoded: everything that happens before a network looks at it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from os import PathLike

from tsq_cli.config import PAPER_CANDIDATES, Limits, SelectSettings, gpu_index
from tsq_cli.errors import NoDecodableFrameError, TooLargeError
from tsq_cli.record import Record
from tsq_cli.types import FrameBatch, Int64Array, SamplePlan
from tsq_cli.video import FrameSource, Media, Source, deadline, decode_frames, open_video, sample_frames
from tsq_cli.video.auto import MOST, auto_frames
from tsq_cli.video.refine import merge_batches, merge_plans

NETWORK_INPUT_BYTES = 4 * 3 * 224 * 224
"""Bytes of one candidate as input of the first network: float32, three channels, 224 x 224."""


@dataclass(kw_only=True, eq=False)
class Clip:
    """One video with its T candidates decoded: source (packets kept for a second pass), plan and frames.

    A second look may put a plan and a batch with more frames, or better ones, in the place of the first.
    """

    path: str
    source: Source
    plan: SamplePlan
    batch: FrameBatch
    timings_seconds: dict[str, float] = field(default_factory=dict)

    def look_closer(
        self,
        frame_indices: Int64Array,
        settings: SelectSettings,
        *,
        threads: int = 2,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        """Decode further frames and add them to the candidates, in order of time; undecodable ones are left out.

        Raises:
            VideoTimeoutError, CancelledError, NvdecError: as decode_frames.
        """
        try:
            more = decode_frames(
                self.source,
                frame_indices,
                short_side=settings.short_side,
                mode=settings.decode_mode,
                threads=threads,
                should_stop=should_stop,
            )
        except NoDecodableFrameError:  # the candidates so far could be decoded
            return
        times = self.source.pts_seconds[frame_indices]
        plan = SamplePlan(frame_indices=frame_indices, times_seconds=times, requested=len(frame_indices))
        self.plan, self.batch = merge_plans(self.plan, plan), merge_batches(self.batch, more)

    @property
    def bytes_read(self) -> int | None:
        """Bytes fetched from a store so far; None for what lies on this machine."""
        return None if isinstance(self.source, FrameSource) else self.source.bytes_read

    def close(self) -> None:
        """Free the packets kept for a second decoding pass."""
        self.source.close()


def load_clip(
    video: Media | FrameSource,
    settings: SelectSettings,
    *,
    threads: int = 2,
    limits: Limits | None = None,
    should_stop: Callable[[], bool] | None = None,
    device: str = "cpu",
) -> Clip:
    """Open a video, sample T times and decode the frames shown then. Safe to call from several threads.

    Args:
        video: a file, its bytes, or frames in memory.
        settings: which frames, and how large.
        threads: decoders at work at once.
        limits: seconds from now until the candidates are decoded, and memory; the defaults of Limits where None.
        should_stop: polled while reading and decoding.
        device: of the networks; its GPU decodes where the settings ask for one.

    Raises:
        InputNotFoundError, VideoError: the file is missing or cannot be used (see tsq_cli.errors).
        TooLargeError: a frame, or all candidates together, are larger than the limits allow.
        VideoTimeoutError: it took longer than the limits allow.
        concurrent.futures.CancelledError: should_stop said so.
    """
    limits = limits or Limits()
    name = video.info.path if isinstance(video, FrameSource) else str(video)
    should_stop = deadline(name, limits.timeout_seconds, should_stop)
    timings: dict[str, float] = {}
    with timed(timings, "probe"):
        source: Source = (
            video
            if isinstance(video, FrameSource)
            else open_video(video, limits=limits, should_stop=should_stop, gpu=gpu_index(device))
        )
    try:
        plan = _plan(source, settings)
        with timed(timings, "decode"):
            batch = decode_frames(
                source,
                plan.frame_indices,
                short_side=settings.short_side,
                mode=settings.decode_mode,
                threads=threads,
                should_stop=should_stop,
            )
    except BaseException:
        source.close()
        raise
    return Clip(path=name, source=source, plan=plan, batch=batch, timings_seconds=timings)


def most_candidates(source: Source, short_side: int) -> int:
    """Count the candidates that fit into the memory that the limits allow; 0 if not even one does."""
    return source.limits.max_candidate_bytes // _candidate_bytes(source, short_side)


def _candidate_bytes(source: Source, short_side: int) -> int:
    width, height = source.geometry.scaled(short_side).displayed_size
    return 3 * width * height + NETWORK_INPUT_BYTES


def _plan(source: Source, settings: SelectSettings) -> SamplePlan:
    """Plan the candidates of the settings; if their number is open, at most as many as fit into memory.

    Raises:
        TooLargeError: they need more memory than the limits allow, or one alone does.
    """
    most = most_candidates(source, settings.short_side)
    usual = max(PAPER_CANDIDATES, settings.most_frames)
    seconds = {"start_seconds": settings.start_seconds, "end_seconds": settings.end_seconds}
    if settings.num_candidates != "auto":
        plan = sample_frames(source.pts_seconds, source.end_seconds, settings.num_candidates, **seconds)
    elif not settings.needs_model:  # a baseline is what it is by even candidates
        plan = sample_frames(source.pts_seconds, source.end_seconds, usual, **seconds)
    else:
        plan = auto_frames(
            source.pts_seconds,
            source.end_seconds,
            source.is_key,
            source.packet_bytes,
            least=usual,
            most=max(1, min(max(MOST, usual), most)),
            keyframes_only=settings.decode_mode == "keyframes",
            **seconds,
        )
    count = len(plan.frame_indices)
    if count > most:
        width, height = source.geometry.scaled(settings.short_side).displayed_size
        size = count * _candidate_bytes(source, settings.short_side)
        raise TooLargeError(
            f"{count} candidates of {width}x{height} from {source.info.path} need {size / 1e9:.1f} GB",
            wanted=f"at most {source.limits.max_candidate_bytes / 1e9:.1f} GB",
            fix=f"use -n {most} or less" if most else "allow more memory",
        )
    return replace(plan, notes=plan.notes + source.notes)


@contextmanager
def timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    """Time the block, and add its seconds to a stage."""
    started = time.perf_counter()
    try:
        yield
    finally:
        timings[stage] = timings.get(stage, 0.0) + time.perf_counter() - started


def process_file(
    path: str | PathLike[str],
    settings: SelectSettings,
    process_clips: Callable[[Sequence[Clip], SelectSettings], list[Record]],
    device: str = "cpu",
) -> Record:
    """Decode one file and process it alone, as Selector.select and Classifier.classify do."""
    with closing(load_clip(path, settings, device=device)) as clip:
        return process_clips([clip], settings)[0]
