"""Predictions of the recognizer for the selected frames, and maps of where it sees the class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tsq_cli.clip import timed
from tsq_cli.config import ClassifySettings
from tsq_cli.consensus import Consensus
from tsq_cli.errors import UsageError
from tsq_cli.scoring import categories
from tsq_cli.types import Category, SaliencyMaps

if TYPE_CHECKING:
    from torch import Tensor

    from tsq_cli.models.preprocess import Preprocessor
    from tsq_cli.models.recognizer import Recognizer, RecognizerOutput
    from tsq_cli.packs.recognizers import LoadedRecognizer


@dataclass(frozen=True, kw_only=True)
class SamplerScores:
    """What the sampler says of one clip and its selected frames, on the device.

    Attributes:
        weights: S^v of the K frames, in their order, [K].
        classes: z^v and z^t of the whole clip, [C] each.
    """

    weights: Tensor
    classes: tuple[Tensor, Tensor]


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """Predictions and maps for one clip's K selected frames.

    Attributes:
        predictions: of the video, most likely first, see tsq_cli.models.pooling.video_scores.
        frame_predictions: of each of the K frames alone.
        maps: where each frame shows the video's first class; None where they were not asked for.
    """

    predictions: tuple[Category, ...]
    frame_predictions: tuple[tuple[Category, ...], ...]
    maps: SaliencyMaps | None


def recognize_clips(
    loaded: LoadedRecognizer,
    clips: Sequence[Tensor],
    settings: ClassifySettings,
    *,
    timings: dict[str, float] | None = None,
) -> list[Recognition]:
    """Recognize the selected frames of several clips without a sampler, all of them encoded as one batch.

    Args:
        loaded: the recognizer with its preprocessing and class names.
        clips: at least one; of each its selected frames, uint8 [K, H, W, 3]. K, H and W may differ between clips.
        settings: how many predictions, and which maps.
        timings: seconds of each stage are added here.

    Raises:
        UsageError: maps were asked for and the network has none to give (see tsq_cli.explain), or as consensus_of.
    """
    timings = {} if timings is None else timings
    consensus = consensus_of(loaded.consensus, settings, has_sampler=False)
    outputs = forward_recognizer(loaded, clips, timings)
    return [
        postprocess_clip(loaded, output, frames.shape[1:3], settings, consensus, None, timings)
        for output, frames in zip(outputs, clips, strict=True)
    ]


def forward_recognizer(
    loaded: LoadedRecognizer, clips: Sequence[Tensor], timings: dict[str, float]
) -> list[RecognizerOutput]:
    """Run the recognizer on each clip's frames, all as one batch; on a GPU the host waits for nothing.

    Args:
        loaded, clips: as for recognize_clips.
        timings: seconds of each stage are added here; on a GPU those that the host took to launch it.

    Returns:
        Logits [K, C] in float32 and activations [K, ...] of each clip's frames, on the recognizer's device.
    """
    import torch

    from tsq_cli.models.recognizer import RecognizerOutput

    with torch.inference_mode():
        with timed(timings, "preprocess"):
            images = torch.cat([prepare_frames(loaded.recognizer, loaded.preprocessor, some) for some in clips])
        with timed(timings, "recognize"):
            output = recognize_images(loaded.recognizer, images)
    lengths = [len(frames) for frames in clips]
    parts = zip(output.logits.float().split(lengths), output.activations.split(lengths), strict=True)  # type: ignore[no-untyped-call]
    return [RecognizerOutput(logits=logits, activations=activations) for logits, activations in parts]


def prepare_frames(recognizer: Recognizer, preprocessor: Preprocessor, frames: Tensor) -> Tensor:
    """Preprocess frames uint8 [N, H, W, 3] for a recognizer, on its device and in its precision: [N, 3, S, S]."""
    weight = recognizer.encoder.classifier_weight
    return preprocessor(frames, weight.device, weight.dtype)


def recognize_images(recognizer: Recognizer, images: Tensor) -> RecognizerOutput:
    """Recognize images [N, 3, S, S], as many at a time as the device likes best."""
    import torch

    from tsq_cli.models.device import cpu_microbatches
    from tsq_cli.models.recognizer import RecognizerOutput

    outputs = [recognizer(some) for some in cpu_microbatches(images, multiplier=2)]
    return RecognizerOutput(
        logits=torch.cat([output.logits for output in outputs]),
        activations=torch.cat([output.activations for output in outputs]),
    )


def postprocess_clip(
    loaded: LoadedRecognizer,
    output: RecognizerOutput,
    size: Sequence[int],
    settings: ClassifySettings,
    consensus: Consensus,
    sampler: SamplerScores | None,
    timings: dict[str, float],
) -> Recognition:
    """Copy the predictions for one clip's frames to the host, and make the maps.

    Args:
        loaded, settings: as for recognize_clips.
        output: of forward_recognizer, for the K frames in the order that the result is to have.
        size: height and width of the frames, in pixels.
        consensus: of consensus_of.
        sampler: of the same frames; None where none ran.
        timings: seconds of each stage are added here.

    Raises:
        UsageError: as recognize_clips.
    """
    import torch

    from tsq_cli.models import video_scores

    logits, count, temperature = output.logits, settings.num_predictions, loaded.words.recognizer_temperature
    alone = Consensus(multi_label=consensus.multi_label)
    with torch.inference_mode():
        scores = video_scores(
            logits,
            consensus,
            weights=None if sampler is None else sampler.weights.to(logits),
            class_scores=None if sampler is None else sampler.classes,
            # Calibrated for the pack's own consensus; of another one the probabilities are as they come.
            temperature=temperature if consensus == loaded.consensus else None,
        )
        predictions = _likeliest(scores, output.activations, loaded, count)
        maps = None
        if settings.maps:
            with timed(timings, "maps"):
                maps = _maps(loaded, output, predictions[0], size, settings)
        each = tuple(
            _likeliest(of_frame, activations[None], loaded, count)
            for of_frame, activations in zip(
                video_scores(logits[:, None], alone, temperature=temperature), output.activations, strict=True
            )
        )
    return Recognition(predictions=predictions, frame_predictions=each, maps=maps)


def consensus_of(own: Consensus, settings: ClassifySettings, *, has_sampler: bool) -> Consensus:
    """Decide how the frames' scores become the video's: what the run asks for, else what the pack says.

    Args:
        own: of the pack.
        settings: of the recognition.
        has_sampler: whether the sampler runs. Without it (uniform, random, middle) all frames weigh the same and there
            is no evidence.

    Raises:
        UsageError: the run asks for what only a sampler can give, and none runs.
    """
    chosen = own.changed(settings.pooling, settings.evidence)
    if has_sampler:
        return chosen
    asked = Consensus().changed(settings.pooling, settings.evidence)
    if asked != asked.without_sampler:
        what = "evidence" if asked.has_evidence else f"the pooling {asked.pooling}"
        raise UsageError(
            f"{what} was asked for with a selector that runs no network",
            wanted="a selector with the scores that this takes",
            fix="use --selector tsq, or leave it out",
        )
    return chosen.without_sampler


def _likeliest(scores: Tensor, activations: Tensor, loaded: LoadedRecognizer, count: int) -> tuple[Category, ...]:
    """Pick the most likely classes by their scores [C], from frames' activations; of equal ones the lower index."""
    from tsq_cli.models import probabilities

    words = loaded.words
    indices = scores.argsort(descending=True, stable=True)[:count]  # many a sigmoid rounds to one
    likeliest = probabilities(scores, multi_label=loaded.consensus.multi_label)[indices]
    sure = likeliest >= words.least_probability
    if loaded.is_image_text:  # its classes are only told apart from each other: a frame may show none of them
        sure = loaded.recognizer.encoder.model.shown(activations).any(dim=1)[indices]
    return categories(indices, likeliest, loaded.class_names, sure=sure)


def _maps(
    loaded: LoadedRecognizer,
    output: RecognizerOutput,
    category: Category,
    size: Sequence[int],
    settings: ClassifySettings,
) -> SaliencyMaps:
    from tsq_cli.explain import normalize_maps, saliency_maps, seen_box

    height, width = size
    return SaliencyMaps(
        values=normalize_maps(saliency_maps(loaded.recognizer, output, category.index), settings.map_scale),
        category=category,
        box=seen_box(width, height, loaded.preprocessor),
        scale=settings.map_scale,
    )
