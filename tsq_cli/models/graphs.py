"""Functions of tensors as CUDA graphs: recorded when a shape comes again, then launched as one piece."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tsq_cli.models.device import convolutions_by_trial

MAX_SHAPES = 8
"""Shapes of one function that have graphs, and shapes seen once that are remembered (ours)."""

WARM_UPS = 3  # before a recording, so that libraries have chosen their kernels and made their workspaces

_Key = tuple[object, ...]


class _Recording(NamedTuple):
    graph: torch.cuda.CUDAGraph
    places: tuple[Tensor, ...]
    outputs: Any


class _Captures(NamedTuple):
    """Stream and memory pool of all CUDA graphs on one device. As they share its memory, one runs at a time."""

    stream: torch.cuda.Stream
    pool: Any
    lock: threading.RLock


class Graphed:
    """A function that runs as a CUDA graph where its inputs lie on a GPU, and as it is where they do not.

    A shape is recorded the second time it is seen; of more than MAX_SHAPES the one not used for longest gives way. All
    graphs of a device share one pool of memory, so the outputs are copied out of it. The function must neither read
    from the device nor depend on anything but its inputs, and all calls on a device belong to one stream.

    Source: the warm-up on a side stream, capture, shared pools and replay of torch.cuda.CUDAGraph's documentation.

    Args:
        function: of tensors, to a tensor or a tuple of tensors.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._recordings: OrderedDict[_Key, _Recording] = OrderedDict()
        self._seen_once: OrderedDict[_Key, None] = OrderedDict()

    def __call__(self, *inputs: Tensor) -> Any:
        """Call the function; the inputs lie on one device."""
        device = inputs[0].device
        if device.type != "cuda":
            return self._function(*inputs)
        key = (device, *((tensor.shape, tensor.dtype, tensor.stride()) for tensor in inputs))
        # A stream, and a capture, is the current device's unless told otherwise.
        with torch.cuda.device(device), _captures(device).lock:
            if key not in self._recordings:
                if key not in self._seen_once:
                    self._seen_once[key] = None
                    if len(self._seen_once) > MAX_SHAPES:
                        self._seen_once.popitem(last=False)
                    return self._function(*inputs)
                del self._seen_once[key]
                while len(self._recordings) >= MAX_SHAPES:  # before its memory is needed
                    self._recordings.popitem(last=False)
                self._recordings[key] = self._record(inputs, _captures(device))
            self._recordings.move_to_end(key)
            graph, places, outputs = self._recordings[key]
            for place, tensor in zip(places, inputs, strict=True):
                place.copy_(tensor, non_blocking=True)
            graph.replay()
            return _copied(outputs)

    def _record(self, inputs: tuple[Tensor, ...], captures: _Captures) -> _Recording:
        places = tuple(tensor.clone() for tensor in inputs)
        current = torch.cuda.current_stream()
        captures.stream.wait_stream(current)
        graph = torch.cuda.CUDAGraph()
        with convolutions_by_trial(places[0].device):
            with torch.cuda.stream(captures.stream):
                for _ in range(WARM_UPS):
                    self._function(*places)
            current.wait_stream(captures.stream)
            # Thread-local: other threads' CUDA calls, such as those of FFmpeg's decoders, do not break the capture.
            with torch.cuda.graph(graph, pool=captures.pool, stream=captures.stream, capture_error_mode="thread_local"):
                outputs = self._function(*places)
        return _Recording(graph, places, outputs)


def graph_calls(network: nn.Module) -> None:
    """Run a network's calls on a GPU, which must be without gradients, as CUDA graphs; on a CPU nothing changes."""
    if next(network.parameters()).is_cuda:
        network.forward = Graphed(network.forward)


@functools.cache
def _captures(device: torch.device) -> _Captures:
    return _Captures(torch.cuda.Stream(device), torch.cuda.graph_pool_handle(), threading.RLock())  # type: ignore[no-untyped-call]


def _copied(outputs: Any) -> Any:
    """Copy the tensors of an output: a tensor, a tuple or a dataclass of outputs; anything else stays as it is."""
    if isinstance(outputs, Tensor):
        return outputs.clone()
    if isinstance(outputs, tuple):
        return tuple(map(_copied, outputs))
    if is_dataclass(outputs) and not isinstance(outputs, type):
        return replace(outputs, **{field.name: _copied(getattr(outputs, field.name)) for field in fields(outputs)})
    return outputs
