"""Whose picture is it? Those of other videos stay; those of the same video are drawn anew."""

import json
import os
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.reference_decoder import write_clip
from tests.machine import needs_fifos, needs_signals
from tsq_cli.clip import load_clip
from tsq_cli.config import SelectSettings
from tsq_cli.errors import OutputError, UsageError
from tsq_cli.pictures import Outputs, check_sheet, video_id, write_pictures
from tsq_cli.pipeline import Selector
from tsq_cli.record import Record
from tsq_cli.report.frames import is_picture, video_id_in
from tsq_cli.types import Category, FrameBatch, SaliencyMaps, UInt8Array
from tsq_cli.video import decode_frames

SETTINGS = SelectSettings(selector="uniform", num_frames=2, num_candidates=4)
RED, BLUE = (200, 30, 30), (30, 30, 200)


def video(path: Path, color: tuple[int, int, int]) -> Path:
    path.parent.mkdir(exist_ok=True)
    write_clip(path, [np.full((64, 64, 3), color, np.uint8)] * 20, fps=10)
    return path


@pytest.fixture
def red(tmp_path: Path) -> Path:
    return video(tmp_path / "d1" / "x.mp4", RED)


@pytest.fixture
def blue(tmp_path: Path) -> Path:
    return video(tmp_path / "d2" / "x.mp4", BLUE)


def written(path: Path, outputs: Outputs, *, maps_of: str | None = None, seen: int = 2) -> Record:
    with closing(load_clip(path, SETTINGS)) as clip:
        (record,) = Selector.without_model().process_clips([clip], SETTINGS)
        if maps_of is not None:
            values = np.zeros((seen, 2, 2), np.float32)
            named = Category(index=0, label=maps_of, score=1.0)
            maps = SaliencyMaps(values=values, category=named, box=(0, 0, 1, 1))
            frames = tuple(replace(frame, predictions=(named,)) for frame in record.frames[-seen:])
            frames = (*record.frames[:-seen], *frames)
            record = replace(record, maps=maps, frames=frames)
        return write_pictures(record, clip, outputs, "x")


def shown(path: str | None) -> UInt8Array:
    assert path is not None
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))[0, 0]


def assert_is(color: tuple[int, int, int], path: str | None) -> None:
    assert np.abs(shown(path).astype(int) - color).max() < 12, (path, shown(path))


@pytest.mark.parametrize("image_format", ["jpg", "png", "webp"])
def test_frames_of_another_video_stay(red: Path, blue: Path, tmp_path: Path, image_format: str) -> None:
    outputs = Outputs(frames_dir=tmp_path / "shared", image_format=image_format)  # type: ignore[arg-type]
    first, second = written(red, outputs), written(blue, outputs)
    assert len(os.listdir(tmp_path / "shared")) == 4
    for record, color in ((first, RED), (second, BLUE)):
        for frame in record.frames:
            assert_is(color, frame.path)
    assert Path(str(first.frames[0].path)).name == f"x-01-000000700.{image_format}"
    found = blue.stat()
    own = video_id(str(blue), found.st_size, found.st_mtime_ns)
    assert Path(str(second.frames[0].path)).name == f"x-{own}-01-000000700.{image_format}"


def test_frames_of_the_same_video_are_replaced(red: Path, tmp_path: Path) -> None:
    outputs = Outputs(frames_dir=tmp_path / "shared")
    first = written(red, outputs)
    before = Path(str(first.frames[0].path)).stat().st_ino
    again = written(red, outputs)
    assert [frame.path for frame in again.frames] == [frame.path for frame in first.frames]
    assert Path(str(first.frames[0].path)).stat().st_ino != before
    assert len(os.listdir(tmp_path / "shared")) == 2


def test_frames_of_what_the_video_was_before_stay(red: Path, tmp_path: Path) -> None:
    outputs = Outputs(frames_dir=tmp_path / "shared")
    first = written(red, outputs)
    second = written(video(red, BLUE), outputs)
    assert_is(RED, first.frames[0].path)
    assert_is(BLUE, second.frames[0].path)


