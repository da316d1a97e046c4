"""Room 4: the stages in order. Every command, the Python API and the measurements go through here.

open (probe) -> sample -> decode -> preprocess -> encode -> TSQ layers -> saliency -> fuse top K
     -> recognise -> explain (maps) -> record
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from tsq_cli import config, selection
from tsq_cli.clip import Clip, load_clip
from tsq_cli.config import DEFAULT_PACK, ClassifySettings, SelectSettings
from tsq_cli.recognition import Recognition, recognise_clips
from tsq_cli.record import Candidate, RecognizerInfo, Record, SelectedFrame
from tsq_cli.scoring import score_clips
from tsq_cli.selection import Choice
from tsq_cli.types import FrameBatch, Saliency, UInt8Array
from tsq_cli.video import decode_frames

if TYPE_CHECKING:
    from tsq_cli.packs import Pack
    from tsq_cli.packs.recognizers import LoadedRecognizer, RecognizerChoice


class Selector:
    """Selects frames with one pack, loaded once.

    Example:
        >>> record = Selector.load("imagenet-lite").select("examples/demo.mp4")  # doctest: +SKIP
        >>> [frame.candidate.time_seconds for frame in record.frames]  # doctest: +SKIP
    """

    def __init__(self, pack: Pack | None) -> None:
        self.pack = pack

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
        _graph_networks(loaded)
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
        return _process_file(path, settings or SelectSettings(), self.process_clips)

    def process_clips(
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
        saliencies: Sequence[Saliency | None] = [None] * len(clips)
        if settings.needs_model:
            saliencies = score_clips(self.loaded_pack(), clips, settings, timings=timings)
        if settings_hash is None:
            settings_hash = config.settings_hash(settings, pack_sha256=self.pack_sha256(settings), outputs={})
        records = []
        for clip, saliency in zip(clips, saliencies, strict=True):
            choices = self.choose(len(clip.batch), saliency, settings)
            records.append(self._record(clip, saliency, choices, settings, settings_hash))
        return [_with_timings(record, timings, started, len(clips)) for record in records]

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
        lambda_v = settings.lambda_v if settings.lambda_v is not None else self.loaded_pack().config.settings.lambda_v
        return selection.fuse(saliency.visual, saliency.textual, k, lambda_v=lambda_v)

    def _flatness(self, saliency: Saliency | None) -> Iterator[str]:
        """Say so where no candidate stands out in either curve, as on a static clip."""
        if saliency is None or len(saliency.visual) == 1:
            return
        settings = self.loaded_pack().config.settings
        visual, textual = (selection.peak_over_mean(curve) for curve in (saliency.visual, saliency.textual))
        if visual < settings.flat_visual and textual < settings.flat_textual:
            yield (
                f"no frame stands out: saliency peaks at {visual:.2f} (visual) and {textual:.2f} (textual) times its "
                "mean, so any other frames would do as well (a static or uniform clip)"
            )

    def pack_sha256(self, settings: SelectSettings) -> str | None:
        """Identity of the weights behind a selection; None for the baselines, which have none."""
        return self.pack.config.sha256 if self.pack is not None and settings.needs_model else None

    def loaded_pack(self) -> Pack:
        """The pack; a selector made without a model has none, and refuses to guess."""
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
            timings_seconds={**clip.timings_seconds, "total": sum(clip.timings_seconds.values())},
            notes=(*_notes(clip, settings), *self._flatness(saliency)),
        )


class Classifier:
    """Selects frames and says what they show: a selector with a recogniser behind it.

    Example:
        >>> record = Classifier.load("imagenet-lite").classify("examples/demo.mp4")  # doctest: +SKIP
        >>> record.predictions[0].label, record.maps.values.shape  # doctest: +SKIP
    """

    def __init__(self, selector: Selector, recognizer: LoadedRecognizer, settings: ClassifySettings) -> None:
        self.selector = selector
        self.recognizer = recognizer
        self.settings = settings

    @classmethod
    def load(
        cls,
        pack: str = DEFAULT_PACK,
        *,
        recognizer: str | RecognizerChoice = "auto",
        settings: ClassifySettings | None = None,
        selects: bool = True,
        device: str = "auto",
        dtype: str = "auto",
    ) -> Classifier:
        """Load a pack and the recogniser that looks at the selected frames.

        Args:
            pack, device, dtype: as for Selector.load.
            recognizer: "auto" (the pack's, where its weights are at hand or the hub answers, else what the pack
                carries), "embedded" (what needs no hub), a timm model, or the outcome of packs.choose_recognizer.
            settings: what to say of the frames.
            selects: False where only baselines will choose the frames: the pack's own networks are then left out.

        Raises:
            UsageError: unknown pack, recogniser, device or dtype, a recogniser of other classes than the pack's, or one
                that has no saliency maps to give.
            WeightsError: weights that are missing, damaged or out of reach.
        """
        from tsq_cli.models.device import resolve_device, resolve_dtype
        from tsq_cli.packs import find_pack, load_pack
        from tsq_cli.packs.recognizers import choose_recognizer, load_recognizer

        config = find_pack(pack)
        choice = choose_recognizer(config, recognizer) if isinstance(recognizer, str) else recognizer
        place = resolve_device(device)
        kind = resolve_dtype(dtype, place)
        loaded = load_pack(config, device=place, dtype=kind) if selects else None
        network = load_recognizer(config, choice, device=place, dtype=kind, pack=loaded)
        _graph_networks(loaded, network)
        settings = settings or ClassifySettings()
        if settings.maps and not network.recognizer.is_pooled_linear:
            side = network.preprocessor.resize_side  # better refused now than at every video
            recognise_clips(network, [np.zeros((1, side, side, 3), np.uint8)], settings)
        return cls(Selector(loaded), network, settings)

    def classify(self, path: str | PathLike[str], settings: SelectSettings | None = None) -> Record:
        """Select frames of one video and recognise them; see Record for what comes back.

        Raises:
            InputNotFoundError, VideoError: the file is missing or cannot be used (see tsq_cli.errors).
        """
        return _process_file(path, settings or SelectSettings(), self.process_clips)

    def process_clips(
        self, clips: Sequence[Clip], settings: SelectSettings, *, settings_hash: str | None = None
    ) -> list[Record]:
        """Select frames of several decoded videos and recognise them; arguments as Selector.process_clips."""
        if settings_hash is None:
            settings_hash = config.settings_hash(
                settings,
                pack_sha256=self.selector.pack_sha256(settings),
                outputs={},
                recognition=recognition_identity(self.recognizer.choice, self.settings),
            )
        records = self.selector.process_clips(clips, settings, settings_hash=settings_hash)
        started = time.perf_counter()
        timings: dict[str, float] = {}
        frames = [self._frames(clip, record) for clip, record in zip(clips, records, strict=True)]
        recognitions = recognise_clips(self.recognizer, frames, self.settings, timings=timings)
        described = [self._described(*pair) for pair in zip(records, recognitions, strict=True)]
        return [_with_timings(record, timings, started, len(clips)) for record in described]

    def _frames(self, clip: Clip, record: Record) -> UInt8Array:
        """The selected frames as decoded for scoring, or larger where the recogniser wants larger ones."""
        positions = [frame.candidate.position for frame in record.frames]
        wanted = self.recognizer.preprocessor.resize_side
        own = min(clip.source.info.width, clip.source.info.height)
        if min(clip.batch.pixels.shape[1:3]) >= min(wanted, own):
            return clip.batch.pixels[positions]
        by_time = sorted(positions)
        larger = decode_frames(clip.source, clip.batch.frame_indices[by_time], short_side=wanted).pixels
        return larger[[by_time.index(position) for position in positions]]

    def _described(self, record: Record, recognition: Recognition) -> Record:
        choice = self.recognizer.choice
        each = zip(record.frames, recognition.frame_predictions, strict=True)
        return replace(
            record,
            recognizer=RecognizerInfo(
                name=choice.name, requested=choice.requested, source=choice.source, reason=choice.reason
            ),
            predictions=recognition.predictions,
            frames=tuple(replace(frame, predictions=predictions) for frame, predictions in each),
            maps=recognition.maps,
        )


def _graph_networks(pack: Pack | None, recognizer: LoadedRecognizer | None = None) -> None:
    """Let the networks run as CUDA graphs, one for each batch shape, where they lie on a GPU."""
    from tsq_cli.models.graphs import graph_calls

    networks = [] if pack is None else [pack.visual_encoder, pack.object_recognizer, pack.tsqnet]
    for network in {*networks, *([] if recognizer is None else [recognizer.recognizer])}:
        graph_calls(network)


def _process_file(
    path: str | PathLike[str],
    settings: SelectSettings,
    process_clips: Callable[[Sequence[Clip], SelectSettings], list[Record]],
) -> Record:
    with closing(load_clip(path, settings)) as clip:
        return process_clips([clip], settings)[0]


def recognition_identity(choice: RecognizerChoice, settings: ClassifySettings) -> dict[str, Any]:
    """What takes part in the settings hash of a classification."""
    return {"recognizer": choice.identity(), **asdict(settings)}


def _with_timings(record: Record, timings: Mapping[str, float], started: float, num_clips: int) -> Record:
    """Add a clip's share of stages that `num_clips` went through together, and of the time since `started`."""
    elapsed = time.perf_counter() - started
    spent = dict(record.timings_seconds)
    total = spent.pop("total") + elapsed / num_clips
    for stage, seconds in timings.items():
        spent[stage] = spent.get(stage, 0.0) + seconds / num_clips
    return replace(record, timings_seconds={**spent, "total": total})


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
