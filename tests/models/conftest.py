"""Fixtures of the networks' tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.models.fake_cuda import FakeCuda, install
from tsq_cli.models import graphs


@pytest.fixture
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    """CUDA graphs as a fake makes them; nothing shared by a device's recordings outlives the test."""
    graphs._captures.cache_clear()
    yield install(monkeypatch)
    graphs._captures.cache_clear()
