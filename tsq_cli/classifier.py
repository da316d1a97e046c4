"""Select, then recognize: what `tsq classify` does with each batch of videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from tsq_cli import config
from tsq_cli.arrays import Array, Engine, of_engine
from tsq_cli.clip import Clip, process_file, timed
from tsq_cli.config import DEFAULT_PACK, PAPER, ClassifySettings, EngineChoice, Order, SelectSettings
from tsq_cli.consensus import Consensus, EarlyExit
from tsq_cli.errors import UsageError
from tsq_cli.networks import enable_cuda_graphs, load_sampler
from tsq_cli.pipeline import ChosenClip, Selector, with_timings
from tsq_cli.recognition import (
    Recognition,
    SamplerScores,
    consensus_of,
    early_exit_of,
    forward_clips,
    forward_until_sure,
    postprocess_clip,
    recognize_clips,
)
from tsq_cli.record import RecognizerInfo, Record
from tsq_cli.video import decode_frames

if TYPE_CHECKING:
    from tsq_cli.packs import PackConfig
    from tsq_cli.packs.recognizers import LoadedRecognizer, RecognizerChoice


class Classifier:
    """Selects frames and says what they show: a selector with a recognizer behind it.

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
        pack: str | PackConfig = DEFAULT_PACK,
        *,
        recognizer: str | RecognizerChoice = "auto",
        settings: ClassifySettings | None = None,
        selects: bool = True,
        device: str = "auto",
        dtype: str = "auto",
        engine: EngineChoice = "auto",
    ) -> Classifier:
        """Load a pack and the recognizer that looks at the selected frames.

        Args:
            pack, device, dtype, engine: as for Selector.load; each network runs where it can.
            recognizer: "auto" (the pack's, where its weights are at hand or the hub answers, else what the pack
                carries), "embedded" (what needs no hub), a timm model, or the outcome of packs.choose_recognizer.
            settings: what to say of the frames.
            selects: False where only baselines will choose the frames: the pack's own networks are then left out.

        Raises:
            UsageError: unknown pack, recognizer, device or dtype, a recognizer of other classes than the pack's, or one
                that has no saliency maps to give.
            WeightsError: weights that are missing, damaged or out of reach.
        """
        from tsq_cli.models.device import resolve_device, resolve_precision
        from tsq_cli.packs import find_pack
        from tsq_cli.packs.recognizers import choose_recognizer, load_recognizer

        config = find_pack(pack) if isinstance(pack, str) else pack
        choice = choose_recognizer(config, recognizer) if isinstance(recognizer, str) else recognizer
        place = resolve_device(device)
        loaded = load_sampler(config, device=place, dtype=dtype, engine=engine) if selects else None
        network = load_recognizer(
            loaded or config, choice, device=place, dtype=resolve_precision(dtype, place), engine=engine
        )
        enable_cuda_graphs(loaded, network)
        settings = settings or ClassifySettings()
        if settings.maps and not network.recognizer.is_pooled_linear:
            side = network.preprocessor.resize_side  # better refused now than at every video
            black = of_engine(np.zeros((1, side, side, 3), np.uint8), network.engine)
            recognize_clips(network, [black], replace(settings, pooling=None, evidence=None))
        return cls(Selector(loaded), network, settings)

    def classify(self, path: str | PathLike[str], settings: SelectSettings | None = None) -> Record:
        """Select frames of one video and recognize them; see Record for what comes back.

        Without settings the frames are chosen as the paper does.

        Raises:
            InputNotFoundError, VideoError: the file is missing or cannot be used (see tsq_cli.errors).
        """
        return process_file(path, settings or PAPER, self.process_clips, self.selector.device)

    def process_clips(
        self, clips: Sequence[Clip], settings: SelectSettings, *, settings_hash: str | None = None
    ) -> list[Record]:
        """Select frames of several decoded videos and recognize them; arguments as Selector.process_clips."""
        if settings_hash is None:
            settings_hash = config.settings_hash(
                settings,
                pack_sha256=self.selector.pack_sha256(settings),
                outputs={},
                recognition=recognition_identity(self.recognizer.choice, self.settings, self.consensus(settings)),
                dtype=self.dtype_name(),
            )
        timings: dict[str, float] = {}
        consensus, exit_at = self.consensus(settings), self.early_exit(settings)
        with timed(timings, "total"):
            scored = self.selector.score(clips, settings, timings)
            chosen = self.selector.choose(scored, settings, timings)
            frames = [self._frames(each, settings) for each in chosen]
            samplers = [sampler_scores(each, settings.order, self.recognizer.engine) for each in chosen]
            if exit_at is None:
                outputs = forward_clips(self.recognizer, frames, consensus, samplers, timings)
            else:
                orders = [best_first(each, settings.order) for each in chosen]
                outputs = forward_until_sure(self.recognizer, frames, orders, exit_at, consensus, samplers, timings)
            records = self.selector.records(chosen, settings, timings, settings_hash=settings_hash)
            recognized = [
                self._recognized(
                    record,
                    postprocess_clip(self.recognizer, output, some.shape[1:3], self.settings, timings),
                    consensus,
                )
                for record, output, some in zip(records, outputs, frames, strict=True)
            ]
        return with_timings(recognized, timings)

    def consensus(self, settings: SelectSettings) -> Consensus:
        """Decide how the frames' scores become the video's, see recognition.consensus_of.

        Raises:
            UsageError: as there, or evidence of a sampler that knows other classes than the recognizer.
        """
        consensus = consensus_of(self.recognizer.consensus, self.settings, has_sampler=settings.needs_model)
        pack = self.selector.pack
        if consensus.has_evidence and pack is not None and pack.class_names != self.recognizer.class_names:
            raise UsageError(
                f"the sampler {pack.config.name} and the recognizer {self.recognizer.choice.name} name other classes",
                wanted="the same classes in both for the sampler's evidence to count",
                fix="leave the evidence out (--evidence 0), or use a recognizer of the pack's classes",
            )
        return consensus

    def prefetch(self, clips: Sequence[Clip], settings: SelectSettings) -> None:
        """Start copying candidates to the device, see Selector.prefetch."""
        self.selector.prefetch(clips, settings)

    def _frames(self, chosen: ChosenClip, settings: SelectSettings) -> Array:
        """Gather the chosen frames uint8 [K, H, W, 3] in the record's order; decode them anew where larger ones help.

        Frames chosen on the device are gathered there, unless they are decoded anew.
        """
        clip, positions = chosen.scored.clip, chosen.positions(settings.order)
        engine = self.recognizer.engine
        if self._wants_larger(clip):
            side = self.recognizer.preprocessor.resize_side
            in_order = positions if isinstance(positions, list) else positions.tolist()
            in_time = sorted(in_order)
            larger = decode_frames(clip.source, clip.batch.frame_indices[in_time], short_side=side)
            return of_engine(larger.pixels[[in_time.index(position) for position in in_order]], engine)
        pixels = chosen.scored.pixels
        return of_engine(clip.batch.pixels if pixels is None else pixels, engine)[positions]

    def _wants_larger(self, clip: Clip) -> bool:
        """Whether the recognizer wants larger frames than were decoded for scoring, and the video has them."""
        own = min(clip.source.info.width, clip.source.info.height)
        decoded: int = min(clip.batch.pixels.shape[1:3])
        return decoded < min(self.recognizer.preprocessor.resize_side, own)

    def dtype_name(self) -> str:
        """Precision of the recognizer, which is also that of the networks that choose the frames."""
        from tsq_cli.models.device import dtype_name

        return dtype_name(self.recognizer.dtype)

    def early_exit(self, settings: SelectSettings) -> EarlyExit | None:
        """Decide when the recognizer has seen enough frames, see recognition.early_exit_of.

        Raises:
            UsageError: as there.
        """
        pack = self.selector.pack
        return early_exit_of(
            self.recognizer.early_exit,
            self.settings,
            settings,
            None if pack is None else pack.config.settings,
            is_own_consensus=self.consensus(settings) == self.recognizer.consensus,
        )

    def _recognized(self, record: Record, recognition: Recognition, consensus: Consensus) -> Record:
        """Add what was recognized to a record."""
        choice = self.recognizer.choice
        each = recognition.frame_predictions
        return replace(
            record,
            dtype=self.dtype_name(),
            device=self.recognizer.device,
            engine=self.recognizer.engine,
            recognizer=RecognizerInfo(
                name=choice.name,
                requested=choice.requested,
                source=choice.source,
                reason=choice.reason,
                pooling=consensus.pooling,
                evidence_visual=consensus.evidence_visual,
                evidence_textual=consensus.evidence_textual,
                frames_used=len(each),
            ),
            predictions=recognition.predictions,
            frames=tuple(replace(frame, predictions=each.get(i)) for i, frame in enumerate(record.frames)),
            maps=recognition.maps,
        )


