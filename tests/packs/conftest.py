"""A small made pack, for the tests that damage one."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.packs.making import make_pack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "small"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """One such pack, to be copied."""
    folder = tmp_path_factory.mktemp("made") / "small"
    return folder, make_pack(folder)


@pytest.fixture
def document(folder: Path, made: tuple[Path, dict[str, Any]]) -> dict[str, Any]:
    shutil.copytree(made[0], folder)
    return copy.deepcopy(made[1])
