"""Scores of decoded candidates: preprocess, encode, TSQ layers, saliency (docs/method.md, section 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tsq_cli.arrays import Array, concat, float32, inference, namespace, normalize, split, take, to_numpy
from tsq_cli.clip import timed
from tsq_cli.config import SelectSettings
from tsq_cli.types import Category, Float32Array, Saliency

if TYPE_CHECKING:
    from tsq_cli.models.outputs import FrameSaliency, ImageNetwork
    from tsq_cli.models.preprocess import Preprocessor
    from tsq_cli.packs import Pack


@dataclass(frozen=True, kw_only=True)
class ClipScores:
    """Scores of B clips of T candidates each, on the device.

    Attributes:
        visual, textual: S^v and S^t [B, T], with the categories behind them and z^v and z^t [B, C].
        features: [B, T, Dv] of the visual encoder.
        names_visual, names_textual: of the categories behind either curve.
    """

    visual: FrameSaliency
    textual: FrameSaliency
    features: Array
    names_visual: Sequence[str]
    names_textual: Sequence[str]

    def split(self) -> list[ClipScores]:
        """Split into the scores of each clip alone (B = 1); nothing is copied."""
        return [
            replace(
                self,
                visual=_of_clip(self.visual, number),
                textual=_of_clip(self.textual, number),
                features=self.features[number : number + 1],
            )
            for number in range(len(self.features))
        ]

    def read(self) -> Saliency:
        """Copy the curves and categories of one clip (B = 1) to the host.

        Raises:
            WeightsError: saliency that is not finite.
        """
        from tsq_cli.models import refuse_not_finite

        curves = []
        for module in (self.visual, self.textual):
            scores = to_numpy(module.scores[0]).astype(np.float64)
            refuse_not_finite(scores, "saliency scores")
            curves.append(scores / scores.sum())  # float32 sums to one within its rounding only
        return Saliency(
            visual=curves[0],
            textual=curves[1],
            visual_categories=_categories(self.visual, self.names_visual),
            textual_categories=_categories(self.textual, self.names_textual),
        )

    def unit_features(self) -> Float32Array:
        """Copy the features of one clip (B = 1) to the host, [T, Dv] of unit length."""
        features: Float32Array = to_numpy(normalize(float32(self.features[0]), 1))
        return features


def score_clips(
    pack: Pack, clips: Sequence[Array], settings: SelectSettings, *, timings: dict[str, float] | None = None
) -> list[ClipScores]:
    """Score every candidate of every clip, all encoded as one batch; on a GPU the host waits for nothing.

    Args:
        pack: the networks.
        clips: at least one, uint8 [T, H, W, 3] each; T, H and W may differ.
        settings: `top_n` overrides the pack's.
        timings: seconds of each stage are added here; on a GPU those that the host took to launch it.

    Returns:
        The scores of each clip, B = 1.

    Raises:
        WeightsError: on a CPU features that are not finite.
    """
    timings = {} if timings is None else timings
    top_n = settings.top_n or pack.config.settings.top_n
    scored: dict[int, ClipScores] = {}
    with inference(clips[0]):
        features, objects = encode(pack, clips, timings)
        with timed(timings, "tsq"):
            for length in {len(clip) for clip in clips}:  # clips of one length go through the layers together
                alike = [number for number, clip in enumerate(clips) if len(clip) == length]
                x_v, logits = (namespace(of[0]).stack([of[number] for number in alike]) for of in (features, objects))
                scores = tsq_scores(pack, x_v, logits, top_n=top_n)
                scored.update(zip(alike, scores.split(), strict=True))
    return [scored[number] for number in range(len(clips))]


def tsq_scores(pack: Pack, features: Array, object_logits: Array, *, top_n: int) -> ClipScores:
    """Run the TSQ layers and compute the saliency of B clips; on a GPU the host waits for nothing.

    Args:
        pack: the networks.
        features: [B, T, Dv] of the visual encoder.
        object_logits: [B, T, O] of the object recognizer.
        top_n: categories behind each curve.
    """
    from tsq_cli.models import frame_saliency, object_text_features

    output = pack.tsqnet(features, object_text_features(object_logits, pack.textual_embeddings))
    settings, words = pack.config.settings, pack.config.settings.words
    visual, textual = (
        frame_saliency(module, top_n=top_n, multi_label=settings.multi_label, temperature=temperature or 1.0)
        for module, temperature in (
            (output.visual, words.visual_temperature),
            (output.textual, words.textual_temperature),
        )
    )
    if words.least_evidence is not None and output.visual.evidence is not None:
        first = visual.categories[:, :1]  # [B, 1]
        named = (first == textual.categories[:, :1]) & (take(output.visual.evidence, first, 1) >= words.least_evidence)
        visual, textual = (replace(of, sure=named & (of.categories == first)) for of in (visual, textual))
    if pack.image_text is not None:  # its classes are only told apart from each other: a frame may show none of them
        shown = pack.visual_encoder.model.shown(features.flatten(0, 1)).unflatten(1, features.shape[:2]).any(dim=2)
        visual, textual = (replace(of, sure=shown.T.gather(1, of.categories)) for of in (visual, textual))
    return ClipScores(
        visual=visual,
        textual=textual,
        features=features,
        names_visual=pack.class_names,
        names_textual=pack.class_names,
    )


def _of_clip(saliency: FrameSaliency, number: int) -> FrameSaliency:
    """Take one of B clips (B = 1)."""
    one = slice(number, number + 1)
    return replace(
        saliency,
        scores=saliency.scores[one],
        categories=saliency.categories[one],
        probabilities=saliency.probabilities[one],
        logits=saliency.logits[one],
        sure=None if saliency.sure is None else saliency.sure[one],
    )


def _categories(saliency: FrameSaliency, names: Sequence[str]) -> tuple[Category, ...]:
    """Name the categories behind one clip's curve."""
    sure = None if saliency.sure is None else saliency.sure[0]
    return categories(saliency.categories[0], saliency.probabilities[0], names, sure=sure)


