"""The stages of selection in order, for every command, the Python API and the measurements.

open (probe) -> sample -> decode -> preprocess -> encode -> TSQ layers -> saliency -> choose K -> record

tsq_cli.classifier puts the recognizer and its maps behind the fusion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from tsq_cli import config, selection
from tsq_cli.arrays import Array, of_engine
from tsq_cli.clip import Clip, most_candidates, process_file, timed
from tsq_cli.config import DEFAULT_PACK, PASSING_OVER, EngineChoice, Order, SelectSettings
from tsq_cli.describe import Seen, describe
from tsq_cli.matching import Matchers
from tsq_cli.networks import enable_cuda_graphs, load_sampler, uploaded
from tsq_cli.record import Record
from tsq_cli.rules.cover import shows_too_little
from tsq_cli.rules.evidence import Evidence
from tsq_cli.rules.layout import layouts
from tsq_cli.rules.quality import candidate_quality
from tsq_cli.scoring import ClipScores, score_clips
from tsq_cli.selection import Choice, RuleSettings, Selection, follow
from tsq_cli.sharpest import sharpen
from tsq_cli.video.refine import closer_frames

if TYPE_CHECKING:
    from tsq_cli.packs import Pack, PackConfig
    from tsq_cli.packs.image_text import QueryModelChoice

MOST_CLOSER = 32
"""Candidates at most that a second look adds (ours)."""


@dataclass(frozen=True, kw_only=True)
class ScoredClip:
    """A clip with the scores of its candidates, which may still be on the device.

    Attributes:
        clip: decoded.
        pixels: its candidates, uint8 [T, H, W, 3] on the device; None if no network runs.
        scores: of one clip (B = 1); None if no network runs.
        matches: with the parts of the queries [P, T]; None without a query.
    """

    clip: Clip
    pixels: Array | None = None
    scores: ClipScores | None = None
    matches: Array | None = None


@dataclass(frozen=True, kw_only=True)
class ChosenClip:
    """A clip with the frames chosen of it: by the host, which has read the scores, or on the device.

    Attributes:
        scored: the clip and its scores.
        seen, selection: what the host has read, and chose by it; None where the device chose.
        picks: positions and reasons as fuse_on_device gives them, int64 [K] each; None where the host chose.
    """

    scored: ScoredClip
    seen: Seen | None = None
    selection: Selection | None = None
    picks: tuple[Array, Array] | None = None

    def positions(self, order: Order) -> Array | list[int]:
        """Candidates chosen, int64 [K], in the order of the record's list; where the device chose they stay there."""
        if self.picks is not None:
            return self.picks[0].sort().values if order == "time" else self.picks[0]
        assert self.selection is not None  # one of the two chose
        return [choice.position for choice in self.selection.listed(order)]


