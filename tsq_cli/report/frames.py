"""Save selected frames as picture files that carry their source and time."""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image

from tsq_cli.config import ImageFormat
from tsq_cli.files import atomic_path, is_written_straight
from tsq_cli.record import SelectedFrame
from tsq_cli.types import UInt8Array

_SAVE_OPTIONS: dict[str, dict[str, Any]] = {
    "jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    "png": {"format": "PNG", "compress_level": 4},
    "webp": {"format": "WEBP", "quality": 90},
}


def frame_name(stem: str, frame: SelectedFrame, image_format: ImageFormat) -> str:
    """Name a frame's file: `{stem}-{rank:02d}-{time in ms:09d}.{format}` (times are never negative)."""
    return f"{stem}-{frame.rank:02d}-{round(frame.candidate.time_seconds * 1000):09d}.{image_format}"


def save_frame(
    pixels: UInt8Array,
    frame: SelectedFrame,
    *,
    source: str,
    video_id: str,
    folder: Path,
    stem: str,
    image_format: ImageFormat,
    overwrite: bool = False,
) -> str:
    """Write one frame with its time and scores in the EXIF image description (JSON).

    Args:
        pixels: uint8 [H, W, 3] RGB.
        frame: its record.
        source: the video, as the user named it.
        video_id: identity of the video file, see video_id_in.
        folder, stem: folder to write into, and start of the name.
        image_format: of the file.
        overwrite: whether a picture of another video may be replaced.

    Returns:
        The path written.

    Raises:
        OutputError: the file cannot be written.
    """
    final = folder / frame_name(stem, frame, image_format)
    with new_picture(final, video_id, overwrite=overwrite) as temporary:
        exif = description(frame, source=source, video_id=video_id)
        write_image(Image.fromarray(pixels), temporary, exif=exif, **_SAVE_OPTIONS[image_format])
    return str(final)


def new_picture(
    final: Path, video_id: str, *, is_named: bool = False, overwrite: bool = False
) -> AbstractContextManager[Path]:
    """Open a picture as atomic_path does, never replacing one of another video, even if another run writes it now."""
    is_ours = os.path.lexists(final) and may_write(final, video_id, is_named=is_named)
    return atomic_path(final, replace=overwrite or is_ours)


def may_write(path: Path, video_id: str, *, is_named: bool) -> bool:
    """Test whether writing a picture would replace nothing but an older picture of the same video.

    Args:
        path: of the picture.
        video_id: of the video that it would show.
        is_named: whether the user chose the name, so that a file that is no picture may be replaced.
    """
    try:
        if is_written_straight(path) or not os.path.lexists(path):
            return True
    except OSError:  # writing will say why
        return True
    if is_named and not is_picture(path):
        return True
    # An array cannot store an id; an id in its name means that it was made from this video.
    return video_id_in(path) == video_id or (path.suffix == ".npy" and video_id in path.name)


def write_image(image: Image.Image, path: Path, **options: Any) -> None:
    """Encode a picture and write all of it, or fail.

    Pillow's JPEG encoder ignores that the system wrote only a part to a disk that is filling up: half a picture would
    pass for a whole one.
    """
    encoded = io.BytesIO()
    image.save(encoded, **options)
    path.write_bytes(encoded.getbuffer())


def description(frame: SelectedFrame | None, *, source: str, video_id: str, **more: Any) -> Image.Exif:
    """Build EXIF data whose image description is JSON: the video, and the record of one of its frames."""
    described = {"source": source, "video_id": video_id, **({} if frame is None else frame.to_dict()), **more}
    described.pop("path", None)
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = json.dumps(described)
    return exif


def video_id_in(path: Path) -> str | None:
    """Read the identity of the video from a picture written by tsq; None for any other file."""
    try:
        with _opened(path) as picture:
            return str(json.loads(picture.getexif()[ExifTags.Base.ImageDescription])["video_id"])
    except (OSError, ValueError, KeyError, TypeError, SyntaxError, RecursionError):
        return None


def is_picture(path: Path) -> bool:
    """Test whether a file is a picture of any origin."""
    try:
        with _opened(path):
            return True
    except (OSError, ValueError, SyntaxError):
        return False


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    with warnings.catch_warnings():
        # Frames of large videos exceed Pillow's limit for warnings; only headers are read here.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as picture:
                yield picture
        except Image.DecompressionBombError as error:
            raise OSError(str(error)) from error
