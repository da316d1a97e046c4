"""Plot speed and accuracy with matplotlib (extra tsq-cli[plot])."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from tsq_cli.errors import UsageError, install_extra
from tsq_cli.report.figures import new_figure, save_figure

ACCURACY_STYLES = {  # color and marker of each rule, in drawing order
    "oracle": ("#7955a0", "^"),
    "confident": ("#168460", "v"),
    "agree": ("#168460", "P"),
    "agree3": ("#168460", "X"),
    "z-visual": ("#e8a06a", "s"),
    "z-textual": ("#2668c4", "s"),
    "random": ("#9a9aa2", "."),
    "middle": ("#c4c4ca", "."),
    "vqm": ("#e8a06a", "."),
    "tqm": ("#2668c4", "."),
    "uniform": ("#55555c", "o"),
    "tsq": ("#d65d0e", "o"),
    "all": ("#1c1c1e", "D"),
}
OTHER_STYLE = ("#a8763e", "x")  # of the rules that are compared only on request
ACCURACY_BANDS = ("tsq", "uniform", "all")


def require_matplotlib() -> None:
    """Refuse to start work for a plot without the library that draws it.

    Raises:
        UsageError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError("matplotlib is not installed", wanted="a library that draws plots", fix=install_extra("plot"))


def check_plot_path(path: Path) -> None:
    """Refuse to start work for a plot that cannot be written to this path.

    Raises:
        UsageError: the name does not end in .png, or matplotlib is not installed.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(
            f"the plot's name is {path.name}", wanted="a name ending in .png", fix=f"try --plot {path.stem}.png"
        )
    require_matplotlib()


def plot_speed(report: dict[str, Any], path: Path) -> None:
    """Draw the videos per second of each method, one bar per form, with its cost in GMACs.

    Args:
        report: as tsq_cli.benchmark.speed.speed_table gives it.
        path: of the PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    rows = report["rows"]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    titles = {row["method"]: f"{row['title']}\n{row['giga_macs']:.1f} GMACs" for row in rows}
    treatments = list(dict.fromkeys(row["treatment"] for row in rows))
    figure = new_figure(8, 1.2 + 0.9 * len(methods))
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
    # Below the whole figure: the names of the methods leave the axes less room than the sentence takes.
    figure.supxlabel("videos per second, one at a time (bars: median, whiskers: quartiles)", fontsize=8)
    axes.set_title(
        f"From decoded frames to a class, on {report['provenance']['machine']['gpu'] or 'CPU'}", fontsize=9, loc="left"
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    save_figure(figure, path)


def plot_accuracy(report: dict[str, Any], path: Path) -> None:
    """Draw mAP against cost: one line per rule over its numbers of frames; 95 % intervals for ACCURACY_BANDS.

    Args:
        report: as tsq_cli.evaluation.evaluate.score_selectors gives it, costs included.
        path: of the PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    figure = new_figure(8, 5)
    axes = figure.add_subplot()
    others = {row["selector"]: OTHER_STYLE for row in report["rows"] if row["selector"] not in ACCURACY_STYLES}
    for name, (color, marker) in (others | ACCURACY_STYLES).items():
        rows = [row for row in report["rows"] if row["selector"] == name]
        costs = [row["giga_macs"] for row in rows]
        values, lows, highs = ([100 * row["map"][part] for row in rows] for part in ("value", "low", "high"))
        if not rows:
            continue
        main = name in ACCURACY_BANDS
        axes.plot(
            costs, values, label=name, color=color, marker=marker, markersize=6 if main else 4, linewidth=1 + main
        )
        if main and len(rows) > 1:
            axes.fill_between(costs, lows, highs, color=color, alpha=0.15, linewidth=0)
        elif main:
            axes.vlines(costs, lows, highs, color=color, linewidth=1)
        if name == "tsq":
            for row, cost, value in zip(rows, costs, values, strict=True):
                axes.annotate(f"{row['k']}", (cost, value), xytext=(-3, 8), textcoords="offset points", fontsize=8)
    axes.set_xlim(left=0)
    axes.set_xlabel("GMACs per video (papers call them GFLOPs), sampler and recognizer", fontsize=8)
    axes.set_ylabel("mAP in percent (95 % intervals of " + ", ".join(ACCURACY_BANDS) + ")", fontsize=8)
    videos = f"{report['num_videos']} videos of {report['num_classes']} classes"
    axes.set_title(f"{videos}; numbers are frames of {report['num_candidates']}", fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e4e4e8", linewidth=0.6)
    figure.legend(fontsize=8, frameon=False, loc="outside right center")
    save_figure(figure, path)
