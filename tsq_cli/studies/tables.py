"""Tables of studies beside the paper's numbers, for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tsq_cli.provenance import measured_in
from tsq_cli.report.grid import Grid
from tsq_cli.report.text import markdown
from tsq_cli.studies.ablation import COLUMNS
from tsq_cli.studies.registry import STUDIES, Study

_TITLES = {"tsqnet": "TSQNet", "tqm": "TQM", "vqm": "VQM"}
_DEFAULT = " *"


def study_grid(report: Mapping[str, Any]) -> Grid:
    """Build the table of a study, in percent, with a column of the paper's numbers if it has some.

    Args:
        report: of tsq_cli.studies.ablation.run_study.
    """
    rows = report["rows"]
    paper = ["paper: TSQNet / TQM / VQM" if any(len(row["paper"]) > 1 for row in rows) else "paper"]
    if not any(row["paper"] for row in rows):
        paper = []
    return Grid(
        title=f"{report['study']}: {report['title']}",
        headings=["", *(_TITLES[column] for column in COLUMNS), *paper],
        rows=[
            [
                row["name"] + (_DEFAULT if row["is_default"] else ""),
                *("left out" if row[column] is None else _percent(row[column]) for column in COLUMNS),
                *(" / ".join(f"{number:.1f}" for number in row["paper"]) for _ in paper),
            ]
            for row in rows
        ],
    )


def study_notes(report: Mapping[str, Any]) -> list[str]:
    """List the notes below a table, one or two sentences each.

    Args:
        report: of tsq_cli.studies.ablation.run_study.
    """
    reference = report["reference"]
    seeds = len(report["seeds"])
    notes = [
        f"mAP in percent of recognition from {report['num_frames']} of {report['num_candidates']} frames, "
        f"{report['num_videos']} videos of {report['num_classes']} classes, "
        + (f"mean ± standard deviation over {seeds} seeds." if seeds > 1 else "one seed.")
        + (f" Frames are pooled by {report['pooling']}." if "pooling" in report else ""),
        f"Without saliency: {report['num_frames']} uniform frames {100 * reference['uniform']:.1f}, all "
        f"{report['num_candidates']} frames {100 * reference['all']:.1f}, the frames most probable for the true class "
        f"{100 * reference['oracle']:.1f}.",
    ]
    if any(row["paper"] for row in report["rows"]):
        notes.append(f"Paper: its own numbers, on its own data ({report['paper_data']}). {report['note']}".rstrip())
    elif report["note"]:
        notes.append(report["note"])
    if any(row["is_default"] for row in report["rows"]):
        notes.append("* the settings of this run.")
    notes += [f"{row['name']} was left out: {row['left_out']}." for row in report["rows"] if row["left_out"]]
    return notes


def studies_markdown(document: Mapping[str, Any]) -> str:
    """Render all studies of a run as Markdown.

    Args:
        document: as run_studies yields it.
    """
    failed = [video for listed in document["lists"] for video in listed["failed"]]
    lines = [
        markdown(f"# Ablations of {document['pack']['name']}, recognized by {document['recognizer']['name']}"),
        "",
        markdown(
            f"tsq {document['tsq_version']}; "
            + "; ".join(listed["found"] for listed in document["lists"])
            + f"; {len(failed)} could not be decoded; {document['epochs']} epochs of training per row and seed."
        ),
        "",
    ]
    for report in document["studies"]:
        lines += [study_grid(report).markdown(), *(f"- {markdown(note)}" for note in study_notes(report)), ""]
    return "\n".join([*lines, f"{markdown(measured_in(document['provenance']))}.", ""])


def list_grid(studies: Sequence[Study] = tuple(STUDIES.values())) -> Grid:
    """Build the table of the studies that exist."""
    return Grid(
        title="",
        headings=["study", "rows", "in the paper", "varies"],
        rows=[[study.name, str(len(study.rows)), "yes" if study.from_paper else "", study.title] for study in studies],
    )


def _percent(spread: Mapping[str, Any]) -> str:
    mean = f"{100 * spread['mean']:.1f}"
    return mean if spread["sd"] is None else f"{mean} ± {100 * spread['sd']:.1f}"
