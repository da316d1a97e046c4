"""Embed pictures in a page as data: URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from markupsafe import Markup
from PIL import Image

from tsq_cli.explain.render import heat, upsample_to_frame
from tsq_cli.types import Float32Array, SaliencyMaps, UInt8Array

HEAT_PIXELS = 32  # side of a heat map's picture; browsers enlarge it smoothly
_LEVELS = ((1.0, 75), (1.0, 62), (0.85, 60), (0.7, 58), (0.55, 55), (0.42, 50), (0.32, 45), (0.25, 40))
"""Scales and qualities of photographs, tried in this order until they fit (ours)."""

LEGEND_PIXELS = 64
_WHOLE = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Pictures that a page shows of one video.

    Attributes:
        candidates: uint8 [T, H, W, 3], the decoded candidates in order of time.
        maps: of the K selected frames, in the order of the record's frames; None without a recognizer.
    """

    candidates: UInt8Array
    maps: SaliencyMaps | None = None

    def __post_init__(self) -> None:
        if self.candidates.ndim != 4 or self.candidates.shape[3] != 3:
            raise ValueError(f"candidates must be uint8 [T, H, W, 3], got {self.candidates.shape}")


def photograph_uris(frames: Sequence[UInt8Array], *, width: int | None = None, at_most: int) -> tuple[Markup, ...]:
    """Encode frames as WebP, all alike, as large and as good as their budget allows.

    Args:
        frames: uint8 [H, W, 3] each.
        width: wider ones are scaled down to it.
        at_most: characters of all together; exceeded only if even the smallest level does not fit.
    """
    pictures = [Image.fromarray(pixels) for pixels in frames]
    level = 0
    while True:
        scale, quality = _LEVELS[level]
        uris = tuple(
            _data_uri(_narrowed(picture, width, scale), "WEBP", quality=quality, method=2) for picture in pictures
        )
        length = sum(map(len, uris))
        if length <= at_most or level == len(_LEVELS) - 1:
            return uris
        level = _next_level(level, at_most / length)


def _next_level(level: int, wanted: float) -> int:
    """Choose the first level after one that should give `wanted` of its length: encoding at each would take long."""
    scale, quality = _LEVELS[level]
    for place in range(level + 1, len(_LEVELS)):
        smaller, worse = _LEVELS[place]
        if (smaller / scale) ** 1.5 * worse / quality <= wanted:  # photographs; measured, and rough
            return place
    return len(_LEVELS) - 1


def _narrowed(picture: Image.Image, width: int | None, scale: float) -> Image.Image:
    """Scale a picture down to `scale` of its width, or of `width` if that is less."""
    wanted = max(1, round(scale * min(width or picture.width, picture.width)))
    if wanted == picture.width:
        return picture
    return picture.resize((wanted, max(1, round(picture.height * wanted / picture.width))), Image.Resampling.HAMMING)


def heat_map_uri(values: Float32Array) -> Markup:
    """Encode a map, float32 [h, w] in [0, 1], as a small transparent PNG that spans exactly the map's grid."""
    return _heat_uri(upsample_to_frame(values, _WHOLE, height=HEAT_PIXELS, width=HEAT_PIXELS))


@cache
def heat_legend_uri() -> Markup:
    """Encode the heat colors from 0 to 1, left to right, as a PNG."""
    return _heat_uri(np.linspace(0, 1, LEGEND_PIXELS, dtype=np.float32)[None])


def _heat_uri(values: Float32Array) -> Markup:
    return _data_uri(Image.fromarray(heat(values)), "PNG", optimize=True)


def _data_uri(picture: Image.Image, image_format: str, **options: int | bool) -> Markup:
    buffer = io.BytesIO()
    picture.save(buffer, format=image_format, **options)
    data = base64.b64encode(buffer.getvalue()).decode()
    return Markup(f"data:image/{image_format.lower()};base64,{data}")  # base64 has no character of markup
