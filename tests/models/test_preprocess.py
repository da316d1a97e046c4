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
    # Across first, where Pillow by itself may begin with the other pass: bytes are rounded between them.
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


@pytest.mark.parametrize("shape", [(300, 451), (455, 256)], ids=str)
def test_a_tensor_and_an_array_are_prepared_alike(shape: tuple[int, int]) -> None:
    pixels = np.stack([_picture(*shape), _picture(*shape)[::-1]])
    given, wanted = Preprocessor(**SETTINGS)(pixels), Preprocessor(**SETTINGS)(torch.from_numpy(pixels))
    assert (type(given), given.dtype, given.shape) == (np.ndarray, np.float32, (2, 3, 224, 224))
    assert given.flags.c_contiguous
    assert wanted.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(given, wanted, rtol=0, atol=1e-6)  # the same bytes, normalized by another library


@pytest.mark.parametrize("squashes", [False, True], ids=["cropped", "squashed"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "shape",
    [(300, 451), (640, 360), (300, 300), (256, 455), (455, 256), (256, 256), (224, 224), (120, 161), (257, 256)],
    ids=str,
)
def test_what_a_gpu_does_is_within_two_levels_of_what_a_cpu_does(
    shape: tuple[int, int], interpolation: str, squashes: bool
) -> None:
    change: dict[str, Any] = {"interpolation": interpolation, "squashes": squashes}
    preprocess = Preprocessor(**{**SETTINGS, **change})
    picture = _picture(*shape)
    pixels = np.stack([picture, picture[::-1]])
    wanted = preprocess.resize_and_crop(pixels).astype(np.float32)
    frames = torch.from_numpy(pixels)
    bytewise, exactly = (preprocess._on_gpu(each) for each in (frames, frames.float()))
    # Of bytes on a CPU torchvision rounds between the passes, as Pillow does; on a GPU it does not.
    for given, mean in ((bytewise.float(), 0.05), (exactly.round().clamp(0, 255), 0.25)):
        assert given.shape == (2, 224, 224, 3)
        levels = np.abs(given.numpy() - wanted)
        assert levels.max() <= 2
        assert levels.mean() < mean
        if (min(shape) == 256 and not squashes) or (shape == (224, 224) and squashes):
            assert levels.max() == 0  # nothing to resize


@pytest.mark.parametrize("shape", [(300, 451), (120, 161)], ids=str)
def test_the_nearest_pixel_is_the_same_everywhere(shape: tuple[int, int]) -> None:
    settings, picture = {**SETTINGS, "interpolation": "nearest"}, _picture(*shape)
    preprocess = Preprocessor(**settings)
    torch.testing.assert_close(preprocess(torch.from_numpy(picture)[None])[0], _timm(settings, picture))
    on_gpu = preprocess._on_gpu(torch.from_numpy(picture)[None])
    np.testing.assert_array_equal(on_gpu.numpy(), preprocess.resize_and_crop(picture[None]))


@needs_cuda
def test_the_device_gives_what_the_processor_gives() -> None:
    pixels = torch.from_numpy(_picture(300, 451))[None]
    preprocess = Preprocessor(**{**SETTINGS, "mean": (0.0,) * 3, "std": (1.0,) * 3})
    on_device = preprocess(pixels, torch.device("cuda"))
    assert on_device.is_cuda
    assert (on_device.cpu() - preprocess(pixels)).abs().max() < 2.01 / 255


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


@pytest.mark.parametrize("of", [np.asarray, torch.from_numpy], ids=["array", "tensor"])
@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((2, 8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint8),
        np.zeros((2, 8, 8, 4), np.uint8),
        np.zeros((0, 8, 8, 3), np.uint8),
    ],
    ids=lambda pixels: f"{pixels.dtype} {pixels.shape}",
)
def test_pixels_of_another_kind_are_refused(pixels: np.ndarray, of: Any) -> None:
    with pytest.raises(ValueError, match=r"pixels must be uint8 \[T, H, W, 3\] .* with no empty side"):
        Preprocessor(**SETTINGS)(of(pixels))
