"""Decode the videos that a store lacks, each file once, and add what is made of their frames. Free of torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import numpy as np

from tsq_cli.clip import load_clip
from tsq_cli.config import SelectSettings
from tsq_cli.errors import TsqError, UsageError, one_line
from tsq_cli.features.shards import Arrays, ShardStore
from tsq_cli.types import FrameBatch, Int64Array, Progress

if TYPE_CHECKING:
    from tsq_cli.data import LabeledVideo

DECODING = "decoding videos"
"""What progress is told."""

_FORMAT = 1  # of the entries; another number makes all of them anew


@dataclass(frozen=True)
class FeatureSpec:
    """What is kept of a video: arrays made from its decoded frames.

    Attributes:
        identity: names what `make` does.
        short_side: pixels of the shorter side of the frames it is given; smaller videos stay as they are.
        make: from n frames to arrays.
    """

    identity: str
    short_side: int
    make: Callable[[FrameBatch], Arrays]

    def key(self, path: Path, status: os.stat_result, num_frames: int) -> str:
        """Of the entry that this makes of T frames of a file."""
        fingerprint = [str(path), status.st_size, status.st_mtime_ns]
        return digest([_FORMAT, fingerprint, num_frames, self.short_side, self.identity])

    def sampling(self, num_frames: int) -> SelectSettings:
        """Which frames of a video it is given, and how large: as in selection."""
        return SelectSettings(num_candidates=num_frames, short_side=self.short_side)


@dataclass(frozen=True)
class Extraction:
    """What there is after filling.

    Attributes:
        kept: [N] indices into the videos asked for, rising.
        failed: the others, each with the reason.
        keys: of the entries of the videos kept, [N] for each maker.
    """

    kept: tuple[int, ...]
    failed: tuple[tuple[LabeledVideo, str], ...]
    keys: dict[str, list[str]]


def extract(
    store: ShardStore,
    videos: Sequence[LabeledVideo],
    makers: Mapping[str, FeatureSpec],
    *,
    num_frames: int,
    workers: int,
    progress: Progress,
) -> Extraction:
    """Decode the videos that lack an entry, and add what is lacking; where nothing is, the store is only read.

    Raises:
        UsageError: T or workers below 1, or a short side below 16.
        TsqError: no video could be decoded, or another process is writing to the store, or it is damaged.
        OutputError: the store cannot be written.
    """
    if workers < 1:
        raise UsageError(f"workers is {workers}", wanted="1 or more", fix="the default is 1")
    samplings = {name: maker.sampling(num_frames) for name, maker in makers.items()}
    paths = [video.path.absolute() for video in videos]
    keys: dict[Path, dict[str, str]] = {}
    reasons: dict[Path, str] = {}
    for path in dict.fromkeys(paths):
        try:
            status = path.stat()
        except OSError as error:
            reasons[path] = f"{path}: {error.strerror}"
        else:
            keys[path] = {name: maker.key(path, status, num_frames) for name, maker in makers.items()}
    if _lacking(store, keys):
        reasons |= _add_lacking(store, keys, makers, samplings, workers=workers, progress=progress)

    failed = tuple((video, reasons[path]) for video, path in zip(videos, paths, strict=True) if path in reasons)
    kept = tuple(number for number, path in enumerate(paths) if path not in reasons)
    if not kept:
        example = f", for example {failed[0][1].partition('; wanted')[0]}" if failed else ""
        raise TsqError(
            f"none of {len(videos)} videos could be decoded{example}",
            wanted="at least one",
            fix="check the list, and the folder that its files are looked for in",
        )
    return Extraction(kept, failed, {name: [keys[paths[number]][name] for number in kept] for name in makers})


def _lacking(store: ShardStore, keys: Mapping[Path, Mapping[str, str]]) -> dict[Path, dict[str, str]]:
    """Of each file that lacks some: the keys that it lacks, each with one maker of it (two may be alike)."""
    lacking = {path: {key: name for name, key in own.items() if key not in store} for path, own in keys.items()}
    return {path: own for path, own in lacking.items() if own}


def _add_lacking(
    store: ShardStore,
    keys: Mapping[Path, Mapping[str, str]],
    makers: Mapping[str, FeatureSpec],
    samplings: Mapping[str, SelectSettings],
    *,
    workers: int,
    progress: Progress,
) -> dict[Path, str]:
    """Decode and add; tell why files could not be decoded."""
    reasons: dict[Path, str] = {}
    with store.writer() as writer:
        lacking = _lacking(store, keys)  # anew: another process may have added some until just now
        jobs = [(path, {samplings[name] for name in own.values()}) for path, own in lacking.items()]
        progress(DECODING, len(keys) - len(lacking), len(keys))
        with closing(_decoded(jobs, workers)) as results:
            for done, (path, result) in enumerate(results, start=len(keys) - len(lacking) + 1):
                if isinstance(result, BaseException):
                    reasons[path] = _reason(path, result)
                else:
                    for key, name in lacking[path].items():
                        writer.add(key, makers[name].make(result[samplings[name]]))
                progress(DECODING, done, len(keys))
    return reasons


def _decoded(
    jobs: Sequence[tuple[Path, set[SelectSettings]]], workers: int
) -> Generator[tuple[Path, dict[SelectSettings, FrameBatch] | BaseException]]:
    """The frames of each video, sampled in one way or several, or why there are none, in order; a few ahead."""
    stop = Event()
    threads = max(1, min(2, (os.cpu_count() or 1) // workers))
    waiting = deque(jobs)
    pending: deque[tuple[Path, Future[dict[SelectSettings, FrameBatch]]]] = deque()

    def decode(path: Path, samplings: set[SelectSettings]) -> dict[SelectSettings, FrameBatch]:
        batches = {}
        for sampling in samplings:
            with closing(load_clip(path, sampling, threads=threads, should_stop=stop.is_set)) as clip:
                batches[sampling] = clip.batch
        return batches

    executor = ThreadPoolExecutor(workers, thread_name_prefix="tsq-decode")
    try:
        while waiting or pending:
            while waiting and len(pending) <= workers:
                path, samplings = waiting.popleft()
                pending.append((path, executor.submit(decode, path, samplings)))
            path, future = pending.popleft()
            yield path, future.exception() or future.result()
    finally:
        stop.set()
        executor.shutdown(wait=True, cancel_futures=True)


def _reason(path: Path, error: BaseException) -> str:
    """Why a video was left out, with its name."""
    message = str(error) if isinstance(error, TsqError) else f"{type(error).__name__}: {one_line(error)} (unexpected)"
    return message if str(path) in message else f"{path}: {message}"


def repeat_indices(num_held: int, num_frames: int) -> Int64Array:
    """Which of n frames stands in each of T places, int64 [T]: each once where n is T, else repeated evenly."""
    return (2 * np.arange(num_frames, dtype=np.int64) + 1) * num_held // (2 * num_frames)


def digest(parts: Sequence[object]) -> str:
    """32 hex digits that stand for JSON-ready values."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
