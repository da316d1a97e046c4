"""Matplotlib figures, without a display: how each begins, and how it becomes a PNG."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tsq_cli.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """Create an empty figure whose parts keep clear of each other.

    Args:
        width, height: in inches, 150 pixels each once it is saved.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG of 150 pixels per inch.

    Raises:
        OutputError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
