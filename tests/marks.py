"""What a test needs of its machine."""

from __future__ import annotations

import os

import pytest

needs_cuda = pytest.mark.gpu
ON_CUDA = pytest.param("cuda", marks=needs_cuda)

MUST_HAVE_CUDA = "TSQ_FAIL_WITHOUT_CUDA"
"""Set to 1 where a GPU is known to be: a test that needs one then fails without it, where it is skipped elsewhere."""


def skip_without_cuda(item: pytest.Item) -> None:
    """Skip a test that is marked as `gpu` where there is no CUDA device, unless there has to be one."""
    import torch  # late: those that only hand tests out need none

    is_free_to_skip = os.environ.get(MUST_HAVE_CUDA) != "1" and not torch.cuda.is_available()
    if is_free_to_skip and item.get_closest_marker(needs_cuda.name) is not None:
        pytest.skip("needs a CUDA device")
