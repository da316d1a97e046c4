"""An evaluation as tables: the right number in the right place."""

from __future__ import annotations

from typing import Any

from tsq_cli.evaluation.tables import consensus_notes, evaluation_grids, evaluation_markdown
from tsq_cli.report.console import SafeConsole
from tsq_cli.report.grid import Grid


def metric(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def row(selector: str, k: int, value: float, **more: Any) -> dict[str, Any]:
    own = {"selector": selector, "k": k, "giga_macs": 2.5 * k, "spread": None, "gains": {}}
    return own | {"map": metric(value), "top1": metric(value + 0.01), "top5": metric(value + 0.02)} | more


REPORT: dict[str, Any] = {
    "tsq_version": "9.9",
    "provenance": {
        "dtype": "float32",
        "machine": {"cpu": "a small processor", "cores": 2, "gpu": None},
        "versions": {"tsq": "9.9", "torch": "2.0", "av": None},
    },
    "list": {"found": "found 7 of 8 videos of list.txt", "missing": ["x"], "failed": [{"id": "a", "reason": "a: no"}]},
    "pack": {"name": "mine", "input_size": 160},
    "recognizer": {"name": "resnet101"},
    "num_frames": 5,
    "num_videos": 6,
    "num_classes": 7,
    "num_candidates": 16,
    "ks": [1, 4, 8],
    "seeds": [0, 1],
    "metrics": {"map": "mean", "top1": "first", "top5": "five"},
    "interval": "bootstrap",
    "rows": [
        row("tsq", 1, 0.5),
        row("tsq", 4, 0.6, gains={"uniform": {"map": metric(0.25)}, "all": {"map": metric(-0.05)}}),
        row("tsq", 8, 0.7),
        row("random", 4, 0.3, spread={"map": 0.012, "top1": 0.023, "top5": 0.034}, giga_macs=None),
        row("all", 16, 0.4),
    ],
}
BEATEN: dict[str, Any] = REPORT | {
    "pooling": "best-two",
    "evidence": {"visual": 0.5, "textual": 0.0},
    "best_baselines": {"4": "agree"},
    "rows": [
        row("tsq", 4, 0.6, gains={"best": {"map": metric(0.15)}}),
        row("agree", 4, 0.45),
        row("z-visual", 0, 0.55, gains={"best": {"map": metric(0.05)}}, giga_macs=1.5),
    ],
}


def test_the_first_table_is_of_the_measured_number_nearest_to_the_packs() -> None:
    details, by_map, by_top1 = evaluation_grids(REPORT)
    assert details.title.startswith("4 of 16 frames, 6 videos of 7 classes")
    assert details.headings == [
        "frames chosen by", "GMACs", "mAP", "top-1", "top-5", "mAP over uniform", "mAP over all frames"
    ]  # fmt: skip
    assert details.rows == [
        ["TSQNet (both modules)", "10.00", "60.0 [50.0, 70.0]", "61.0 [51.0, 71.0]", "62.0 [52.0, 72.0]",
         "+25.0 [+15.0, +35.0]", "-5.0 [-15.0, +5.0]"],
        ["random", "-", "30.0 [20.0, 40.0] ± 1.2", "31.0 [21.0, 41.0] ± 2.3", "32.0 [22.0, 42.0] ± 3.4", "", ""],
        ["all frames", "40.00", "40.0 [30.0, 50.0]", "41.0 [31.0, 51.0]", "42.0 [32.0, 52.0]", "", ""],
    ]  # fmt: skip
    assert by_map.headings == ["frames chosen by", "1", "4", "8", "16"]
    assert by_map.rows == [
        ["TSQNet (both modules)", "50.0", "60.0", "70.0", ""],
        ["random", "", "30.0", "", ""],
        ["all frames", "", "", "", "40.0"],
    ]
    assert by_top1.rows[0][1:] == ["51.0", "61.0", "71.0", ""]


def test_the_best_baseline_is_a_column_and_a_row_may_have_no_frame() -> None:
    details, by_map, _ = evaluation_grids(BEATEN)
    assert details.headings[-1] == "mAP over best baseline (agree)"
    assert [(cells[0], cells[-1]) for cells in details.rows] == [
        ("TSQNet (both modules)", "+15.0 [+5.0, +25.0]"),
        ("two frames that agree", ""),
        ("VQM's own classes, no frame", "+5.0 [-5.0, +15.0]"),
    ]
    assert by_map.headings == ["frames chosen by", "none", "4"]
    assert by_map.rows[-1] == ["VQM's own classes, no frame", "55.0", ""]
    page = evaluation_markdown(BEATEN)
    assert "- Pooling of the frames: best-two. Evidence of the sampler: visual 0.5, textual 0." in page
    said = "The row 'two frames that agree' runs no TSQ layer: no evidence, and all frames weigh the same."
    assert f"- {said}\n" in page
    more = [*BEATEN["rows"], row("all", 16, 0.4), row("oracle", 4, 0.9)]
    several = consensus_notes(BEATEN | {"rows": [*more, *more]})
    assert several[-1].startswith("The rows 'two frames that agree', 'all frames', 'oracle (true class known)' run no")
    assert len(consensus_notes(BEATEN | {"rows": [row("tsq", 4, 0.6)]})) == 1
    assert "Pooling" not in evaluation_markdown(REPORT)  # a report that does not tell


def test_an_early_exit_has_a_row_with_its_frames_and_a_table_of_bars() -> None:
    curve = [
        {"bar": 0.75, "mean_frames": 2.345, "giga_macs": 3.456, "map": 0.61, "top1": 0.62},
        {"bar": None, "mean_frames": 5.0, "giga_macs": 6.0, "map": 0.63, "top1": 0.64},
    ]
    exited = {"bar": 0.75, "num_frames": 5, "mean_frames": 2.345, "giga_macs": 3.456, "curve": curve}
    gains = {"no_exit": {"map": metric(-0.01)}}
    rows = [row("tsq", 4, 0.6), row("tsq early exit", 5, 0.59, gains=gains, giga_macs=3.456)]
    details, *_, bars = evaluation_grids(REPORT | {"rows": rows, "early_exit": exited})
    assert details.headings[-1] == "mAP over no exit"
    assert details.rows[1][:2] == ["tsq early exit, 2.3 frames", "3.46"]
    assert details.rows[1][-1] == "-1.0 [-11.0, +9.0]"
    assert "at most 5 frames" in bars.title
    assert bars.rows == [["0.75", "2.35", "3.46", "61.0", "62.0"], ["none", "5.00", "6.00", "63.0", "64.0"]]


def test_top5_of_five_classes_says_nothing_and_is_left_out() -> None:
    details = evaluation_grids(REPORT | {"num_classes": 5})[0]
    assert "top-5" not in details.headings
    assert all(len(cells) == len(details.headings) for cells in details.rows)


def test_the_page_says_what_was_measured_and_how() -> None:
    page = evaluation_markdown(REPORT)
    for words in (
        "mine, recognized by resnet101", "found 7 of 8 videos of list.txt; 1 could not be decoded; a: no",
        "| TSQNet (both modules) | 10.00 | 60.0 [50.0, 70.0] |", "- mAP: mean.", "over 2 seeds",
        "- Measured in float32 on a small processor, 2 cores, with tsq 9.9, torch 2.0.",
    ):  # fmt: skip
        assert words in page, words


def test_a_grid_survives_bars_and_brackets() -> None:
    grid = Grid("made", ["a|b", "n"], [["[bold]x", "1"], ["y", "22"]])
    assert grid.markdown() == "made\n\n| a\\|b | n |\n| --- | ---: |\n| [bold]x | 1 |\n| y | 22 |\n"
    console = SafeConsole()
    with console.capture() as shown:
        console.print(grid.rich())
    assert "[bold]x" in shown.get()
    assert "22" in shown.get()


def test_words_of_the_page_are_no_markup() -> None:
    name = "**<b>|\n# \x1b[2J"
    shown = r"\*\*\<b>\|\\n# \\x1b[2J"
    failed = {"id": name, "reason": name}
    page = evaluation_markdown(REPORT | {"pack": {"name": name, "input_size": 160}, "recognizer": {"name": name},
                                         "list": {"found": name, "missing": [], "failed": [failed]}})  # fmt: skip
    assert page.count(shown) == 4
    assert page.count("**") == 0
    grid = Grid(name, ["a", name], [[name, "1"]])
    assert grid.markdown().splitlines() == [shown, "", f"| a | {shown} |", "| --- | ---: |", f"| {shown} | 1 |"]
