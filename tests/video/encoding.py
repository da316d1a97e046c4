"""Encode numbered pictures with PyAV, every choice that a container or codec offers stated in a recipe."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.video import pictures

FRAME = Fraction(1, 25)
"""Length of a frame in seconds at the usual rate; exact in every container's units."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to code one video stream. Durations default to the gaps between pts, the last one to the first."""

    codec: str = "libx264"
    width: int = 160
    height: int = 120
    num_frames: int = 60
    pts: Sequence[Fraction] | None = None
    last_duration: Fraction = FRAME
    first_number: int = 0
    pix_fmt: str = "yuv420p"
    turns: int = 0
    matrix: str = "bt601"
    full_range: bool = False
    tagged: bool = False
    time_base: Fraction = Fraction(1, 90000)
    options: dict[str, str] = field(default_factory=dict)
    gop: int = 12
    b_frames: int = 0
    aspect: Fraction | None = None
    is_cover: bool = False

    def times(self) -> list[Fraction]:
        """Seconds of each frame."""
        return list(self.pts) if self.pts is not None else [FRAME * i for i in range(self.num_frames)]


_QUIET = {
    "libx264": {"preset": "veryfast", "sc_threshold": "0"},
    "libx264rgb": {"preset": "veryfast", "sc_threshold": "0"},
    "libx265": {"preset": "ultrafast"},
    "libvpx-vp9": {"deadline": "good", "cpu-used": "8", "lag-in-frames": "16", "auto-alt-ref": "1"},
    # Faster presets skip blocks that change, and temporal filtering blends neighboring numbers.
    "libsvtav1": {"preset": "8", "crf": "20", "svtav1-params": "enable-tf=0"},
}


def codec_name(encoder: str) -> str:
    """The codec that an encoder writes."""
    return {"libx264": "h264", "libx265": "hevc", "libvpx-vp9": "vp9", "libsvtav1": "av1", "libx264rgb": "h264"}.get(
        encoder, encoder
    )


def encode(path: Path, *recipes: Recipe, format_name: str | None = None, options: dict[str, str] | None = None) -> None:
    """Encode one stream per recipe into a file."""
    os.environ.setdefault("SVT_LOG", "1")
    with av.open(str(path), "w", format=format_name, options=options or {}) as container:
        streams = [add_stream(container, recipe) for recipe in recipes]
        for stream, recipe in zip(streams, recipes, strict=True):
            encode_stream(container, stream, recipe)


def add_stream(container: Any, recipe: Recipe) -> Any:
    """Announce a recipe's stream; a container must know all its streams before the first is encoded."""
    if recipe.codec not in av.codecs_available:
        pytest.skip(f"this build of PyAV cannot encode with {recipe.codec}")
    codec_options = {**_QUIET.get(recipe.codec, {}), **recipe.options}
    if recipe.codec in ("libx264", "libx264rgb"):
        # Without this the encoder finds no use for B-frames in pictures that change all over.
        codec_options["x264-params"] = f"b-adapt=0:{codec_options.get('x264-params', '')}".rstrip(":")
    if recipe.codec == "libx265":
        own = codec_options.get("x265-params", "")
        params = f"log-level=error:pools=none:scenecut=0:b-adapt=0:bframes={recipe.b_frames}:keyint={recipe.gop}"
        codec_options["x265-params"] = f"{params}:min-keyint={recipe.gop}:{own}".rstrip(":")
    stream = container.add_stream(recipe.codec, rate=25, options=codec_options)
    stream.width, stream.height, stream.pix_fmt = recipe.width, recipe.height, recipe.pix_fmt
    context = stream.codec_context
    stream.time_base = context.time_base = recipe.time_base
    context.gop_size, context.thread_count = recipe.gop, 1
    if recipe.codec in ("libx264", "libx264rgb", "mpeg4", "mpeg2video"):
        context.max_b_frames = recipe.b_frames
    if recipe.codec in ("mpeg4", "mpeg2video", "mjpeg"):
        context.bit_rate = 2_000_000
    if recipe.is_cover:
        stream.disposition = av.stream.Disposition.attached_pic
    if recipe.aspect is not None:
        context.sample_aspect_ratio = recipe.aspect
    if recipe.tagged:
        context.colorspace = {"bt601": 6, "bt709": 1}[recipe.matrix]
    if recipe.tagged or recipe.full_range:
        context.color_range = 2 if recipe.full_range else 1
    return stream


