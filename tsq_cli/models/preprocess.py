"""From decoded bytes to network input, on the device, as timm's evaluation transform does it from pictures.

torch is loaded for tensors only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from tsq_cli.arrays import Array, is_torch, namespace
from tsq_cli.errors import WeightsError
from tsq_cli.models.resize import Interpolation, resize
from tsq_cli.types import Float32Array, UInt8Array
from tsq_cli.validation import check_range

if TYPE_CHECKING:
    import torch
    from torch import Tensor

RESIZE = 3
"""Version of the resize, for keys of cached features: another number where the pixels that a network sees change."""

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
        """Prepare frames of one size for the network, on its device; normalized in float32 whatever dtype is.

        On a CPU numpy resizes, tensors as well as arrays, so that every engine sees the same images; on a GPU
        torchvision does, which is at most two levels of 255 away.

        Args:
            pixels: uint8 RGB, [T, H, W, 3] or [T, 3, H, W] (the first if both fit), T, H and W at least 1; a tensor, or
                an array of numpy, which stays on the CPU.
            device: where to compute, and where the result lies.
            dtype: floating point type of the result; None is float32, and of numpy it always is.

        Returns:
            dtype [T, 3, S, S], of the kind of the pixels.

        Raises:
            ValueError: pixels of another type or shape.
        """
        frames = _channels_last(pixels)
        if not is_torch(frames):
            return self._normalized(self.resize_and_crop(frames))
        import torch

        from tsq_cli.models.device import to_device

        seen = self._seen(to_device(frames, device))
        scale, shift = _normalization(self.mean, self.std, seen.device)
        images = torch.addcmul(shift, seen.permute(0, 3, 1, 2).float(), scale)  # (x / 255 - mean) / std at once
        return images.to(dtype or torch.float32)

    def _seen(self, frames: Tensor) -> Tensor:
        """Resize and crop frames [T, H, W, 3] where they lie: [T, S, S, 3]."""
        if frames.device.type != "cpu":
            return self._on_gpu(frames)
        import torch

        return torch.from_numpy(self.resize_and_crop(frames.numpy()))

    def resize_and_crop(self, frames: UInt8Array) -> UInt8Array:
        """Resize and crop frames uint8 [T, H, W, 3] on the CPU: [T, S, S, 3], which may be a view of them."""
        height, width = frames.shape[1:3]
        size = self.input_size
        resized_width, resized_height = self._resized(height, width)
        left, top = (round((length - size) / 2) for length in (resized_width, resized_height))
        if (resized_width, resized_height) == (width, height):
            return frames[:, top : top + size, left : left + size]
        across, down = width / resized_width, height / resized_height
        box = (left * across, top * down, (left + size) * across, (top + size) * down)  # what the crop keeps
        return resize(frames, size, box, self.interpolation)

    def _on_gpu(self, frames: Tensor) -> Tensor:
        """Resize and crop frames [T, H, W, 3] by torchvision, where they lie: [T, S, S, 3]."""
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2 import functional as untyped

        functional: Any = untyped  # torchvision re-exports these functions without saying so
        images = frames.permute(0, 3, 1, 2)
        width, height = self._resized(*images.shape[2:])
        if list(images.shape[2:]) != [height, width]:
            # The grid of Pillow's "nearest", which is ours, has another name there.
            how = InterpolationMode("nearest-exact" if self.interpolation == "nearest" else self.interpolation)
            images = functional.resize(images, [height, width], interpolation=how, antialias=True)
        images = functional.center_crop(images, [self.input_size, self.input_size])
        seen: Tensor = images.permute(0, 2, 3, 1)
        return seen

    def _normalized(self, seen: UInt8Array) -> Float32Array:
        """Compute (x / 255 - mean) / std of images [T, S, S, 3], a frame at a time, which stays in the cache."""
        std, mean = (np.array(values, np.float64)[:, None, None] for values in (self.std, self.mean))
        scale, shift = (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
        images = np.empty((len(seen), 3, *seen.shape[1:3]), np.float32)
        for image, pixels in zip(images, seen, strict=True):
            image[:] = pixels.transpose(2, 0, 1)
            image *= scale
            image += shift
        return images

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """Width and height of a frame before the crop."""
        if self.squashes:
            return self.input_size, self.input_size
        side, shorter = self.resize_side, min(height, width)
        return side * width // shorter, side * height // shorter


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


def _channels_last(pixels: Array) -> Array:
    if pixels.dtype == namespace(pixels).uint8 and pixels.ndim == 4 and 0 not in pixels.shape:
        if pixels.shape[3] == 3:
            return pixels
        if pixels.shape[1] == 3:
            return namespace(pixels).permute_dims(pixels, (0, 2, 3, 1))
    raise ValueError(
        f"pixels must be uint8 [T, H, W, 3] or [T, 3, H, W] with no empty side, got {pixels.dtype} {list(pixels.shape)}"
    )
