"""Measures of a choice of frames: pure functions of times, features, hashes, and of what a video shows when."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tsq_cli.evaluation.bootstrap import LEVEL, Bootstrap
from tsq_cli.types import Float32Array, Float64Array, UInt8Array

EVENT = "event"
HASH_BITS = 6
"""Two frames are distinct where their difference hashes differ in more of 64 bits than these."""

UInt64Array = npt.NDArray[np.uint64]


@dataclass(frozen=True, kw_only=True)
class Frames:
    """K frames of one video, in order of time.

    Attributes:
        times: [K], seconds.
        features: [K, D], unit length.
        hashes: [K], see difference_hashes.
        quality: [K], 0 is blank.
        recognized: [K, C], logits of the recognizer; None where nobody asked it.
    """

    times: Float64Array
    features: Float32Array
    hashes: UInt64Array
    quality: Float64Array
    recognized: Float32Array | None = None

    def __len__(self) -> int:
        return len(self.times)

    def at(self, positions: Sequence[int]) -> Frames:
        """Some of the frames, in order of time."""
        chosen = sorted(positions)
        return Frames(
            times=self.times[chosen],
            features=self.features[chosen],
            hashes=self.hashes[chosen],
            quality=self.quality[chosen],
            recognized=None if self.recognized is None else self.recognized[chosen],
        )


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Content of a video over time.

    Attributes:
        starts, ends: [P], seconds `[start, end)` of its pieces.
        shows: [P] names; pieces of one name are one scene, and EVENT is what there is to be found.
        states: [P], "sharp", "blurred" or "blank".
        duration_seconds: of the video.
        class_index: of the event; None where it has none.
    """

    starts: Float64Array
    ends: Float64Array
    shows: Sequence[str]
    states: Sequence[str]
    duration_seconds: float
    class_index: int | None = None

    def piece_at(self, seconds: float) -> int:
        """The piece shown at a time; before the first it is the first, after the last the last."""
        return int(np.clip(np.searchsorted(self.starts, seconds, side="right") - 1, 0, len(self.starts) - 1))

    @property
    def scenes(self) -> dict[str, float]:
        """Sharp seconds of every scene."""
        seconds: dict[str, float] = {}
        for start, end, name, state in zip(self.starts, self.ends, self.shows, self.states, strict=True):
            if state == "sharp":
                seconds[name] = seconds.get(name, 0.0) + float(end - start)
        return seconds


def difference_hashes(pixels: UInt8Array) -> UInt64Array:
    """64 bits per frame, uint8 [K, H, W, 3] to [K]: which of 9 x 8 gray places is darker than its right neighbor.

    N. Krawetz, "Kind of Like That" (2013): pictures of few differing bits look alike.
    """
    hashes = []
    for frame in pixels:
        small = Image.fromarray(frame).convert("L").resize((9, 8), Image.Resampling.BOX)
        gray = np.asarray(small, dtype=np.int16)
        bits = (gray[:, 1:] > gray[:, :-1]).ravel()
        hashes.append(int("".join("1" if bit else "0" for bit in bits), 2))
    return np.array(hashes, dtype=np.uint64)


def distinct(hashes: UInt64Array) -> int:
    """Count the frames, in order, that differ by more than HASH_BITS from every one counted before."""
    kept: list[int] = []
    for value in hashes.tolist():
        if all((value ^ other).bit_count() > HASH_BITS for other in kept):
            kept.append(value)
    return len(kept)


def mean_cosine(features: Float32Array) -> float:
    """Mean over all pairs of K frames; NaN for fewer than two."""
    if len(features) < 2:
        return math.nan
    cosines = (features @ features.T)[np.triu_indices(len(features), 1)]
    return float(cosines.mean())


def coverage(candidates: Float32Array, chosen: Float32Array) -> float:
    """Mean over the T candidates of the best cosine to one of the K chosen frames."""
    return float((candidates @ chosen.T).max(axis=1).mean())


def seen(truth: Truth, times: Float64Array) -> dict[str, int]:
    """Count the frames that show each scene, without blurred and blank ones."""
    counts = dict.fromkeys(truth.scenes, 0)
    for piece in (truth.piece_at(seconds) for seconds in times.tolist()):
        if truth.states[piece] == "sharp":
            counts[truth.shows[piece]] += 1
    return counts


def hit_rate(counts: Mapping[str, int]) -> float:
    """KFS-Bench's scene hit rate: the share of scenes of which at least one frame was chosen."""
    return sum(count > 0 for count in counts.values()) / len(counts)


