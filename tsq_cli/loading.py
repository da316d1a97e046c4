"""Decode videos ahead of the networks in threads, each within its time; find the video that killed a run."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

from tsq_cli.clip import Clip, load_clip
from tsq_cli.config import Limits, SelectSettings
from tsq_cli.errors import DecoderCrashError
from tsq_cli.journal import Death, Journal
from tsq_cli.video import FrameSource, Media, decode_frames
from tsq_cli.video.stop import deadline, timed_out

GRACE_SECONDS = 10.0
"""Time beyond a video's limit after which its thread is abandoned: decoding checks the clock between packets, so only a
packet that never ends takes longer (ours)."""

STOP_SECONDS = 2.0
"""Time that an interrupted run waits for its threads, which may be in the middle of a packet (ours)."""

_POLL_SECONDS = 0.5


@dataclass(kw_only=True, eq=False)
class Loading:
    """A video that is being decoded to a clip.

    Attributes:
        video, settings: as for load_clip.
        future: of the clip; None before it is submitted to a thread.
        began: time.monotonic() when a thread started it; None while it waits.
    """

    video: Media | FrameSource
    settings: SelectSettings
    future: Future[Clip] | None = None
    began: float | None = None

    @property
    def path(self) -> str:
        """The video's name."""
        return self.video.info.path if isinstance(self.video, FrameSource) else str(self.video)

    @property
    def clip(self) -> Clip | None:
        """The clip if it is ready, else None; never waits."""
        ready = self.future is not None and self.future.done() and not self.future.cancelled()
        return self.future.result() if ready and self.future.exception() is None else None  # type: ignore[union-attr]


