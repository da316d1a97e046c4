"""Room 4: what the selected frames show: the recogniser's predictions, and where in each frame it sees the class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tsq_cli.clip import timed
from tsq_cli.config import ClassifySettings
from tsq_cli.scoring import categories
from tsq_cli.types import Category, SaliencyMaps, UInt8Array

if TYPE_CHECKING:
    from torch import Tensor

    from tsq_cli.models.recognizer import RecognizerOutput
    from tsq_cli.packs.recognizers import LoadedRecognizer


@dataclass(frozen=True, kw_only=True)
class Recognition:
    """What a recogniser says of one clip's K selected frames.

    Attributes:
        predictions: of the video, most likely first: softmax of the mean of the frames' logits (ours: of logits), or
            sigmoid where a video may be of several classes.
        frame_predictions: of each of the K frames alone.
        maps: where each frame shows the video's first class; None where they were not asked for.
    """

    predictions: tuple[Category, ...]
    frame_predictions: tuple[tuple[Category, ...], ...]
    maps: SaliencyMaps | None


def recognise_clips(
    loaded: LoadedRecognizer,
    clips: Sequence[UInt8Array],
    settings: ClassifySettings,
    *,
    timings: dict[str, float] | None = None,
) -> list[Recognition]:
    """Recognise the selected frames of several clips, all of them encoded as one batch.

    Args:
        loaded: the recogniser with its preprocessing and class names.
        clips: at least one; of each its selected frames, uint8 [K, H, W, 3]. K, H and W may differ between clips.
        settings: how many predictions, and which maps.
        timings: seconds of each stage are added here.

    Raises:
        UsageError: maps were asked for and the network has none to give (see tsq_cli.explain).
    """
    import torch

    from tsq_cli.models.device import chunks
    from tsq_cli.models.recognizer import RecognizerOutput

    timings = {} if timings is None else timings
    place = next(loaded.recognizer.parameters())
    with torch.inference_mode():
        with timed(timings, "preprocess"):
            pixels = [torch.from_numpy(frames) for frames in clips]
            images = torch.cat([loaded.preprocessor(some, place.device, place.dtype) for some in pixels])
        with timed(timings, "recognize"):
            outputs = [loaded.recognizer(some) for some in chunks(images, share=2)]
        logits = torch.cat([output.logits for output in outputs]).float()
        activations = torch.cat([output.activations for output in outputs])
        lengths = [len(frames) for frames in clips]
        results = []
        parts = zip(clips, torch.split(logits, lengths), torch.split(activations, lengths), strict=True)
        for frames, of_clip, seen in parts:
            predictions = _likeliest(of_clip.mean(dim=0), loaded, settings.num_predictions)
            maps = None
            if settings.maps:
                with timed(timings, "maps"):
                    output = RecognizerOutput(logits=of_clip, activations=seen)
                    maps = _maps(loaded, output, predictions[0], frames, settings)
            each = tuple(_likeliest(row, loaded, settings.num_predictions) for row in of_clip)
            results.append(Recognition(predictions=predictions, frame_predictions=each, maps=maps))
    return results


def _likeliest(logits: Tensor, loaded: LoadedRecognizer, count: int) -> tuple[Category, ...]:
    """The most likely classes of logits [C]; of equal ones the lower index comes first."""
    probabilities = logits.sigmoid() if loaded.multi_label else logits.softmax(dim=0)
    indices = logits.argsort(descending=True, stable=True)[:count]  # of logits: many a sigmoid rounds to one
    return categories(indices, probabilities[indices], loaded.class_names)


def _maps(
    loaded: LoadedRecognizer,
    output: RecognizerOutput,
    category: Category,
    frames: UInt8Array,
    settings: ClassifySettings,
) -> SaliencyMaps:
    from tsq_cli.explain import saliency_maps, scale_maps, seen_box

    height, width = frames.shape[1:3]
    return SaliencyMaps(
        values=scale_maps(saliency_maps(loaded.recognizer, output, category.index), settings.map_scale),
        category=category,
        box=seen_box(width, height, loaded.preprocessor),
        scale=settings.map_scale,
    )
