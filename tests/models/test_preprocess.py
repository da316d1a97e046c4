from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from skimage import data as pictures
from timm.data import create_transform

from tests.marks import needs_cuda
from tsq_cli.errors import WeightsError
from tsq_cli.models.preprocess import Preprocessor

SETTINGS: dict[str, Any] = {
    "input_size": 224,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "interpolation": "bicubic",
    "crop_pct": 0.875,
}


def _picture(height: int, width: int) -> np.ndarray:
    """A photograph at a given size, uint8 [H, W, 3]."""
    return np.array(Image.fromarray(pictures.chelsea()).resize((width, height), Image.Resampling.LANCZOS))


def _timm(settings: dict[str, Any], picture: np.ndarray) -> torch.Tensor:
    size = settings["input_size"]
    return create_transform(**{**settings, "input_size": (3, size, size)})(Image.fromarray(picture))


@pytest.mark.parametrize("shape", [(300, 451), (640, 360), (256, 455), (120, 161), (257, 256)], ids=str)
@pytest.mark.parametrize(
    "change",
    [{}, {"interpolation": "bilinear"}, {"crop_pct": 0.95}, {"crop_pct": 1.0, "input_size": 160}],
    ids=str,
)
def test_agrees_with_timm_on_a_photograph(shape: tuple[int, int], change: dict[str, Any]) -> None:
    settings = {**SETTINGS, **change}
    picture = _picture(*shape)
    ours = Preprocessor(**settings)(torch.from_numpy(picture)[None])
    levels = (ours[0] - _timm(settings, picture)) * torch.tensor(settings["std"])[:, None, None] * 255
    assert ours.dtype == torch.float32
    # PIL and torchvision both resize bytes in fixed point; they may round to neighboring levels.
    assert levels.abs().max() < 1.01
    assert levels.abs().mean() < 0.05


@pytest.mark.parametrize("shape", [(256, 455), (455, 256)])
def test_frames_already_of_the_right_size_are_only_cropped(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, *shape, 3), dtype=np.uint8)
    top, left = (16, 116) if shape == (256, 455) else (116, 16)  # (455 - 224) / 2 = 115.5 goes to the even 116
    crop = pixels[:, top : top + 224, left : left + 224].transpose(0, 3, 1, 2) / 255
    wanted = (crop - np.array(SETTINGS["mean"])[:, None, None]) / np.array(SETTINGS["std"])[:, None, None]
    np.testing.assert_allclose(Preprocessor(**SETTINGS)(torch.from_numpy(pixels)), wanted, atol=1e-6)


def test_both_layouts_give_the_same_and_leave_the_bytes_alone() -> None:
    pixels = torch.from_numpy(np.stack([_picture(300, 451), _picture(300, 451)[::-1]]))
    before = pixels.clone()
    preprocess = Preprocessor(**SETTINGS)
    last = preprocess(pixels)
    first = preprocess(pixels.permute(0, 3, 1, 2).contiguous())
    assert torch.equal(pixels, before)
    assert last.shape == (2, 3, 224, 224)
    assert torch.equal(last, first)
    assert not torch.allclose(last[0], last[1])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 1e-2)])
def test_half_precision_is_rounded_once_at_the_end(dtype: torch.dtype, tolerance: float) -> None:
    pixels = torch.from_numpy(_picture(300, 451))[None]
    preprocess = Preprocessor(**SETTINGS)
    half = preprocess(pixels, "cpu", dtype)
    assert half.dtype == dtype
    torch.testing.assert_close(half, preprocess(pixels).to(dtype), rtol=0, atol=0)
    torch.testing.assert_close(half.float(), preprocess(pixels), rtol=0, atol=tolerance)


@needs_cuda
def test_the_device_gives_what_the_processor_gives() -> None:
    pixels = torch.from_numpy(_picture(300, 451))[None]
    preprocess = Preprocessor(**{**SETTINGS, "mean": (0.0,) * 3, "std": (1.0,) * 3})
    on_device = preprocess(pixels, torch.device("cuda"))
    assert on_device.is_cuda
    assert (on_device.cpu() - preprocess(pixels)).abs().max() < 1.01 / 255


