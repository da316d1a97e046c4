"""What a test needs of its machine."""

from __future__ import annotations

import os

import pytest
import torch

MUST_HAVE_CUDA = os.environ.get("TSQ_FAIL_WITHOUT_CUDA") == "1"
"""Set where a GPU is known to be: a test that needs one then fails without it, where it would be skipped elsewhere."""

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available() and not MUST_HAVE_CUDA, reason="needs a CUDA device")
ON_CUDA = pytest.param("cuda", marks=needs_cuda)