class Loader:
    """Decodes videos in its own threads. Use as a context manager: leaving it stops all of them.

    Args:
        limits: of time and pixels per video.
        workers: videos decoded in parallel.
        journal: records the videos being read; None for no journal.
        device: of the networks; its GPU decodes where the settings ask for one.
    """

    def __init__(self, limits: Limits, workers: int, journal: Journal | None = None, device: str = "cpu") -> None:
        self._limits = limits
        self._device = device
        self._workers = workers
        self._threads_per_video = max(1, min(2, (os.cpu_count() or 1) // workers))
        self._journal = journal
        self._stop = threading.Event()
        self._under_way: list[Loading] = []
        self._executor = self._new_executor()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._executor.shutdown(wait=False, cancel_futures=True)
        begun = [loading.future for loading in self._under_way if loading.future is not None]
        futures = [future for future in begun if not future.cancelled()]  # wait() would wait for those all its time
        _, hanging = wait(futures, timeout=STOP_SECONDS)
        if not hanging:
            # Joining may take forever: a signal that strikes within submit() can leave a lock of the executor behind.
            ending = threading.Thread(target=self._executor.shutdown, daemon=True)
            ending.start()
            ending.join(STOP_SECONDS)
        for loading in self._under_way:
            if loading.clip is not None:
                loading.clip.close()

    def begin(self, video: Media | FrameSource, settings: SelectSettings) -> Loading:
        """Submit a video, which is decoded as the settings say as soon as a thread is free."""
        loading = Loading(video=video, settings=settings)
        self._under_way.append(loading)
        loading.future = self._executor.submit(self._load, loading)
        return loading

    def wait(self, loading: Loading) -> Clip:
        """Wait for the clip of a video; the caller closes it.

        Raises:
            VideoTimeoutError: it exceeded its time limit.
            InputNotFoundError, VideoError: the video cannot be used.
        """
        while True:
            future = loading.future
            assert future is not None  # begin has asked for it
            done, _ = wait([future], timeout=_POLL_SECONDS)
            if done:
                self._under_way.remove(loading)
                return future.result()
            if loading.began is not None:
                late = time.monotonic() - loading.began - self._limits.timeout_seconds
                if late > GRACE_SECONDS:
                    self._under_way.remove(loading)
                    self._leave_alone()
                    raise timed_out(loading.path, self._limits.timeout_seconds)

    @contextmanager
    def reading(self, path: str) -> Iterator[Callable[[], bool]]:
        """Enter a video in the journal while the block runs; yields the should_stop of a pass over it."""
        with contextlib.nullcontext() if self._journal is None else self._journal.reading(path):
            yield deadline(path, self._limits.timeout_seconds, self._stop.is_set)

    def _load(self, loading: Loading) -> Clip:
        loading.began = time.monotonic()
        with self.reading(loading.path):
            return load_clip(
                loading.video,
                loading.settings,
                threads=self._threads_per_video,
                should_stop=self._stop.is_set,
                limits=self._limits,
                device=self._device,
            )

    def _leave_alone(self) -> None:
        """Continue in new threads when one hangs inside FFmpeg; the program's end does not wait for it (__main__)."""
        self._executor.shutdown(wait=False)
        self._executor = self._new_executor()
        for loading in self._under_way:
            if loading.future is not None and loading.future.cancel():
                loading.future = self._executor.submit(self._load, loading)

    def _new_executor(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._workers, thread_name_prefix="tsq-decode")


def decode_ahead(
    jobs: Iterable[tuple[Media | FrameSource, SelectSettings]],
    workers: int,
    *,
    device: str = "cpu",
    limits: Limits | None = None,
) -> Generator[Clip | Exception]:
    """Decode videos in threads, ahead of the caller: at most `workers` videos beyond the one that is yielded.

    Args:
        jobs: video and settings, as for load_clip, taken one by one; a video may come several times.
        workers: videos decoded at once, at least 1.
        device, limits: as for load_clip.

    Yields:
        For each job in order, the clip, which the caller closes, or why there is none. Closing the generator stops all
        decoding.
    """
    waiting, pending = iter(jobs), deque[Loading]()
    with Loader(limits or Limits(), workers, device=device) as loader:
        while True:
            for job in islice(waiting, workers + 1 - len(pending)):
                pending.append(loader.begin(*job))
            if not pending:
                return
            try:
                clip = loader.wait(pending.popleft())
            except Exception as error:  # noqa: BLE001 - whatever one video does, the others go on
                yield error
            else:
                yield clip


def find_killers(death: Death, limits: Limits) -> dict[str, DecoderCrashError]:
    """Find the videos that killed the previous run, by path.

    If the system reported a crash while one video was being read, it is that one. Otherwise each suspect is read once
    more, in its own process: a run that was killed from outside leaves suspects too, which then prove harmless.

    Args:
        death: of the previous run, from its journal.
        limits: of time and pixels per video.
    """
    if death.signal is not None and len(death.suspects) == 1:
        return {path: crash(path, death.signal) for path in death.suspects}
    return {path: crash(path, died) for path in death.suspects if (died := _dies_alone(path, limits)) is not None}


def read_whole(path: str, limits: Limits) -> None:
    """Open a video, decode its candidates small and then one by one at full size, as every run does."""
    with contextlib.closing(load_clip(path, SelectSettings(), limits=limits)) as clip:
        for index in clip.batch.frame_indices:
            decode_frames(clip.source, [index], short_side=None)


def _read_and_end(path: str, limits: Limits) -> None:
    faulthandler.disable()  # the journal is the run's, not the child's
    with contextlib.suppress(Exception):  # ordinary errors are reported when the video's own turn comes
        read_whole(path, limits)


def _dies_alone(path: str, limits: Limits) -> str | None:
    """Read a video in its own process; return the signal's name if that kills the process, else None."""
    import multiprocessing  # few runs need it, so not all pay for its import

    # A fork behaves like this run; without forks, a new interpreter comes close.
    context: Any = multiprocessing.get_context("spawn" if sys.platform == "win32" else "fork")
    child = context.Process(target=_read_and_end, args=(path, limits))
    child.start()
    child.join(2 * limits.timeout_seconds)
    if child.exitcode is None:  # the video's own turn has a limit too
        child.kill()
        child.join()
        return None
    return signal.strsignal(-child.exitcode) if child.exitcode < 0 else None


def crash(path: str, what: str) -> DecoderCrashError:
    """Build the error of a video that killed whatever read it: `what` says how."""
    return DecoderCrashError(
        f"{path} killed an earlier run while it was read ({what})",
        wanted="a video that FFmpeg survives",
        fix="convert it or leave it out; --overwrite tries it again",
    )
