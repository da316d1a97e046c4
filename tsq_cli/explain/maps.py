"""Saliency maps of a class from a recognizer's last stage. torch is loaded inside the functions only.

Two ways to one quantity, the share of each place in a class's logit: the class activation map (Zhou et al., "Learning
Deep Features for Discriminative Localization", CVPR 2016) where a linear layer on the mean over places makes the
logits, and Grad-CAM (Selvaraju et al., "Grad-CAM", ICCV 2017), one backward pass through the head, for all others.
"""

from __future__ import annotations

from math import isqrt
from typing import TYPE_CHECKING, Any

import numpy as np

from tsq_cli.arrays import Array, float32, inference, namespace, to_numpy
from tsq_cli.config import MapScale
from tsq_cli.errors import UsageError
from tsq_cli.types import Float32Array

if TYPE_CHECKING:
    from torch import Tensor

    from tsq_cli.models.outputs import RecognizerOutput
    from tsq_cli.models.preprocess import Preprocessor
    from tsq_cli.models.recognizer import Recognizer


def saliency_maps(recognizer: Any, output: RecognizerOutput, class_index: int) -> Array:
    """Compute how much each place of N frames speaks for a class: the exact CAM where there is one, else Grad-CAM.

    Args:
        recognizer: the network, in evaluation mode: Recognizer, or under ONNX Runtime OnnxRecognizer.
        output: its output for the N frames, in inference mode or not.
        class_index: the class, in [0, C).

    Returns:
        float32 [N, h, w], in logits, negative where a place speaks against the class. The mean of a CAM over the places
        is the class's logit less its bias.

    Raises:
        UsageError: the network's last stage has no places, or its head does not look at them.
    """
    if recognizer.is_pooled_linear:
        weight_row = recognizer.encoder.classifier_weight[class_index]
        with inference(output.activations):
            return class_activation_maps(output.activations, weight_row)
    return grad_cam(recognizer, output.activations, class_index)


def class_activation_maps(activations: Array, weight_row: Array) -> Array:
    """Apply the classifier's row of one class at each place, without a backward pass (CAM, Zhou et al. 2016).

    Args:
        activations: [N, D, h, w], of the last stage.
        weight_row: [D].

    Returns:
        float32 [N, h, w].
    """
    return namespace(activations).permute_dims(float32(activations), (0, 2, 3, 1)) @ float32(weight_row)


def grad_cam(recognizer: Recognizer, activations: Tensor, class_index: int) -> Tensor:
    """Weight activations by the gradient of a class's logit, from a backward pass through the head alone.

    Source: Grad-CAM (Selvaraju et al. 2017), before its ReLU. Ours: gradients are summed over the places, not averaged,
    so that the map of a pooled linear network equals its CAM; the factor h w between the two is gone after scaling.
    Works in inference mode, leaves no gradient behind, and computes in float32 whatever the network's type is.

    Args:
        recognizer: the network, in evaluation mode.
        activations: of the last stage, in the network's own layout: [N, D, h, w], [N, h, w, D] or tokens [N, L, D].
        class_index: the class, in [0, C).

    Returns:
        float32 [N, h, w], in logits.

    Raises:
        UsageError: the last stage's tokens are no square of places, or the head looks at the class token alone.
    """
    import torch

    with torch.inference_mode(False), torch.enable_grad():
        # A clone made outside of inference mode can take part in a backward pass, even of a tensor made inside.
        own = activations.detach().clone().float().requires_grad_()
        with _float32_arithmetic():
            logits = recognizer.classify(own)
        (gradient,) = torch.autograd.grad(logits[:, class_index].sum(), own)
        model = recognizer.encoder.model
        places, gradients = _by_place(own.detach(), model), _by_place(gradient, model)
        if gradient.any() and not gradients.any():
            raise _no_map(f"{_name(model)} classifies from its class token, which has no place in the picture")
        weights = gradients.sum(dim=(1, 2), keepdim=True)  # [N, 1, 1, D]
        return (weights * places).sum(dim=3)


def normalize_maps(maps: Array, scale: MapScale) -> Float32Array:
    """Scale maps to [0, 1]: negative values become 0, the highest place 1.

    Args:
        maps: float [N, h, w], finite, as saliency_maps gives them.
        scale: "clip" divides by the highest place of all N frames, so that they compare; "frame" by that of each.

    Returns:
        float32 [N, h, w] in [0, 1]; where nothing speaks for the class, all zero.
    """
    positive = np.maximum(to_numpy(maps).astype(np.float32), 0)
    top = positive.max(axis=None if scale == "clip" else (1, 2), keepdims=True)
    scaled = positive / np.where(top > 0, top, 1)
    return scaled.astype(np.float32)


def seen_box(width: int, height: int, preprocessor: Preprocessor) -> tuple[float, float, float, float]:
    """Compute the part of a frame that resize and center crop show to the network.

    Args:
        width, height: of the frame, in pixels.
        preprocessor: of the network.

    Returns:
        left, top, right, bottom as shares of the frame's width and height.
    """
    resized, crop = preprocessor.resize_side, preprocessor.input_size
    shorter = min(width, height)
    shares = []
    for side in (width, height):
        length = resized * side // shorter  # torchvision rounds the longer side down
        start = round((length - crop) / 2)
        shares.append((start / length, (start + crop) / length))
    (left, right), (top, bottom) = shares
    return left, top, right, bottom


def _float32_arithmetic() -> Any:
    """Context in which torch functions get their half precision arguments (the head's weights) as float32."""
    import torch
    from torch.overrides import TorchFunctionMode

    def widened(value: Any) -> Any:
        return value.float() if isinstance(value, torch.Tensor) and value.is_floating_point() else value

    class Float32Arithmetic(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return func(*map(widened, args), **{name: widened(value) for name, value in (kwargs or {}).items()})

    return Float32Arithmetic()


def _by_place(values: Tensor, model: Any) -> Tensor:
    """Bring a network's last stage, or its gradient, from its own layout to [N, h, w, D]."""
    if values.ndim == 4:
        return values if getattr(model, "output_fmt", None) == "NHWC" else values.movedim(1, -1)
    if values.ndim < 3:
        raise _no_map(f"{_name(model)} embeds the picture as a whole")
    tokens = values[:, getattr(model, "num_prefix_tokens", None) or 0 :]
    side = isqrt(tokens.shape[1])
    if side**2 != tokens.shape[1] or side < 2:
        raise _no_map(f"{_name(model)} ends in tokens that form no square of places ({tokens.shape[1]})")
    return tokens.reshape(len(tokens), side, side, -1)


def _name(model: Any) -> str:
    return str(getattr(model, "pretrained_cfg", {}).get("architecture") or type(model).__name__)


def _no_map(got: str) -> UsageError:
    return UsageError(
        got,
        wanted="a network whose classifier looks at places of the picture",
        fix="choose another recognizer, for example resnet101, or classify without maps",
    )
