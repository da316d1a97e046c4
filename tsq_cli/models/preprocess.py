"""Decoded bytes to network input, on the device, as timm's evaluation transform does it from pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.functional import InterpolationMode

from tsq_cli.errors import WeightsError
from tsq_cli.models.device import to_device

# torchvision re-exports these functions without saying so, which a strict type checker refuses.
functional: Any = v2.functional

Interpolation = Literal["nearest", "bilinear", "bicubic"]


@dataclass(frozen=True, kw_only=True)
class Preprocessor:
    """Resize the shorter side, crop the center, scale to [0, 1], normalize: what a network was trained to see.

    Attributes:
        input_size: S, side of the square the network takes, in pixels, at least 1.
        mean, std: of each of the channels R, G, B on the scale [0, 1]; std above 0.
        interpolation: of the resize, with antialias ("nearest" has none).
        crop_pct: share of the resized shorter side that the crop keeps, above 0 and at most 1.

    Raises:
        WeightsError: a value out of range (these come from a pack or from timm).
    """

    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bicubic"
    crop_pct: float = 0.875

    def __post_init__(self) -> None:
        if type(self.input_size) is not int or self.input_size < 1:
            raise _bad_setting("input_size", self.input_size, "a whole number of pixels, 1 or more")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != 3 or not all(map(math.isfinite, values)) or (name == "std" and min(values) <= 0):
                raise _bad_setting(name, values, "three finite numbers" + (" above 0" if name == "std" else ""))
        if self.interpolation not in get_args(Interpolation):
            raise _bad_setting("interpolation", self.interpolation, "one of " + ", ".join(get_args(Interpolation)))
        if not 0 < self.crop_pct <= 1:
            raise _bad_setting("crop_pct", self.crop_pct, "a share above 0 and at most 1")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessor:
        """Read the settings from a pack's plain dict or from a timm pretrained_cfg; other keys are left alone.

        Args:
            values: input_size (S, or timm's [3, S, S]), mean, std, interpolation, crop_pct; timm's crop_mode, if
                present, must be "center", the one built here.

        Raises:
            WeightsError: a setting that is missing, out of range, or that asks for another kind of crop.
        """
        wanted = ("input_size", "mean", "std", "interpolation", "crop_pct")
        if missing := [name for name in wanted if values.get(name) is None]:
            raise WeightsError(
                f"preprocessing settings lack {', '.join(missing)}", wanted=", ".join(wanted), fix="complete pack.json"
            )
        if values.get("crop_mode", "center") != "center":
            raise _bad_setting("crop_mode", values["crop_mode"], "center")
        return cls(
            input_size=_square_side(values["input_size"]),
            mean=tuple(values["mean"]),
            std=tuple(values["std"]),
            interpolation=values["interpolation"],
            crop_pct=values["crop_pct"],
        )

    def to_dict(self) -> dict[str, Any]:
        """All settings by name, JSON-ready; from_dict reads them back."""
        return {
            "input_size": self.input_size,
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation,
            "crop_pct": self.crop_pct,
        }

    @property
    def resize_side(self) -> int:
        """Pixels of the shorter side before the crop: S / crop_pct, rounded down as timm does."""
        return math.floor(self.input_size / self.crop_pct)

    def __call__(
        self, pixels: Tensor, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Prepare frames of one size for the network.

        The bytes travel to the device and all arithmetic happens there, the normalization in float32 whatever dtype is.

        Args:
            pixels: uint8 RGB, [T, H, W, 3] or [T, 3, H, W] (the first if both fit), T, H and W at least 1.
            device: where to compute, and where the result lies.
            dtype: floating point type of the result.

        Returns:
            dtype [T, 3, S, S].

        Raises:
            ValueError: pixels of another type or shape.
        """
        frames = to_device(_channels_first(pixels), device)
        if min(frames.shape[2:]) != self.resize_side:
            frames = functional.resize(
                frames, [self.resize_side], interpolation=InterpolationMode(self.interpolation), antialias=True
            )
        frames = functional.center_crop(frames, [self.input_size, self.input_size])
        scale, shift = _normalization(self.mean, self.std, frames.device)
        return torch.addcmul(shift, frames.float(), scale).to(dtype)  # (x / 255 - mean) / std in one pass


@cache
def _normalization(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Factor and summand of each channel, [3, 1, 1] in float32, made once: a CUDA graph cannot copy them from here."""
    with torch.inference_mode(mode=False):
        std_, mean_ = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (std, mean))
        return (1 / (255 * std_)).float().to(device), (-mean_ / std_).float().to(device)


def _channels_first(pixels: Tensor) -> Tensor:
    if pixels.dtype == torch.uint8 and pixels.ndim == 4 and 0 not in pixels.shape:
        if pixels.shape[3] == 3:
            return pixels.permute(0, 3, 1, 2)  # [T, H, W, 3] -> [T, 3, H, W]
        if pixels.shape[1] == 3:
            return pixels
    raise ValueError(
        f"pixels must be uint8 [T, H, W, 3] or [T, 3, H, W] with no empty side, got {pixels.dtype} {list(pixels.shape)}"
    )


def _square_side(input_size: Any) -> int:
    if isinstance(input_size, int):
        return input_size
    if len(input_size) != 3 or input_size[0] != 3 or input_size[1] != input_size[2]:
        raise _bad_setting("input_size", list(input_size), "S or [3, S, S]: square RGB pictures")
    return int(input_size[1])


def _bad_setting(name: str, value: object, wanted: str) -> WeightsError:
    return WeightsError(
        f"preprocessing setting {name} is {value!r}",
        wanted=wanted,
        fix="correct it, or choose another model",
    )
