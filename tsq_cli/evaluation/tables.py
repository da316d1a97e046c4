"""Tables of an evaluation, for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tsq_cli.consensus import UNWEIGHTED
from tsq_cli.evaluation.early_exit import ROW
from tsq_cli.evaluation.selectors import WITHOUT_FRAMES, WITHOUT_SAMPLER, title
from tsq_cli.provenance import measured_in
from tsq_cli.report.grid import Grid
from tsq_cli.report.text import markdown

METRIC_TITLES = {"map": "mAP", "top1": "top-1", "top5": "top-5"}


def evaluation_markdown(report: Mapping[str, Any]) -> str:
    """Render an evaluation as Markdown: its subject, the tables, and the definitions of the numbers.

    Args:
        report: of tsq_cli.evaluation.evaluate.evaluate.
    """
    failed = report["list"]["failed"]
    lines = [
        markdown(f"# Frames chosen by {report['pack']['name']}, recognized by {report['recognizer']['name']}"),
        "",
        markdown(
            f"tsq {report['tsq_version']}; the visual module sees {report['pack']['input_size']} pixels; "
            f"{report['list']['found']}; {len(failed)} could not be decoded"
            + "".join(f"; {video['reason']}" for video in failed[:5])
            + ("; ..." if len(failed) > 5 else ".")
        ),
        "",
        *(grid.markdown() for grid in evaluation_grids(report)),
        *(f"- {sentence}" for sentence in consensus_notes(report)),
        *(f"- {METRIC_TITLES[metric]}: {definition}." for metric, definition in report["metrics"].items()),
        f"- Intervals: {report['interval']}. ±: standard deviation over {len(report['seeds'])} seeds.",
        "- GMACs: 10^9 multiply-adds per video, of the selector's networks and of the recognizer on its frames.",
        f"- {markdown(measured_in(report['provenance']))}.",
    ]
    return "\n".join(lines) + "\n"


def consensus_notes(report: Mapping[str, Any]) -> list[str]:
    """Say how the frames' scores became the videos', one or two sentences; none for a report that does not tell.

    Args:
        report: of tsq_cli.evaluation.compare.score_selectors.
    """
    if "pooling" not in report:
        return []
    visual, textual = (report["evidence"][name] for name in ("visual", "textual"))
    notes = [
        f"Pooling of the frames: {report['pooling']}. Evidence of the sampler: visual {visual:g}, textual {textual:g}."
    ]
    if visual or textual or report["pooling"] in UNWEIGHTED:
        plain = {row["selector"]: None for row in report["rows"] if row["selector"] in (*WITHOUT_SAMPLER, "oracle")}
        rows = ", ".join(f"'{title(name)}'" for name in plain)
        if plain:
            subject = f"The row {rows} runs" if len(plain) == 1 else f"The rows {rows} run"
            notes.append(f"{subject} no TSQ layer: no evidence, and all frames weigh the same.")
    return notes


def evaluation_grids(report: Mapping[str, Any]) -> list[Grid]:
    """Build the tables: all metrics at the pack's K (or the nearest one evaluated), mAP and top-1 for every K, and what
    an early exit keeps, where there is one.

    Args:
        report: of tsq_cli.evaluation.evaluate.evaluate.
    """
    nearest = min(report["ks"], key=lambda k: (abs(k - report["num_frames"]), k))
    grids = [_details(report, nearest), *(_by_k(report, metric) for metric in ("map", "top1"))]
    return [*grids, _exit_curve(report["early_exit"])] if "early_exit" in report else grids


def _exit_curve(exited: Mapping[str, Any]) -> Grid:
    """Build the table of an early exit: what each bar costs and keeps."""
    return Grid(
        title=f"Early exit: at most {exited['num_frames']} frames, one after the other, until the first class reaches "
        f"the bar; the pack's is {exited['bar']:.3g}",
        headings=["bar", "frames", "GMACs", "mAP", "top-1"],
        rows=[
            [
                "none" if point["bar"] is None else f"{point['bar']:.3g}",
                f"{point['mean_frames']:.2f}",
                f"{point['giga_macs']:.2f}",
                f"{100 * point['map']:.1f}",
                f"{100 * point['top1']:.1f}",
            ]
            for point in exited["curve"]
        ],
    )


def _details(report: Mapping[str, Any], k: int) -> Grid:
    metrics = [name for name in METRIC_TITLES if name != "top5" or report["num_classes"] > 5]
    rows = [row for row in report["rows"] if row["k"] == k or row["selector"] in ("all", *WITHOUT_FRAMES, ROW)]
    references = {
        "uniform": "uniform",
        "all": "all frames",
        "best": f"best baseline ({_best(report, k)})",
        "no_exit": "no exit",
    }
    references = {name: said for name, said in references.items() if any(name in row["gains"] for row in rows)}
    return Grid(
        title=f"{k} of {report['num_candidates']} frames, {report['num_videos']} videos of {report['num_classes']} "
        "classes; in percent, with 95 % intervals",
        headings=[
            "frames chosen by",
            "GMACs",
            *(METRIC_TITLES[metric] for metric in metrics),
            *(f"mAP over {said}" for said in references.values()),
        ],
        rows=[
            [
                _named(report, row),
                "-" if row["giga_macs"] is None else f"{row['giga_macs']:.2f}",
                *(percent_with_interval(row[metric]) + _plus_minus(row, metric) for metric in metrics),
                *(
                    percent_with_interval(row["gains"][reference]["map"], "+") if reference in row["gains"] else ""
                    for reference in references
                ),
            ]
            for row in rows
        ],
    )


def _best(report: Mapping[str, Any], k: int) -> str:
    """Name the best baseline at K; nothing where the report does not tell."""
    return str(report.get("best_baselines", {}).get(str(k), ""))


def _named(report: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    if row["selector"] != ROW:
        return title(row["selector"])
    return f"{ROW}, {report['early_exit']['mean_frames']:.1f} frames"


def _by_k(report: Mapping[str, Any], metric: str) -> Grid:
    values = {(row["selector"], row["k"]): row[metric]["value"] for row in report["rows"]}
    selectors = dict.fromkeys(row["selector"] for row in report["rows"])
    counts = sorted({k for _, k in values})
    return Grid(
        title=f"{METRIC_TITLES[metric]} by number of frames, in percent",
        headings=["frames chosen by", *(str(k) if k else "none" for k in counts)],
        rows=[
            [
                title(name),
                *(f"{100 * values[name, k]:.1f}" if (name, k) in values else "" for k in counts),
            ]
            for name in selectors
        ],
    )


def percent_with_interval(measured: Mapping[str, float], sign: str = "") -> str:
    """A share of 1 with its interval, in percent: "63.2 [59.1, 67.2]".

    Args:
        measured: value, low and high.
        sign: "+" to show the sign of what is not negative too.
    """
    value, low, high = (f"{100 * measured[part]:{sign}.1f}" for part in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _plus_minus(row: Mapping[str, Any], metric: str) -> str:
    return "" if row["spread"] is None else f" ± {100 * row['spread'][metric]:.1f}"
