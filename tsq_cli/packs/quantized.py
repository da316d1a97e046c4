"""Compression of a pack's weights: half precision, or 8 bits with a scale per output channel (ours).

A safetensors file says in its metadata that it holds 8-bit weights; read_tensors restores them, so that whatever reads
a pack meets plain tensors. torch is loaded by the functions that compress.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tsq_cli.arrays import Array
from tsq_cli.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

METADATA = {"tsq_weights": "int8-per-channel"}
_KEY = "tsq_weights"
_SCALE = ".scale"  # of the tensor whose name stands before it; timm's networks and TSQ layers have no such name
_LARGEST = 127  # of a signed byte; -128 stays unused, so that a channel's scale is the same on both sides of zero


def to_float16(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert matrices and kernels (two dimensions or more) to float16; vectors, which are small, stay as they are.

    A batch norm's statistics are among the vectors: folded into a convolution, their rounding would be multiplied.

    Args:
        tensors: by name, on any device.

    Returns:
        The same names, contiguous, on the CPU.

    Raises:
        WeightsError: a number that is not finite, or too large for float16.
    """
    import torch

    stored = {}
    for name, tensor in tensors.items():
        is_half = tensor.is_floating_point() and tensor.ndim >= 2
        stored[name] = tensor.detach().to("cpu", torch.float16 if is_half else None).contiguous()
        _refuse_not_finite(name, stored[name])
    return stored


def quantize_int8(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Store weights of convolutions and linear layers in 8 bits, with a scale per output channel; the rest in float16.

    A weight w of channel o becomes round(w / s_o), s_o = max |w_o| / 127: restored, it is at most s_o / 2 away.

    Args:
        tensors: a network's state dict; weights are the entries `*.weight` of two dimensions or more, with the output
            channels first.

    Returns:
        int8 under the same name, with float32 `NAME.scale` [O, 1, ...] beside it; to be saved with METADATA.

    Raises:
        WeightsError: a number that is not finite.
    """
    import torch

    weights = {name: tensor.detach().cpu().float() for name, tensor in tensors.items() if _is_weight(name, tensor)}
    stored = to_float16({name: tensor for name, tensor in tensors.items() if name not in weights})
    for name, weight in weights.items():
        largest = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True)
        scale = largest.clamp(min=1e-30) / _LARGEST  # a channel of zeros stays one
        _refuse_not_finite(name, scale)
        stored[name] = (weight / scale).round().to(torch.int8).contiguous()
        stored[name + _SCALE] = scale
    return stored


def dequantize(tensors: Mapping[str, Array], metadata: Mapping[str, str] | None, *, origin: str) -> dict[str, Array]:
    """Undo quantize_int8 where a file's metadata says that it was done; return other files' tensors unchanged.

    Args:
        tensors: all of a file, of torch or numpy.
        metadata: of the same file; None where it has none.
        origin: name of the file for errors.

    Returns:
        Tensors under the network's own names, in float32 where they had 8 bits.

    Raises:
        WeightsError: weights packed in a way that is not known here, or an int8 tensor without its scales.
    """
    kind = (metadata or {}).get(_KEY)
    if kind is None:
        return dict(tensors)
    if kind != METADATA[_KEY]:
        raise WeightsError(
            f"{origin} holds weights packed as {kind!r}",
            wanted=METADATA[_KEY],
            fix="upgrade tsq-cli, or pack them again",
        )
    restored = dict(tensors)
    for name, tensor in tensors.items():
        if _type(tensor) != "int8":
            continue
        scale = restored.pop(name + _SCALE, None)
        wanted = (*tensor.shape[:1], *[1] * (tensor.ndim - 1))
        if scale is None or not tensor.ndim or not _type(scale).startswith("float") or tuple(scale.shape) != wanted:
            raise WeightsError(
                f"{origin} holds {name} {list(tensor.shape)} in 8 bits without a scale for each output channel",
                wanted=f"{name}{_SCALE} beside it",
                fix="fetch the pack again, or pack the weights again",
            )
        restored[name] = tensor * scale
    return restored


def _type(tensor: Array) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _refuse_not_finite(name: str, stored: Tensor) -> None:
    if not stored.isfinite().all():
        raise WeightsError(
            f"{name} holds numbers that are not finite, or too large for {str(stored.dtype).removeprefix('torch.')}",
            wanted="weights that can be stored",
            fix="train again with a lower learning rate",
        )


def _is_weight(name: str, tensor: Tensor) -> bool:
    return name.endswith(".weight") and tensor.ndim >= 2 and tensor.is_floating_point()