def test_overwrite_says_yes(red: Path, blue: Path, tmp_path: Path) -> None:
    outputs = Outputs(frames_dir=tmp_path / "shared", sheet=tmp_path / "s.png", overwrite=True)
    first, second = written(red, outputs), written(blue, outputs)
    assert [frame.path for frame in first.frames] == [frame.path for frame in second.frames]
    assert_is(BLUE, first.frames[0].path)
    assert first.sheet == second.sheet


def test_somebody_elses_file_with_our_name_stays(red: Path, tmp_path: Path) -> None:
    outputs = Outputs(frames_dir=tmp_path / "shared", maps_dir=tmp_path / "shared")
    theirs = [tmp_path / "shared" / name for name in ("x-01-000000700.jpg", "x-02-000001700-map.png")]
    theirs[0].parent.mkdir()
    theirs[0].write_text("no picture at all")
    Image.new("RGB", (4, 4)).save(theirs[1])
    before = [path.read_bytes() for path in theirs]
    record = written(red, outputs, maps_of="cat")
    assert [path.read_bytes() for path in theirs] == before
    assert len(os.listdir(tmp_path / "shared")) == 6
    assert_is(RED, record.frames[0].path)


def test_an_input_in_the_folder_of_the_frames_stays(red: Path, tmp_path: Path) -> None:
    clash = red.parent / "x-01-000000700.jpg"
    shutil.copy(red, clash)
    before = clash.read_bytes()
    written(red, Outputs(frames_dir=red.parent))
    assert clash.read_bytes() == before


@pytest.mark.parametrize("map_format", ["overlay", "heat", "npy"])
def test_maps_of_another_video_stay(red: Path, blue: Path, tmp_path: Path, map_format: str) -> None:
    outputs = Outputs(maps_dir=tmp_path / "maps", map_format=map_format)  # type: ignore[arg-type]
    first, second = written(red, outputs, maps_of="cat"), written(blue, outputs, maps_of="dog")
    paths = [frame.map_path for record in (first, second) for frame in record.frames]
    assert len(set(paths)) == len(os.listdir(tmp_path / "maps")) == 4
    if map_format != "npy":
        with Image.open(str(paths[0])) as picture:
            assert json.loads(picture.getexif()[0x010E])["map"]["label"] == "cat"
    # Again, the same: nothing more is left lying about.
    written(blue, outputs, maps_of="dog")
    assert len(os.listdir(tmp_path / "maps")) == 4


def test_a_frame_that_was_not_looked_at_has_no_map(red: Path, tmp_path: Path) -> None:
    first, second = written(red, Outputs(maps_dir=tmp_path / "maps"), maps_of="cat", seen=1).frames
    assert first.map_path is None
    assert second.map_path is not None
    assert [str(path) for path in (tmp_path / "maps").iterdir()] == [second.map_path]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_sheet_of_another_video_stays(red: Path, blue: Path, tmp_path: Path, suffix: str) -> None:
    outputs = Outputs(sheet=(tmp_path / "sheet").with_suffix(suffix))
    assert outputs.sheet is not None
    written(red, outputs)
    before = outputs.sheet.read_bytes()
    check_sheet(outputs, [str(red)])
    with pytest.raises(UsageError, match=r"sheet.* exists and is not a sheet of .*d2.x.mp4.*--overwrite"):
        check_sheet(outputs, [str(blue)])
    with pytest.raises(OutputError, match="not a picture of"):
        written(blue, outputs)
    assert outputs.sheet.read_bytes() == before
    written(red, outputs)
    check_sheet(replace(outputs, overwrite=True), [str(blue)])


