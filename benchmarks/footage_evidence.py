"""Evidence about a video's candidates, computed once and cached beside the video (.npz)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.footage_measures import Frames, difference_hashes
from tsq_cli.clip import load_clip
from tsq_cli.config import PAPER, SelectSettings
from tsq_cli.files import atomic_path
from tsq_cli.models.microbatches import cpu_microbatches
from tsq_cli.packs import LoadedRecognizer, Pack, load_recognizer
from tsq_cli.pipeline import Selector
from tsq_cli.rules.evidence import Evidence
from tsq_cli.rules.layout import layouts
from tsq_cli.rules.quality import candidate_quality, frame_quality
from tsq_cli.scoring import encode, score_clips
from tsq_cli.selection import RuleSettings
from tsq_cli.types import Float32Array, UInt8Array
from tsq_cli.video import decode_frames, open_video
from tsq_cli.video.sample import displayed_at


@dataclass(frozen=True, kw_only=True)
class Looked:
    """The T candidates of a video: what the rules may know, and what the measures ask."""

    evidence: Evidence
    frames: Frames


class Observer:
    """One pack that looks at videos.

    Args:
        selector: the product.
    """

    def __init__(self, selector: Selector) -> None:
        self.selector = selector

    @property
    def pack(self) -> Pack:
        """The networks."""
        return self.selector.loaded_pack()

    @property
    def rule_settings(self) -> RuleSettings:
        """The rules' numbers, as the pack has them."""
        return self.selector.rule_settings(SelectSettings())

    @cached_property
    def _recognizer(self) -> LoadedRecognizer:
        pack = self.pack
        return load_recognizer(pack, "embedded")

    def candidates(self, path: Path, cache: Path, *, recognizes: bool = False) -> Looked:
        """The paper's 16 candidates of a video, from the cache where this pack has seen them.

        Args:
            path: the video.
            cache: an .npz file.
            recognizes: whether the recognizer is asked as well.
        """

        def look() -> dict[str, Any]:
            with closing(load_clip(path, PAPER)) as clip:
                (scored,) = score_clips(self.pack, [torch.from_numpy(clip.batch.pixels)], PAPER)
                curves = scored.read()
                return {
                    **self._described(clip.batch.pixels, recognizes),
                    "times": clip.batch.pts_seconds,
                    "features": scored.unit_features(),
                    "visual": curves.visual,
                    "textual": curves.textual,
                    "candidate_quality": candidate_quality(clip.batch.pixels),
                    "layout": layouts(clip.batch.pixels),
                }

        values = self._kept(cache, look, needed="layout")
        frames = _frames(values)
        evidence = Evidence(
            times=frames.times,
            visual=values["visual"],
            textual=values["textual"],
            features=frames.features,
            quality=values["candidate_quality"],
            layout=values["layout"],
        )
        return Looked(evidence=evidence, frames=frames)

    def chosen(
        self, path: Path, cache: Path, choose: Callable[[], list[float]], *, recognizes: bool = False
    ) -> tuple[Frames, float]:
        """Frames at times that another tool chose, and the seconds that it took; cached with them.

        Args:
            path: the video.
            cache: an .npz file.
            choose: gives the times, in seconds.
            recognizes: whether the recognizer is asked as well.
        """
        import time

        def look() -> dict[str, Any]:
            started = time.perf_counter()
            wanted = choose()
            seconds = time.perf_counter() - started
            with closing(open_video(path)) as source:
                indices = np.unique(displayed_at(source.pts_seconds, np.array(wanted)))
                batch = decode_frames(source, indices, short_side=PAPER.short_side, mode="exact", threads=2)
            with torch.inference_mode():
                features = encode(self.pack, [torch.from_numpy(batch.pixels)])[0][0].float()
            unit = torch.nn.functional.normalize(features, dim=1).cpu().numpy()
            described = self._described(batch.pixels, recognizes)
            return {**described, "times": batch.pts_seconds, "features": unit, "seconds": np.array(seconds)}

        values = self._kept(cache, look)
        return _frames(values), float(values["seconds"])

    def _described(self, pixels: UInt8Array, recognizes: bool) -> dict[str, Any]:
        described: dict[str, Any] = {"hashes": difference_hashes(pixels), "quality": frame_quality(pixels)}
        if recognizes:
            described["recognized"] = self._recognized(pixels)
        return described

    def _recognized(self, pixels: UInt8Array) -> Float32Array:
        """Logits [K, C] of frames uint8 [K, H, W, 3]."""
        with torch.inference_mode():
            images = self._recognizer.preprocessor(torch.from_numpy(pixels), self.pack.device, self.pack.dtype)
            logits = torch.cat([self._recognizer.recognizer(some).logits for some in cpu_microbatches(images)])
        found: Float32Array = logits.float().cpu().numpy()
        return found

    def _kept(self, cache: Path, look: Callable[[], dict[str, Any]], needed: str = "times") -> dict[str, Any]:
        """Load arrays from the cache, where the same weights made them and `needed` is among them; else make them."""
        sha256 = self.pack.config.sha256
        if cache.exists():
            with np.load(cache) as stored:
                if str(stored["pack_sha256"]) == sha256 and needed in stored:
                    return dict(stored)
        values = look()
        cache.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(cache) as temporary, temporary.open("wb") as file:
            np.savez(file, pack_sha256=np.array(sha256), **values)
        return values


def _frames(values: dict[str, Any]) -> Frames:
    return Frames(
        times=values["times"],
        features=values["features"],
        hashes=values["hashes"],
        quality=values["quality"],
        recognized=values.get("recognized"),
    )
