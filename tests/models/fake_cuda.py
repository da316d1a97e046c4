"""CUDA graphs without a GPU: calls are recorded; a capture's operations run again, in place, when it is replayed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode


class OnGpu(torch.Tensor):
    """A tensor in host memory that says that it lies on the second GPU."""

    device = torch.device("cuda:1")  # type: ignore[assignment]


def on_gpu(tensor: torch.Tensor) -> torch.Tensor:
    """Let a tensor say that it lies on the second GPU."""
    return tensor.as_subclass(OnGpu)


class FakeGraph:
    """Operations in order, with their arguments and results."""

    def __init__(self) -> None:
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def replay(self) -> None:
        """Run the operations again and overwrite their results."""
        for operation, args, kwargs, result in self.operations:
            result.copy_(operation(*args, **kwargs))


class _Capture(TorchDispatchMode):
    def __init__(self, graph: FakeGraph) -> None:
        super().__init__()
        self._graph = graph

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._graph.operations.append((func, args, kwargs or {}, result))
        return result


class FakeCuda:
    """Stands in for torch.cuda.

    Attributes:
        current: index of the current device.
        captures: of each capture the current device, the stream, the pool, the error mode and whether cuDNN tries.
        pools: number of pools made.
    """

    def __init__(self) -> None:
        self.current = 0
        self.captures: list[tuple[int, Any, Any, str, bool]] = []
        self.pools = 0

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        before, self.current = self.current, device.index
        yield
        self.current = before

    @contextmanager
    def graph(
        self, graph: FakeGraph, *, pool: Any = None, stream: Any = None, capture_error_mode: str = "global"
    ) -> Iterator[None]:
        trials = torch.backends.cudnn.benchmark
        self.captures.append((self.current, stream, pool, capture_error_mode, trials))
        with _Capture(graph):
            yield
        for *_, result in graph.operations:
            result.fill_(float("nan"))  # a capture computes nothing

    def pool(self) -> tuple[int, int]:
        self.pools += 1
        return (0, self.pools)


class FakeStream:
    """A stream of a device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def wait_stream(self, other: FakeStream) -> None:
        """Wait for nothing: all that came before is done."""


@contextmanager
def _entered(_: FakeStream) -> Iterator[None]:
    yield


def install(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """Put a fake in the place of what graphs use of torch.cuda."""
    fake = FakeCuda()
    for name, stand_in in {
        "device": fake.device,
        "graph": fake.graph,
        "graph_pool_handle": fake.pool,
        "CUDAGraph": FakeGraph,
        "Stream": FakeStream,
        "stream": _entered,
        "current_stream": lambda: FakeStream(torch.device("cuda", fake.current)),
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return fake
