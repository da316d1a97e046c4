"""Accuracy against cost, drawn and read back as pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageColor

from tsq_cli.errors import UsageError
from tsq_cli.evaluation.selectors import SELECTORS
from tsq_cli.report.plots import ACCURACY_STYLES, check_plot_path, plot_accuracy

LEGEND = 1045
"""Column, in pixels, right of which the legend shows all colors again."""


def row(selector: str, k: int, cost: float, value: float) -> dict[str, Any]:
    interval = {"value": value, "low": value - 0.01, "high": value + 0.01}
    return {"selector": selector, "k": k, "giga_macs": cost, "map": interval}


def places(path: Path, color: str) -> np.ndarray:
    """[P, 2]: (column, row) of the pixels of a color, left of the legend."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    found = np.argwhere((pixels == ImageColor.getrgb(color)).all(axis=2))[:, ::-1]
    return found[found[:, 0] < LEGEND]


def test_cheaper_is_further_left_and_better_is_higher(tmp_path: Path) -> None:
    report = {
        "num_videos": 4, "num_classes": 2, "num_candidates": 16,
        "rows": [
            row("tsq", 1, 10, 0.5), row("tsq", 5, 20, 0.9), row("uniform", 5, 15, 0.3), row("all", 16, 25, 0.6),
            row("oracle", 5, 40, 0.6),
        ],
    }  # fmt: skip
    plot_accuracy(report, tmp_path / "new" / "cost.png")
    spots = {name: places(tmp_path / "new" / "cost.png", ACCURACY_STYLES[name][0]) for name in ACCURACY_STYLES}
    assert {name for name, spot in spots.items() if len(spot)} == {"tsq", "uniform", "all", "oracle"}
    (tsq_left, tsq_top), (tsq_right, tsq_bottom) = spots["tsq"].min(axis=0), spots["tsq"].max(axis=0)
    uniform = spots["uniform"].mean(axis=0)
    assert tsq_left < uniform[0] < tsq_right
    assert uniform[1] > tsq_bottom
    # The axes are linear: from 20 to 10 GMACs is as far as from 10 to none, from 0.9 to 0.5 twice as far as to 0.3.
    step, rise = (tsq_right - tsq_left) - 12, (tsq_bottom - tsq_top) - 12  # less one marker
    assert uniform[0] - (tsq_left + 6) == pytest.approx(step / 2, abs=4)
    assert uniform[1] - (tsq_top + 6) == pytest.approx(1.5 * rise, abs=6)


def test_every_rule_has_a_style() -> None:
    assert set(ACCURACY_STYLES) == set(SELECTORS)
    assert len(set(ACCURACY_STYLES.values())) == len(SELECTORS)


def test_a_plot_is_a_png() -> None:
    check_plot_path(Path("cost.PNG"))
    with pytest.raises(UsageError, match=r"cost\.gif.*--plot cost\.png"):
        check_plot_path(Path("cost.gif"))
