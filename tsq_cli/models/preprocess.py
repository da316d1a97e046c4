"""From decoded bytes to network input, on the device, as timm's evaluation transform does it from pictures.

torch is loaded when frames are prepared, so that a pack's description can hold a Preprocessor without it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from tsq_cli.arrays import Array
from tsq_cli.errors import WeightsError
from tsq_cli.types import Float32Array, UInt8Array
from tsq_cli.validation import check_range

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Interpolation = Literal["nearest", "bilinear", "bicubic"]

MIN_INPUT = 32  # pixels: five halvings, as the networks of packs make them, leave one place
MAX_INPUT = 2048  # pixels; the networks of timm see at most 1024
MIN_CROP = 0.5  # pictures are resized to input_size / crop_pct; the networks of timm want at least 0.875


@dataclass(frozen=True, kw_only=True)
class Preprocessor:
    """Preprocessing of a network's input: resize the shorter side, crop the center, scale to [0, 1], normalize.

    Attributes:
        input_size: S, side of the square the network takes, in pixels, MIN_INPUT to MAX_INPUT.
        mean, std: of each of the channels R, G, B on the scale [0, 1]; finite, std above 0.
        interpolation: of the resize, with antialias ("nearest" has none).
        crop_pct: share of the resized shorter side that the crop keeps, MIN_CROP to 1.
        squashes: whether both sides are resized to S instead, and nothing is cropped, as SigLIP wants it.

    Raises:
        ValueError: a value out of range; the message says what is wanted.
    """

    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation
    crop_pct: float
    squashes: bool = False

    def __post_init__(self) -> None:
        check_range("input_size", self.input_size, MIN_INPUT, MAX_INPUT)
        check_range("crop_pct", self.crop_pct, MIN_CROP, 1)
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3 or not all(map(math.isfinite, values)):
                raise ValueError(f"three finite numbers as {name}, not {values}")
        if min(self.std) <= 0:
            raise ValueError(f"std above 0, not {self.std}")
        if self.interpolation not in get_args(Interpolation):
            raise ValueError(f"interpolation {' or '.join(get_args(Interpolation))}, not {self.interpolation!r}")

    @classmethod
    def from_timm(cls, pretrained_cfg: Mapping[str, Any]) -> Preprocessor:
        """Read the settings that come with a timm network's weights.

        Args:
            pretrained_cfg: input_size [3, S, S], mean, std, interpolation and crop_pct; crop_mode, if present, must be
                "center", the one built here; other keys are left alone.

        Raises:
            WeightsError: a setting that is missing, out of range, or that asks for another kind of crop.
        """
        try:
            return cls(**_from_timm(pretrained_cfg))
        except (TypeError, ValueError) as error:
            raise WeightsError(
                "the preprocessing settings of the network's weights are not usable",
                wanted=str(error),
                fix="choose another model",
            ) from error

    @property
    def resize_side(self) -> int:
        """Pixels of the shorter side before the crop: S / crop_pct, rounded down as timm does."""
        return math.floor(self.input_size / self.crop_pct)

    def __call__(self, pixels: Array, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> Array:
        """Prepare frames of one size for the network.

        The bytes travel to the device and all arithmetic happens there, the normalization in float32 whatever dtype is.

        Args:
            pixels: uint8 RGB, [T, H, W, 3] or [T, 3, H, W] (the first if both fit), T, H and W at least 1; of numpy
                [T, H, W, 3].
            device: where to compute, and where the result lies.
            dtype: floating point type of the result; None is float32, and of numpy it always is.

        Returns:
            dtype [T, 3, S, S], of the kind of the pixels.

        Raises:
            ValueError: pixels of another type or shape.
        """
        if isinstance(pixels, np.ndarray):
            return self._with_pillow(pixels)
        import torch
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2 import functional as untyped

        from tsq_cli.models.device import to_device

        functional: Any = untyped  # torchvision re-exports these functions without saying so
        frames = to_device(_channels_first(pixels), device)
        size = [self.input_size] * 2 if self.squashes else [self.resize_side]
        if list(frames.shape[2:]) != size if self.squashes else min(frames.shape[2:]) != self.resize_side:
            frames = functional.resize(
                frames, size, interpolation=InterpolationMode(self.interpolation), antialias=True
            )
        frames = functional.center_crop(frames, [self.input_size, self.input_size])
        scale, shift = _normalization(self.mean, self.std, frames.device)
        return torch.addcmul(shift, frames.float(), scale).to(dtype or torch.float32)  # (x / 255 - mean) / std at once

    def _with_pillow(self, pixels: UInt8Array) -> Float32Array:
        """Prepare frames without torch, at most two levels of 255 from torchvision, whose resize is a port of Pillow's.

        Both round to bytes after the horizontal pass, which is first; by itself Pillow begins with the cheaper one.

        Raises:
            ValueError: as __call__, or an interpolation whose grid Pillow lays otherwise.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or 0 in pixels.shape:
            raise ValueError(f"pixels must be uint8 [T, H, W, 3] with no empty side, got {pixels.dtype} {pixels.shape}")
        if self.interpolation == "nearest":
            raise ValueError("interpolation bilinear or bicubic where torch does not run, not nearest")
        from PIL import Image

        height, width = pixels.shape[1:3]
        size = self.input_size
        if self.squashes:
            resized = (size, size)
        else:
            side, shorter = self.resize_side, min(height, width)
            resized = (side * width // shorter, side * height // shorter)
        # Only what the crop keeps is resized: left, top, right and bottom in pixels of the frame.
        left, top = (round((length - size) / 2) for length in resized)
        across, down = width / resized[0], height / resized[1]
        columns = (left * across, 0, (left + size) * across, height)
        rows = (0, top * down, size, (top + size) * down)
        how = Image.Resampling[self.interpolation.upper()]
        seen = np.stack(
            [
                np.asarray(
                    Image.fromarray(frame).resize((size, height), how, box=columns).resize((size, size), how, box=rows)
                )
                for frame in pixels
            ]
        )
        std, mean = (np.array(values, np.float64) for values in (self.std, self.mean))
        scale, shift = (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
        # (x / 255 - mean) / std at once
        return np.ascontiguousarray((seen.astype(np.float32) * scale + shift).transpose(0, 3, 1, 2))


def _from_timm(pretrained_cfg: Mapping[str, Any]) -> dict[str, Any]:
    settings = {item.name: pretrained_cfg.get(item.name) for item in fields(Preprocessor) if item.name != "squashes"}
    if missing := [name for name, value in settings.items() if value is None]:
        raise ValueError(f"a value for {', '.join(missing)}")
    if (crop_mode := pretrained_cfg.get("crop_mode", "center")) != "center":
        raise ValueError(f"crop_mode center, not {crop_mode!r}")
    channels, height, width = pretrained_cfg["input_size"]
    if channels != 3 or height != width:
        raise ValueError(f"input_size [3, S, S], not {[channels, height, width]}")
    return {**settings, "input_size": height, **{name: tuple(pretrained_cfg[name]) for name in ("mean", "std")}}


@cache
def _normalization(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Compute factors and summands, [3, 1, 1] in float32, once: a CUDA graph cannot copy them from the host."""
    import torch

    with torch.inference_mode(mode=False):
        std_, mean_ = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (std, mean))
        return (1 / (255 * std_)).float().to(device), (-mean_ / std_).float().to(device)


def _channels_first(pixels: Tensor) -> Tensor:
    import torch

    if pixels.dtype == torch.uint8 and pixels.ndim == 4 and 0 not in pixels.shape:
        if pixels.shape[3] == 3:
            return pixels.permute(0, 3, 1, 2)  # [T, H, W, 3] -> [T, 3, H, W]
        if pixels.shape[1] == 3:
            return pixels
    raise ValueError(
        f"pixels must be uint8 [T, H, W, 3] or [T, 3, H, W] with no empty side, got {pixels.dtype} {list(pixels.shape)}"
    )
