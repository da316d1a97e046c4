"""Frames in one picture within a budget of tokens."""

import numpy as np
import pytest

from tsq_cli.errors import UsageError
from tsq_cli.report.token_sheet import draw_token_sheet, image_tokens


def frames(number: int, height: int, width: int) -> list[np.ndarray]:
    return [np.full((height, width, 3), 40 + 20 * place, np.uint8) for place in range(number)]


def test_tokens_are_the_published_estimate() -> None:
    # Anthropic's table: 1092 x 1092 pixels are about 1,590 tokens
    assert image_tokens(1092, 1092) == pytest.approx(1590, abs=5)
    assert image_tokens(1, 1) == 1


@pytest.mark.parametrize("size", [(256, 455), (455, 256), (256, 256)])
@pytest.mark.parametrize("number", [1, 5, 16, 64])
def test_any_number_of_frames_fits_its_budget(number: int, size: tuple[int, int]) -> None:
    sheet = draw_token_sheet([np.zeros((*size, 3), np.uint8)] * number, ["0:00.000"] * number, max_tokens=1500)
    assert sheet.width * sheet.height / 750 <= 1500
    assert max(sheet.size) <= 1568


def test_frames_are_in_reading_order_and_none_is_enlarged() -> None:
    sheet = np.asarray(draw_token_sheet(frames(4, 60, 80), ["a", "b", "c", "d"], max_tokens=10**6)).astype(int)
    # Two by two of 80 x 60, four pixels apart and from the edges, over captions of 16: fewer pixels than side by side.
    assert sheet.shape == (4 + 2 * (60 + 16 + 4), 4 + 2 * (80 + 4), 3)
    assert [int(sheet[top, left, 0]) for top in (34, 114) for left in (44, 128)] == [40, 60, 80, 100]
    assert (sheet[64:80, 4:84] < 100).any()  # the caption is there


def test_a_budget_below_the_smallest_tiles_is_refused() -> None:
    with pytest.raises(UsageError, match="4 frames do not fit into 5 tokens"):
        draw_token_sheet(frames(4, 90, 160), list("abcd"), max_tokens=5)
