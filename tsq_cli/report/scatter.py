"""Draw named points in a grid of panels: as a picture, and as a page without script that shows names on hover."""

from __future__ import annotations

import colorsys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsq_cli import __version__
from tsq_cli.files import write_text
from tsq_cli.printable import printable
from tsq_cli.report.figures import new_figure, save_figure
from tsq_cli.report.templates import environment
from tsq_cli.types import Float64Array

_MARGIN = 8.0  # of a panel's side of 100, so that points and most names stay inside
_MOST_NAMES = 60  # more than so many names in one panel of the picture cover each other
_MOST_OF_A_NAME = 40  # characters: a line as long as a panel is wide has about so many


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One cloud of points.

    Attributes:
        title: shown above the panel.
        points: finite, [N, 2]; only relative positions have a meaning.
    """

    title: str
    points: Float64Array


@dataclass(frozen=True, kw_only=True)
class Scatter:
    """The same N named things in several panels.

    Attributes:
        title: of the whole figure.
        note: a sentence below the title.
        rows: of panels, all of one length, at least one panel.
        names: of the N points.
        hues: of the points, positions on the color wheel in [0, 1), [N].

    Raises:
        ValueError: rows of unequal length, or points, names and hues that do not match.
    """

    title: str
    note: str
    rows: tuple[tuple[Panel, ...], ...]
    names: tuple[str, ...]
    hues: Float64Array

    def __post_init__(self) -> None:
        if not self.rows or not self.rows[0] or len({len(row) for row in self.rows}) != 1:
            raise ValueError(f"rows must be of one length, 1 or more, got {[len(row) for row in self.rows]}")
        wanted = (len(self.names), 2)
        wrong = [panel.title for row in self.rows for panel in row if panel.points.shape != wanted]
        if wrong or self.hues.shape != wanted[:1]:
            raise ValueError(f"points must be {list(wanted)} and hues {list(wanted[:1])}, which is not so in {wrong}")
        if not all(np.isfinite(panel.points).all() for row in self.rows for panel in row):
            raise ValueError("points must be finite")

    @property
    def colors(self) -> list[str]:
        """One #rrggbb per point, of medium lightness, visible on light and on dark backgrounds."""
        shades = [colorsys.hls_to_rgb(float(hue), 0.5, 0.65) for hue in self.hues]
        return ["#" + "".join(f"{round(255 * part):02x}" for part in shade) for shade in shades]


def plot_scatter(scatter: Scatter, path: Path) -> None:
    """Draw the panels as a PNG; up to 60 points have their names beside them.

    Raises:
        OutputError: the file cannot be written.
    """
    num_rows, num_columns = len(scatter.rows), len(scatter.rows[0])
    figure = new_figure(4.2 * num_columns, 0.7 + 4.2 * num_rows)
    note = textwrap.fill(printable(scatter.note), 50 * num_columns)
    figure.suptitle(f"{printable(scatter.title)}\n{note}", fontsize=10, x=0.01, ha="left", parse_math=False)
    grid = figure.subplots(num_rows, num_columns, squeeze=False)
    colors = scatter.colors
    for axes, panel in zip(grid.flat, (panel for row in scatter.rows for panel in row), strict=True):
        places = _in_a_square(panel.points)
        axes.scatter(places[:, 0], places[:, 1], s=22, c=colors, linewidths=0)
        if len(places) <= _MOST_NAMES:
            names = [printable(name, _MOST_OF_A_NAME) for name in scatter.names]
            for place, name, color in zip(places, names, colors, strict=True):
                shift, align = (-2, "right") if place[0] > 67 else (2, "left")  # so that names stay inside the panel
                axes.annotate(
                    name,
                    place,
                    (shift, 2),
                    textcoords="offset points",
                    ha=align,
                    fontsize=5,
                    color=color,
                    parse_math=False,
                ).set_in_layout(False)
        axes.set_title(printable(panel.title, 80), fontsize=9, loc="left", parse_math=False)
        axes.set(xlim=(0, 100), ylim=(0, 100), xticks=[], yticks=[], aspect="equal")
    save_figure(figure, path)


def write_scatter_page(scatter: Scatter, path: Path) -> None:
    """Write the panels as one HTML file that runs no script and loads nothing.

    The pointer on a point, or on a name below the panels, shows the name and that point in every panel.

    Raises:
        OutputError: the file cannot be written.
    """
    rows = [
        [(panel.title, [(float(x), 100.0 - float(y)) for x, y in _in_a_square(panel.points)]) for panel in row]
        for row in scatter.rows  # pictures count y downwards
    ]
    page = (
        environment()
        .get_template("scatter.html.j2")
        .render(
            title=scatter.title,
            note=scatter.note,
            rows=rows,
            names=scatter.names,
            colors=scatter.colors,
            version=__version__,
        )
    )
    write_text(path, page)


def _in_a_square(points: Float64Array) -> Float64Array:
    """Shift and scale points [N, 2], equally in both directions, to fill a square of 100 with a margin."""
    low, high = points.min(axis=0), points.max(axis=0)
    extent = float((high - low).max())
    scale = (100.0 - 2 * _MARGIN) / extent if extent > 0 else 0.0
    places: Float64Array = 50.0 + scale * (points - (low + high) / 2)
    return places
