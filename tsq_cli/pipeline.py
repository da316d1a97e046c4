"""Room 4: the stages of selection in order, for every command, the Python API and the measurements.

open (probe) -> sample -> decode -> preprocess -> encode -> TSQ layers -> saliency -> choose K -> record

tsq_cli.classifier puts the recogniser and its maps behind the fusion.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from tsq_cli import config, selection
from tsq_cli.clip import Clip, load_clip, most_candidates, timed
from tsq_cli.config import DEFAULT_PACK, PASSING_OVER, SelectorName, SelectSettings
from tsq_cli.cover import shows_too_little
from tsq_cli.describe import Seen, describe
from tsq_cli.layout import layouts
from tsq_cli.quality import candidate_quality
from tsq_cli.record import Record
from tsq_cli.scoring import ScoredClips, score_clips
from tsq_cli.selection import Evidence, RuleSettings, Selection, follow
from tsq_cli.sharpest import sharpen
from tsq_cli.video.refine import closer_frames

if TYPE_CHECKING:
    from torch import Tensor

    from tsq_cli.packs import Pack
    from tsq_cli.packs.recognizers import LoadedRecognizer


MOST_CLOSER = 32
"""Candidates at most that a second look adds (ours)."""


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
        records, dtype = [], self.dtype_name(settings)
        for number, each in enumerate(seen):
            follows = None
            if self._misses_much(each, settings):
                # The bar of `auto` is made for the first candidates, so what stands out is told among them.
                follows = follow(each.evidence, self.rule_settings(settings))
                if "cover" in (settings.selector, follows[0]):
                    each = self._looked_closer(look, number, each, settings)
            with timed(look.timings, "choose"):
                chosen = self.choose(each, settings, follows=follows)
            if settings.sharpest:
                with timed(look.timings, "sharpest"):
                    each = self._sharpened(look, number, each, chosen, settings)
            records.append(describe(each, chosen, settings, pack=self.pack, dtype=dtype, settings_hash=settings_hash))
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
                    quality=candidate_quality(clip.batch.pixels) if settings.selector in PASSING_OVER else None,
                    layout=layouts(clip.batch.pixels) if settings.selector in PASSING_OVER else None,
                ),
            )
            for clip, saliency, features in zip(
                look.clips, look.scored.read(), look.scored.unit_features(), strict=True
            )
        ]

    def _misses_much(self, seen: Seen, settings: SelectSettings) -> bool:
        """Whether more candidates are worth their price, unless something stands out among these (ours)."""
        least = 1 if settings.num_frames == "auto" else settings.num_frames
        return (
            settings.num_candidates == "auto"
            and settings.selector in PASSING_OVER
            and settings.query is None
            and settings.decode_mode != "keyframes"
            and shows_too_little(seen.evidence.similarity, seen.evidence.quality, least)
        )

    def _looked_closer(self, look: Look, number: int, seen: Seen, settings: SelectSettings) -> Seen:
        """Decode and score more candidates of one clip, between neighbors that differ."""
        clip = seen.clip
        taken, similar = clip.batch.frame_indices, seen.evidence.similarity.diagonal(offset=1)
        room = most_candidates(clip.source, settings.short_side) - len(taken)
        budget = max(0, min(len(taken), MOST_CLOSER, room))
        between = closer_frames(clip.source.pts_seconds, taken, similar, budget)
        if len(between) == 0:
            return seen
        with timed(look.timings, "decode"):
            clip.look_closer(between, settings)
        added = len(clip.batch) - len(taken)
        note = f"neighboring candidates differ or are poor pictures, so {added} more (at most {budget}) were looked at"
        clip.batch = replace(clip.batch, notes=(*clip.batch.notes, note))
        again = self.look([clip], settings)
        look.pixels[number] = again.pixels[0]
        for stage, seconds in again.timings.items():
            look.timings[stage] = look.timings.get(stage, 0.0) + seconds
        return self._read(again, settings)[0]

    def _sharpened(self, look: Look, number: int, seen: Seen, chosen: Selection, settings: SelectSettings) -> Seen:
        """Let sharper frames beside them take the place of the selected ones."""
        clip = seen.clip
        clip.batch = sharpen(clip, [choice.position for choice in chosen.choices], settings)
        if look.pixels:
            import torch

            look.pixels[number] = torch.from_numpy(clip.batch.pixels)
        quality = None if seen.evidence.quality is None else candidate_quality(clip.batch.pixels)
        return replace(seen, evidence=replace(seen.evidence, times=clip.batch.pts_seconds, quality=quality))

    def lambda_v(self, settings: SelectSettings) -> float:
        """The share of the visual module in the selected frames: all or nothing where one module is asked alone."""
        if settings.query is not None or settings.selector == "tqm":
            return 0.0
        if settings.selector == "vqm":
            return 1.0
        return settings.lambda_v if settings.lambda_v is not None else self.loaded_pack().config.settings.lambda_v

    def choose(
        self, seen: Seen, settings: SelectSettings, *, follows: tuple[SelectorName, str] | None = None
    ) -> Selection:
        """Choose min(K, T) candidates of one clip by the rule of the settings; `follows` as in selection.choose."""
        if settings.query is not None and seen.saliency is not None:
            choices = selection.top_k(seen.saliency.textual, settings.most_frames, chosen_by="query")
            return Selection(choices=tuple(choices), rule="tqm")
        rules = self.rule_settings(settings)
        return selection.choose(settings.selector, seen.evidence, settings.most_frames, rules, follows=follows)

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
            raise ValueError("this selector was made without a model; use Selector.load for rules that look at pixels")
        return self.pack


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
