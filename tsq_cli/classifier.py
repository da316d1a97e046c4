"""Select, then recognize: what `tsq classify` does with each batch of videos."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

from tsq_cli import config
from tsq_cli.clip import Clip
from tsq_cli.config import DEFAULT_PACK, PAPER, ClassifySettings, SelectSettings
from tsq_cli.pipeline import Look, Selector, graph_networks, process_file, with_timings
from tsq_cli.recognition import Recognition, forward_recognizer, postprocess_clip, recognize_clips
from tsq_cli.record import RecognizerInfo, Record
from tsq_cli.video import decode_frames

if TYPE_CHECKING:
    from torch import Tensor

    from tsq_cli.models.recognizer import RecognizerOutput
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
        pack: str = DEFAULT_PACK,
        *,
        recognizer: str | RecognizerChoice = "auto",
        settings: ClassifySettings | None = None,
        selects: bool = True,
        device: str = "auto",
        dtype: str = "auto",
    ) -> Classifier:
        """Load a pack and the recognizer that looks at the selected frames.

        Args:
            pack, device, dtype: as for Selector.load.
            recognizer: "auto" (the pack's, where its weights are at hand or the hub answers, else what the pack
                carries), "embedded" (what needs no hub), a timm model, or the outcome of packs.choose_recognizer.
            settings: what to say of the frames.
            selects: False where only baselines will choose the frames: the pack's own networks are then left out.

        Raises:
            UsageError: unknown pack, recognizer, device or dtype, a recognizer of other classes than the pack's, or one
                that has no saliency maps to give.
            WeightsError: weights that are missing, damaged or out of reach.
        """
        import torch

        from tsq_cli.models.device import resolve_device, resolve_dtype
        from tsq_cli.packs import find_pack, load_pack
        from tsq_cli.packs.recognizers import choose_recognizer, load_recognizer

        config = find_pack(pack)
        choice = choose_recognizer(config, recognizer) if isinstance(recognizer, str) else recognizer
        place = resolve_device(device)
        kind = resolve_dtype(dtype, place)
        loaded = load_pack(config, device=place, dtype=kind) if selects else None
        network = load_recognizer(loaded or config, choice, device=place, dtype=kind)
        graph_networks(loaded, network)
        settings = settings or ClassifySettings()
        if settings.maps and not network.recognizer.is_pooled_linear:
            side = network.preprocessor.resize_side  # better refused now than at every video
            recognize_clips(network, [torch.zeros((1, side, side, 3), dtype=torch.uint8)], settings)
        return cls(Selector(loaded), network, settings)

    def classify(self, path: str | PathLike[str], settings: SelectSettings | None = None) -> Record:
        """Select frames of one video and recognize them; see Record for what comes back.

        Without settings the frames are chosen as the paper does.

        Raises:
            InputNotFoundError, VideoError: the file is missing or cannot be used (see tsq_cli.errors).
        """
        return process_file(path, settings or PAPER, self.process_clips)

    def process_clips(
        self, clips: Sequence[Clip], settings: SelectSettings, *, settings_hash: str | None = None
    ) -> list[Record]:
        """Select frames of several decoded videos and recognize them; arguments as Selector.process_clips."""
        if settings_hash is None:
            settings_hash = config.settings_hash(
                settings,
                pack_sha256=self.selector.pack_sha256(settings),
                outputs={},
                recognition=recognition_identity(self.recognizer.choice, self.settings),
                dtype=self.dtype_name(),
            )
        look = self.selector.look(clips, settings)
        timings: dict[str, float] = {}
        frames = self._chosen_unread(look, settings)
        outputs = forward_recognizer(self.recognizer, frames, timings) if frames else []
        records = self.selector.records(look, settings, settings_hash=settings_hash)
        started = time.perf_counter()
        if not frames:
            frames = [self._chosen(look, number, record) for number, record in enumerate(records)]
            outputs = forward_recognizer(self.recognizer, frames, timings)
        described = [
            self._described(
                record,
                postprocess_clip(self.recognizer, _as_listed(output, record), seen.shape[1:3], self.settings, timings),
            )
            for record, output, seen in zip(records, outputs, frames, strict=True)
        ]
        return [with_timings(record, timings, started, len(clips)) for record in described]

    def prefetch(self, clips: Sequence[Clip], settings: SelectSettings) -> None:
        """As Selector.send_ahead."""
        self.selector.prefetch(clips, settings)

    def _chosen_unread(self, look: Look, settings: SelectSettings) -> list[Tensor]:
        """Each clip's selected frames in order of time, gathered on the device before the host has read any score.

        Empty where the host must know first: a rule that compares frames, or sees none; larger frames, decoded anew.
        """
        if look.scored is None or not settings.reads_only_curves or any(map(self._wants_larger, look.clips)):
            return []
        chosen = look.scored.positions(settings.most_frames, lambda_v=self.selector.lambda_v(settings))
        return [pixels[positions] for pixels, positions in zip(look.pixels, chosen, strict=True)]

    def _chosen(self, look: Look, number: int, record: Record) -> Tensor:
        """A clip's selected frames in order of time, decoded anew where the recognizer wants larger ones."""
        import torch

        clip = look.clips[number]
        positions = sorted(frame.candidate.position for frame in record.frames)
        if self._wants_larger(clip):
            side = self.recognizer.preprocessor.resize_side
            larger = decode_frames(clip.source, clip.batch.frame_indices[positions], short_side=side)
            return torch.from_numpy(larger.pixels)
        return look.pixels[number][positions] if look.pixels else torch.from_numpy(clip.batch.pixels[positions])

    def _wants_larger(self, clip: Clip) -> bool:
        """Whether the recognizer wants larger frames than were decoded for scoring, and the video has them."""
        own = min(clip.source.info.width, clip.source.info.height)
        decoded: int = min(clip.batch.pixels.shape[1:3])
        return decoded < min(self.recognizer.preprocessor.resize_side, own)

    def dtype_name(self) -> str:
        """Precision of the recognizer, which is also that of the networks that choose the frames."""
        from tsq_cli.models.device import dtype_name

        return dtype_name(next(self.recognizer.recognizer.parameters()).dtype)

    def _described(self, record: Record, recognition: Recognition) -> Record:
        choice = self.recognizer.choice
        each = zip(record.frames, recognition.frame_predictions, strict=True)
        return replace(
            record,
            dtype=self.dtype_name(),
            device=str(next(self.recognizer.recognizer.parameters()).device),
            recognizer=RecognizerInfo(
                name=choice.name, requested=choice.requested, source=choice.source, reason=choice.reason
            ),
            predictions=recognition.predictions,
            frames=tuple(replace(frame, predictions=predictions) for frame, predictions in each),
            maps=recognition.maps,
        )


def recognition_identity(choice: RecognizerChoice, settings: ClassifySettings) -> dict[str, Any]:
    """What takes part in the settings hash of a classification."""
    return {"recognizer": choice.identity(), **asdict(settings)}


def _as_listed(output: RecognizerOutput, record: Record) -> RecognizerOutput:
    """What was seen in the frames in order of time, in the order of the record's list."""
    from tsq_cli.models.recognizer import RecognizerOutput

    positions = [frame.candidate.position for frame in record.frames]
    in_time = sorted(positions)
    order = [in_time.index(position) for position in positions]
    return RecognizerOutput(logits=output.logits[order], activations=output.activations[order])
