"""Side data of frames: EXIF and other side data newer than PyAV's list, color matrices, and orientation."""

from __future__ import annotations

import io
from pathlib import Path

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type
from PIL import Image, ImageOps

from tests.video import pictures
from tests.video.clips import clip
from tests.video.encoding import FRAME, Recipe, encode
from tsq_cli.record import Candidate, SelectedFrame
from tsq_cli.report.frames import save_frame
from tsq_cli.video import decode_frames, open_video

DESCRIPTION, ORIENTATION = 0x010E, 0x0112


def jpeg(number: int, tag: int, value: str | int) -> bytes:
    exif, file = Image.Exif(), io.BytesIO()
    exif[tag] = value
    Image.fromarray(pictures.draw(number, 160, 120)).save(file, format="JPEG", quality=95, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("name", ["clip.avi", "clip.mkv", "clip.mov"])
def test_motion_jpeg_whose_pictures_carry_exif(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 160, 120, "yuvj420p", FRAME
        for number in range(12):
            packet = av.Packet(jpeg(number, DESCRIPTION, "a camera's name"))
            packet.pts = packet.dts = number
            packet.time_base, packet.is_keyframe, packet.stream = FRAME, True, stream
            container.mux(packet)
    with open_video(path) as source:
        batch = decode_frames(source, range(12), short_side=64)
    assert [pictures.read(picture) for picture in batch.pixels] == list(range(12))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_other_programs_apply_it(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg(7, ORIENTATION, orientation))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"), dtype=np.float64)
    with open_video(path) as source:
        pixels = decode_frames(source, [0], short_side=None).pixels[0]
        assert (source.info.width, source.info.height) == upright.shape[1::-1]
    assert pixels.shape == upright.shape
    assert np.abs(pixels - upright).mean() < 3  # another turn is off by 50 and more


@pytest.mark.parametrize("image_format", ["jpg", "png", "webp"])
def test_pictures_that_tsq_saved_can_be_opened_again(tmp_path: Path, image_format: str) -> None:
    candidate = Candidate(
        position=3,
        frame_index=75,
        pts=75,
        time_base=FRAME,
        time_seconds=3.0,
        score_visual=None,
        score_textual=None,
    )
    saved = save_frame(
        pictures.draw(75, 160, 120),
        SelectedFrame(rank=1, chosen_by="uniform", candidate=candidate),
        source="a.mp4",
        video_id="0123abcd",
        folder=tmp_path,
        stem="a",
        image_format=image_format,  # type: ignore[arg-type]
    )
    with open_video(saved) as source:
        assert pictures.read(decode_frames(source, [0]).pixels[0]) == 75


def test_side_data_without_a_name_is_told_apart() -> None:
    """29 are the views of stereo video, as phones record it; 10,000 is still to be thought of."""
    assert Type(6) is Type.DISPLAYMATRIX
    for number in (29, 10_000):
        kind = Type(number)
        assert (kind.value, kind.name) == (number, f"UNNAMED_{number}")
        assert {kind: 1, Type.DISPLAYMATRIX: 2}[Type.DISPLAYMATRIX] == 2
    with pytest.raises(KeyError):
        Type["UNNAMED_29"]


@pytest.mark.parametrize("matrix", ["YCgCo", "bt2020c"])
def test_color_matrix_that_cannot_be_used_refuses_no_video(tmp_path: Path, matrix: str) -> None:
    """Coded by BT.601, and said to be something that FFmpeg's scaler refuses."""
    path = tmp_path / "clip.mp4"
    encode(path, Recipe(num_frames=3, options={"x264-params": f"colormatrix={matrix}"}))
    with open_video(path) as source:
        batch = decode_frames(source, [0, 2], short_side=None)
    assert [pictures.read(picture) for picture in batch.pixels] == [0, 2]
    pictures.assert_upright_and_true_colors(batch.pixels[0])
    assert batch.notes == ("2 of 2 frames state a color matrix that cannot be used; BT.601 is used instead.",)
    assert decode_frames(open_video(clip("bt709").path), [0]).notes == ()
