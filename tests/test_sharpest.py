"""The sharpest frame beside each selected one, on clips made of photographs: sharp, blurred, cut, dissolved, blank."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import skimage.data
from PIL import Image, ImageFilter

from tsq_cli import sharpest
from tsq_cli.clip import Clip, load_clip
from tsq_cli.config import SelectSettings
from tsq_cli.errors import NoDecodableFrameError
from tsq_cli.sharpest import sharpen
from tsq_cli.types import UInt8Array
from tsq_cli.video import decode_frames


def photograph(name: str, radius: float = 0.0) -> UInt8Array:
    picture = Image.fromarray(getattr(skimage.data, name)()).resize((320, 256), Image.Resampling.BOX)
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)))


COFFEE, SOFT_COFFEE, CAT, BLACK = (
    photograph("coffee"),
    photograph("coffee", 2),
    photograph("chelsea"),
    np.zeros((256, 320, 3), dtype=np.uint8),
)


def write(
    path: Path,
    pictures: Sequence[UInt8Array],
    *,
    gop: int = 250,
    times: Callable[[int], Fraction] = lambda n: Fraction(n, 25),
) -> Path:
    """An H.264 clip; times in seconds of each frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast", "sc_threshold": "0"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.gop_size = gop
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(1000 * times(number)), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., tuple[Clip, SelectSettings]]]:
    clips: list[Clip] = []

    def open_clip(pictures: Sequence[UInt8Array], num_candidates: int, **options: Any) -> tuple[Clip, SelectSettings]:
        coding = {name: options.pop(name) for name in ("gop", "times") if name in options}
        path = write(tmp_path / f"{len(clips)}.mp4", pictures, **coding)
        settings = SelectSettings(num_candidates=num_candidates, **options)
        clips.append(load_clip(path, settings))
        return clips[-1], settings

    yield open_clip
    for clip in clips:
        clip.close()


OpenStream = Callable[..., tuple[Clip, SelectSettings]]


def moves(clip: Clip, positions: Sequence[int], settings: SelectSettings) -> dict[int, int]:
    """Candidates that moved, by position, and where to; what must hold of any result is checked."""
    batch, source = clip.batch, clip.source
    before = batch.frame_indices.copy()
    after = sharpen(clip, positions, settings)
    assert (np.diff(after.frame_indices) > 0).all()
    assert (batch.frame_indices == before).all()
    moved = np.flatnonzero(after.frame_indices != before)
    assert set(moved) <= set(positions)
    again = decode_frames(source, after.frame_indices)
    assert (again.pixels == after.pixels).all()
    assert (after.pts == source.pts[after.frame_indices]).all()
    assert (after.pts_seconds == source.pts_seconds[after.frame_indices]).all()
    shift = source.pts_seconds[after.frame_indices] - source.pts_seconds[before]
    np.testing.assert_allclose(after.snap_seconds, batch.snap_seconds + shift, atol=1e-9)
    assert np.abs(shift).max() <= 0.5
    assert after.notes[len(batch.notes) :] == (
        (
            f"{len(moved)} of {len(set(positions))} frames are up to {np.abs(shift).max():.2f} s beside their "
            "candidate, where the picture is sharper.",
        )
        if len(moved)
        else ()
    )
    return {int(position): int(after.frame_indices[position]) for position in moved}


def every_fifth(count: int) -> list[UInt8Array]:
    return [COFFEE if n % 5 == 0 else SOFT_COFFEE for n in range(count)]


def test_the_sharp_frame_beside_is_taken(opened: OpenStream) -> None:
    clip, settings = opened(every_fifth(100), 8)
    assert clip.batch.frame_indices.tolist() == [6, 18, 31, 43, 56, 68, 81, 93]
    found = moves(clip, [6, 0, 3], settings)
    assert list(found) == [0, 3, 6]
    assert all(index % 5 == 0 for index in found.values())


def test_a_sharp_frame_stays(opened: OpenStream) -> None:
    clip, settings = opened([COFFEE] * 50, 4)
    assert sharpen(clip, [0, 1, 2, 3], settings) is clip.batch
    assert sharpen(clip, [], settings) is clip.batch


def test_a_cut_is_not_crossed(opened: OpenStream) -> None:
    # Candidates 12, 37 (0.2 s before the cut) and 62 (0.8 s after it).
    clip, settings = opened([*[SOFT_COFFEE] * 42, *[CAT] * 33], 3)
    assert clip.batch.frame_indices.tolist() == [12, 37, 62]
    assert moves(clip, [0, 1, 2], settings) == {}
    # The same the other way round, and the old shot's own sharp frames still count.
    clip, settings = opened([*[CAT] * 33, *[SOFT_COFFEE if n < 44 else COFFEE for n in range(33, 75)]], 3)
    assert moves(clip, [1], settings)[1] >= 44


@pytest.mark.parametrize("is_reversed", [False, True])
def test_beyond_a_cut_nothing_counts(opened: OpenStream, *, is_reversed: bool) -> None:
    # Three frames of another shot lie between the candidate and the sharp frames of its own.
    pictures = [*[SOFT_COFFEE] * 14, *[CAT] * 3, *[COFFEE] * 8]
    clip, settings = opened(pictures[::-1] if is_reversed else pictures, 1)
    assert clip.batch.frame_indices.tolist() == [12]
    assert moves(clip, [0], settings) == {}


