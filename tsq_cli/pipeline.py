"""Room 4: the stages of selection in order, for every command, the Python API and the measurements.

open (probe) -> sample -> decode -> preprocess -> encode -> TSQ layers -> saliency -> choose K -> record

tsq_cli.classifier puts the recogniser and its maps behind the fusion.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from tsq_cli import config, selection
from tsq_cli.clip import Clip, load_clip, timed
from tsq_cli.config import DEFAULT_PACK, PAPER_CANDIDATES, PASSING_OVER, SelectSettings
from tsq_cli.quality import frame_quality
from tsq_cli.record import Candidate, Record, SelectedFrame
from tsq_cli.scoring import ScoredClips, score_clips
from tsq_cli.selection import Evidence, RuleSettings, Selection
from tsq_cli.types import Saliency

if TYPE_CHECKING:
    from torch import Tensor

    from tsq_cli.packs import Pack
    from tsq_cli.packs.recognizers import LoadedRecognizer


@dataclass(kw_only=True)
class Look:
    """What the networks make of several clips, as long as the host has read nothing of it.

    Attributes:
        clips: decoded.
        pixels: their candidates on the device, uint8 [T, H, W, 3] each; empty where no network looks.
        scored: what both modules say; None where no network looks.
        timings: seconds of each stage so far, of all clips together.
        started: time.perf_counter() at the beginning.
    """

    clips: Sequence[Clip]
    pixels: list[Tensor] = field(default_factory=list)
    scored: ScoredClips | None = None
    timings: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=time.perf_counter)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the host knows of one clip: its frames, and what the networks say of them (None where none looked)."""

    clip: Clip
    evidence: Evidence
    saliency: Saliency | None = None


