"""Room 1: a video opened, sampled and decoded: everything that happens before a network looks at it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike

from tsq_cli.config import SelectSettings
from tsq_cli.types import FrameBatch, SamplePlan
from tsq_cli.video import VideoSource, decode_frames, open_video, sample_frames


@dataclass(frozen=True, kw_only=True, eq=False)
class Clip:
    """One video with its T candidates decoded: source (packets kept for a second pass), plan and frames."""

    path: str
    source: VideoSource
    plan: SamplePlan
    batch: FrameBatch
    timings_seconds: dict[str, float] = field(default_factory=dict)

    def close(self) -> None:
        """Free the packets kept for a second decoding pass."""
        self.source.close()


def load_clip(
    path: str | PathLike[str],
    settings: SelectSettings,
    *,
    threads: int = 2,
    should_stop: Callable[[], bool] | None = None,
) -> Clip:
    """Open a video, sample T times and decode the frames shown then. Safe to call from several threads.

    Raises:
        InputNotFoundError, VideoError: the file is missing or cannot be used (see tsq_cli.errors).
    """
    timings: dict[str, float] = {}
    with timed(timings, "probe"):
        source = open_video(path, should_stop=should_stop)
    try:
        plan = sample_frames(
            source.pts_seconds,
            source.end_seconds,
            settings.num_candidates,
            start_seconds=settings.start_seconds,
            end_seconds=settings.end_seconds,
        )
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
    return Clip(path=str(path), source=source, plan=plan, batch=batch, timings_seconds=timings)


@contextmanager
def timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    """Add the seconds that the block takes to a stage."""
    started = time.perf_counter()
    try:
        yield
    finally:
        timings[stage] = timings.get(stage, 0.0) + time.perf_counter() - started
