"""The rows of the comparison: every rule on the same 16 candidates, the product as it is, and PySceneDetect."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.footage_evidence import Looked, Observer
from benchmarks.footage_material import Half, Material
from benchmarks.footage_measures import EVENT, Measured, Truth, measures
from benchmarks.footage_videos import read_truth
from tsq_cli.config import PAPER_FRAMES, SelectSettings
from tsq_cli.errors import VideoError
from tsq_cli.pipeline import Selector
from tsq_cli.selection import RULES
from tsq_cli.video import open_video

PRODUCT, SCENES = "tsq select", "PySceneDetect"
SUFFIXES = {PRODUCT: "product", SCENES: "scenes"}
RANDOM_SEEDS = range(10)
NEEDLE_PARTS: Mapping[Half, str] = {"tuning": "tuning", "test": "held-out"}
WANTED = {"lectures": 12}
"""Frames asked for, where it is not the paper's K."""


@dataclass(frozen=True, kw_only=True)
class Video:
    """One video to measure.

    Attributes:
        path: the file.
        cache: what the caches of the video begin with.
        truth: what it shows.
        kind, half: of it.
        k: frames wanted.
    """

    path: Path
    cache: Path
    truth: Truth
    kind: str
    half: Half

    def cache_of(self, what: str) -> Path:
        """Path of the video's cached evidence."""
        return self.cache.with_name(f"{self.cache.name}.{what}.npz")

    @property
    def k(self) -> int:
        """Frames wanted."""
        return WANTED.get(self.kind, PAPER_FRAMES)


def composed(videos: Path, half: Half, kind: str) -> list[Video]:
    """The composed videos of one kind."""
    paths = sorted(path.with_suffix(".mp4") for path in (videos / half / kind).glob("[0-9]*.json"))
    return [
        Video(path=path, cache=path.with_suffix(""), truth=truth_of(read_truth(path)), kind=kind, half=half)
        for path in paths
    ]


def real(material: Material, videos: Path, half: Half) -> Iterator[Video]:
    """The clips of one half as they are; a file without a picture is left out."""
    for name in material.single_clips(half):
        path = material.folder / name
        try:
            source = open_video(path)
        except VideoError:
            continue
        truth = unknown(source.end_seconds)
        source.close()
        yield Video(
            path=path, cache=videos / half / "real" / name.replace("/", "_"), truth=truth, kind="real", half=half
        )


def needles(folder: Path, videos: Path, half: Half) -> list[Video]:
    """The videos of examples/needle.py."""
    paths = sorted((folder / NEEDLE_PARTS[half]).glob("*/[0-9]*.json"))
    return [
        Video(
            path=path.with_suffix(".mp4"),
            cache=videos / half / "needle" / path.parent.name / path.stem,
            truth=needle_truth(read_truth(path)),
            kind=f"needle, {path.parent.name}",
            half=half,
        )
        for path in paths
    ]


def truth_of(written: Mapping[str, Any]) -> Truth:
    """The truth that footage_videos wrote."""
    shots = written["shots"]
    return Truth(
        starts=np.array([shot["start_seconds"] for shot in shots], dtype=np.float64),
        ends=np.array([shot["end_seconds"] for shot in shots], dtype=np.float64),
        shows=[shot["shows"] for shot in shots],
        states=[shot["state"] for shot in shots],
        duration_seconds=shots[-1]["end_seconds"],
    )


def needle_truth(written: Mapping[str, Any]) -> Truth:
    """The truth that examples/needle.py wrote: its event, and other things each seen once."""
    shots = written["shots"]
    states = {"event": "sharp", "other": "sharp", "blurred": "blurred"}
    return Truth(
        starts=np.array([shot["start_seconds"] for shot in shots], dtype=np.float64),
        ends=np.array([shot["end_seconds"] for shot in shots], dtype=np.float64),
        shows=[EVENT if shot["kind"] == "event" else f"shot {i}" for i, shot in enumerate(shots)],
        states=[states.get(shot["kind"], "blank") for shot in shots],
        duration_seconds=shots[-1]["end_seconds"],
        class_index=written["event"]["class_index"],
    )