def encode_stream(container: Any, stream: Any, recipe: Recipe) -> None:
    """Encode all of a recipe's frames."""
    times = recipe.times()
    ends = [*times[1:], times[-1] + recipe.last_duration]
    durations = {start: end - start for start, end in zip(times, ends, strict=True)}
    frames = [_frame(recipe, recipe.first_number + i, seconds) for i, seconds in enumerate(times)]
    for frame in [*frames, None]:
        for packet in stream.encode(frame):
            packet.duration = int(durations[packet.pts * packet.time_base] / packet.time_base)
            container.mux(packet)


def _frame(recipe: Recipe, number: int, seconds: Fraction) -> av.VideoFrame:
    if "yuv" in recipe.pix_fmt:
        frame = _yuv_frame(recipe, number)
    else:
        rgb = _stored(pictures.draw, number, recipe.width, recipe.height, recipe.turns)
        if recipe.pix_fmt == "pal8":
            frame = _palette_frame(rgb)
        else:
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=recipe.pix_fmt)
    ticks = seconds / recipe.time_base
    assert ticks.denominator == 1, f"{seconds} s is no whole number of units of {recipe.time_base}"
    frame.pts, frame.time_base = int(ticks), recipe.time_base
    return frame


def _stored(draw: Any, number: int, width: int, height: int, turns: int) -> np.ndarray:
    """A picture turned counter-clockwise, so that turning it clockwise for display sets it upright."""
    upright = (width, height)[:: -1 if turns % 2 else 1]
    return np.ascontiguousarray(np.rot90(draw(number, *upright), turns))


@functools.lru_cache(maxsize=256)  # most clips have the same pictures, and a test that draws others has another `draw`
def _planes(
    draw: Any, number: int, width: int, height: int, turns: int, matrix: str, full_range: bool, bits: int
) -> list[np.ndarray]:
    return pictures.to_yuv(_stored(draw, number, width, height, turns), matrix=matrix, full_range=full_range, bits=bits)


def _yuv_frame(recipe: Recipe, number: int) -> av.VideoFrame:
    bits = 10 if "10" in recipe.pix_fmt else 8
    luma, *chroma = _planes(
        pictures.draw, number, recipe.width, recipe.height, recipe.turns, recipe.matrix, recipe.full_range, bits
    )
    step = 1 if "444" in recipe.pix_fmt else 2
    frame = av.VideoFrame(recipe.width, recipe.height, recipe.pix_fmt)
    for plane, values in zip(frame.planes, [luma, *(c[::step, ::step] for c in chroma)], strict=True):
        rows = np.zeros((plane.height, plane.line_size), dtype=np.uint8)
        data = np.ascontiguousarray(values).view(np.uint8)
        rows[: len(data), : data.shape[1]] = data
        plane.update(rows.tobytes())
    if recipe.tagged:
        frame.colorspace = {"bt601": 6, "bt709": 1}[recipe.matrix]
    frame.color_range = 2 if recipe.full_range else 1
    return frame


def _palette_frame(rgb: np.ndarray) -> av.VideoFrame:
    colors = np.array([*pictures.COLORS, [pictures.BLACK] * 3, [pictures.WHITE] * 3], dtype=np.uint8)
    indices = (rgb[:, :, None] == colors).all(axis=3).argmax(axis=2).astype(np.uint8)
    palette = np.zeros((256, 4), dtype=np.uint8)
    palette[: len(colors), 0] = 255
    palette[: len(colors), 1:] = colors
    return av.VideoFrame.from_ndarray((indices, palette), "pal8")
