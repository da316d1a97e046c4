"""Room 4: the stages in order. Every command, the Python API and the measurements go through here.

open (probe) -> sample -> decode -> preprocess -> encode -> TSQ layers -> saliency -> fuse top K -> record
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING

import numpy as np

from tsq_cli import config, selection
from tsq_cli.config import DEFAULT_PACK, SelectSettings
from tsq_cli.record import Candidate, Record, SelectedFrame
from tsq_cli.selection import Choice
from tsq_cli.types import Category, FrameBatch, Saliency, SamplePlan
from tsq_cli.video import VideoSource, decode_frames, open_video, sample_frames

if TYPE_CHECKING:
    import torch

    from tsq_cli.models import FrameEncoder
    from tsq_cli.packs import Pack

# On a CPU a few frames at a time stay in the cache, and their buffers are reused rather than mapped anew: 16 frames
# through EfficientNet-Lite0 in fours take 0.22 of the time they take at once (docs/architecture.md).
CPU_FRAMES_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True)
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
    with _timed(timings, "probe"):
        source = open_video(path, should_stop=should_stop)
    try:
        plan = sample_frames(
            source.pts_seconds,
            source.end_seconds,
            settings.num_candidates,
            start_seconds=settings.start_seconds,
            end_seconds=settings.end_seconds,
        )
        with _timed(timings, "decode"):
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


class Selector:
    """Selects frames with one pack, loaded once.

    Example:
        >>> record = Selector.load("imagenet-lite").select("examples/demo.mp4")  # doctest: +SKIP
        >>> [frame.candidate.time_seconds for frame in record.frames]  # doctest: +SKIP
    """

    def __init__(self, pack: Pack | None) -> None:
        self.pack = pack
        self._query_embeddings: dict[str, torch.Tensor] = {}

    @classmethod
    def load(cls, pack: str = DEFAULT_PACK, *, device: str = "auto", dtype: str = "auto") -> Selector:
        """Load a pack by name or folder onto a device.

        Args:
            pack: name of an installed pack, or a folder that holds a pack.json.
            device: "auto" (CUDA where there is one, else CPU), "cpu", "cuda" or "cuda:<index>".
            dtype: "auto" (the fastest that keeps the results), "float32", "bfloat16" or "float16".

        Raises:
            UsageError: unknown pack, or a device or dtype that is not there.
            WeightsError: weights that are missing, damaged or out of reach.
        """
        from tsq_cli.models.device import resolve_device, resolve_dtype
        from tsq_cli.packs import load_pack

        place = resolve_device(device)
        return cls(load_pack(pack, device=place, dtype=resolve_dtype(dtype, place)))

    @classmethod
    def without_model(cls) -> Selector:
        """A selector for the baselines (uniform, random, middle), which look at no pixel and need no weights."""
        return cls(None)

    def select(self, path: str | PathLike[str], settings: SelectSettings | None = None) -> Record:
        """Select frames of one video; see Record for what comes back.

        Raises:
            InputNotFoundError, VideoError: the file is missing or cannot be used (see tsq_cli.errors).
        """
        settings = settings or SelectSettings()
        clip = load_clip(path, settings)
        try:
            return self.select_clips([clip], settings)[0]
        finally:
            clip.close()

    def select_clips(
        self, clips: Sequence[Clip], settings: SelectSettings, *, settings_hash: str | None = None
    ) -> list[Record]:
        """Select frames of several decoded videos, their candidates encoded as one batch.

        Args:
            clips: at least one; they stay open, for a second pass over the selected frames.
            settings: the same for all.
            settings_hash: identity of the run, where its caller knows more of it (the files it writes).
        """
        started = time.perf_counter()
        timings: dict[str, float] = {}
        saliencies = self.score(clips, settings, timings=timings) if settings.needs_model else [None] * len(clips)
        if settings_hash is None:
            settings_hash = config.settings_hash(settings, pack_sha256=self._pack_sha256(settings), outputs={})
        shared = {name: seconds / len(clips) for name, seconds in timings.items()}
        records = []
        for clip, saliency in zip(clips, saliencies, strict=True):
            choices = self.choose(len(clip.batch), saliency, settings)
            records.append(self._record(clip, saliency, choices, settings, settings_hash, shared))
        elapsed = (time.perf_counter() - started) / len(clips)
        for clip, record in zip(clips, records, strict=True):
            record.timings_seconds["total"] = sum(clip.timings_seconds.values()) + elapsed
        return records

    def score(
        self, clips: Sequence[Clip], settings: SelectSettings, *, timings: dict[str, float] | None = None
    ) -> list[Saliency]:
        """Saliency of every candidate: preprocess, encode, TSQ layers, confident categories (METHOD section 5)."""
        import torch

        from tsq_cli.models import frame_saliency, object_text_features, query_frame_scores

        pack = self._loaded_pack()
        timings = {} if timings is None else timings
        top_n = settings.top_n or pack.config.settings.top_n
        with torch.inference_mode():
            features, objects = self._encode(clips, timings)
            results = []
            for x_v, logits in zip(features, objects, strict=True):
                with _timed(timings, "tsq"):
                    x_t = object_text_features(logits, pack.textual_embeddings)
                    output = pack.tsqnet(x_v[None], x_t[None])
                    visual = frame_saliency(output.visual, top_n=top_n)
                    if settings.query is None:
                        textual = frame_saliency(output.textual, top_n=top_n)
                        scores_t = textual.scores[0]
                        categories_t = _categories(textual.categories[0], textual.probabilities[0], pack.class_names)
                    else:
                        embedding = self._query_embedding(settings.query)
                        matches = query_frame_scores(
                            logits, pack.object_embeddings, embedding, sharpness=pack.config.settings.query_scale
                        )
                        scores_t = matches / matches.sum()
                        categories_t = self._matching_objects(embedding, top_n)
                    results.append(
                        Saliency(
                            visual=visual.scores[0].double().cpu().numpy(),
                            textual=scores_t.double().cpu().numpy(),
                            visual_categories=_categories(
                                visual.categories[0], visual.probabilities[0], pack.class_names
                            ),
                            textual_categories=categories_t,
                        )
                    )
        return results

    def choose(self, num_candidates: int, saliency: Saliency | None, settings: SelectSettings) -> list[Choice]:
        """Turn saliency into min(K, T) choices, most important first, with the selector of the settings."""
        k = settings.num_frames
        if saliency is None:
            if settings.selector == "random":
                return selection.random(num_candidates, k, seed=settings.seed)
            return (selection.uniform if settings.selector == "uniform" else selection.middle)(num_candidates, k)
        if settings.query is not None:
            return selection.top_k(saliency.textual, k, chosen_by="query")
        if settings.selector == "vqm":
            return selection.top_k(saliency.visual, k, chosen_by="visual")
        if settings.selector == "tqm":
            return selection.top_k(saliency.textual, k, chosen_by="textual")
        lambda_v = settings.lambda_v if settings.lambda_v is not None else self._loaded_pack().config.settings.lambda_v
        return selection.fuse(saliency.visual, saliency.textual, k, lambda_v=lambda_v)

    def _encode(
        self, clips: Sequence[Clip], timings: dict[str, float]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Visual features [T, Dv] and object logits [T, O] of each clip, from one pass where the encoder is shared."""
        import torch

        pack = self._loaded_pack()
        lengths = [len(clip.batch) for clip in clips]
        pixels = [torch.from_numpy(clip.batch.pixels) for clip in clips]  # uint8 [T, H, W, 3], sizes differ by clip
        with _timed(timings, "preprocess"):
            visual_input = torch.cat([pack.visual_preprocessor(p, pack.device, pack.dtype) for p in pixels])
        with _timed(timings, "encode"):
            visual_features, visual_logits = _encoded(pack.visual_encoder, visual_input)
        if pack.object_recognizer is pack.visual_encoder:
            object_logits = visual_logits
        else:
            with _timed(timings, "preprocess"):
                object_input = torch.cat([pack.object_preprocessor(p, pack.device, pack.dtype) for p in pixels])
            with _timed(timings, "encode"):
                object_logits = _encoded(pack.object_recognizer, object_input)[1]
        return list(torch.split(visual_features, lengths)), list(torch.split(object_logits, lengths))

    def _query_embedding(self, query: str) -> torch.Tensor:
        if query not in self._query_embeddings:
            embeddings = self._loaded_pack().object_embeddings
            embedded = self._loaded_pack().text_encoder().embed([query])[0]
            self._query_embeddings[query] = embedded.to(device=embeddings.device, dtype=embeddings.dtype)
        return self._query_embeddings[query]

    def _matching_objects(self, embedding: torch.Tensor, top_n: int) -> tuple[Category, ...]:
        """The objects nearest in meaning to a query, scored by cosine similarity."""
        pack = self._loaded_pack()
        similarity, index = (pack.object_embeddings @ embedding).float().topk(top_n)
        return _categories(index, similarity, pack.object_names)

    def _flatness(self, saliency: Saliency | None) -> Iterator[str]:
        """Say so where no candidate stands out in either curve, as on a static clip."""
        if saliency is None or len(saliency.visual) == 1:
            return
        settings = self._loaded_pack().config.settings
        visual, textual = (selection.peak_over_mean(curve) for curve in (saliency.visual, saliency.textual))
        if visual < settings.flat_visual and textual < settings.flat_textual:
            yield (
                f"no frame stands out: saliency peaks at {visual:.2f} (visual) and {textual:.2f} (textual) times its "
                "mean, so any other frames would do as well (a static or uniform clip)"
            )

    def _pack_sha256(self, settings: SelectSettings) -> str | None:
        return self.pack.config.sha256 if self.pack is not None and settings.needs_model else None

    def _loaded_pack(self) -> Pack:
        if self.pack is None:
            raise ValueError("this selector was made without a model; use Selector.load for tsq, vqm, tqm or a query")
        return self.pack

    def _record(
        self,
        clip: Clip,
        saliency: Saliency | None,
        choices: list[Choice],
        settings: SelectSettings,
        settings_hash: str,
        timings: dict[str, float],
    ) -> Record:
        candidates = tuple(_candidate(clip.batch, saliency, position) for position in range(len(clip.batch)))
        ordered = sorted(choices, key=lambda choice: choice.position) if settings.order == "time" else choices
        used = self.pack.config if self.pack is not None and saliency is not None else None
        return Record(
            path=clip.path,
            status="ok",
            settings_hash=settings_hash,
            requested_k=settings.num_frames,
            video=clip.source.info,
            decode_errors=clip.batch.decode_errors,
            pack_name=used.name if used else None,
            pack_sha256=used.sha256 if used else None,
            selector=settings.selector,
            query=settings.query,
            candidates=candidates,
            frames=tuple(
                SelectedFrame(rank=rank, chosen_by=choice.chosen_by, candidate=candidates[choice.position])
                for rank, choice in enumerate(ordered, start=1)
            ),
            visual_categories=saliency.visual_categories if saliency else (),
            textual_categories=saliency.textual_categories if saliency else (),
            visual_peak_over_mean=selection.peak_over_mean(saliency.visual) if saliency else None,
            textual_peak_over_mean=selection.peak_over_mean(saliency.textual) if saliency else None,
            timings_seconds={**clip.timings_seconds, **timings},
            notes=(*_notes(clip, settings), *self._flatness(saliency)),
        )


