"""Layout: where drawn pictures are light and dark, and how alike they are in that."""

import numpy as np
import pytest

from tsq_cli.rules.layout import ALIKE_DISTANCE, layout_likeness, layouts
from tsq_cli.types import UInt8Array


def halves(left: int, right: int) -> UInt8Array:
    """A gray picture of 64 x 96 pixels, its left half of one light and its right half of another."""
    picture = np.full((64, 96, 3), left, dtype=np.uint8)
    picture[:, 48:] = right
    return picture


def test_a_picture_is_divided_into_16_by_16_places() -> None:
    (layout,) = layouts(halves(0, 255)[None])
    np.testing.assert_allclose(layout.reshape(16, 16), np.repeat([[-0.5, 0.5]], 8, axis=1).repeat(16, axis=0))


def test_rows_and_columns_are_not_confused() -> None:
    top = np.zeros((50, 334, 3), dtype=np.uint8)  # neither side is a multiple of 16
    top[:4] = 255
    (layout,) = layouts(top[None])
    assert (layout.reshape(16, 16).argmax(axis=0) == 0).all()
    assert np.ptp(layout.reshape(16, 16), axis=1).max() == 0.0


def test_a_change_of_all_light_is_none_of_layout() -> None:
    dark, light = layouts(np.stack([halves(20, 60), halves(120, 160)]))
    np.testing.assert_allclose(dark, light, atol=1e-12)


@pytest.mark.parametrize(("size", "places"), [((1, 1), 1), ((3, 5), 6), ((40, 8), 64)])
def test_small_pictures_have_fewer_places(size: tuple[int, int], places: int) -> None:
    layout = layouts(np.full((2, *size, 3), 7, dtype=np.uint8))
    np.testing.assert_allclose(layout, np.zeros((2, places)), atol=1e-12)


def test_likeness_falls_with_the_distance() -> None:
    # Halves that differ by d and by 0 have layouts -d / 2, d / 2: half of d apart.
    likeness = layout_likeness(layouts(np.stack([halves(100, 100), halves(100, 151), halves(151, 100)])))
    expected = np.exp(-np.array([[0, 0.1, 0.1], [0.1, 0, 0.2], [0.1, 0.2, 0]]) / ALIKE_DISTANCE)
    np.testing.assert_allclose(likeness, expected, rtol=1e-9)