def categories(
    indices: Array, scores: Array, names: Sequence[str], *, sure: Array | None = None
) -> tuple[Category, ...]:
    """Name classes by their indices [n], with their scores [n]: probabilities, or cosines.

    Args:
        indices, scores: as above.
        names: of all classes, or objects.
        sure: bool [n], which of them may be named; None is all.
    """
    indices, scores = to_numpy(indices), to_numpy(float32(scores))
    bounded = scores.clip(-1, 1).tolist()  # single precision rounds some of them past their bounds
    are_sure = [True] * len(bounded) if sure is None else to_numpy(sure).tolist()
    return tuple(
        Category(index=index, label=names[index], score=score, is_sure=is_sure)
        for index, score, is_sure in zip(indices.tolist(), bounded, are_sure, strict=True)
    )


def encode(
    pack: Pack, clips: Sequence[Array], timings: dict[str, float] | None = None
) -> tuple[list[Array], list[Array]]:
    """Encode clips: visual features [T, Dv] and object logits [T, O] of each, in one pass where the encoder is shared.

    Args:
        pack: the networks.
        clips: uint8 [T, H, W, 3] each; T, H and W may differ.
        timings: seconds of each stage are added here.
    """
    timings = {} if timings is None else timings
    lengths = [len(pixels) for pixels in clips]
    with timed(timings, "preprocess"):
        visual_input = prepare_clips(pack, pack.visual_preprocessor, clips)
    with timed(timings, "encode"):
        visual_features, visual_logits = encode_images(pack.visual_encoder, visual_input)
    if pack.object_recognizer is pack.visual_encoder:
        object_logits = visual_logits
    else:
        with timed(timings, "preprocess"):
            object_input = prepare_clips(pack, pack.object_preprocessor, clips)
        with timed(timings, "encode"):
            object_logits = encode_images(pack.object_recognizer, object_input)[1]
    return split(visual_features, lengths), split(object_logits, lengths)


def prepare_clips(pack: Pack, preprocessor: Preprocessor, clips: Sequence[Array]) -> Array:
    """Preprocess all frames of clips uint8 [T, H, W, 3] for a network of the pack: [N, 3, S, S]."""
    return concat([preprocessor(pixels, pack.device, pack.dtype) for pixels in clips])


def encode_images(encoder: ImageNetwork, images: Array) -> tuple[Array, Array]:
    """Encode images [N, 3, S, S]: features [N, D] and logits [N, O]."""
    from tsq_cli.models.microbatches import cpu_microbatches

    features, logits = [], []
    for some in cpu_microbatches(images):
        output = encoder(some)
        features.append(output.features)
        logits.append(output.logits)
    return concat(features), concat(logits)
