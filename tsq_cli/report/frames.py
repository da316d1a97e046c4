"""Room 3: the selected frames as picture files that know where they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from tsq_cli.files import atomic_path
from tsq_cli.record import SelectedFrame
from tsq_cli.types import UInt8Array

ImageFormat = Literal["jpg", "png", "webp"]
_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    "png": {"format": "PNG", "compress_level": 4},
    "webp": {"format": "WEBP", "quality": 90},
}
_IMAGE_DESCRIPTION = 0x010E  # EXIF tag read by every viewer


def frame_name(stem: str, frame: SelectedFrame, image_format: ImageFormat) -> str:
    """`{stem}-{rank:02d}-{time in ms:09d}.{format}`; times before the first frame cannot occur."""
    return f"{stem}-{frame.rank:02d}-{round(frame.candidate.time_seconds * 1000):09d}.{image_format}"


def save_frame(
    pixels: UInt8Array, frame: SelectedFrame, *, source: str, folder: Path, stem: str, image_format: ImageFormat
) -> str:
    """Write one frame, uint8 [H, W, 3] RGB, with its time and scores in the EXIF image description (JSON).

    Returns:
        The path written.

    Raises:
        OutputError: the file cannot be written.
    """
    described = {"source": source, **frame.to_dict()}
    del described["path"]
    exif = Image.Exif()
    exif[_IMAGE_DESCRIPTION] = json.dumps(described)
    final = folder / frame_name(stem, frame, image_format)
    with atomic_path(final) as temporary:
        Image.fromarray(pixels).save(temporary, exif=exif, **_SAVE_OPTIONS[image_format])
    return str(final)
