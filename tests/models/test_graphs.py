"""A function as a CUDA graph answers as it does without; on a CPU it is the function itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch

from tests.marks import needs_cuda
from tests.models.fake_cuda import FakeCuda, on_gpu
from tsq_cli.models.device import convolutions_by_trial
from tsq_cli.models.graphs import MAX_SHAPES, WARM_UPS, Graphed, graph_calls


def product(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return one @ other, one.sum(dim=1)


def test_on_a_cpu_it_is_the_function() -> None:
    graphed = Graphed(product)
    for size in (2, 3, 2):
        one, other = torch.rand(size, 4), torch.rand(4, 5)
        for ours, theirs in zip(graphed(one, other), product(one, other), strict=True):
            assert torch.equal(ours, theirs)


@dataclass(frozen=True)
class Sums:
    rows: torch.Tensor
    none: None = None


def counted(calls: list[int]) -> Callable[[torch.Tensor], Sums]:
    def sums(pixels: torch.Tensor) -> Sums:
        calls.append(len(pixels))
        return Sums(pixels.sum(dim=1) * 2)

    return sums


def test_a_capture_belongs_to_its_tensors_device_and_disturbs_no_other_thread(fake_cuda: FakeCuda) -> None:
    one, other = Graphed(counted([])), Graphed(counted([]))
    for graphed in (one, other):
        for size in (2, 3, 2, 3):
            graphed(on_gpu(torch.ones(size, 4)))
    assert len(fake_cuda.captures) == 4
    assert {device for device, *_ in fake_cuda.captures} == {1}
    assert {stream.device for _, stream, *_ in fake_cuda.captures} == {torch.device("cuda:1")}
    assert len({id(stream) for _, stream, *_ in fake_cuda.captures}) == 1  # a pool's memory is shared by stream
    assert {pool for _, _, pool, *_ in fake_cuda.captures} == {(0, 1)}
    assert {mode for *_, mode, _ in fake_cuda.captures} == {"thread_local"}
    assert {trials for *_, trials in fake_cuda.captures} == {True}
    assert fake_cuda.current == 0
    assert torch.backends.cudnn.benchmark is False


def test_a_shape_is_recorded_the_second_time_and_then_follows_its_inputs(fake_cuda: FakeCuda) -> None:
    calls: list[int] = []
    graphed = Graphed(counted(calls))
    results = []
    for number in range(4):
        results.append(graphed(on_gpu(torch.full((2, 4), float(number)))))
        assert len(fake_cuda.captures) == min(number, 1)
    assert len(calls) == 1 + WARM_UPS + 1  # the first time, before the capture, and in it
    # Four columns of a number, twice; a later call does not overwrite what an earlier one gave.
    assert [result.rows.tolist() for result in results] == [[0.0, 0.0], [8.0, 8.0], [16.0, 16.0], [24.0, 24.0]]
    assert results[3].none is None


def test_the_shape_not_used_for_longest_gives_way(fake_cuda: FakeCuda) -> None:
    graphed = Graphed(counted([]))

    def captures_of(size: int) -> int:
        before = len(fake_cuda.captures)
        assert graphed(on_gpu(torch.ones(size, 4))).rows.tolist() == [8.0] * size
        return len(fake_cuda.captures) - before

    sizes = list(range(1, MAX_SHAPES + 1))
    assert [captures_of(size) for size in sizes * 2] == [0] * MAX_SHAPES + [1] * MAX_SHAPES
    assert captures_of(1) == 0  # now 2 is the one not used for longest
    assert [captures_of(100), captures_of(100)] == [0, 1]
    assert len(graphed._recordings) == MAX_SHAPES
    assert [captures_of(1), captures_of(2), captures_of(2)] == [0, 0, 1]


def test_shapes_that_never_come_again_soon_have_no_graphs(fake_cuda: FakeCuda) -> None:
    graphed = Graphed(counted([]))
    for size in list(range(1, MAX_SHAPES + 2)) * 3:
        graphed(on_gpu(torch.ones(size, 4)))
    assert fake_cuda.captures == []


@pytest.mark.parametrize(("device", "expected"), [("cpu", False), ("cuda:1", True)])
def test_cudnn_tries_its_algorithms_on_a_gpu_only(device: str, expected: bool) -> None:
    with convolutions_by_trial(device):
        assert torch.backends.cudnn.benchmark is expected
    assert torch.backends.cudnn.benchmark is False


@needs_cuda
def test_on_a_gpu_it_follows_its_inputs_and_their_shapes() -> None:
    graphed = Graphed(product)
    for size in (2, 3, 2, 3, 2, 3):
        one, other = torch.rand(size, 4, device="cuda"), torch.rand(4, 5, device="cuda")
        for ours, theirs in zip(graphed(one, other), product(one, other), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_a_network_answers_as_before() -> None:
    network = torch.nn.Linear(4, 3)
    inputs = torch.rand(2, 4)
    expected = inputs @ network.weight.T + network.bias
    graph_calls(network)
    with torch.inference_mode():
        torch.testing.assert_close(network(inputs), expected)


@needs_cuda
def test_a_network_on_a_gpu_answers_as_before_for_more_shapes_than_have_graphs() -> None:
    network = torch.nn.Linear(4, 3).cuda()
    graph_calls(network)
    for _ in range(3):
        for size in [*range(1, MAX_SHAPES + 1), 1, 20, 20]:
            inputs = torch.rand(size, 4, device="cuda")
            with torch.inference_mode():
                torch.testing.assert_close(network(inputs), inputs @ network.weight.T + network.bias)
