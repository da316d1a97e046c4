"""Room 3: saliency maps as files that know what they show and where they come from."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ExifTags, Image

from tsq_cli.explain.render import heat, overlay, spread
from tsq_cli.files import atomic_path
from tsq_cli.record import SelectedFrame
from tsq_cli.report.frames import frame_name
from tsq_cli.types import SaliencyMaps, UInt8Array

MapFormat = Literal["overlay", "heat", "npy"]


def save_map(
    pixels: UInt8Array,
    maps: SaliencyMaps,
    number: int,
    *,
    frame: SelectedFrame,
    source: str,
    folder: Path,
    stem: str,
    map_format: MapFormat,
) -> str:
    """Write one frame's map as `{stem}-{rank:02d}-{time in ms:09d}-map.png`, or `.npy`.

    Pictures carry class, source, time and scores in the EXIF image description (JSON). An .npy file has no place for
    them.

    Args:
        pixels: uint8 [H, W, 3] RGB, the frame at the size that the map is to have.
        maps: of all K frames.
        number: which of them is the frame's, in [0, K).
        frame: the frame.
        source: the video, as the user named it.
        folder, stem: where to write, and how the name starts.
        map_format: "overlay" for the heat over the frame, "heat" for the heat alone on transparent ground (RGBA), "npy"
            for the values, float32 [H, W] in [0, 1].

    Returns:
        The path written.

    Raises:
        OutputError: the file cannot be written.
    """
    name = frame_name(stem, frame, "png").removesuffix(".png") + "-map"
    final = folder / f"{name}.{'npy' if map_format == 'npy' else 'png'}"
    values, (height, width) = maps.values[number], pixels.shape[:2]
    with atomic_path(final) as temporary:
        if map_format == "overlay":
            _save_picture(overlay(pixels, values, maps.box), temporary, _exif(maps, frame, source))
        elif map_format == "heat":
            coloured = heat(spread(values, maps.box, height=height, width=width))
            _save_picture(coloured, temporary, _exif(maps, frame, source))
        else:
            np.save(temporary, spread(values, maps.box, height=height, width=width))
    return str(final)


def _save_picture(pixels: UInt8Array, path: Path, exif: Image.Exif) -> None:
    Image.fromarray(pixels).save(path, format="PNG", compress_level=4, exif=exif)


def _exif(maps: SaliencyMaps, frame: SelectedFrame, source: str) -> Image.Exif:
    described = {"source": source, **frame.to_dict()}
    del described["path"]
    described["map"] = {**asdict(maps.category), "scale": maps.scale, "box": maps.box}
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = json.dumps(described)
    return exif
