"""Predictions of the recognizer for the selected frames, and maps of where it sees the class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tsq_cli.clip import timed
from tsq_cli.config import ClassifySettings
from tsq_cli.scoring import categories
from tsq_cli.types import Category, SaliencyMaps

if TYPE_CHECKING:
    from torch import Tensor

    from tsq_cli.models.preprocess import Preprocessor
    from tsq_cli.models.recognizer import Recognizer, RecognizerOutput
    from tsq_cli.packs.recognizers import LoadedRecognizer


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """Predictions and maps for one clip's K selected frames.

    Attributes:
        predictions: of the video, most likely first, by the mean of the frames' logits (ours: of logits); see
            class_probabilities.
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
    """Recognize the selected frames of several clips, all of them encoded as one batch.

    Args:
        loaded: the recognizer with its preprocessing and class names.
        clips: at least one; of each its selected frames, uint8 [K, H, W, 3]. K, H and W may differ between clips.
        settings: how many predictions, and which maps.
        timings: seconds of each stage are added here.

    Raises:
        UsageError: maps were asked for and the network has none to give (see tsq_cli.explain).
    """
    timings = {} if timings is None else timings
    outputs = forward_recognizer(loaded, clips, timings)
    return [
        postprocess_clip(loaded, output, frames.shape[1:3], settings, timings)
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
    timings: dict[str, float],
) -> Recognition:
    """Copy the predictions for one clip's frames to the host, and make the maps.

    Args:
        loaded, settings: as for recognize_clips.
        output: of forward_recognizer, for the K frames in the order that the result is to have.
        size: height and width of the frames, in pixels.
        timings: seconds of each stage are added here.

    Raises:
        UsageError: as recognize_clips.
    """
    import torch

    with torch.inference_mode():
        predictions = _likeliest(output, loaded, settings.num_predictions)
        maps = None
        if settings.maps:
            with timed(timings, "maps"):
                maps = _maps(loaded, output, predictions[0], size, settings)
        each = tuple(
            _likeliest(
                replace(output, logits=logits[None], activations=activations[None]), loaded, settings.num_predictions
            )
            for logits, activations in zip(output.logits, output.activations, strict=True)
        )
    return Recognition(predictions=predictions, frame_predictions=each, maps=maps)


def class_probabilities(logits: Tensor, *, temperature: float | None = None, multi_label: bool = False) -> Tensor:
    """Pool the logits of K frames into class probabilities of the clip.

    Args:
        logits: [K, C] of the frames.
        temperature: None gives the softmax of the mean logits, as it comes. A number calibrates it (ours): frames that
            show different things shrink each other's logits in the mean, so the mean is first brought back to the
            strength that its frames have by themselves; then it is divided by the temperature.
        multi_label: the sigmoid in the place of the softmax. Each class stands alone there, so that nothing is brought
            back.

    Returns:
        [C], in [0, 1], in the order of the mean logits.
    """
    from tsq_cli.models import probabilities

    mean = logits.mean(dim=0)
    if temperature is not None:
        if not multi_label:
            of_frames, of_mean = _strength(logits).mean(), _strength(mean)  # a mean's is never the greater one
            mean = mean * (of_frames / of_mean.clamp_min(1e-6))
        mean = mean / temperature
    return probabilities(mean, multi_label=multi_label)


def _strength(logits: Tensor) -> Tensor:
    """Distance of the strongest class from the mean of all classes, per row of logits."""
    return logits.amax(dim=-1) - logits.mean(dim=-1)


def _likeliest(output: RecognizerOutput, loaded: LoadedRecognizer, count: int) -> tuple[Category, ...]:
    """Pick the most likely classes of K frames; of equal ones the lower index comes first."""
    words, logits = loaded.words, output.logits
    probabilities = class_probabilities(
        logits, temperature=words.recognizer_temperature, multi_label=loaded.multi_label
    )
    indices = logits.mean(dim=0).argsort(descending=True, stable=True)[:count]  # many a sigmoid rounds to one
    likeliest = probabilities[indices]
    sure = likeliest >= words.least_probability
    if loaded.is_image_text:  # its classes are only told apart from each other: a frame may show none of them
        sure = loaded.recognizer.encoder.model.shown(output.activations).any(dim=1)[indices]
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