def unknown(seconds: float) -> Truth:
    """A video of which nothing is known."""
    whole = np.array([0.0]), np.array([seconds])
    return Truth(starts=whole[0], ends=whole[1], shows=["unknown"], states=["sharp"], duration_seconds=seconds)


def rule_rows(observer: Observer, video: Video, looked: Looked) -> Iterator[Measured]:
    """Every rule of the product on the paper's 16 candidates; `random` is the mean of several draws."""
    for name, rule in RULES.items():
        draws = RANDOM_SEEDS if name == "random" else range(1)
        rows = []
        for seed in draws:
            settings = replace(observer.rule_settings, seed=seed)
            choices = rule(looked.evidence, min(video.k, len(looked.evidence)), settings)
            chosen = looked.frames.at([choice.position for choice in choices])
            rows.append((chosen, measures(chosen, looked.frames.features, video.truth, video.k)))
        values = {key: float(np.mean([row[key] for _, row in rows])) for key in rows[0][1]}
        yield Measured(row=name, times=tuple(rows[0][0].times.tolist()), values=values)


def other_row(observer: Observer, video: Video, looked: Looked, row: str, *, recognizes: bool) -> Measured:
    """The product, or PySceneDetect, end to end; `seconds` is what choosing took."""
    ways = {
        PRODUCT: lambda: product_times(observer.selector, video.path, video.k),
        SCENES: lambda: scene_times(video.path, video.k),
    }
    cache = video.cache_of(SUFFIXES[row])
    chosen, seconds = observer.chosen(video.path, cache, ways[row], recognizes=recognizes)
    values = measures(chosen, looked.frames.features, video.truth, video.k)
    return Measured(row=row, times=tuple(chosen.times.tolist()), values={**values, "seconds": seconds})


def product_times(selector: Selector, path: Path, k: int) -> list[float]:
    """Frames that `tsq select -k K` chooses of a video, with its defaults."""
    record = selector.select(path, SelectSettings(num_frames=k))
    return [frame.candidate.time_seconds for frame in record.frames]


def scene_times(path: Path, k: int) -> list[float]:
    """The middles of PySceneDetect's K longest scenes, cut by content, every frame looked at.

    Fewer scenes than K: the other frames lie evenly over the video.
    """
    from scenedetect import ContentDetector, detect

    scenes = [(start.seconds, end.seconds) for start, end in detect(str(path), ContentDetector(), start_in_scene=True)]
    return middles(scenes, k)


def middles(scenes: list[tuple[float, float]], k: int) -> list[float]:
    """Times in order: the middles of the K longest scenes (start, end), and evenly spaced ones for want of more."""
    longest = sorted(scenes, key=lambda scene: scene[0] - scene[1])[:k]
    times = [(start + end) / 2 for start, end in longest]
    rest = k - len(times)
    end = max((end for _, end in scenes), default=math.nan)
    return sorted([*times, *((i + 0.5) * end / rest for i in range(rest))])


def measure(observer: Observer, video: Video, rows: Collection[str], *, afresh: bool = False) -> list[Measured]:
    """Rows of one video: every rule, and of PRODUCT and SCENES those that are wanted.

    Args:
        observer: looks at it.
        video: to be measured.
        rows: PRODUCT, SCENES, both or none.
        afresh: whether the product chooses again; the cache knows the weights that it chose with, not the code.
    """
    if afresh:
        video.cache_of(SUFFIXES[PRODUCT]).unlink(missing_ok=True)
    recognizes = video.kind.startswith("needle")
    looked = observer.candidates(video.path, video.cache_of("16"), recognizes=recognizes)
    return [
        *rule_rows(observer, video, looked),
        *(other_row(observer, video, looked, row, recognizes=recognizes) for row in (PRODUCT, SCENES) if row in rows),
    ]
