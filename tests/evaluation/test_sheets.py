"""Which videos are drawn, and what the sheets show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.world import Measured
from tests.report.sheet_reading import rows_of_tiles
from tsq_cli.config import SelectSettings
from tsq_cli.errors import UsageError
from tsq_cli.evaluation.evaluate import Evaluation
from tsq_cli.evaluation.sheets import _plain, choose_videos, write_sheets
from tsq_cli.pipeline import Selector
from tsq_cli.report.sheet import MARGIN, TILE_HEIGHT


def with_gains(evaluation: Evaluation, gains: list[float]) -> Evaluation:
    uniform = np.full(len(gains), 0.5)
    return replace(
        evaluation,
        videos=evaluation.videos[: len(gains)],
        true_probability={"uniform": uniform, "tsq": uniform + gains},
    )


def test_the_extremes_are_those_that_selection_helps_and_harms_most(measured: Measured) -> None:
    evaluation = with_gains(measured.evaluation, [0.1, -0.3, 0.4, 0.0, -0.1, 0.2])
    assert choose_videos(evaluation, count=2) == {
        "best-01-2.mkv": 2, "best-02-5.mkv": 5, "worst-01-1.mkv": 1, "worst-02-4.mkv": 4
    }  # fmt: skip
    chosen = choose_videos(evaluation)
    assert sorted(chosen.values()) == list(range(6))
    assert choose_videos(with_gains(measured.evaluation, [0.2])) == {"best-01-0.mkv": 0}


def test_videos_asked_for_are_drawn_in_that_order_each_once(measured: Measured) -> None:
    assert choose_videos(measured.evaluation, ["4.mkv", "0.mkv", "4.mkv"]) == {"01-4.mkv": 4, "02-0.mkv": 0}
    odd = replace(measured.evaluation, videos=(replace(measured.evaluation.videos[0], id="a b/../c?"),))
    assert choose_videos(odd, ["a b/../c?"]) == {"01-a-b-..-c": 0}
    with pytest.raises(UsageError, match=r"no video broken\.mkv .* the first id is 0\.mkv"):
        choose_videos(measured.evaluation, ["broken.mkv"])


def test_a_sheet_shows_the_uniform_frames_above_those_of_tsq_select(measured: Measured, tmp_path: Path) -> None:
    index, sheet = write_sheets(tmp_path / "new", measured.evaluation, measured.pack, {"one": 3})
    assert [index.name, sheet.name] == ["sheets.md", "one.png"]
    settings = SelectSettings(selector="tsq", num_candidates=4, num_frames=2)
    record = Selector(measured.pack).select(measured.evaluation.videos[3].path, settings)
    uniform, everything = [1, 3], range(4)  # of four candidates the centers of two halves
    bands = [uniform, [frame.candidate.position for frame in record.frames], everything]
    with Image.open(sheet) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
        tops = [middle - TILE_HEIGHT // 2 for middle in rows_of_tiles(picture)]
    tiles = []
    for top, band in zip(tops, bands, strict=True):
        lefts = [MARGIN + column * (TILE_HEIGHT + MARGIN) for column in range(len(band))]
        inner = TILE_HEIGHT - 4  # without the border of a chosen tile
        tiles.append([pixels[top + 4 : top + inner, left + 4 : left + inner] for left in lefts])
    for shown, positions in zip(tiles[:2], bands[:2], strict=True):
        for tile, position in zip(shown, positions, strict=True):
            assert np.abs(tile - tiles[2][position]).max() <= 1
    assert np.abs(tiles[2][0] - tiles[2][1]).max() > 50  # candidates do differ
    text = index.read_text()
    assert "**3.mkv** (cat)" in text
    assert "![one](one.png)" in text
    assert f"{measured.evaluation.true_probability['tsq'][3]:.2f} from the selected ones" in text


def test_a_sheet_of_a_long_id_has_a_name_that_fits() -> None:
    name = _plain(
        "日本語/" * 100
    )  # 80 characters of it are 200 bytes, and a temporary name takes more than the sheet's
    assert name.startswith("日本語-日本語")
    assert len(name.encode()) <= 120
