"""The sheet in the layout of S's figures (docs/method.md, section 7): whom it shows, and where."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.evaluation.world import Measured
from tsq_cli.clip import load_clip
from tsq_cli.config import SelectSettings
from tsq_cli.data import LabeledVideo
from tsq_cli.errors import OutputError, UsageError
from tsq_cli.evaluation.paper_sheet import choose_paper_videos, write_paper_sheet
from tsq_cli.pipeline import Selector
from tsq_cli.report.paper_sheet import MOST_TILE
from tsq_cli.report.sheet import HEADING, LINE, MARGIN


def videos(*labels: Sequence[int]) -> list[LabeledVideo]:
    return [LabeledVideo(id=f"{n}", path=Path(f"{n}.mp4"), labels=tuple(of)) for n, of in enumerate(labels)]


@pytest.mark.parametrize("seed", range(20))
def test_three_of_one_class_and_three_of_different_ones_whatever_is_drawn(seed: int) -> None:
    listed = videos([0], [1], [0], [2], [0], [1], [3], [0, 2], [2], [4], [1])
    same, different = choose_paper_videos(listed, seed=seed)
    assert len({*same, *different}) == 6
    assert set.intersection(*(set(listed[number].labels) for number in same))
    labels = [label for number in different for label in listed[number].labels]
    assert len(labels) == len(set(labels))
    assert choose_paper_videos(listed, seed=seed) == (same, different)


def test_the_draw_depends_on_the_seed_and_not_on_results() -> None:
    listed = videos(*([number % 5] for number in range(40)))
    assert len({choose_paper_videos(listed, seed=seed) for seed in range(10)}) == 10
    assert choose_paper_videos(listed) == choose_paper_videos(listed, seed=0)


def test_few_classes_leave_the_first_class_one_more_row() -> None:
    same, different = choose_paper_videos(videos([0], [0], [0], [0], [1], [2]))
    assert sorted([*same, *different]) == list(range(6))
    assert set(different) > {4, 5}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0], [0], [1], [1], [2], [2]], "no class has 3 videos"),
        ([[0], [0], [0], [1], [1], [0]], "there are 2 of different classes"),
    ],
)
def test_a_list_without_such_videos_is_refused(labels: list[list[int]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_paper_videos(videos(*labels))


def test_videos_asked_for_are_taken_in_that_order_if_they_are_such() -> None:
    listed = videos([0], [1], [0], [2], [0], [3])
    assert choose_paper_videos(listed, list("420315")) == ((4, 2, 0), (3, 1, 5))
    for ids in ("42031", "420335", "012345", "4203155", "4"):
        with pytest.raises(UsageError, match="6 ids: 3 of one class, then 3 of different"):
            choose_paper_videos(listed, list(ids))
    with pytest.raises(UsageError, match="no video 9 to draw"):
        choose_paper_videos(listed, list("420319"))


def test_uniform_frames_stand_beside_the_selected_ones(measured: Measured, tmp_path: Path) -> None:
    renamed = zip(measured.evaluation.videos, (0, 0, 0, 0, 1, 2), strict=True)
    evaluation = replace(measured.evaluation, videos=tuple(replace(video, labels=(of,)) for video, of in renamed))
    rows = (2, 0, 1, 3, 5, 4)
    chosen = choose_paper_videos(evaluation.videos, [f"{number}.mkv" for number in rows])
    index, sheet = write_paper_sheet(tmp_path / "new", evaluation, measured.pack, chosen)
    assert [index.name, sheet.name] == ["sheets.md", "paper.png"]
    with Image.open(sheet) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    row_height = LINE + 4 + MOST_TILE + 4 + LINE + MARGIN
    columns = (MARGIN, MARGIN + 2 * (MOST_TILE + MARGIN) + 2 * MARGIN)  # two of four frames, in two columns
    settings = SelectSettings(selector="tsq", num_candidates=4, num_frames=2)
    inside = slice(4, MOST_TILE - 4)  # without the border of a chosen frame
    for row, number in enumerate(rows):
        top = 2 * HEADING + MARGIN + HEADING * (1 + row // 3) + row * row_height + LINE + 4
        record = Selector(measured.pack).select(evaluation.videos[number].path, settings)
        with closing(load_clip(evaluation.videos[number].path, settings)) as clip:
            candidates = clip.batch.pixels
        for left, positions in zip(columns, ([1, 3], [f.candidate.position for f in record.frames]), strict=True):
            for place, position in enumerate(positions):
                found = pixels[top : top + MOST_TILE, left + place * (MOST_TILE + MARGIN) :][:, :MOST_TILE]
                size = (MOST_TILE, MOST_TILE)
                wanted = np.asarray(Image.fromarray(candidates[position]).resize(size, Image.Resampling.LANCZOS))
                assert np.abs(found[inside, inside] - wanted[inside, inside]).max() == 0, (number, place)
    text = index.read_text()
    assert "![paper](paper.png)" in text
    assert [text.index(f"**{number}.mkv**") for number in rows] == sorted(text.index(f"**{n}.mkv**") for n in rows)


def test_the_sheet_replaces_its_own_kind_only(measured: Measured, tmp_path: Path) -> None:
    renamed = zip(measured.evaluation.videos, (0, 0, 0, 0, 1, 2), strict=True)
    evaluation = replace(measured.evaluation, videos=tuple(replace(video, labels=(of,)) for video, of in renamed))
    chosen = choose_paper_videos(evaluation.videos)
    _, sheet = write_paper_sheet(tmp_path, evaluation, measured.pack, chosen)
    first = sheet.read_bytes()
    assert write_paper_sheet(tmp_path, evaluation, measured.pack, chosen)[1].read_bytes() == first
    Image.new("RGB", (8, 8)).save(sheet)
    with pytest.raises(OutputError, match=r"paper\.png"):
        write_paper_sheet(tmp_path, evaluation, measured.pack, chosen)
    with Image.open(sheet) as kept:
        assert kept.size == (8, 8)
