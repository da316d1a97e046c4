"""Outputs of the networks: features, logits, attention, as arrays of torch or of numpy. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from tsq_cli.arrays import Array


@dataclass(frozen=True)
class EncoderOutput:
    """Features and class scores of N images.

    Attributes:
        features: [N, D], pooled, as they enter the classifier.
        logits: [N, O] class scores, or None for a network without a classifier.
    """

    features: Array
    logits: Array | None


@dataclass(frozen=True)
class RecognizerOutput:
    """Class scores and activations of N images.

    Attributes:
        logits: [N, C] class scores.
        activations: of the network's last stage before pooling, in its own layout: [N, D, h, w]; [N, h, w, D]
            for networks that keep channels last; [N, L, D] for those that see L tokens.
    """

    logits: Array
    activations: Array


@dataclass(frozen=True)
class TSQOutput:
    """Class scores and saliency of B clips of T frames.

    Attributes:
        logits: [B, C], one score per class, in float32 or wider.
        attention: [B, C, T], from 0 to 1, sums to one over the T frames: the mean over the heads of the last layer, in
            float32 or wider. With class-agnostic attention all C rows are the same, a view that takes no memory.
        evidence: [B, C], the highest score that a single frame gives each class, before queries compete; without
            gradients. None where the layer does not give it.
    """

    logits: Array
    attention: Array
    evidence: Array | None = None


@dataclass(frozen=True)
class TSQNetOutput:
    """Outputs of the visual (VQM) and the textual module (TQM) for the same B clips."""

    visual: TSQOutput
    textual: TSQOutput


@dataclass(frozen=True)
class FrameSaliency:
    """Saliency of each frame, and the categories it comes from.

    Attributes:
        scores: [B, T], from 0 to 1, sums to one over the frames.
        categories: int64 [B, n], class indices, most confident first.
        probabilities: [B, n], from 0 to 1, as they are reported: calibrated where the module is.
        logits: z of all classes [B, C], as they come.
        sure: bool [B, n], whether each category may be named; None where that was not asked.
    """

    scores: Array
    categories: Array
    probabilities: Array
    logits: Array
    sure: Array | None = None


class ImageNetwork(Protocol):
    """An image network of either engine: FrameEncoder, or tsq_cli.models.onnx.OnnxEncoder."""

    feature_dim: int
    num_classes: int

    def __call__(self, images: Array) -> EncoderOutput:
        """Encode images [N, 3, H, W], prepared for the network."""
        ...

    @property
    def classifier_weight(self) -> Array:
        """Rows of the linear classifier [O, D]."""
        ...

    @property
    def classifier_bias(self) -> Array:
        """Bias of the linear classifier [O]."""
        ...


class ImageClassifier(Protocol):
    """A recognizer of either engine: Recognizer, or tsq_cli.models.onnx.OnnxRecognizer.

    `is_pooled_linear` is that of Recognizer.
    """

    encoder: Any
    num_classes: int
    is_pooled_linear: bool

    def __call__(self, images: Array) -> RecognizerOutput:
        """Recognize images [N, 3, H, W], prepared for the network."""
        ...