def test_a_dissolve_is_not_entered_far(opened: OpenStream) -> None:
    mixed = [np.rint(SOFT_COFFEE * (1 - m) + CAT * float(m)).astype(np.uint8) for m in np.linspace(0, 1, 25)]
    clip, settings = opened([*[SOFT_COFFEE] * 35, *mixed, *[CAT] * 15], 3)
    assert clip.batch.frame_indices[1] == 37
    assert moves(clip, [1], settings).get(1, 0) < 35 + 25 / 3


def test_a_blank_frame_gives_way_and_is_never_taken(opened: OpenStream) -> None:
    clip, settings = opened([*[COFFEE] * 32, *[BLACK] * 14, *[COFFEE] * 29], 3)
    found = moves(clip, [0, 1, 2], settings)
    assert list(found) == [1]
    assert not 32 <= found[1] < 46
    clip, settings = opened([*[BLACK] * 35, *[SOFT_COFFEE] * 5, *[BLACK] * 35], 3)
    assert moves(clip, [1], settings) == {}


def test_slight_gains_are_left(opened: OpenStream) -> None:
    clip, settings = opened([photograph("coffee", 2.0) if n != 15 else photograph("coffee", 1.8) for n in range(25)], 1)
    assert moves(clip, [0], settings) == {}


def test_the_range_is_kept(opened: OpenStream) -> None:
    pictures = [SOFT_COFFEE if 25 <= n < 50 else COFFEE for n in range(75)]
    clip, settings = opened(pictures, 2, start_seconds=1.0, end_seconds=2.0)
    assert moves(clip, [0, 1], settings) == {}
    clip, settings = opened(pictures, 2, start_seconds=0.6, end_seconds=2.4)
    assert len(moves(clip, [0, 1], settings)) == 2


def test_what_lies_nearer_to_another_selected_frame_is_that_ones(opened: OpenStream) -> None:
    # Candidates 6, 18, 31, 43; frames 25 to 27 are nearer to 31.
    pictures = [COFFEE if 25 <= n <= 27 else SOFT_COFFEE for n in range(50)]
    clip, settings = opened(pictures, 4)
    assert clip.batch.frame_indices.tolist() == [6, 18, 31, 43]
    assert list(moves(clip, [1, 2], settings)) == [2]
    assert list(moves(clip, [1], settings)) == [1]
    # An unselected candidate between is not passed, from either side.
    clip, settings = opened(pictures, 8)
    assert clip.batch.frame_indices.tolist() == [3, 9, 15, 21, 28, 34, 40, 46]
    assert moves(clip, [2], settings) == {}
    assert moves(clip, [5], settings) == {}


@pytest.mark.parametrize("num_candidates", [5, 16, 30])
def test_all_selected_keep_their_order(opened: OpenStream, num_candidates: int) -> None:
    clip, settings = opened(every_fifth(60), num_candidates)
    moves(clip, range(num_candidates), settings)


def test_keyframes_move_to_exact_frames(opened: OpenStream) -> None:
    pictures = [COFFEE if n % 10 == 4 else SOFT_COFFEE for n in range(60)]
    clip, settings = opened(pictures, 2, gop=20, decode_mode="keyframes")
    assert clip.batch.frame_indices.tolist() == [20, 40]
    found = moves(clip, [0, 1], settings)
    assert list(found) == [0, 1]
    assert {index % 10 for index in found.values()} == {4}


def test_uneven_frames_are_measured_in_seconds(opened: OpenStream) -> None:
    # Two seconds of pause after frame 9: the sharp frames behind it are out of reach.
    pictures = [SOFT_COFFEE] * 10 + [COFFEE] * 10
    clip, settings = opened(pictures, 1, times=lambda n: Fraction(n, 10) + (2 if n > 9 else 0), end_seconds=1.6)
    assert clip.batch.frame_indices.tolist() == [8]
    assert moves(clip, [0], settings) == {}
    clip, settings = opened(pictures, 1, times=lambda n: Fraction(n, 10), end_seconds=1.6)
    assert list(moves(clip, [0], settings)) == [0]


def test_many_frames_are_decoded_in_parts(opened: OpenStream, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, settings = opened(every_fifth(100), 8)
    expected = moves(clip, range(8), settings)
    monkeypatch.setattr(sharpest, "BYTES_AT_ONCE", 1)
    assert moves(clip, range(8), settings) == expected


def test_candidates_stay_where_nothing_beside_them_can_be_decoded(
    opened: OpenStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, settings = opened(every_fifth(50), 4)

    def fail(*_: object, **__: object) -> None:
        raise NoDecodableFrameError("none", wanted="one", fix="none")

    monkeypatch.setattr(sharpest, "decode_frames", fail)
    assert sharpen(clip, [0, 1], settings) is clip.batch


def test_a_closer_look_adds_candidates(opened: OpenStream) -> None:
    clip, settings = opened(every_fifth(50), 2)
    with closing(clip):
        clip.look_closer(np.array([20, 30]), settings)
        assert clip.batch.frame_indices.tolist() == clip.plan.frame_indices.tolist() == [12, 20, 30, 37]
        assert clip.plan.requested == 4
