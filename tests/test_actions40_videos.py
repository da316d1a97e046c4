"""Photographs of examples/actions40.py: a photograph that is trained on is never measured on."""

from __future__ import annotations

import importlib
import sys
from itertools import combinations
from pathlib import Path
from types import ModuleType

import pytest

from tsq_cli.errors import InputNotFoundError

EXAMPLES = Path(__file__).parents[1] / "examples"
NUM_ACTIONS, NUM_PHOTOS = 17, 40


@pytest.fixture(scope="module")
def actions40_videos() -> ModuleType:
    """The module; its folder is on the path only while it is imported."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        return importlib.import_module("actions40_videos")
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for action in range(NUM_ACTIONS):
        (tmp_path / f"action_{action:02d}").mkdir()
        for number in range(NUM_PHOTOS):
            (tmp_path / f"action_{action:02d}" / f"{number:02d}.jpg").touch()
    return tmp_path


def test_parts_share_no_photograph_and_leave_none_out(actions40_videos: ModuleType, photos: Path) -> None:
    parts = {part: actions40_videos.find_photos(photos, part) for part in ("test", "training", "tuning")}
    sizes = {part: {len(of_action) for of_action in found} for part, found in parts.items()}
    assert sizes == {"test": {8}, "training": {27}, "tuning": {5}}  # 20 %, 68 % and 12 % of 40
    paths = {part: {photo.path for of_action in found for photo in of_action} for part, found in parts.items()}
    for one, other in combinations(paths.values(), 2):
        assert one.isdisjoint(other)
    assert set.union(*paths.values()) == set(photos.glob("*/*.jpg"))
    assert actions40_videos.find_photos(photos, "tuning") == parts["tuning"]  # the same in every run


def test_too_few_photographs_are_refused(actions40_videos: ModuleType, photos: Path) -> None:
    for number in range(NUM_PHOTOS - 2):
        (photos / "action_03" / f"{number:02d}.jpg").unlink()
    with pytest.raises(InputNotFoundError, match="action 03 has 2 photographs for training"):
        actions40_videos.find_photos(photos, "training")