def sampler_scores(chosen: ChosenClip, order: Order, engine: Engine) -> SamplerScores | None:
    """Gather what the sampler says of a clip and of its chosen frames, in the record's order; None if none ran.

    Args:
        chosen: the clip.
        order: of the record.
        engine: what runs the recognizer, whose kind of arrays it wants.
    """
    scores = chosen.scored.scores
    if scores is None:
        return None
    visual, textual = scores.visual, scores.textual
    return SamplerScores(
        weights=of_engine(visual.scores[0][chosen.positions(order)], engine),
        classes=(of_engine(visual.logits[0], engine), of_engine(textual.logits[0], engine)),
    )


def best_first(chosen: ChosenClip, order: Order) -> list[int]:
    """List the chosen frames from the best one on, as indices of the record's list of them."""
    listed, best = (
        positions if isinstance(positions, list) else positions.tolist()
        for positions in (chosen.positions(order), chosen.positions("score"))
    )
    return [listed.index(position) for position in best]


def recognition_identity(choice: RecognizerChoice, settings: ClassifySettings, consensus: Consensus) -> dict[str, Any]:
    """Collect what a classification adds to the settings hash; the consensus stands for what the settings ask for."""
    return {"recognizer": choice.identity(), **asdict(settings), "evidence": None, **asdict(consensus)}
