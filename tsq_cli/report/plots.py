"""Room 3: plots, drawn by matplotlib, which comes with the extra tsq-cli[plot]."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from tsq_cli.errors import UsageError
from tsq_cli.files import atomic_path


def require_matplotlib() -> None:
    """Refuse to begin what will end in a plot where nothing can draw it.

    Raises:
        UsageError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(
            "matplotlib is not installed", wanted="a library that draws plots", fix="pip install 'tsq-cli[plot]'"
        )


def plot_speed(report: dict[str, Any], path: Path) -> None:
    """Draw videos per second of each method, one bar for each form, under its cost in GMACs.

    Args:
        report: as tsq_cli.benchmark.speed.speed_table gives it.
        path: of the PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = report["rows"]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    titles = {row["method"]: f"{row['title']}\n{row['giga_macs']:.1f} GMACs" for row in rows}
    treatments = list(dict.fromkeys(row["treatment"] for row in rows))
    figure = Figure(figsize=(8, 1.2 + 0.9 * len(methods)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    height = 0.8 / len(treatments)
    for number, treatment in enumerate(treatments):
        some = [row for row in rows if row["treatment"] == treatment]
        places = [methods.index(row["method"]) + (number - (len(treatments) - 1) / 2) * height for row in some]
        speeds = [row["videos_per_second"] for row in some]
        below = [speed - 1 / row["single"]["upper_quartile"] for speed, row in zip(speeds, some, strict=True)]
        above = [1 / row["single"]["lower_quartile"] - speed for speed, row in zip(speeds, some, strict=True)]
        bars = axes.barh(
            places,
            speeds,
            height * 0.9,
            xerr=(below, above),
            label=treatment,
            color=("#9a9aa2", "#2668c4")[number % 2],
            error_kw={"ecolor": "#1c1c1e", "elinewidth": 1},
        )
        axes.bar_label(bars, labels=[f"{speed:.2f}" for speed in speeds], padding=6, fontsize=8)
    axes.set_yticks(range(len(methods)), [titles[method] for method in methods], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("videos per second, one at a time (bars: median, whiskers: quartiles)", fontsize=8)
    axes.set_title(f"From decoded frames to a class, on {report['machine']['device']}", fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