class Selector:
    """Selects frames with one pack, loaded once.

    Example:
        >>> record = Selector.load("imagenet-lite").select("examples/demo.mp4")  # doctest: +SKIP
        >>> [frame.candidate.time_seconds for frame in record.frames]  # doctest: +SKIP
    """

    def __init__(self, pack: Pack | None) -> None:
        self.pack = pack
        self._ahead: WeakKeyDictionary[Clip, Callable[[], Tensor]] = WeakKeyDictionary()

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
        loaded = load_pack(pack, device=place, dtype=resolve_dtype(dtype, place))
        graph_networks(loaded)
        return cls(loaded)

    @classmethod
    def without_model(cls) -> Selector:
        """A selector for the baselines (uniform, random, middle), which look at no pixel and need no weights."""
        return cls(None)

    def select(self, path: str | PathLike[str], settings: SelectSettings | None = None) -> Record:
        """Select frames of one video; see Record for what comes back.

        Raises:
            InputNotFoundError, VideoError: the file is missing or cannot be used (see tsq_cli.errors).
        """
        return process_file(path, settings or SelectSettings(), self.process_clips)

    def process_clips(
        self, clips: Sequence[Clip], settings: SelectSettings, *, settings_hash: str | None = None
    ) -> list[Record]:
        """Select frames of several decoded videos, their candidates encoded as one batch.

        Args:
            clips: at least one; they stay open, for a second pass over the selected frames.
            settings: the same for all.
            settings_hash: identity of the run, where its caller knows more of it (the files it writes).
        """
        return self.records(self.look(clips, settings), settings, settings_hash=settings_hash)

    def look(self, clips: Sequence[Clip], settings: SelectSettings) -> Look:
        """Have the networks look at the candidates of all clips; on a GPU nothing is waited for."""
        look = Look(clips=clips)
        if settings.needs_model:
            pack = self.loaded_pack()
            with timed(look.timings, "preprocess"):
                self.send_ahead(clips, settings)
                arrived = {clip: self._ahead.pop(clip)() for clip in dict.fromkeys(clips)}
                look.pixels = [arrived[clip] for clip in clips]
            look.scored = score_clips(pack, look.pixels, settings, timings=look.timings)
        return look

    def send_ahead(self, clips: Sequence[Clip], settings: SelectSettings) -> None:
        """Begin to copy candidates to the device, so that they are there when `look` wants them."""
        if settings.needs_model:
            import torch

            from tsq_cli.models.device import upload

            device = self.loaded_pack().device
            for clip in clips:
                if clip not in self._ahead:
                    self._ahead[clip] = upload(torch.from_numpy(clip.batch.pixels), device)

    def records(self, look: Look, settings: SelectSettings, *, settings_hash: str | None = None) -> list[Record]:
        """Read what was seen of each clip, choose frames by it, and say so."""
        if settings_hash is None:
            settings_hash = config.settings_hash(
                settings, pack_sha256=self.pack_sha256(settings), outputs={}, dtype=self.dtype_name(settings)
            )
        with timed(look.timings, "read"):
            seen = self._read(look, settings)
        with timed(look.timings, "choose"):
            records = [self._record(each, self.choose(each, settings), settings, settings_hash) for each in seen]
        return [with_timings(record, look.timings, look.started, len(look.clips)) for record in records]

    def _read(self, look: Look, settings: SelectSettings) -> list[Seen]:
        """Bring to the host what the networks say of each clip, waiting for it."""
        if look.scored is None:
            return [Seen(clip=clip, evidence=Evidence(times=clip.batch.pts_seconds)) for clip in look.clips]
        return [
            Seen(
                clip=clip,
                saliency=saliency,
                evidence=Evidence(
                    times=clip.batch.pts_seconds,
                    visual=saliency.visual,
                    textual=saliency.textual,
                    features=features,
                    quality=frame_quality(clip.batch.pixels) if settings.selector in PASSING_OVER else None,
                ),
            )
            for clip, saliency, features in zip(
                look.clips, look.scored.read(), look.scored.unit_features(), strict=True
            )
        ]

    def lambda_v(self, settings: SelectSettings) -> float:
        """The share of the visual module in the selected frames: all or nothing where one module is asked alone."""
        if settings.query is not None or settings.selector == "tqm":
            return 0.0
        if settings.selector == "vqm":
            return 1.0
        return settings.lambda_v if settings.lambda_v is not None else self.loaded_pack().config.settings.lambda_v

    def choose(self, seen: Seen, settings: SelectSettings) -> Selection:
        """Choose min(K, T) candidates of one clip by the rule of the settings."""
        if settings.query is not None and seen.saliency is not None:
            choices = selection.top_k(seen.saliency.textual, settings.most_frames, chosen_by="query")
            return Selection(choices=tuple(choices), rule="tqm")
        return selection.choose(settings.selector, seen.evidence, settings.most_frames, self.rule_settings(settings))

    def rule_settings(self, settings: SelectSettings) -> RuleSettings:
        """The numbers of the rules: those of the run, and of the pack where one looks."""
        if not settings.needs_model:
            return RuleSettings(seed=settings.seed)
        return replace(
            self.loaded_pack().config.settings.rules,
            lambda_v=self.lambda_v(settings),
            skips_duplicates=settings.duplicates == "skip",
            only_different=settings.num_frames == "auto",
            seed=settings.seed,
        )

    def _flatness(self, saliency: Saliency | None, settings: SelectSettings) -> Iterator[str]:
        """Say so where a rule reads the curves alone, and no candidate stands out in either, as on a static clip."""
        if saliency is None or len(saliency.visual) == 1 or not settings.reads_only_curves:
            return
        pack = self.loaded_pack().config.settings
        visual, textual = (selection.peak_over_mean(curve) for curve in (saliency.visual, saliency.textual))
        if visual < pack.flat_visual and textual < pack.flat_textual:
            yield (
                f"no frame stands out: saliency peaks at {visual:.2f} (visual) and {textual:.2f} (textual) times its "
                "mean, so any other frames would do as well (a static or uniform clip)"
            )

    def pack_sha256(self, settings: SelectSettings) -> str | None:
        """Identity of the weights behind a selection; None for the baselines, which have none."""
        return self.pack.config.sha256 if self.pack is not None and settings.needs_model else None

    def dtype_name(self, settings: SelectSettings) -> str | None:
        """Precision of the networks behind a selection; None for the baselines, which have none."""
        if self.pack is None or not settings.needs_model:
            return None
        from tsq_cli.models.device import dtype_name

        return dtype_name(self.pack.dtype)

    def loaded_pack(self) -> Pack:
        """The pack; a selector made without a model has none, and refuses to guess."""
        if self.pack is None:
            raise ValueError("this selector was made without a model; use Selector.load for tsq, vqm, tqm or a query")
        return self.pack

    def _record(self, seen: Seen, chosen: Selection, settings: SelectSettings, settings_hash: str) -> Record:
        clip, saliency = seen.clip, seen.saliency
        candidates = tuple(_candidate(seen, chosen, position) for position in range(len(clip.batch)))
        by_time = settings.order == "time"
        ordered = sorted(chosen.choices, key=lambda choice: choice.position) if by_time else chosen.choices
        used = self.pack if saliency is not None else None
        return Record(
            path=clip.path,
            status="ok",
            settings_hash=settings_hash,
            requested_k=settings.num_frames,
            video=clip.source.info,
            decode_errors=clip.batch.decode_errors,
            pack_name=used.config.name if used else None,
            pack_sha256=used.config.sha256 if used else None,
            dtype=self.dtype_name(settings),
            device=str(used.textual_embeddings.device) if used else None,
            selector=settings.selector,
            rule=chosen.rule,
            rule_reason=chosen.reason,
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
            timings_seconds={**clip.timings_seconds, "total": sum(clip.timings_seconds.values())},
            notes=(*_notes(clip, chosen, settings), *self._flatness(saliency, settings)),
        )