def _encoded(encoder: FrameEncoder, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Features [N, D] and logits [N, O] of images [N, 3, S, S]."""
    import torch

    size = CPU_FRAMES_AT_ONCE if images.device.type == "cpu" else len(images)
    outputs = [encoder(some) for some in torch.split(images, size)]
    return torch.cat([output.features for output in outputs]), torch.cat([output.logits for output in outputs])


def _candidate(batch: FrameBatch, saliency: Saliency | None, position: int) -> Candidate:
    return Candidate(
        position=position,
        frame_index=int(batch.frame_indices[position]),
        pts=int(batch.pts[position]),
        time_base=batch.time_base,
        time_seconds=float(batch.pts_seconds[position]),
        score_visual=float(saliency.visual[position]) if saliency else None,
        score_textual=float(saliency.textual[position]) if saliency else None,
    )


def _notes(clip: Clip, settings: SelectSettings) -> Iterator[str]:
    yield from clip.plan.notes
    yield from clip.batch.notes
    num_candidates = len(clip.batch)
    if settings.num_frames > num_candidates:
        yield (
            f"{settings.num_frames} frames were asked for and there are {num_candidates} candidates: "
            "all of them are listed"
        )
    if num_candidates > 1:
        gap = float(np.diff(clip.batch.pts_seconds).max())
        if gap > 10.0:
            yield (
                f"candidates lie up to {gap:.1f} s apart; a shorter event can fall between them "
                "(more --candidates look closer)"
            )


def _categories(indices: torch.Tensor, scores: torch.Tensor, names: Sequence[str]) -> tuple[Category, ...]:
    return tuple(
        Category(index=int(index), label=names[int(index)], score=float(score))
        for index, score in zip(indices.tolist(), scores.float().tolist(), strict=True)
    )


@contextmanager
def _timed(timings: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        timings[stage] = timings.get(stage, 0.0) + time.perf_counter() - started
