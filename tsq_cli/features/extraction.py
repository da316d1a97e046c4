"""Decode the videos that a store lacks features of, each file once, and add the features. Free of torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tsq_cli.clip import Clip
from tsq_cli.config import SelectSettings
from tsq_cli.errors import TsqError, UsageError, one_line
from tsq_cli.features.shards import Arrays, ShardStore
from tsq_cli.loading import decode_ahead
from tsq_cli.types import FrameBatch, Int64Array, Progress

if TYPE_CHECKING:
    from tsq_cli.data import LabeledVideo

DECODING = "decoding videos"
"""Name of this work, as `progress` is given it."""

_FORMAT = 1  # of the entries: another number makes every entry anew


@dataclass(frozen=True)
class FeatureSpec:
    """Arrays to keep of each video, computed from its decoded frames.

    Attributes:
        identity: names what `compute` does; entries of another identity are other entries.
        short_side: pixels of the shorter side of the frames it is given; smaller videos keep their size.
        compute: from n frames to arrays by name.
    """

    identity: str
    short_side: int
    compute: Callable[[FrameBatch], Arrays]

    def key(self, path: Path, status: os.stat_result, num_frames: int) -> str:
        """Compute the store key for T frames of a file, 32 hex digits."""
        fingerprint = [str(path), status.st_size, status.st_mtime_ns]
        return digest([_FORMAT, fingerprint, num_frames, self.short_side, self.identity])

    def sampling(self, num_frames: int) -> SelectSettings:
        """Settings that decode the T frames it is given, sampled as in selection."""
        return SelectSettings(num_candidates=num_frames, short_side=self.short_side)


@dataclass(frozen=True)
class Extraction:
    """Which videos have entries in the store, and under which keys.

    Attributes:
        kept: [N] indices into the videos asked for, ascending.
        failed: the other videos, each with the reason.
        keys: by name of a spec, the store keys [N] of the kept videos.
    """

    kept: tuple[int, ...]
    failed: tuple[tuple[LabeledVideo, str], ...]
    keys: dict[str, list[str]]


def extract(
    store: ShardStore,
    videos: Sequence[LabeledVideo],
    specs: Mapping[str, FeatureSpec],
    *,
    num_frames: int,
    workers: int,
    progress: Progress,
) -> Extraction:
    """Decode the videos that lack an entry, and add the missing entries; a store that lacks none is only read.

    Args:
        store: to read and to add to.
        videos: at least one; a file may come several times.
        specs: features to extract, by name.
        num_frames: T, at least 1.
        workers: videos decoded at once, at least 1.
        progress: called after each video.

    Raises:
        UsageError: T or workers below 1, or a short side below 16.
        TsqError: no video could be decoded, another process is writing to the store, or the store is damaged.
        OutputError: the store cannot be written.
    """
    if workers < 1:
        raise UsageError(f"workers is {workers}", wanted="1 or more", fix="the default is 1")
    samplings = {name: spec.sampling(num_frames) for name, spec in specs.items()}
    paths = [video.path.absolute() for video in videos]
    keys: dict[Path, dict[str, str]] = {}
    reasons: dict[Path, str] = {}
    for path in dict.fromkeys(paths):
        try:
            status = path.stat()
        except OSError as error:
            reasons[path] = f"{path}: {error.strerror}"
        else:
            keys[path] = {name: spec.key(path, status, num_frames) for name, spec in specs.items()}
    if _missing(store, keys):
        reasons |= _add_missing(store, keys, specs, samplings, workers=workers, progress=progress)

    failed = tuple((video, reasons[path]) for video, path in zip(videos, paths, strict=True) if path in reasons)
    kept = tuple(number for number, path in enumerate(paths) if path not in reasons)
    if not kept:
        example = f", for example {failed[0][1].partition('; wanted')[0]}" if failed else ""
        raise TsqError(
            f"none of {len(videos)} videos could be decoded{example}",
            wanted="at least one",
            fix="check the list, and the folder that its files are looked for in",
        )
    return Extraction(kept, failed, {name: [keys[paths[number]][name] for number in kept] for name in specs})


def _missing(store: ShardStore, keys: Mapping[Path, Mapping[str, str]]) -> dict[Path, dict[str, str]]:
    """Missing keys per incomplete file, each with the name of a spec for it (two specs may be alike)."""
    missing = {path: {key: name for name, key in own.items() if key not in store} for path, own in keys.items()}
    return {path: own for path, own in missing.items() if own}


def _add_missing(
    store: ShardStore,
    keys: Mapping[Path, Mapping[str, str]],
    specs: Mapping[str, FeatureSpec],
    samplings: Mapping[str, SelectSettings],
    *,
    workers: int,
    progress: Progress,
) -> dict[Path, str]:
    """Decode and add; return why files could not be decoded."""
    reasons: dict[Path, str] = {}
    with store.writer() as writer:
        missing = _missing(store, keys)  # anew: another process may have added some until just now
        # One pass per frame size: two networks of one size share it.
        wanted = {path: list(dict.fromkeys(samplings[name] for name in own.values())) for path, own in missing.items()}
        jobs = [(str(path), sampling) for path, own in wanted.items() for sampling in own]
        num_present = len(keys) - len(missing)
        progress(DECODING, num_present, len(keys))
        with closing(decode_ahead(jobs, workers)) as clips:
            for done, path in enumerate(missing, start=num_present + 1):
                try:
                    batches = dict(zip(wanted[path], _batches(next(clips) for _ in wanted[path]), strict=True))
                except Exception as error:  # noqa: BLE001 - one video's failure is its own
                    reasons[path] = _reason(path, error)
                else:
                    for key, name in missing[path].items():
                        writer.add(key, specs[name].compute(batches[samplings[name]]))
                progress(DECODING, done, len(keys))
    return reasons


def _batches(clips: Iterable[Clip | Exception]) -> list[FrameBatch]:
    """Take the frames of all clips of a video and close them.

    Raises:
        Exception: why one of them could not be decoded, after all have been taken.
    """
    batches, errors = [], []
    for clip in clips:
        if isinstance(clip, Clip):
            batches.append(clip.batch)
            clip.close()
        else:
            errors.append(clip)
    if errors:
        raise errors[0]
    return batches


def _reason(path: Path, error: Exception) -> str:
    """Say why a video was left out, with its name."""
    message = str(error) if isinstance(error, TsqError) else f"{type(error).__name__}: {one_line(error)} (unexpected)"
    return message if str(path) in message else f"{path}: {message}"


def repeat_indices(num_held: int, num_frames: int) -> Int64Array:
    """Index of one of n frames for each of T places, int64 [T]: each frame once if n is T, else evenly repeated."""
    return (2 * np.arange(num_frames, dtype=np.int64) + 1) * num_held // (2 * num_frames)


def digest(parts: Sequence[object]) -> str:
    """Hash JSON-ready values to 32 hex digits."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