def graph_networks(pack: Pack | None, recognizer: LoadedRecognizer | None = None) -> None:
    """Let the networks run as CUDA graphs, one for each batch shape, where they lie on a GPU."""
    from tsq_cli.models.graphs import graph_calls

    networks = [] if pack is None else [pack.visual_encoder, pack.object_recognizer, pack.tsqnet]
    for network in {*networks, *([] if recognizer is None else [recognizer.recognizer])}:
        graph_calls(network)


def process_file(
    path: str | PathLike[str],
    settings: SelectSettings,
    process_clips: Callable[[Sequence[Clip], SelectSettings], list[Record]],
) -> Record:
    """Decode one file and process it alone, as Selector.select and Classifier.classify do."""
    with closing(load_clip(path, settings)) as clip:
        return process_clips([clip], settings)[0]


def with_timings(record: Record, timings: Mapping[str, float], started: float, num_clips: int) -> Record:
    """Add a clip's share of stages that `num_clips` went through together, and of the time since `started`."""
    elapsed = time.perf_counter() - started
    spent = dict(record.timings_seconds)
    total = spent.pop("total") + elapsed / num_clips
    for stage, seconds in timings.items():
        spent[stage] = spent.get(stage, 0.0) + seconds / num_clips
    return replace(record, timings_seconds={**spent, "total": total})


def _candidate(seen: Seen, chosen: Selection, position: int) -> Candidate:
    batch, saliency, quality = seen.clip.batch, seen.saliency, seen.evidence.quality
    same = -1 if chosen.duplicate_of is None else int(chosen.duplicate_of[position])
    return Candidate(
        position=position,
        frame_index=int(batch.frame_indices[position]),
        pts=int(batch.pts[position]),
        time_base=batch.time_base,
        time_seconds=float(batch.pts_seconds[position]),
        shift_seconds=float(batch.snap_seconds[position]),
        score_visual=float(saliency.visual[position]) if saliency else None,
        score_textual=float(saliency.textual[position]) if saliency else None,
        quality=None if quality is None else float(quality[position]),
        event=None if chosen.events is None else int(chosen.events[position]),
        duplicate_of=None if same < 0 else same,
    )


def _notes(clip: Clip, chosen: Selection, settings: SelectSettings) -> Iterator[str]:
    yield from clip.plan.notes
    yield from clip.batch.notes
    num_candidates = len(clip.batch)
    if clip.plan.requested == settings.num_frames and clip.plan.requested > PAPER_CANDIDATES:
        yield (
            f"the candidates were raised from {PAPER_CANDIDATES} to {clip.plan.requested}, as many as "
            "frames were asked for, so all are taken (more --candidates leave a choice)"
        )
    if settings.num_frames != "auto" and settings.num_frames > num_candidates:
        yield (
            f"{settings.num_frames} frames were asked for and there are {num_candidates} candidates: "
            "all of them are listed"
        )
    if settings.selector in PASSING_OVER and settings.duplicates == "skip" and chosen.duplicate_of is not None:
        positions = [choice.position for choice in chosen.choices]
        repeated = int((chosen.duplicate_of[positions] >= 0).sum())
        if repeated:
            yield (
                f"{repeated} of {len(positions)} frames show the same as another of them: nothing else was left "
                "(-k auto lists as many as differ)"
            )
    if num_candidates > 1 and settings.num_candidates != "auto":
        gap = float(np.diff(clip.batch.pts_seconds).max())
        if gap > 10.0:
            yield (
                f"candidates lie up to {gap:.1f} s apart; a shorter event can fall between them "
                "(more --candidates look closer)"
            )
