"""A small made pack, for the tests that damage one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.packs.making import make_pack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "small"


@pytest.fixture
def document(folder: Path) -> dict[str, Any]:
    return make_pack(folder)
