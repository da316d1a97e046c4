"""Saliency maps drawn as pictures, with numpy and PIL alone."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageEnhance

from tsq_cli.types import Float32Array, UInt8Array

# Ours. Lightness rises steadily from deep violet over crimson and orange to pale yellow, and hue from cold to warm, so
# that more reads as more in gray and to the color-blind too.
_COLORS = (
    (48, 18, 92),
    (104, 26, 120),
    (164, 40, 108),
    (214, 70, 74),
    (243, 118, 40),
    (252, 178, 54),
    (252, 240, 140),
)
_MOST_OPAQUE = 0.8
_FULL_FROM = 0.75  # value from which on the heat is as opaque as it gets
_UNSEEN_BRIGHTNESS = 0.45


def upsample_to_frame(
    values: Float32Array, box: tuple[float, float, float, float], *, height: int, width: int
) -> Float32Array:
    """Enlarge a map smoothly (bicubic) onto a frame's pixels.

    Args:
        values: float32 [h, w] in [0, 1], a value for the middle of each cell of a grid that spans the box.
        box: left, top, right, bottom as shares of the frame.
        height, width: H and W of the frame in pixels.

    Returns:
        float32 [H, W] in [0, 1], 0 outside the box.
    """
    left, top, right, bottom = _pixel_box(box, height=height, width=width)
    enlarged = Image.fromarray(values).resize((right - left, bottom - top), Image.Resampling.BICUBIC)
    spread_out = np.zeros((height, width), np.float32)
    spread_out[top:bottom, left:right] = np.asarray(enlarged).clip(0, 1)  # bicubic overshoots beside steep slopes
    return spread_out


def heat(values: Float32Array) -> UInt8Array:
    """Color values, transparent at 0 and more opaque, lighter and warmer toward 1.

    Args:
        values: float32 [H, W] in [0, 1].

    Returns:
        uint8 [H, W, 4], RGBA, alpha not multiplied in.
    """
    colored: UInt8Array = _PALETTE[np.rint(values * 255).astype(np.uint8)]
    return colored


def overlay(pixels: UInt8Array, values: Float32Array, box: tuple[float, float, float, float]) -> UInt8Array:
    """Draw a map over its frame; the part that the network did not see is gray and dark.

    Args:
        pixels: uint8 [H, W, 3], RGB.
        values, box: the map, as for upsample_to_frame.

    Returns:
        uint8 [H, W, 3], RGB.
    """
    height, width = pixels.shape[:2]
    corners = _pixel_box(box, height=height, width=width)
    frame = Image.fromarray(pixels)
    picture = ImageEnhance.Brightness(frame.convert("L").convert("RGB")).enhance(_UNSEEN_BRIGHTNESS)
    picture.paste(frame.crop(corners), corners[:2])
    colors = Image.fromarray(heat(upsample_to_frame(values, box, height=height, width=width)))
    picture.paste(colors, mask=colors)
    return np.array(picture)


def _pixel_box(box: tuple[float, float, float, float], *, height: int, width: int) -> tuple[int, int, int, int]:
    """Round the box to whole pixels, at least one each way."""
    left, top = min(round(box[0] * width), width - 1), min(round(box[1] * height), height - 1)
    return left, top, max(round(box[2] * width), left + 1), max(round(box[3] * height), top + 1)


def _palette() -> UInt8Array:
    """Interpolate the colors, RGBA of 256 values, uint8 [256, 4]."""
    values = np.linspace(0, 1, 256)
    stops = np.linspace(0, 1, len(_COLORS))
    channels = [np.interp(values, stops, channel) for channel in zip(*_COLORS, strict=True)]
    alpha = np.minimum(values / _FULL_FROM, 1) * _MOST_OPAQUE * 255
    colors: UInt8Array = np.rint(np.stack([*channels, alpha], axis=1)).astype(np.uint8)
    return colors


_PALETTE = _palette()
