"""Fixtures of the tests of evaluation: one evaluation, made once."""

from __future__ import annotations

import pytest

from tests.evaluation.world import Measured, measure


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    return measure(tmp_path_factory.mktemp("evaluation"))
