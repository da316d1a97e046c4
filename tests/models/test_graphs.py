"""A function as a CUDA graph answers as it does without; on a CPU it is the function itself."""

from __future__ import annotations

import torch

from tests.marks import needs_cuda
from tsq_cli.models.graphs import MAX_SHAPES, Graphed, graph_calls


def product(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return one @ other, one.sum(dim=1)


def test_on_a_cpu_it_is_the_function() -> None:
    graphed = Graphed(product)
    for size in (2, 3, 2):
        one, other = torch.rand(size, 4), torch.rand(4, 5)
        for ours, theirs in zip(graphed(one, other), product(one, other), strict=True):
            assert torch.equal(ours, theirs)


@needs_cuda
def test_on_a_gpu_it_follows_its_inputs_and_their_shapes() -> None:
    graphed = Graphed(product)
    for size in (2, 3, 2, 3):
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
    for _ in range(2):
        for size in range(1, MAX_SHAPES + 3):
            inputs = torch.rand(size, 4, device="cuda")
            with torch.inference_mode():
                torch.testing.assert_close(network(inputs), inputs @ network.weight.T + network.bias)
