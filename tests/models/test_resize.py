from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from skimage import data as pictures

from tsq_cli.models import resize as resizing
from tsq_cli.models.resize import ONE_THREAD, Box, Interpolation, resize


def _frames(height: int, width: int) -> np.ndarray:
    """A photograph and noise, uint8 [2, H, W, 3]."""
    picture = np.array(Image.fromarray(pictures.chelsea()).resize((width, height), Image.Resampling.LANCZOS))
    return np.stack([picture, np.random.default_rng(0).integers(0, 256, picture.shape, dtype=np.uint8)])


def _pillow(frames: np.ndarray, size: int, box: Box, interpolation: Interpolation) -> np.ndarray:
    """Pillow's resize in two calls: by itself it may go down first."""
    how = Image.Resampling[interpolation.upper()]
    left, top, right, bottom = box
    narrow = [
        Image.fromarray(frame).resize((size, frame.shape[0]), how, box=(left, 0, right, frame.shape[0]))
        for frame in frames
    ]
    return np.stack([np.asarray(image.resize((size, size), how, box=(0, top, size, bottom))) for image in narrow])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("shape", "size", "box"),
    [
        ((256, 455), 160, (115.2, 15.5, 340.3, 240.6)),
        ((455, 256), 160, (15.5, 115.2, 240.6, 340.3)),
        ((120, 161), 224, (28.0, 7.5, 133.0, 112.5)),  # enlarged
        ((90, 700), 150, (0.0, 0.0, 700.0, 90.0)),  # enlarged and shrunk, the whole frame
        ((37, 61), 32, (0.4, 0.0, 60.9, 32.0)),  # nothing to do along one side
    ],
    ids=str,
)
def test_pixels_are_pillows_but_for_few_between_two_levels(
    shape: tuple[int, int], size: int, box: Box, interpolation: Interpolation
) -> None:
    frames = _frames(*shape)
    given, wanted = resize(frames, size, box, interpolation), _pillow(frames, size, box, interpolation)
    assert (given.dtype, given.shape) == (np.uint8, (2, size, size, 3))
    levels = np.abs(given.astype(int) - wanted)
    assert levels.max() <= 1
    assert levels.mean() < 1e-3


@pytest.mark.parametrize(("shape", "size"), [((256, 455), 160), ((120, 161), 224)], ids=str)
def test_the_nearest_pixel_is_pillows(shape: tuple[int, int], size: int) -> None:
    frames, box = _frames(*shape), (3.25, 1.5, shape[1] - 7.5, shape[0] - 2.0)
    np.testing.assert_array_equal(resize(frames, size, box, "nearest"), _pillow(frames, size, box, "nearest"))


@pytest.mark.parametrize(
    ("interpolation", "wanted"),
    # New middles lie a quarter before and after those of the two pixels; bicubic weights of (0, 4) by Keys' cubic with
    # a = -0.5 at 1/4, 3/4, 5/4: 111/128, 29/128, -9/128, scaled up to a sum of 1 where others lie beyond the end.
    [
        ("nearest", [0, 0, 128, 128]),
        ("bilinear", [0, 32, 96, 128]),
        ("bicubic", [0, 27, 101, 139]),  # -9 / 102 is below 0; 29, 111 of 140; 111 / 102 is above 1
    ],
)
def test_a_line_of_two_pixels_is_enlarged_as_by_hand(interpolation: Interpolation, wanted: list[int]) -> None:
    frames = np.zeros((1, 2, 2, 3), np.uint8)
    frames[0, :, 1] = 128
    resized = resize(frames, 4, (0.0, 0.0, 2.0, 2.0), interpolation)
    np.testing.assert_array_equal(resized[0, :, :, 1], [wanted] * 4)


def test_halves_go_up() -> None:
    # Halved: weights of 1/8, 3/8, 3/8, 1/8 for the pixels 1 to 4 of the second new one and 3 to 6 of the third.
    line = np.zeros((1, 8, 8, 3), np.uint8)
    line[0, :, 4] = 4
    halved = resize(line, 4, (0.0, 0.0, 8.0, 8.0), "bilinear")
    np.testing.assert_array_equal(halved[0, :, :, 0], [[0, 1, 2, 0]] * 4)  # 0.5 and 1.5


@pytest.mark.parametrize(
    ("column", "wanted"),
    [
        ([3, 0], 0),  # across 9/7, as a byte 1; down 3/7. Rounded once: 27/49, a 1
        ([4, 4], 2),  # across 12/7 each, as a byte 2; down 12/7. Down first: 24/7, as a byte 3; across 9/7, a 1
    ],
)
def test_bytes_are_rounded_across_and_then_down(column: list[int], wanted: int) -> None:
    picture = np.zeros((1, 4, 4, 3), np.uint8)
    picture[0, :2, 0] = np.array(column)[:, None]
    # Halved: weights of 3/7, 3/7 and 1/7 for the first three pixels.
    assert resize(picture, 2, (0.0, 0.0, 4.0, 4.0), "bilinear")[0, 0, 0].tolist() == [wanted] * 3


def test_no_multiplication_is_so_large_that_it_is_shared_among_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def matmul(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
        sizes.append(left.shape[0] * left.shape[1] * right.shape[1])
        out[:] = 0

    monkeypatch.setattr(resizing.np, "matmul", matmul)
    resize(np.zeros((1, 1080, 1920, 3), np.uint8), 160, (420.0, 0.0, 1500.0, 1080.0), "bicubic")
    assert len(sizes) > 54
    assert ONE_THREAD / 2 < max(sizes) <= ONE_THREAD
