"""Clips to time decoders on: photographs under a moving camera, with sensor noise, coded as common files are."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.reference_decoder import repeat_packets, write_clip
from tsq_cli.types import UInt8Array

FPS = 30
SHOT_SECONDS = 6
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "retina", "hubble_deep_field", "immunohistochemistry")


@dataclass(frozen=True, kw_only=True)
class ClipRecipe:
    """Recipe of one clip: an encoder with its options, and the picture's size and length.

    A phone's frames come when they are ready, not at equal distances, and its pictures lie on their side.
    """

    name: str
    encoder: str
    width: int = 640
    height: int = 360
    seconds: int = 120
    keyframe_every: int = 180
    b_frames: int | None = None
    bit_rate: int | None = None
    options: dict[str, str] = field(default_factory=dict)
    is_phone: bool = False


_X264 = {"preset": "medium", "crf": "23"}
RECIPES = (
    ClipRecipe(
        name="h264_360p_2min.mp4",
        encoder="libx264",
        options=_X264,
    ),
    ClipRecipe(
        name="h264_720p_2min.mp4",
        encoder="libx264",
        width=1280,
        height=720,
        options={**_X264, "preset": "fast"},
    ),
    ClipRecipe(
        name="hevc_360p_2min.mp4",
        encoder="libx265",
        options={"preset": "fast", "crf": "26", "x265-params": "log-level=error"},
    ),
    ClipRecipe(
        name="mpeg4_360p_2min.avi",
        encoder="mpeg4",
        b_frames=2,
        bit_rate=1_200_000,
    ),
    ClipRecipe(
        name="vp9_360p_2min.webm",
        encoder="libvpx-vp9",
        bit_rate=800_000,
        options={"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16", "row-mt": "1"},
    ),
    ClipRecipe(
        name="av1_360p_2min.mkv",
        encoder="libsvtav1",
        options={"preset": "10", "crf": "35"},
    ),
    ClipRecipe(
        name="h264_single_gop_10s.mp4",
        encoder="libx264",
        width=454,
        height=256,
        seconds=10,
        keyframe_every=10_000,
        options={**_X264, "sc_threshold": "0"},
    ),
    ClipRecipe(
        name="h264_2160p_4s.mp4",
        encoder="libx264",
        width=3840,
        height=2160,
        seconds=4,
        keyframe_every=60,
        options={**_X264, "preset": "veryfast"},
    ),
    ClipRecipe(
        name="hevc_phone_10s.mp4",
        encoder="libx265",
        width=1920,
        height=1080,
        seconds=10,
        keyframe_every=30,
        options={"preset": "veryfast", "crf": "26", "x265-params": "log-level=error"},
        is_phone=True,
    ),
    ClipRecipe(
        name="h264_one_keyframe_2min.mp4",
        encoder="libx264",
        keyframe_every=10_000,
        options={**_X264, "sc_threshold": "0"},
    ),
)
LONG_CLIP = "h264_360p_10min.mp4"
LONG_CLIP_REPEATS = 5
"""The 10-minute clip is the first one's packets five times over."""


def make_clips(folder: Path, *, seconds: int | None = None) -> list[Path]:
    """Make the clips that are not there yet; a shorter length in seconds is for trying out.

    Returns:
        Paths of all clips, in the order of ``RECIPES``, the long clip last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for recipe in RECIPES:
        paths.append(folder / recipe.name)
        if not paths[-1].exists():
            unfinished = paths[-1].with_stem(f"unfinished_{paths[-1].stem}")
            encode(unfinished, recipe, seconds=min(recipe.seconds, seconds or recipe.seconds))
            unfinished.replace(paths[-1])
    paths.append(folder / LONG_CLIP)
    if not paths[-1].exists():
        unfinished = paths[-1].with_stem(f"unfinished_{paths[-1].stem}")
        repeat_packets(paths[0], unfinished, LONG_CLIP_REPEATS)
        unfinished.replace(paths[-1])
    return paths


def pictures(width: int, height: int, num_frames: int) -> Iterator[UInt8Array]:
    """Frames [height, width, 3]: shots of photographs, each panned and zoomed by an unsteady hand, with noise."""
    data = importlib.import_module("skimage.data")
    image = importlib.import_module("PIL.Image")
    photographs = [image.fromarray(getattr(data, name)()) for name in PHOTOGRAPHS]
    random = np.random.default_rng(0)
    # One noise field shifted at random costs less than new noise for every frame, and looks the same to an encoder.
    noise = random.normal(0, 3, size=(height + 64, width + 64, 1)).repeat(3, axis=2).astype(np.int16)
    hand = np.cumsum(random.normal(0, 0.0006, size=(num_frames, 2)), axis=0)
    shot_length = SHOT_SECONDS * FPS
    for i in range(num_frames):
        shot, place = divmod(i, shot_length)
        photograph = photographs[shot % len(photographs)]
        progress = place / shot_length
        zoom = 0.55 + 0.35 * (progress if shot % 2 else 1 - progress)
        wide = min(photograph.width, photograph.height * width / height) * zoom
        tall = wide * height / width
        across = np.clip((progress if shot % 3 else 1 - progress) + hand[i, 0], 0, 1) * (photograph.width - wide)
        down = np.clip(0.5 + 0.4 * np.sin(shot + 3 * progress) + hand[i, 1], 0, 1) * (photograph.height - tall)
        box = (across, down, across + wide, down + tall)
        view = np.asarray(photograph.resize((width, height), image.Resampling.BILINEAR, box=box), dtype=np.int16)
        top, left = random.integers(0, 64, size=2)
        yield np.clip(view + noise[top : top + height, left : left + width], 0, 255).astype(np.uint8)


def encode(path: Path, recipe: ClipRecipe, *, seconds: int) -> None:
    """Write one clip."""
    num_frames = seconds * FPS
    jitter = np.random.default_rng(0).integers(-7, 8, size=num_frames)  # milliseconds
    write_clip(
        path,
        pictures(recipe.width, recipe.height, num_frames),
        fps=FPS,
        encoder=recipe.encoder,
        keyframe_every=recipe.keyframe_every,
        b_frames=recipe.b_frames,
        bit_rate=recipe.bit_rate,
        options=recipe.options,
        milliseconds=(10 + np.arange(num_frames) * 1000 // FPS + jitter).tolist() if recipe.is_phone else None,
        clockwise_degrees=90 if recipe.is_phone else 0,
    )
