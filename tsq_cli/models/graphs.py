"""Functions of tensors as CUDA graphs: recorded once per shape, then launched as one piece."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

MAX_SHAPES = 8  # a graph keeps the memory of its run; a run over videos has few shapes that come again
WARM_UPS = 3  # before a recording, so that libraries have chosen their kernels and made their workspaces


class Graphed:
    """A function that runs as a CUDA graph where its inputs lie on a GPU, and as it is where they do not.

    Shapes beyond the first MAX_SHAPES run without a graph. The function must neither read from the device nor depend
    on anything but its inputs. Its outputs are overwritten by the next call with inputs of the same shapes.

    Source: the warm-up on a side stream, capture and replay of torch.cuda.CUDAGraph's documentation.

    Args:
        function: of tensors, to a tensor or a tuple of tensors.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._recordings: dict[tuple[object, ...], tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Any]] = {}

    def __call__(self, *inputs: Tensor) -> Any:
        """Call the function; the inputs lie on one device."""
        if inputs[0].device.type != "cuda":
            return self._function(*inputs)
        key = tuple((tensor.shape, tensor.dtype, tensor.stride()) for tensor in inputs)
        if key not in self._recordings and len(self._recordings) == MAX_SHAPES:
            return self._function(*inputs)
        if key not in self._recordings:
            self._recordings[key] = self._record(inputs)
        graph, places, outputs = self._recordings[key]
        for place, tensor in zip(places, inputs, strict=True):
            place.copy_(tensor, non_blocking=True)
        graph.replay()
        return outputs

    def _record(self, inputs: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Any]:
        places = tuple(tensor.clone() for tensor in inputs)
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                self._function(*places)
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            outputs = self._function(*places)
        return graph, places, outputs


def graph_calls(network: nn.Module) -> None:
    """Run a network's calls on a GPU, which must be without gradients, as CUDA graphs; on a CPU nothing changes."""
    if next(network.parameters()).is_cuda:
        network.forward = Graphed(network.forward)
