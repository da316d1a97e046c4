from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb2lab

from tsq_cli.explain.render import heat, overlay, upsample_to_frame
from tsq_cli.types import Float32Array, UInt8Array

WHOLE = (0.0, 0.0, 1.0, 1.0)
RAMP = np.linspace(0, 1, 256, dtype=np.float32)

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
COLOUR_VISION = {
    "usual": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def single_peak(row: int, column: int, size: int = 7) -> Float32Array:
    values = np.zeros((size, size), np.float32)
    values[row, column] = 1
    return values


@pytest.mark.parametrize("cell", [(0, 0), (2, 5), (6, 3)])
def test_a_cell_is_spread_around_its_own_place_in_the_box(cell: tuple[int, int]) -> None:
    spread_out = upsample_to_frame(single_peak(*cell), (0.25, 0.1, 0.6, 0.8), height=200, width=400)
    assert (spread_out.shape, spread_out.dtype) == ((200, 400), np.float32)
    y, x = np.unravel_index(spread_out.argmax(), spread_out.shape)
    # The box is 140 x 140 pixels from (100, 20), so a cell is 20 pixels wide.
    middle = (20 + 20 * cell[0] + 9.5, 100 + 20 * cell[1] + 9.5)
    for found, wanted, at in zip((y, x), middle, cell, strict=True):
        # A peak in the outermost cell is highest from its middle to the border.
        assert abs(found - wanted) <= (10 if at in (0, 6) else 1)
    rows, columns = np.nonzero(spread_out)
    assert 20 <= rows.min() <= rows.max() < 160
    assert 100 <= columns.min() <= columns.max() < 240
    assert spread_out.max() == pytest.approx(1, abs=0.01)


def test_spreading_stays_in_range_and_keeps_what_is_flat() -> None:
    rough = np.random.default_rng(0).integers(0, 2, (7, 7)).astype(np.float32)
    spread_out = upsample_to_frame(rough, WHOLE, height=97, width=201)
    assert spread_out.min() == 0
    assert spread_out.max() == 1
    np.testing.assert_allclose(
        upsample_to_frame(np.full((3, 5), 0.3, np.float32), WHOLE, height=8, width=9), 0.3, atol=1e-6
    )
    assert not upsample_to_frame(np.zeros((7, 7), np.float32), (0.2, 0.0, 0.8, 1.0), height=20, width=30).any()
    steps = np.diff(upsample_to_frame(np.float32([[0, 0.5, 1]]), WHOLE, height=4, width=300), axis=1)
    assert steps.min() >= 0
    assert steps.max() < 0.02  # no jumps between cells


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (1, 64)])
def test_frames_smaller_than_the_grid_are_possible(size: tuple[int, int]) -> None:
    height, width = size
    spread_out = upsample_to_frame(np.ones((7, 7), np.float32), (0.9, 0.9, 1.0, 1.0), height=height, width=width)
    assert spread_out[-1, -1] == 1
    assert overlay(np.zeros((height, width, 3), np.uint8), single_peak(3, 3), WHOLE).shape == (height, width, 3)


@pytest.mark.parametrize("eye", COLOUR_VISION)
def test_more_heat_is_lighter_to_every_eye(eye: str) -> None:
    colors = heat(RAMP[None])[0, ::5, :3] / 255
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    seen = (linear @ np.transpose(COLOUR_VISION[eye])).clip(0, 1)
    encoded = np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055)
    lightness = rgb2lab(encoded[None])[0, :, 0]
    assert np.diff(lightness).min() > 0.3
    assert lightness[-1] - lightness[0] > 70


def test_no_heat_is_transparent_and_more_is_more_opaque() -> None:
    alpha = heat(RAMP[None])[0, :, 3].astype(int)
    assert heat(RAMP[None]).dtype == np.uint8
    assert alpha[0] == 0
    assert np.diff(alpha).min() >= 0
    assert alpha[128] > 100
    assert 150 < alpha[-1] < 255  # the picture shows through


def frame() -> UInt8Array:
    return np.random.default_rng(1).integers(60, 256, (120, 200, 3), dtype=np.uint8)


def test_where_the_map_is_zero_the_seen_part_stays_and_the_unseen_part_is_grey_and_dark() -> None:
    pixels = frame()
    before = pixels.copy()
    shown = overlay(pixels, np.zeros((7, 7), np.float32), (0.25, 0.1, 0.75, 0.9))
    assert np.array_equal(pixels, before)
    seen = np.zeros((120, 200), bool)
    seen[12:108, 50:150] = True
    assert np.array_equal(shown[seen], pixels[seen])
    unseen = shown[~seen].astype(int)
    assert np.array_equal(unseen.max(axis=1), unseen.min(axis=1))
    assert (unseen.max(axis=1) <= pixels[~seen].max(axis=1) / 2).all()


def test_heat_lies_over_the_picture_where_the_map_says() -> None:
    pixels = frame()
    values = single_peak(0, 6)
    shown = overlay(pixels, values, WHOLE)
    bottom_left = (slice(60, 120), slice(0, 100))
    assert np.array_equal(shown[bottom_left], pixels[bottom_left])
    y, x = 8, 190  # the middle of the hot cell
    red, green, blue, alpha = heat(np.float32([[1]]))[0, 0] / 255
    mixed = alpha * np.array([red, green, blue]) * 255 + (1 - alpha) * pixels[y, x]
    assert upsample_to_frame(values, WHOLE, height=120, width=200)[y, x] > 0.99
    np.testing.assert_allclose(shown[y, x], mixed, atol=2)
