"""Convert decoded frames to RGB: scaled once, upright, with square pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Self, cast

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from tsq_cli.types import UInt8Array


def _unnamed(kind: type[Type], value: int) -> Type:
    member = object.__new__(kind)
    member.__dict__.update(_name_=f"UNNAMED_{value}", _value_=value)
    return member


# PyAV lists all side data of a frame or none, and gives up on a kind that is newer than its enumeration (the views of
# stereo video, the EXIF of pictures): the display matrix beside it could not be read.
Type._missing_ = classmethod(_unnamed)  # type: ignore[method-assign, assignment]


@dataclass(frozen=True)
class Orientation:
    """Orientation of decoded pictures for display: first transposed, then mirrored left-right, then top-bottom."""

    transposed: bool = False
    mirrored_x: bool = False
    mirrored_y: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> Self:
        """Find the nearest of the eight orientations to a frame's display matrix (upright without one).

        FFmpeg makes this matrix from what the container says, or the codec (HEVC, H.264), or the EXIF orientation of a
        JPEG, PNG or WebP picture.
        """
        side_data = cast("Mapping[str, bytes]", frame.side_data)  # PyAV's own annotation knows a few keys only
        matrix = side_data.get("DISPLAYMATRIX")
        if matrix is None:
            return cls()
        # x' = a x + c y and y' = b x + d y, stored as a, b, u, c, d, v, ...
        a, b, _, c, d = np.frombuffer(matrix, dtype=np.int32)[:5].astype(np.int64)
        transposed = bool(abs(a) + abs(d) < abs(b) + abs(c))
        across, down = (c, b) if transposed else (a, d)
        return cls(transposed, bool(across < 0), bool(down < 0))

    @property
    def rotation(self) -> int:
        """Clockwise degrees; a mirrored picture counts as the rotation that puts its top side right."""
        if self.transposed:
            return 270 if self.mirrored_y else 90
        return 180 if self.mirrored_y else 0

    def apply(self, picture: UInt8Array) -> UInt8Array:
        """Return the picture [H, W, 3] as displayed, a view of the same memory."""
        if self.transposed:
            picture = picture.swapaxes(0, 1)
        return picture[:: -1 if self.mirrored_y else 1, :: -1 if self.mirrored_x else 1]


@dataclass(frozen=True)
class Geometry:
    """Size of the pictures with square pixels before they are turned, and their orientation."""

    width: int
    height: int
    orientation: Orientation

    @classmethod
    def of(cls, frame: VideoFrame, sample_aspect_ratio: Fraction | None) -> Self:
        """Read the geometry of a stream's first frame; pixels that are not square are stretched, never shrunk."""
        width, height = frame.width, frame.height
        ratio = sample_aspect_ratio or Fraction(1)
        if MIN_ASPECT < ratio < MAX_ASPECT:
            width = round(width * ratio)
        elif MIN_ASPECT < 1 / ratio < MAX_ASPECT:
            height = round(height / ratio)
        return cls(width, height, Orientation.of(frame))

    @property
    def displayed_size(self) -> tuple[int, int]:
        """Width and height in pixels as displayed."""
        return (self.height, self.width) if self.orientation.transposed else (self.width, self.height)

    def scaled(self, short_side: int | None) -> Geometry:
        """Shrink to a short side of at most short_side pixels (None: keep the size); never enlarge."""
        shorter = min(self.width, self.height)
        if short_side is None or shorter <= short_side:
            return self
        width, height = (max(1, round(side * short_side / shorter)) for side in (self.width, self.height))
        return Geometry(width, height, self.orientation)


MIN_ASPECT, MAX_ASPECT = Fraction(101, 100), Fraction(8)
"""Pixels less oblong come from rounding a width to whole or even pixels, more oblong ones from a damaged header: both
count as square (ours)."""

UNSPECIFIED_MATRIX = 2
"""matrix_coefficients of a frame that states none (ITU-T H.273, table 4)."""


class Converter:
    """Scales and converts frames to RGB; one per thread, since it keeps a scaling context.

    The color matrix and range are the frame's own. If it states none, or one that swscale does not know (reserved
    numbers, YCgCo), swscale's default is used: BT.601.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self._reformatter = VideoReformatter()

    def to_rgb(self, frame: VideoFrame) -> tuple[UInt8Array, bool]:
        """Convert a frame.

        Returns:
            uint8 [H, W, 3] as displayed, and whether the frame's own color matrix was used.

        Raises:
            av.FFmpegError: the pixels are of a format that swscale does not read.
        """
        try:
            picture, is_own = self._reformat(frame), True
        except av.FFmpegError:
            if frame.colorspace == UNSPECIFIED_MATRIX:
                raise
            frame.colorspace = UNSPECIFIED_MATRIX
            picture, is_own = self._reformat(frame), False
        return self._geometry.orientation.apply(picture.to_ndarray().astype(np.uint8, copy=False)), is_own

    def _reformat(self, frame: VideoFrame) -> VideoFrame:
        geometry = self._geometry
        is_scaled = (frame.width, frame.height) != (geometry.width, geometry.height)
        return self._reformatter.reformat(
            frame,
            width=geometry.width,
            height=geometry.height,
            format="rgb24",
            interpolation=Interpolation.AREA if is_scaled else Interpolation.BILINEAR,
            threads=1,
        )
