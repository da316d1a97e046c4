"""The cost of a computation, independent of the machine: multiply-adds and parameters.

Counted by torch's FlopCounterMode while the computation runs: matrix products and convolutions, and nothing else, as
papers count. The counter sees torch's operators, so count networks as they were built: before they are captured in
CUDA graphs, and before batch norms are folded away, whose parameters papers count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """Cost of a computation.

    Attributes:
        macs: multiply-adds, the "FLOPs" of most papers on video and image recognition.
        parameters: numbers in its weights.
    """

    macs: int
    parameters: int

    @property
    def flops(self) -> int:
        """Floating point operations: a multiply-add is two."""
        return 2 * self.macs

    @property
    def giga_macs(self) -> float:
        """Multiply-adds in units of 10^9, the "GFLOPs" column of the papers' tables."""
        return self.macs / 1e9

    @property
    def giga_flops(self) -> float:
        """Floating point operations in units of 10^9."""
        return self.flops / 1e9

    @property
    def mega_parameters(self) -> float:
        """Parameters in units of 10^6."""
        return self.parameters / 1e6


def count(function: Callable[..., object], *inputs: object, modules: Iterable[nn.Module] = ()) -> Cost:
    """Run function(*inputs) once, without gradients, and count its multiply-adds and parameters.

    Args:
        function: a network or any function of tensors; what Module.compile has compiled runs uncompiled here, for
            torch compiles nothing under its counter.
        inputs: for example one video, so that the cost is that of one video.
        modules: the networks that take part, besides `function` itself where it is a network. Their parameters are
            counted, once each, though several share them.
    """
    networks = [*modules, *([function] if isinstance(function, nn.Module) else [])]
    parameters = {id(parameter): parameter for network in networks for parameter in network.parameters()}.values()
    # Operators that the counter would take for free, on one device or in one version of torch, are counted by us
    # (recurrent layers fused by a library) or kept from use (attention fused on a CPU).
    recurrent = {torch.ops.aten.mkldnn_rnn_layer: _recurrent_flops, torch.ops.aten._cudnn_rnn: _recurrent_flops}
    counter = FlopCounterMode(display=False, custom_mapping=recurrent)
    with _frozen(parameters), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        function(*inputs)
    return Cost(macs=counter.get_total_flops() // 2, parameters=sum(map(torch.numel, parameters)))


@contextmanager
def _frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Turn off gradients of parameters: even under no_grad, the counter fails on views of those that require them."""
    thawed = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in thawed:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in thawed:
            parameter.requires_grad_(True)


def _recurrent_flops(inputs: torch.Size, *others: Any, out_shape: object, **_: object) -> int:
    """Count a recurrent layer's operations: at each step of each sequence every weight matrix is applied once.

    Args:
        inputs: [steps, sequences, features] or [sequences, steps, features].
        others: the operator's other arguments, tensors as their shapes, among them the weights one by one or listed.
        out_shape: of the outputs, which the counter passes along.
    """
    matrices = [shape for argument in others[:4] for shape in _shapes(argument) if len(shape) == 2]
    return 2 * math.prod(inputs[:-1]) * sum(map(math.prod, matrices))


def _shapes(argument: Any) -> list[torch.Size]:
    if isinstance(argument, torch.Size):
        return [argument]
    return [shape for item in argument for shape in _shapes(item)] if isinstance(argument, list | tuple) else []
