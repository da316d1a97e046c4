"""Test clips, made once per test session: every frame shows its own number, and each clip says what is known of it.

``clip("h264_b_frames")`` encodes the clip on first use and returns its facts. The facts are worked out from what was
given to the encoder, never read back from the file. ``pictures.read`` gets the number out of decoded pixels.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av

from tests.video import mp4_boxes
from tests.video.encoding import FRAME, Recipe, add_stream, codec_name, encode, encode_stream

MILLISECOND = Fraction(1, 1000)
TICK = Fraction(1, 90000)
NO_SHIFT = {"mpegts_copyts": "1"}


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A clip and what is known of it.

    Attributes:
        path: the file.
        codec: the codec's name as FFmpeg knows it.
        width, height: as displayed (rotation applied, square pixels).
        rotation: clockwise degrees for display.
        pts: seconds on the file's own clock of every frame shown, rising.
        numbers: the number drawn in each of them.
        end_seconds: end of the last frame shown, relative to the first; None where the file does not say.
        keyframes: positions in ``pts`` where a group of pictures starts; None where the settings do not fix them.
        is_vfr: whether the gaps between frames differ.
    """

    path: Path
    codec: str
    width: int
    height: int
    pts: tuple[Fraction, ...]
    numbers: tuple[int, ...]
    end_seconds: Fraction | None
    rotation: int = 0
    keyframes: tuple[int, ...] | None = None
    is_vfr: bool = False

    def position_at(self, seconds: Fraction) -> int:
        """Position of the frame on screen at a time relative to the first frame shown: the largest pts <= time."""
        return max(i for i, pts in enumerate(self.pts) if pts - self.pts[0] <= seconds or i == 0)

    def sampled(self, count: int, start: Fraction, end: Fraction) -> list[int]:
        """Distinct positions on screen at the centers of ``count`` equal segments of [start, end).

        Where no more than ``count`` frames are on screen in the range, all of them: each once.
        """
        on_screen = range(self.position_at(start), len([pts for pts in self.pts if pts - self.pts[0] < end]))
        if len(on_screen) <= count:
            return list(on_screen)
        centers = (start + (end - start) * (2 * i + 1) / (2 * count) for i in range(count))
        return sorted({self.position_at(center) for center in centers})


def facts(path: Path, recipe: Recipe, **changes: Any) -> Clip:
    """Expected properties of a clip with one stream of a recipe; `changes` are those of the container."""
    times = recipe.times()
    square_width = round(recipe.width * (recipe.aspect or 1))
    width, height = (square_width, recipe.height)[:: -1 if recipe.turns % 2 else 1]
    known = Clip(
        path=path,
        codec=codec_name(recipe.codec),
        width=width,
        height=height,
        pts=tuple(times),
        numbers=tuple(range(recipe.first_number, recipe.first_number + len(times))),
        end_seconds=times[-1] + recipe.last_duration - times[0],
        rotation=90 * recipe.turns,
        keyframes=tuple(range(0, len(times), recipe.gop)) if codec_name(recipe.codec) in ("h264", "hevc") else None,
        is_vfr=len({b - a for a, b in pairwise(times)}) > 1,
    )
    return replace(known, **changes)


