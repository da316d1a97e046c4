"""What the tests of evaluation share: one evaluation, made once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.evaluation.world import Measured, measure


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Threads that wait for each other over tensors this small only cost time, on a busy machine a lot of it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return measure(tmp_path_factory.mktemp("evaluation"))
