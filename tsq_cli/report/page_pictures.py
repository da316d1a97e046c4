"""Embed pictures in a page as data: URIs."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import cache

import numpy as np
from markupsafe import Markup
from PIL import Image

from tsq_cli.explain.render import heat, upsample_to_frame
from tsq_cli.types import Float32Array, SaliencyMaps, UInt8Array

QUALITY = 80
HEAT_PIXELS = 64  # side of a heat map's picture; browsers enlarge it smoothly
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


def photograph_uri(pixels: UInt8Array, *, width: int | None = None) -> Markup:
    """Encode a frame, uint8 [H, W, 3], as a JPEG, scaled down to `width` if it is wider."""
    picture = Image.fromarray(pixels)
    if width is not None and width < picture.width:
        height = max(1, round(picture.height * width / picture.width))
        picture = picture.resize((width, height), Image.Resampling.HAMMING)
    return _data_uri(picture, "JPEG", quality=QUALITY, optimize=True)


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
