"""A function as a CUDA graph answers as it does without; on a CPU it is the function itself."""

from __future__ import annotations

import pytest
import torch

from tsq_cli.models.graphs import Graphed

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


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
