"""Save saliency maps as files that carry their class, source and time."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from tsq_cli.config import MapFormat
from tsq_cli.explain.render import heat, overlay, upsample_to_frame
from tsq_cli.record import SelectedFrame
from tsq_cli.report.frames import description, frame_name, new_picture
from tsq_cli.types import SaliencyMaps, UInt8Array


def save_map(
    pixels: UInt8Array,
    maps: SaliencyMaps,
    number: int,
    *,
    frame: SelectedFrame,
    source: str,
    video_id: str,
    folder: Path,
    stem: str,
    map_format: MapFormat,
    overwrite: bool = False,
) -> str:
    """Write one frame's map under the name that map_name gives it.

    Pictures carry class, source, time and scores in the EXIF image description (JSON); .npy files carry nothing.

    Args:
        pixels: uint8 [H, W, 3] RGB, the frame at the size of the map to write.
        maps: of all K frames.
        number: index of the frame's map, in [0, K).
        frame: the frame.
        source: the video, as the user named it.
        video_id: identity of the video file, see tsq_cli.report.frames.video_id_in.
        folder, stem: folder to write into, and start of the name.
        map_format: "overlay" for the heat over the frame, "heat" for the heat alone on a transparent background (RGBA),
            "npy" for the values, float32 [H, W] in [0, 1].
        overwrite: whether a picture of another video may be replaced.

    Returns:
        The path written.

    Raises:
        OutputError: the file cannot be written.
    """
    final = folder / map_name(stem, frame, map_format)
    values, (height, width) = maps.values[number], pixels.shape[:2]
    shown = {**asdict(maps.category), "scale": maps.scale, "box": maps.box}
    exif = description(frame, source=source, video_id=video_id, map=shown)
    with new_picture(final, video_id, overwrite=overwrite) as temporary:
        if map_format == "overlay":
            _save_picture(overlay(pixels, values, maps.box), temporary, exif)
        elif map_format == "heat":
            _save_picture(heat(upsample_to_frame(values, maps.box, height=height, width=width)), temporary, exif)
        else:
            np.save(temporary, upsample_to_frame(values, maps.box, height=height, width=width))
    return str(final)


def map_name(stem: str, frame: SelectedFrame, map_format: MapFormat) -> str:
    """Name a map's file: `{stem}-{rank:02d}-{time in ms:09d}-map.png`, or `.npy`."""
    return Path(frame_name(stem, frame, "png")).stem + f"-map.{'npy' if map_format == 'npy' else 'png'}"


def _save_picture(pixels: UInt8Array, path: Path, exif: Image.Exif) -> None:
    Image.fromarray(pixels).save(path, format="PNG", compress_level=4, exif=exif)