def balance(counts: Mapping[str, int], seconds: Mapping[str, float]) -> float:
    """KFS-Bench's balanced distribution similarity, in [0, 1]: 1 is as many frames of each scene as it deserves.

    The cosine between the number of frames per scene and the scenes' lengths to the power a, the best of a = 0, 0.1,
    .., 1: from "each scene alike" (a = 0) to "as long as it lasts" (a = 1). Z. Li et al., WACV 2026, as in their code;
    0 without a frame.
    """
    found = np.array([counts[name] for name in seconds], dtype=np.float64)
    if not found.any():
        return 0.0
    wanted = np.array(list(seconds.values()))[:, None] ** (0.1 * np.arange(11))  # [scenes, 11]
    cosines = found @ wanted / (np.linalg.norm(found) * np.linalg.norm(wanted, axis=0))
    return float(cosines.max())


def balanced_recall(counts: Mapping[str, int], seconds: Mapping[str, float]) -> float:
    """KFS-Bench's balanced scene recall: the share of scenes that got their share of the frames.

    That is floor(n * min(length / total length, 1 / scenes)) of the n frames that show a scene, and at least one.
    """
    found = np.array([counts[name] for name in seconds], dtype=np.float64)
    lengths = np.array(list(seconds.values()))
    deserved = np.floor(found.sum() * np.minimum(lengths / lengths.sum(), 1 / len(lengths))).clip(min=1)
    return float((found >= deserved).mean())


def ukss(counts: Mapping[str, int], seconds: Mapping[str, float], k: int) -> float:
    """KFS-Bench's one number for K chosen frames, in [0, 1]: the geometric mean of three.

    They are the share of frames that show a scene, the balanced recall and the balance.
    """
    return float((sum(counts.values()) / k * balanced_recall(counts, seconds) * balance(counts, seconds)) ** (1 / 3))


def event_recall(truth: Truth, times: Float64Array) -> float:
    """Share of the event's pieces that were chosen from; of at most K, should there be more."""
    pieces = {i for i, name in enumerate(truth.shows) if name == EVENT}
    found = pieces & {truth.piece_at(seconds) for seconds in times.tolist()}
    return len(found) / min(len(times), len(pieces))


def measures(frames: Frames, candidates: Float32Array, truth: Truth, k: int) -> dict[str, float]:
    """Every measure that applies to K wanted frames of a video, by name.

    Args:
        frames: what was chosen, at least one frame.
        candidates: [T, D], features of T frames spread over the video, for the coverage.
        truth: a video of unknown shots is one piece.
        k: frames wanted.
    """
    states = [truth.states[truth.piece_at(seconds)] for seconds in frames.times.tolist()]
    found: dict[str, float] = {
        "frames": len(frames),
        "distinct": distinct(frames.hashes[frames.quality > 0]),  # noise in the dark differs from itself
        "mean_cosine": mean_cosine(frames.features),
        "coverage": coverage(candidates, frames.features),
        "span": float(frames.times[-1] - frames.times[0]) / truth.duration_seconds,
        "blurred": states.count("blurred"),
        "blank": states.count("blank") if set(truth.states) != {"sharp"} else int((frames.quality == 0).sum()),
    }
    scenes = truth.scenes
    if len(scenes) > 1:
        counts = seen(truth, frames.times)
        found["shots"] = min(k, sum(count > 0 for count in counts.values()))
        found["shots_of"] = min(k, len(scenes))
        found["hit_rate"] = hit_rate(counts)
        found["balance"] = balance(counts, scenes)
        found["ukss"] = ukss(counts, scenes, len(frames))
    if EVENT in truth.shows:
        found["event_recall"] = event_recall(truth, frames.times)
        found["event_found"] = float(found["event_recall"] > 0)
    if frames.recognized is not None and truth.class_index is not None:
        found["accuracy"] = float(int(frames.recognized.mean(axis=0).argmax()) == truth.class_index)
    return found


def interval(values: Sequence[float], *, resamples: int = 2000) -> dict[str, float]:
    """Mean over the videos, and its 95 % interval by resampling them; NaN values are left out, not all may be."""
    kept = np.array([value for value in values if not math.isnan(value)])
    means = Bootstrap(np.ones((len(kept), 1), dtype=bool), resamples=resamples).mean(kept)
    low, high = np.quantile(means, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    found: dict[str, Any] = {"mean": kept.mean(), "low": low, "high": high}
    return {**{name: round(float(value), 4) for name, value in found.items()}, "videos": len(kept)}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One row of one video.

    Attributes:
        row: the rule, or other way to choose.
        times: [K], seconds chosen.
        values: the measures by name.
    """

    row: str
    times: tuple[float, ...]
    values: Mapping[str, float] = field(default_factory=dict)
