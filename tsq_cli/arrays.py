"""Arithmetic on arrays of two kinds: tensors of torch, and arrays of numpy, which the ONNX engine works with.

What is computed around the networks (saliency, pooling, maps) is written once, for both kinds, in the functions of the
array API standard; here are those that it lacks. torch is loaded only by those who have a tensor already.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = Any
"""A tensor of torch on any device, or an array of numpy. Shapes and types are in the docstrings."""

Engine = Literal["onnx", "torch"]
"""Library that runs a network: ONNX Runtime on arrays of numpy, or torch on its tensors."""


def namespace(array: Array) -> Any:
    """Return the functions of the array API standard for an array's kind; numpy has them itself."""
    if not is_torch(array):
        return np
    from array_api_compat import torch

    return torch


def is_torch(array: Array) -> bool:
    """Whether an array, or a number of numpy, is a tensor of torch instead."""
    return not isinstance(array, np.ndarray | np.generic)


def to_numpy(array: Array) -> NDArray[Any]:
    """Copy an array to the host, waiting for it; one that is there already is not copied."""
    return np.asarray(array.detach().cpu()) if is_torch(array) else np.asarray(array)


def of_engine(array: Array, engine: Engine) -> Array:
    """Return an array as the kind that an engine works with; the same memory, on a CPU."""
    if engine == "onnx":
        return to_numpy(array)
    import torch

    return array if is_torch(array) else torch.from_numpy(array)


def inference(array: Array) -> AbstractContextManager[Any]:
    """Context in which nothing is kept for gradients; of numpy nothing ever is."""
    if not is_torch(array):
        return nullcontext()
    import torch

    return torch.inference_mode()


def float32(array: Array) -> Array:
    """Convert an array of any numbers to float32."""
    return namespace(array).astype(array, namespace(array).float32, copy=False)


def at_least_float32(array: Array) -> Array:
    """Convert half precision to float32, and leave wider types alone."""
    xp = namespace(array)
    return array if array.dtype == xp.float64 else xp.astype(array, xp.float32, copy=False)


def take(array: Array, indices: Array, axis: int) -> Array:
    """Take values along an axis by indices of as many dimensions, which are broadcast."""
    return (
        _torch().take_along_dim(array, indices, axis) if is_torch(array) else np.take_along_axis(array, indices, axis)
    )


def descending(array: Array, axis: int) -> Array:
    """Return the indices that sort an array, highest first; of equal values the lower index comes first."""
    if is_torch(array):
        return namespace(array).argsort(array, axis=axis, descending=True, stable=True)
    return np.argsort(-array, axis=axis, stable=True)


def split(array: Array, lengths: Iterable[int]) -> list[Array]:
    """Split an array along its first axis into parts of the given lengths; nothing is copied."""
    parts, start = [], 0
    for length in lengths:
        parts.append(array[start : start + length])
        start += length
    return parts


def softmax(array: Array, axis: int) -> Array:
    """Compute exp(x) over its sum along an axis."""
    return _torch().softmax(array, axis) if is_torch(array) else np.exp(log_softmax(array, axis))


def log_softmax(array: Array, axis: int) -> Array:
    """Compute the logarithm of the softmax along an axis."""
    if is_torch(array):
        return _torch().log_softmax(array, axis)
    shifted, _ = _below_highest(array, axis)  # first, for a logarithm is lost beside a large number
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def logsumexp(array: Array, axis: int) -> Array:
    """Compute the logarithm of the sum of exp(x) along an axis, which is dropped."""
    if is_torch(array):
        return _torch().logsumexp(array, axis)
    shifted, highest = _below_highest(array, axis)
    with np.errstate(divide="ignore"):  # of nothing but -inf it is -inf
        return np.log(np.exp(shifted).sum(axis=axis)) + highest.squeeze(axis)


def softplus(array: Array) -> Array:
    """Compute log(1 + exp(x))."""
    if is_torch(array):
        return _torch().nn.functional.softplus(array)
    return np.logaddexp(array, np.zeros((), array.dtype))


def log_sigmoid(array: Array) -> Array:
    """Compute log(1 / (1 + exp(-x))), finite where the sigmoid rounds to zero."""
    return _torch().nn.functional.logsigmoid(array) if is_torch(array) else -softplus(-array)


def sigmoid(array: Array) -> Array:
    """Compute 1 / (1 + exp(-x))."""
    return _torch().sigmoid(array) if is_torch(array) else np.exp(log_sigmoid(array))


def normalize(array: Array, axis: int) -> Array:
    """Bring an array to unit length along an axis; zeros stay zeros."""
    if is_torch(array):
        return _torch().nn.functional.normalize(array, dim=axis)
    length = np.sqrt((array * array).sum(axis=axis, keepdims=True))
    return array / np.maximum(length, np.asarray(1e-12, array.dtype))


def concat(arrays: Sequence[Array]) -> Array:
    """Join arrays of one kind along their first axis."""
    return namespace(arrays[0]).concat(list(arrays), axis=0)


def _below_highest(array: Array, axis: int) -> tuple[Array, Array]:
    """Subtract the highest finite number along an axis; returns it too, with that axis of length 1."""
    highest = array.max(axis=axis, keepdims=True)
    highest = np.where(np.isfinite(highest), highest, 0).astype(array.dtype)
    return array - highest, highest


def _torch() -> Any:
    import torch

    return torch
