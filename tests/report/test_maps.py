"""Saved maps, read back."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from tsq_cli.config import MapFormat
from tsq_cli.errors import OutputError
from tsq_cli.explain.render import heat, overlay, upsample_to_frame
from tsq_cli.record import Candidate, SelectedFrame
from tsq_cli.report.maps import save_map
from tsq_cli.types import Category, SaliencyMaps

BOX = (0.25, 0.0, 0.75, 1.0)
PIXELS = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)
MAPS = SaliencyMaps(
    values=np.random.default_rng(1).random((2, 7, 7), dtype=np.float32),
    category=Category(index=285, label="Egyptian cat", score=0.75),
    box=BOX,
)
CANDIDATE = Candidate(
    position=9,
    frame_index=31,
    pts=1240,
    time_base=Fraction(1, 1000),
    time_seconds=1.24,
    score_visual=0.1,
    score_textual=0.2,
)
FRAME = SelectedFrame(rank=2, chosen_by="textual", candidate=CANDIDATE, path="frames/clip-02.jpg")


def save(folder: Path, map_format: MapFormat, number: int = 1, maps: SaliencyMaps = MAPS) -> str:
    return save_map(
        PIXELS,
        maps,
        number,
        frame=FRAME,
        source="a/clip.mp4",
        video_id="0123abcd",
        folder=folder,
        stem="clip",
        map_format=map_format,
    )


def test_an_overlay_shows_the_frame_and_says_what_it_is(tmp_path: Path) -> None:
    path = save(tmp_path / "maps", "overlay")
    assert path == str(tmp_path / "maps" / "clip-02-000001240-map.png")
    with Image.open(path) as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        assert np.array_equal(np.array(picture), overlay(PIXELS, MAPS.values[1], BOX))
        described = json.loads(picture.getexif()[ExifTags.Base.ImageDescription])
    assert described["source"] == "a/clip.mp4"
    assert described["time_seconds"] == 1.24
    assert described["rank"] == 2
    assert described["map"] == {
        "index": 285, "label": "Egyptian cat", "score": 0.75, "is_sure": True, "scale": "clip",
        "box": [0.25, 0.0, 0.75, 1.0],
    }  # fmt: skip
    assert "path" not in described


def test_heat_alone_is_transparent_where_nothing_is(tmp_path: Path) -> None:
    with Image.open(save(tmp_path, "heat", 0)) as picture:
        assert (picture.mode, picture.size) == ("RGBA", (160, 90))
        shown = np.array(picture)
        assert ExifTags.Base.ImageDescription in picture.getexif()
    assert np.array_equal(shown, heat(upsample_to_frame(MAPS.values[0], BOX, height=90, width=160)))
    assert not shown[:, :40, 3].any()
    assert not shown[:, 120:, 3].any()
    assert shown[:, 40:120, 3].any()


def test_values_are_kept_as_numbers(tmp_path: Path) -> None:
    path = save(tmp_path, "npy")
    assert path.endswith("clip-02-000001240-map.npy")
    values = np.load(path)
    assert (values.dtype, values.shape) == (np.float32, (90, 160))
    assert np.array_equal(values, upsample_to_frame(MAPS.values[1], BOX, height=90, width=160))
    assert [file.name for file in tmp_path.iterdir()] == ["clip-02-000001240-map.npy"]


def test_names_in_other_scripts_survive(tmp_path: Path) -> None:
    maps = replace(MAPS, category=replace(MAPS.category, label='Löwe "獅子"'))
    with Image.open(save(tmp_path, "overlay", maps=maps)) as picture:
        assert json.loads(picture.getexif()[ExifTags.Base.ImageDescription])["map"]["label"] == 'Löwe "獅子"'


@pytest.mark.parametrize("map_format", ["overlay", "npy"])
def test_a_map_is_written_whole_or_not_at_all(tmp_path: Path, map_format: MapFormat) -> None:
    name = Path(save(tmp_path, map_format)).name
    blocked = tmp_path / "blocked"
    (blocked / name).mkdir(parents=True)
    with pytest.raises(OutputError):
        save(blocked, map_format)
    assert [path.name for path in blocked.iterdir()] == [name]