def test_sheets_named_after_videos_find_names(red: Path, blue: Path, tmp_path: Path) -> None:
    outputs = Outputs(sheet=tmp_path / "sheet-{stem}.png")
    first, second = written(red, outputs), written(blue, outputs)
    assert first.sheet == str(tmp_path / "sheet-x.png")
    assert second.sheet != first.sheet
    assert len(list(tmp_path.glob("sheet-x*.png"))) == 2


def test_a_photograph_is_not_drawn_over_and_an_empty_file_is(red: Path, tmp_path: Path) -> None:
    photograph = tmp_path / "photo.png"
    Image.new("RGB", (8, 8), RED).save(photograph)
    with pytest.raises(UsageError, match="exists and is not a sheet"):
        check_sheet(Outputs(sheet=photograph), [str(red)])
    empty = tmp_path / "empty.png"
    empty.touch(mode=0o600)
    check_sheet(Outputs(sheet=empty), [str(red)])
    written(red, Outputs(sheet=empty))
    assert is_picture(empty)
    assert empty.stat().st_mode & 0o777 == 0o600


@needs_fifos
def test_a_pipe_for_a_sheet_is_not_read(red: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "sheet.png")
    check_sheet(Outputs(sheet=tmp_path / "sheet.png"), [str(red)])


def test_pictures_know_their_video_and_other_files_have_none(red: Path, tmp_path: Path) -> None:
    outputs = Outputs(frames_dir=tmp_path, sheet=tmp_path / "s.webp")
    record = written(red, outputs)
    found = red.stat()
    own = video_id(str(red), found.st_size, found.st_mtime_ns)
    assert {video_id_in(Path(str(path))) for path in (record.frames[0].path, record.sheet)} == {own}
    text = tmp_path / "text.png"
    text.write_text("no picture")
    Image.new("RGB", (4, 4)).save(tmp_path / "plain.png")
    assert video_id_in(text) is video_id_in(tmp_path / "plain.png") is video_id_in(tmp_path / "none.png") is None
    assert not is_picture(text)
    assert own != video_id(str(red), found.st_size, found.st_mtime_ns + 1)
    assert own != video_id(str(tmp_path / "x.mp4"), found.st_size, found.st_mtime_ns)


def test_a_picture_that_another_run_writes_at_this_moment_stays(
    red: Path, blue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = Outputs(frames_dir=tmp_path / "shared")
    theirs = written(blue, outputs)
    pictures = {Path(str(frame.path)): Path(str(frame.path)).read_bytes() for frame in theirs.frames}
    for path in pictures:
        path.unlink()

    def decode_while_the_other_writes(*arguments: Any, **options: Any) -> FrameBatch:
        for path, content in pictures.items():
            path.write_bytes(content)
        return decode_frames(*arguments, **options)

    monkeypatch.setattr("tsq_cli.pictures.decode_frames", decode_while_the_other_writes)
    ours = written(red, outputs)
    assert {path: path.read_bytes() for path in pictures} == pictures
    assert len(os.listdir(tmp_path / "shared")) == 4
    for frame in ours.frames:
        assert_is(RED, frame.path)


@needs_signals
@pytest.mark.parametrize("output", ["jpg", "png", "webp", "sheet.jpg"])
def test_no_picture_is_cut_where_the_system_takes_a_part_of_it(red: Path, tmp_path: Path, output: str) -> None:
    import resource

    folder = tmp_path / "out"
    is_sheet = output.startswith("sheet")
    outputs = Outputs(
        frames_dir=None if is_sheet else folder,
        sheet=folder / output if is_sheet else None,
        image_format="jpg" if is_sheet else output,  # type: ignore[arg-type]
    )
    written(red, outputs)
    sizes = [path.stat().st_size for path in folder.iterdir()]
    shutil.rmtree(folder)
    folder.mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A file may not grow beyond one byte less: the system writes up to that, and refuses only what comes after.
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(sizes) - 1, before[1]))
    try:
        with pytest.raises(OutputError, match="File too large"):
            written(red, outputs)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path for path in folder.iterdir() if path.stat().st_size >= max(sizes) - 1] == []