@functools.cache
def folder() -> Path:
    """Folder of this session's clips, removed when the process ends."""
    path = Path(tempfile.mkdtemp(prefix="tsq-clips-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def _coded(recipe: Recipe, *, options: dict[str, str] | None = None, **changes: Any) -> Callable[[Path], Clip]:
    def make(path: Path) -> Clip:
        encode(path, recipe, options=options)
        return facts(path, recipe, **changes)

    return make


def _turned(turns: int) -> Callable[[Path], Clip]:
    recipe = Recipe(b_frames=3, turns=turns, width=176, height=112)

    def make(path: Path) -> Clip:
        encode(path, recipe)
        mp4_boxes.rotate(path, 90 * turns)
        return facts(path, recipe)

    return make


def _edited(*edits: range | int) -> Callable[[Path], Clip]:
    """60 frames of which an edit list shows these ranges in turn; a number is a wait of so many frames before them."""

    def make(path: Path) -> Clip:
        recipe = Recipe(b_frames=3)
        encode(path, recipe)
        origin, entries, numbers, wait = mp4_boxes.media_time_of_first_frame(path), [], [], 0
        for edit in edits:
            if isinstance(edit, int):
                wait = edit
                entries.append((40 * edit, -1))
            else:
                numbers.extend(edit)
                entries.append((40 * len(edit), origin + 3600 * edit.start))
        mp4_boxes.set_edits(path, entries)
        return facts(
            path,
            recipe,
            pts=tuple(FRAME * (wait + i) for i in range(len(numbers))),
            numbers=tuple(numbers),
            end_seconds=FRAME * len(numbers),
            keyframes=None,
        )

    return make


def _two_streams(path: Path) -> Clip:
    shown = Recipe(b_frames=3)
    encode(path, shown, Recipe(width=64, height=64, first_number=1000))
    return facts(path, shown)


def _film_with_cover(path: Path) -> Clip:
    encode(path, COVER, _H264)
    mp4_boxes.put_first_in_movie(path, b"udta")  # the cover then comes before the film in the list of streams
    return facts(path, _H264)


def _film_with_attachment(path: Path) -> Clip:
    recipe = replace(_H264, time_base=MILLISECOND)
    with av.open(str(path), "w") as container:
        container.add_attachment("cover.jpg", "image/jpeg", cover_picture())
        encode_stream(container, add_stream(container, recipe), recipe)
    return facts(path, recipe)


def cover_picture() -> bytes:
    """A square JPEG, as a cover is attached to music and films."""
    path = folder() / "cover.jpg"
    encode(path, replace(COVER, is_cover=False), format_name="image2", options={"update": "1"})
    return path.read_bytes()


def _still(recipe: Recipe) -> Callable[[Path], Clip]:
    def make(path: Path) -> Clip:
        encode(path, recipe, format_name="image2", options={"update": "1"})
        return facts(path, recipe, end_seconds=None)

    return make


def _later(frames: int) -> tuple[Fraction, ...]:
    return tuple(FRAME * (frames + i) for i in range(60))


_H264 = Recipe(b_frames=3)
_HEVC = Recipe(codec="libx265", b_frames=3, options={"x265-params": "open-gop=0"})
_VP9 = Recipe(codec="libvpx-vp9", time_base=MILLISECOND, gop=20)
_AV1 = Recipe(codec="libsvtav1", gop=20)
_MPEG4 = Recipe(codec="mpeg4", b_frames=2, time_base=FRAME)
_MPEG2 = Recipe(codec="mpeg2video", b_frames=2, time_base=FRAME)
_JPEG = Recipe(codec="mjpeg", pix_fmt="yuvj420p", full_range=True, time_base=FRAME, num_frames=1)
COVER = replace(_JPEG, width=200, height=200, first_number=999, is_cover=True)
_PNG = Recipe(codec="png", pix_fmt="rgb24", time_base=FRAME, num_frames=1)
_GIF = Recipe(codec="gif", pix_fmt="pal8", time_base=Fraction(1, 100), num_frames=30)
_APNG = Recipe(codec="apng", pix_fmt="rgb24", time_base=MILLISECOND, num_frames=30)
_NTSC = Fraction(1001, 30000)
_LATE = _later(25 * 1000)
# 33 bits of 90 kHz ticks wrap round to 0 one second into the clip; FFmpeg then counts the first second as negative.
_WRAPPED = tuple(2**33 * TICK - 1 + FRAME * i for i in range(60))
_WILD = (0, 1, 2, 3, 4, 40, 41, 42, 300, 301, 303, 306, 310, 315, 900, 901, 902, 903, 904, 905, 906, 907, 1300, 1301)
_VFR = replace(_H264, pts=[FRAME * i for i in _WILD], time_base=MILLISECOND)
_SLIDES = (0, 12, 25, 31, 60)

CATALOG: dict[str, tuple[str, Callable[[Path], Clip]]] = {
    # Groups of pictures
    "h264_b_frames": (".mp4", _coded(_H264)),
    "h264_no_b_frames": (".mp4", _coded(Recipe())),
    "h264_open_gop": (".mp4", _coded(replace(_H264, options={"x264-params": "open-gop=1"}))),
    "h264_single_gop": (".mp4", _coded(replace(_H264, num_frames=100, gop=1000))),
    "h264_all_keyframes": (".mkv", _coded(Recipe(gop=1, time_base=MILLISECOND))),
    "h264_targets_fall_on_frames": (".mp4", _coded(replace(_H264, num_frames=32))),
    "h264_non_square_pixels": (".mp4", _coded(replace(_H264, aspect=Fraction(4, 3)))),
    "hevc": (".mp4", _coded(_HEVC)),
    "hevc_open_gop": (".mp4", _coded(replace(_HEVC, options={"x265-params": "open-gop=1"}))),
    "vp9": (".webm", _coded(_VP9)),
    "av1_mp4": (".mp4", _coded(_AV1)),
    "av1_mkv": (".mkv", _coded(replace(_AV1, time_base=MILLISECOND))),
    "mpeg4_b_frames": (".avi", _coded(_MPEG4, pts=_later(1))),
    "mpeg4_mkv": (".mkv", _coded(replace(_MPEG4, time_base=MILLISECOND))),
    "mjpeg": (".avi", _coded(replace(_JPEG, num_frames=60))),
    # Clocks
    "mpeg2_late_start": (".ts", _coded(replace(_MPEG2, pts=_LATE), options=NO_SHIFT)),
    "h264_late_start": (".ts", _coded(replace(_H264, pts=_LATE), options=NO_SHIFT, end_seconds=None)),
    "h264_negative_start": (
        ".ts",
        _coded(
            replace(_H264, pts=_WRAPPED),
            options=NO_SHIFT,
            pts=tuple(FRAME * i - 1 for i in range(60)),
            end_seconds=None,
        ),
    ),
    "mpeg2_program_stream": (".mpg", _coded(_MPEG2, pts=tuple(Fraction(54, 100) + FRAME * i for i in range(60)))),
    "flv": (".flv", _coded(replace(_H264, time_base=MILLISECOND), pts=_later(2), end_seconds=None)),
    "ntsc_rate": (
        ".mp4",
        _coded(replace(_H264, pts=[_NTSC * i for i in range(90)], time_base=Fraction(1, 30000), last_duration=_NTSC)),
    ),
    "vfr_rising_gaps": (
        ".mp4",
        # MP4 stores the gaps between frames as they are decoded: with B-frames the last one's length is not told.
        _coded(replace(_H264, pts=[Fraction(i * i, 100) for i in range(40)]), end_seconds=None),
    ),
    "vfr_wild_gaps": (".mkv", _coded(_VFR, end_seconds=None)),
    "slide_show": (".mp4", _coded(Recipe(pts=[Fraction(s) for s in _SLIDES], last_duration=Fraction(30)))),
    "one_frame": (".mp4", _coded(Recipe(num_frames=1))),
    "two_frames": (".mp4", _coded(Recipe(num_frames=2))),
    # Edit lists
    "edit_hides_start": (".mp4", _edited(range(17, 60))),
    "edit_cuts_end": (".mp4", _edited(range(43))),
    "edit_cuts_both": (".mp4", _edited(range(7, 50))),
    "edit_waits_first": (".mp4", _edited(75, range(60))),
    "edit_repeats": (".mp4", _edited(range(5, 25), range(5, 25))),
    "edit_reorders": (".mp4", _edited(range(36, 56), range(5, 25))),
    # Containers that say little
    "live_webm": (".webm", _coded(_VP9, options={"live": "1"})),
    "fragmented": (".mp4", _coded(_H264, options={"movflags": "frag_keyframe+empty_moov"}, pts=_later(2))),
    "raw_h264": (".h264", _coded(_H264, end_seconds=None)),
    "raw_hevc": (".hevc", _coded(_HEVC, end_seconds=None)),
    "av1_ivf": (".ivf", _coded(_AV1, end_seconds=None)),
    # Pictures
    "h264_10_bit": (".mp4", _coded(replace(_H264, pix_fmt="yuv420p10le"))),
    "hevc_10_bit": (".mp4", _coded(replace(_HEVC, pix_fmt="yuv420p10le"))),
    "h264_interlaced": (".mp4", _coded(replace(_H264, options={"x264-params": "tff=1"}))),
    "vp9_odd_size": (".webm", _coded(replace(_VP9, width=321, height=179))),
    "h264_odd_size": (".mp4", _coded(replace(_H264, width=321, height=179, pix_fmt="yuv444p"))),
    "turned_90": (".mp4", _turned(1)),
    "turned_180": (".mp4", _turned(2)),
    "turned_270": (".mp4", _turned(3)),
    "bt709": (".mp4", _coded(replace(_H264, matrix="bt709", tagged=True))),
    "bt709_full_range": (".mp4", _coded(replace(_H264, matrix="bt709", tagged=True, full_range=True))),
    "bt601_tagged": (".mp4", _coded(replace(_H264, tagged=True))),
    "bt601_full_range": (".mp4", _coded(replace(_H264, tagged=True, full_range=True, pix_fmt="yuvj420p"))),
    "rgb": (".mp4", _coded(replace(_H264, codec="libx264rgb", pix_fmt="rgb24"))),
    # Several pictures in one file, and animated images
    "two_video_streams": (".mp4", _two_streams),
    "cover_before_film": (".mp4", _film_with_cover),
    "cover_attached": (".mkv", _film_with_attachment),
    "gif": (".gif", _coded(_GIF)),
    "apng": (".apng", _coded(_APNG)),
    "jpeg": (".jpg", _still(_JPEG)),
    "png": (".png", _still(_PNG)),
}
"""Name of each clip, how its file name ends, and what makes it."""


@functools.cache
def clip(name: str) -> Clip:
    """The named clip, made on first use."""
    suffix, make = CATALOG[name]
    return make(folder() / f"{name}{suffix}")