@pytest.mark.parametrize("squashes", [False, True], ids=["cropped", "squashed"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "shape",
    [(300, 451), (640, 360), (300, 300), (256, 455), (455, 256), (256, 256), (224, 224), (120, 161), (257, 256)],
    ids=str,
)
def test_without_torch_a_frame_is_prepared_to_within_two_levels(
    shape: tuple[int, int], interpolation: str, squashes: bool
) -> None:
    change: dict[str, Any] = {"interpolation": interpolation, "squashes": squashes}
    preprocess = Preprocessor(**{**SETTINGS, **change, "mean": (0.0,) * 3, "std": (1.0,) * 3})
    picture = _picture(*shape)
    pixels = np.stack([picture, picture[::-1]])
    given, wanted = preprocess(pixels), preprocess(torch.from_numpy(pixels)).numpy()
    assert (type(given), given.dtype, given.shape) == (np.ndarray, np.float32, (2, 3, 224, 224))
    assert given.flags.c_contiguous
    levels = np.abs(given - wanted) * 255
    # Both round to bytes between their two passes; Pillow may begin with the vertical one, torchvision never does.
    assert levels.max() < 2.01
    assert levels.mean() < (0.2 if shape[0] > shape[1] else 0.05)
    if (min(shape) == 256 and not squashes) or (shape == (224, 224) and squashes):
        assert levels.max() < 1e-3  # nothing to resize


def test_without_torch_a_frame_is_normalized_as_with_it() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 256, 455, 3), dtype=np.uint8)
    wanted = Preprocessor(**SETTINGS)(torch.from_numpy(pixels))
    np.testing.assert_allclose(Preprocessor(**SETTINGS)(pixels), wanted, atol=1e-6)


def test_without_torch_what_pillow_does_otherwise_is_refused() -> None:
    preprocess = Preprocessor(**{**SETTINGS, "interpolation": "nearest"})
    with pytest.raises(ValueError, match="bilinear or bicubic where torch does not run, not nearest"):
        preprocess(np.zeros((1, 300, 300, 3), np.uint8))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((2, 3, 8, 8), np.uint8),
        np.zeros((0, 8, 8, 3), np.uint8),
    ],
    ids=lambda pixels: f"{pixels.dtype} {pixels.shape}",
)
def test_without_torch_pixels_of_another_kind_are_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"pixels must be uint8 \[T, H, W, 3\] with no empty side"):
        Preprocessor(**SETTINGS)(pixels)


def test_settings_are_read_from_timm() -> None:
    published = timm.get_pretrained_cfg("tf_efficientnet_lite0").to_dict()
    by_hand = {"input_size": 224, "mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic", "crop_pct": 0.875}
    assert Preprocessor.from_timm(published) == Preprocessor(**by_hand)
    assert Preprocessor.from_timm({**published, "mean": [0.1, 0.2, 0.3]}).mean == (0.1, 0.2, 0.3)  # as JSON has it
    assert Preprocessor(**{**SETTINGS, "crop_pct": 0.95}).resize_side == 235  # 235.8, which timm cuts


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": None}, "wanted a value for mean"),
        ({"input_size": (3, 224, 192)}, r"wanted input_size \[3, S, S\], not \[3, 224, 192\]"),
        ({"input_size": (1, 224, 224)}, r"wanted input_size \[3, S, S\]"),
        ({"input_size": (3, 0, 0)}, "wanted input_size from 32 to 2048, not 0"),
        ({"mean": [0.5]}, "wanted three finite numbers as mean"),
        ({"mean": [0.5, 0.5, float("nan")]}, "wanted three finite numbers as mean"),
        ({"std": [0.5, 0.5, 0.0]}, "wanted std above 0"),
        ({"interpolation": "lanczos"}, "wanted interpolation nearest or bilinear or bicubic, not 'lanczos'"),
        ({"crop_pct": 1.2}, "wanted crop_pct from 0.5 to 1, not 1.2"),
        ({"crop_mode": "squash"}, "wanted crop_mode center, not 'squash'"),
    ],
)
def test_settings_that_cannot_be_met_are_refused(change: dict[str, Any], message: str) -> None:
    published = {**SETTINGS, "input_size": (3, 224, 224), "crop_mode": "center"}
    with pytest.raises(WeightsError, match=message):
        Preprocessor.from_timm({**published, **change})


@pytest.mark.parametrize(
    "pixels",
    [
        torch.zeros(2, 8, 8, 3),
        torch.zeros(8, 8, 3, dtype=torch.uint8),
        torch.zeros(2, 8, 8, 4, dtype=torch.uint8),
        torch.zeros(0, 8, 8, 3, dtype=torch.uint8),
    ],
)
def test_pixels_of_another_kind_are_refused(pixels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="pixels must be uint8"):
        Preprocessor(**SETTINGS)(pixels)
