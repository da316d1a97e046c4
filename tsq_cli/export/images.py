"""Pictures of an export: JPEG of a bounded size, without the source's path that saved frames carry in their EXIF."""

from __future__ import annotations

import base64
import io
import os
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from tsq_cli.types import UInt8Array

DEFAULT_QUALITY = 85
"""JPEG quality unless told otherwise (ours)."""


@dataclass(frozen=True, kw_only=True)
class Jpeg:
    """An encoded picture, and its size in pixels."""

    content: bytes = field(repr=False)
    width: int
    height: int

    @property
    def base64(self) -> str:
        """The file as base64 text."""
        return base64.b64encode(self.content).decode()

    @property
    def data_url(self) -> str:
        """The file as a URL that holds it."""
        return f"data:image/jpeg;base64,{self.base64}"


def encode(
    picture: Jpeg | Image.Image | UInt8Array | str | os.PathLike[str],
    *,
    max_side: int | None = None,
    quality: int = DEFAULT_QUALITY,
) -> Jpeg:
    """Encode a picture as JPEG, made smaller where its longer side is above max_side.

    Args:
        picture: an image, uint8 [H, W, 3] RGB, or the path of an image file; a Jpeg is returned as it is.
        max_side: longest side in pixels; None for the picture's own size.
        quality: of the JPEG, 1 to 100.
    """
    if isinstance(picture, Jpeg):
        return picture
    image = opened(picture)
    size = bounded(*image.size, max_side)
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, format="JPEG", quality=quality)
    return Jpeg(content=content.getvalue(), width=image.width, height=image.height)


def opened(picture: Jpeg | Image.Image | UInt8Array | str | os.PathLike[str]) -> Image.Image:
    """Open a picture of any of the forms that encode takes, in RGB."""
    if isinstance(picture, Jpeg):
        return Image.open(io.BytesIO(picture.content))
    if isinstance(picture, np.ndarray):
        return Image.fromarray(picture)
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    with Image.open(picture) as image:
        return image.convert("RGB")


def bounded(width: int, height: int, max_side: int | None) -> tuple[int, int]:
    """Scale a size down, keeping its shape, until its longer side is at most max_side."""
    longest = max(width, height)
    if max_side is None or longest <= max_side:
        return width, height
    return max(1, round(width * max_side / longest)), max(1, round(height * max_side / longest))