class Selector:
    """Selects frames with one pack, loaded once.

    Example:
        >>> record = Selector.load("imagenet-lite").select("examples/demo.mp4")  # doctest: +SKIP
        >>> [frame.candidate.time_seconds for frame in record.frames]  # doctest: +SKIP
    """

    def __init__(self, pack: Pack | None) -> None:
        self.pack = pack
        self.device = "cpu" if pack is None else pack.device
        self._matchers = Matchers()
        self._prefetched: WeakKeyDictionary[Clip, Callable[[], Array]] = WeakKeyDictionary()

    @classmethod
    def load(
        cls,
        pack: str | PackConfig = DEFAULT_PACK,
        *,
        device: str = "auto",
        dtype: str = "auto",
        engine: EngineChoice = "auto",
    ) -> Selector:
        """Load a pack by name or folder onto a device.

        Args:
            pack: name of an installed pack, or a folder that holds a pack.json, or its description.
            device: "auto" (CUDA where there is one, else CPU), "cpu", "cuda" or "cuda:<index>".
            dtype: "auto" (float32 on a CPU, float16 on CUDA), "float32", "bfloat16" or "float16".
            engine: what runs the networks: "onnx" (ONNX Runtime), "torch", or "auto" (see resolve_engine).

        Raises:
            UsageError: unknown pack, or a device, dtype or engine that is not there.
            WeightsError: weights that are missing, damaged or out of reach.
        """
        loaded = load_sampler(pack, device=device, dtype=dtype, engine=engine)
        enable_cuda_graphs(loaded)
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
        return process_file(path, settings or SelectSettings(), self.process_clips, self.device)

    def process_clips(
        self, clips: Sequence[Clip], settings: SelectSettings, *, settings_hash: str | None = None
    ) -> list[Record]:
        """Select frames of several decoded videos, their candidates encoded as one batch.

        Args:
            clips: at least one; they stay open, for a second pass over the selected frames.
            settings: the same for all.
            settings_hash: identity of the run, where its caller knows more of it (the files it writes).
        """
        timings: dict[str, float] = {}
        with timed(timings, "total"):
            scored = self.score(clips, settings, timings)
            chosen = self.choose(scored, settings, timings)
            records = self.records(chosen, settings, timings, settings_hash=settings_hash)
        return with_timings(records, timings)

    def score(self, clips: Sequence[Clip], settings: SelectSettings, timings: dict[str, float]) -> list[ScoredClip]:
        """Score the candidates of all clips; on a GPU the host waits for nothing.

        Args:
            clips, settings: as for process_clips.
            timings: seconds of each stage are added here, of all clips together.
        """
        if not settings.needs_model:
            return [ScoredClip(clip=clip) for clip in clips]
        pack = self.loaded_pack()
        with timed(timings, "preprocess"):
            self.prefetch(clips, settings)
            arrived = {clip: self._prefetched.pop(clip)() for clip in dict.fromkeys(clips)}
        pixels = [arrived[clip] for clip in clips]
        scores = score_clips(pack, pixels, settings, timings=timings)
        matches = self._matchers.match(pack, pixels, settings, timings)
        return [
            ScoredClip(clip=clip, pixels=p, scores=s, matches=m)
            for clip, p, s, m in zip(clips, pixels, scores, matches, strict=True)
        ]

    def prefetch(self, clips: Sequence[Clip], settings: SelectSettings) -> None:
        """Start copying candidates to the device, so that they are there when `score` wants them."""
        if not settings.needs_model:
            return
        engine = self.loaded_pack().engine
        for clip in clips:
            if clip not in self._prefetched:
                self._prefetched[clip] = uploaded(of_engine(clip.batch.pixels, engine), self.device)

    def choose(
        self, scored: Sequence[ScoredClip], settings: SelectSettings, timings: dict[str, float]
    ) -> list[ChosenClip]:
        """Choose min(K, T) frames of each clip, once: on a GPU where the curves alone decide, else on the host.

        A clip may get more or sharper candidates on the way, see `-n auto` and `--sharpest`.

        Args:
            scored: of `score`.
            settings: of the run.
            timings: seconds of each stage are added here.
        """
        if self.chooses_on_device(settings):
            with timed(timings, "choose"):
                return [self._choose_on_device(each, settings) for each in scored]
        return [self._choose_on_host(each, settings, timings) for each in scored]

    def records(
        self,
        chosen: Sequence[ChosenClip],
        settings: SelectSettings,
        timings: dict[str, float],
        *,
        settings_hash: str | None = None,
    ) -> list[Record]:
        """Copy to the host what it has not read yet, and build one record per clip.

        Args:
            chosen: of `choose`.
            settings: of the run.
            timings: seconds of each stage are added here.
            settings_hash: as for process_clips.
        """
        dtype = self.dtype_name(settings)
        if settings_hash is None:
            settings_hash = config.settings_hash(
                settings, pack_sha256=self.pack_sha256(settings), outputs={}, dtype=dtype
            )
        records = []
        for each in chosen:
            with timed(timings, "read"):
                seen = each.seen or self._read(each.scored, settings)
                selection = each.selection or self._selection(each, seen, settings)
            records.append(
                describe(seen, selection, settings, pack=self.pack, dtype=dtype, settings_hash=settings_hash)
            )
        return records

    def chooses_on_device(self, settings: SelectSettings) -> bool:
        """Whether frames are chosen where the scores are: on a GPU, by a rule that reads nothing but the two curves."""
        return settings.reads_only_curves and self.loaded_pack().device.startswith("cuda")

    def _choose_on_device(self, scored: ScoredClip, settings: SelectSettings) -> ChosenClip:
        from tsq_cli.models import fuse_on_device

        assert scored.scores is not None  # the rule reads curves
        visual, textual = scored.scores.visual.scores, scored.scores.textual.scores
        k = min(settings.most_frames, visual.shape[1])
        positions, reasons = fuse_on_device(visual, textual, k, lambda_v=self.lambda_v(settings))
        return ChosenClip(scored=scored, picks=(positions[0], reasons[0]))

    def _choose_on_host(self, scored: ScoredClip, settings: SelectSettings, timings: dict[str, float]) -> ChosenClip:
        with timed(timings, "read"):
            seen = self._read(scored, settings)
        rules, follows = self.rule_settings(settings), None
        if self._misses_much(seen, settings):
            # The bar of `auto` is made for the first candidates, so what stands out is told among them.
            follows = follow(seen.evidence, rules)
            if "cover" in (settings.selector, follows[0]):
                scored, seen = self._looked_closer(scored, seen, settings, timings)
        with timed(timings, "choose"):
            if seen.answer is not None:
                selected = selection.choose_asked(seen.answer, seen.evidence, settings.most_frames, rules)
            else:
                selected = selection.choose(
                    settings.selector, seen.evidence, settings.most_frames, rules, follows=follows
                )
        if settings.sharpest:
            with timed(timings, "sharpest"):
                scored, seen = self._sharpened(scored, seen, selected, settings)
        return ChosenClip(scored=scored, seen=seen, selection=selected)

    def _selection(self, chosen: ChosenClip, seen: Seen, settings: SelectSettings) -> Selection:
        """Copy to the host what the device chose."""
        from tsq_cli.models import CHOSEN_ON_DEVICE

        assert chosen.picks is not None  # the device chose
        positions, reasons = (part.tolist() for part in chosen.picks)
        choices = [Choice(p, CHOSEN_ON_DEVICE[reason]) for p, reason in zip(positions, reasons, strict=True)]
        return selection.selected(choices, seen.evidence, self.rule_settings(settings), rule=settings.selector)

    def _read(self, scored: ScoredClip, settings: SelectSettings) -> Seen:
        """Copy the scores of one clip to the host, waiting for them."""
        clip = scored.clip
        if scored.scores is None:
            return Seen(clip=clip, evidence=Evidence(times=clip.batch.pts_seconds))
        saliency, answered = scored.scores.read(), None
        if scored.matches is not None:
            answered, saliency = self._matchers.answer(self.loaded_pack(), scored.matches, saliency, settings)
        evidence = Evidence(
            times=clip.batch.pts_seconds,
            visual=saliency.visual,
            textual=saliency.textual,
            features=scored.scores.unit_features(),
            quality=candidate_quality(clip.batch.pixels) if settings.selector in PASSING_OVER else None,
            layout=layouts(clip.batch.pixels) if settings.selector in PASSING_OVER else None,
        )
        return Seen(clip=clip, evidence=evidence, saliency=saliency, answer=answered)

    def _misses_much(self, seen: Seen, settings: SelectSettings) -> bool:
        """Whether to look at more candidates, unless something stands out among these (ours)."""
        least = 1 if settings.num_frames == "auto" else settings.num_frames
        return (
            settings.num_candidates == "auto"
            and settings.selector in PASSING_OVER
            and settings.query is None
            and settings.decode_mode != "keyframes"
            and shows_too_little(seen.evidence.similarity, seen.evidence.quality, least)
        )

    def _looked_closer(
        self, scored: ScoredClip, seen: Seen, settings: SelectSettings, timings: dict[str, float]
    ) -> tuple[ScoredClip, Seen]:
        """Decode and score more candidates of one clip, between neighbors that differ."""
        clip = scored.clip
        taken, similar = clip.batch.frame_indices, seen.evidence.similarity.diagonal(offset=1)
        room = most_candidates(clip.source, settings.short_side) - len(taken)
        budget = max(0, min(len(taken), MOST_CLOSER, room))
        between = closer_frames(clip.source.pts_seconds, taken, similar, budget)
        if len(between) == 0:
            return scored, seen
        with timed(timings, "decode"):
            clip.look_closer(between, settings)
        added = len(clip.batch) - len(taken)
        note = f"neighboring candidates differ or are poor pictures, so {added} more (at most {budget}) were looked at"
        clip.batch = replace(clip.batch, notes=(*clip.batch.notes, note))
        (again,) = self.score([clip], settings, timings)
        return again, self._read(again, settings)

    def _sharpened(
        self, scored: ScoredClip, seen: Seen, chosen: Selection, settings: SelectSettings
    ) -> tuple[ScoredClip, Seen]:
        """Replace selected frames by sharper ones beside them."""
        clip = scored.clip
        clip.batch = sharpen(clip, [choice.position for choice in chosen.choices], settings)
        quality = None if seen.evidence.quality is None else candidate_quality(clip.batch.pixels)
        evidence = replace(seen.evidence, times=clip.batch.pts_seconds, quality=quality)
        return replace(scored, pixels=None), replace(seen, evidence=evidence)

    def lambda_v(self, settings: SelectSettings) -> float:
        """Share of the visual module in the selected frames: all or none if only one module is asked."""
        if settings.selector == "tqm":
            return 0.0
        if settings.selector == "vqm":
            return 1.0
        return settings.lambda_v if settings.lambda_v is not None else self.loaded_pack().config.settings.lambda_v

    def rule_settings(self, settings: SelectSettings) -> RuleSettings:
        """Combine the rules' numbers: those of the run, and the pack's if a network runs."""
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

    def prepare_queries(self, settings: SelectSettings, choice: QueryModelChoice | None = None) -> None:
        """Load what matches frames with the queries of a run, and embed them, see Matchers.prepare."""
        if settings.query is not None:
            self._matchers.prepare(self.loaded_pack(), settings, choice)

    def loaded_pack(self) -> Pack:
        """Return the pack.

        Raises:
            ValueError: the selector was made without a model.
        """
        if self.pack is None:
            raise ValueError("this selector was made without a model; use Selector.load for rules that look at pixels")
        return self.pack


def with_timings(records: Sequence[Record], timings: Mapping[str, float]) -> list[Record]:
    """Add to each record its share of the stages that all of them went through together, in order, the total last."""
    timed_records = []
    for record in records:
        spent = dict(record.timings_seconds)
        own_total = spent.pop("total")
        for stage, seconds in timings.items():  # the total ends last
            spent[stage] = spent.get(stage, 0.0) + seconds / len(records)
        spent["total"] += own_total
        timed_records.append(replace(record, timings_seconds=spent))
    return timed_records
