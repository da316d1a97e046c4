"""Make the tables of README.md and docs/*.md from the JSON beside them: ``python -m benchmarks.docs_tables``.

A table that was measured is a block between two comments. The first names a JSON file in docs/, a table of TABLES, and
what that table asks for besides:

    <!-- table: training/studies.json study beta -->
    <!-- end -->

Everything between them is made from the JSON; the text around them is left alone. The pages of PAGES are made as a
whole. ``--check`` writes nothing: it names the first line that differs of every block and page, and exits 1.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import baselines, classify, decode, decode_workers, footage_report, memory, words_report
from tests.attack.figures import figures_grid
from tsq_cli.benchmark.measure import exit_code
from tsq_cli.cli.benchmark import report_parts
from tsq_cli.cli.train import evaluation_parts
from tsq_cli.errors import EXIT_INPUT_FAILED, InputNotFoundError, UsageError
from tsq_cli.evaluation.tables import METRIC_TITLES, evaluation_grids, percent_with_interval
from tsq_cli.files import write_text
from tsq_cli.report.grid import Grid
from tsq_cli.studies.tables import study_grid

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))  # a folder that is no package
import needle_report

ROOT = Path(__file__).parents[1]
CONSOLE_WIDTH = 168
"""Characters in a line of a console's table, the same on every terminal; no table here is as wide."""

Json = Any
_MARKER = re.compile(r"<!-- table: (?P<file>\S+\.json) (?P<name>[\w-]+)(?P<arguments>(?: [^\s>]+)*) -->")
_END = "<!-- end -->"
_MODULES = {"tsq": "both (TSQNet)", "vqm": "VQM", "tqm": "TQM"}
_COMPARED = {
    "tsq": "both (TSQNet)", "vqm": "VQM", "tqm": "TQM", "agree": "two that agree", "uniform": "uniform", "all": "all 16"
}  # fmt: skip


def on_console(parts: Iterable[str | Table]) -> str:
    """Render a command's output for a terminal of CONSOLE_WIDTH characters, in a fence."""
    console = Console(
        file=io.StringIO(), width=CONSOLE_WIDTH, color_system=None, markup=False, emoji=False, highlight=False
    )
    with console.capture() as captured:
        for part in parts:
            console.print(part, soft_wrap=isinstance(part, str))
    lines = [line.rstrip() for line in captured.get().splitlines()]
    return "\n".join(["```", *"\n".join(lines).strip("\n").splitlines(), "```"])


def evaluation(report: Json) -> str:
    """All measures for the report's number of frames, mAP for every number, and an early exit, with titles."""
    measures, by_number, _, *exited = evaluation_grids(report)
    return "\n".join(grid.markdown() for grid in (measures, by_number, *exited))


def study(report: Json, name: str) -> str:
    """One study of those that `tsq ablate` or `examples/actions40.py studies` wrote."""
    return _untitled(study_grid({found["study"]: found for found in report["studies"]}[name]))


def steps(report: Json) -> str:
    """The mAP of the three ways to choose by the pack's consensus, and of both by the mean of logits, per step."""
    rows = [
        [step["step"], *_maps(step["rows"]["plain"], ["tsq"]), *_maps(step["rows"]["evidence"], _MODULES)]
        for step in report["steps"]
    ]
    headings = ["heads", f"{_MODULES['tsq']}, mean of logits", *_MODULES.values()]
    return Grid(title="", headings=headings, rows=rows).markdown()


def poolings(report: Json, kind: str) -> str:
    """The mAP by every pooling, one row each, without evidence ("plain") or with the pack's ("evidence")."""
    rows = []
    for pooling, scored in report["poolings"].items():
        (both,) = (row for row in scored[kind] if row["selector"] == "tsq")
        over_all = percent_with_interval(both["gains"]["all"]["map"], "+")
        rows.append([pooling, *_maps(scored[kind], _COMPARED), over_all])
    return Grid(title="", headings=["pooling", *_COMPARED.values(), "both over all 16"], rows=rows).markdown()


def seeds(report: Json) -> str:
    """The mAP and top-1 of heads trained from several seeds, their mean and their standard deviation."""
    of = {seed["seed"]: {row["selector"]: row for row in seed["rows"]} for seed in report["seeds"]}
    columns = [(name, metric) for name in _MODULES for metric in ("map", "top1")]
    values = {number: [100 * rows[name][metric]["value"] for name, metric in columns] for number, rows in of.items()}
    rows = [[str(number), *(f"{value:.1f}" for value in row)] for number, row in values.items()]
    each = list(zip(*values.values(), strict=True))
    rows.append(["mean ± standard deviation", *(f"{fmean(one):.1f} ± {stdev(one):.1f}" for one in each)])
    headings = ["seed", *(f"{_MODULES[name]}, {METRIC_TITLES[metric]}" for name, metric in columns)]
    return Grid(title="", headings=headings, rows=rows).markdown()


def sizes(report: Json) -> str:
    """The mAP and the cost of both modules, one row per input size of the sampler."""
    rows = []
    for pixels, measured in report.items():
        at_k = [row for row in measured["rows"] if row["k"] == measured["num_frames"]]
        cost = next(row["giga_macs"] for row in at_k if row["selector"] == "tsq")
        rows.append([pixels, f"{cost:.2f}", *_maps(at_k, _MODULES)])
    return Grid(title="", headings=["pixels", "GMACs", *_MODULES.values()], rows=rows).markdown()


def _maps(rows: Sequence[Mapping[str, Any]], selectors: Iterable[str]) -> list[str]:
    by_selector = {row["selector"]: row["map"] for row in rows}
    return [percent_with_interval(by_selector[selector]) for selector in selectors]


def _untitled(grid: Grid) -> str:
    return replace(grid, title="").markdown()


def queries(report: Json) -> str:
    """The measured rates of free text queries, per part and kind of phrase (benchmarks/queries.py)."""
    names = list(report["test"]["all"])
    rows = [(part, "all", report[part]["all"]) for part in ("tuning", "test")]
    kinds = ("the thing", "plural or other form", "phrase around it", "paraphrase")
    rows += [("test", kind, of) for kind, of in zip(kinds, report["test"]["by phrase"], strict=True)]
    lines = [f"| part | phrases | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    for part, kind, of in rows:
        cells = (
            f"{of[name]['value']:.2f} ({of[name]['interval'][0]:.2f}-{of[name]['interval'][1]:.2f})" for name in names
        )
        lines.append(f"| {part} | {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


def queried_things(report: Json) -> str:
    """The same per thing of the test part."""
    names = list(report["test"]["all"])
    lines = [f"| thing (test) | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for thing, of in report["test"]["by thing"].items():
        lines.append(f"| {thing} | {' | '.join(f'{of[name]:.2f}' for name in names)} |")
    return "\n".join(lines)


def _clips(report: Json) -> Iterator[Json]:
    return (clip for run in report["runs"] for clip in run["clips"])


TABLES: Mapping[str, Callable[..., str]] = {
    "attack": lambda report: _untitled(figures_grid(report)),
    "baselines": lambda report: _untitled(baselines.baselines_grid(report)),
    "benchmark": lambda report: on_console(report_parts(report)),
    "classify": lambda report: _untitled(classify.overhead_grid(report)),
    "decode": lambda report: _untitled(decode.clips_grid(_clips(report))),
    "decode-faults": lambda report: _untitled(decode.faults_grid(_clips(report))),
    "decode-ratios": lambda report: _untitled(decode.ratios_grid(_clips(report))),
    "evaluation": evaluation,
    "memory": lambda report: _untitled(memory.memory_grid(report)),
    "poolings": poolings,
    "queries": queries,
    "seeds": seeds,
    "sizes": sizes,
    "steps": steps,
    "study": study,
    "things": queried_things,
    "training-run": lambda report: on_console(evaluation_parts(report)),
    "workers": lambda report: _untitled(decode_workers.workers_grid(report)),
}
"""By the name that a block gives: from the JSON, and what the block gives besides, to Markdown."""

PAGES: Mapping[str, tuple[str, Callable[[Json], str]]] = {
    "docs/footage.md": ("footage.json", footage_report.page),
    "docs/needle.md": ("needle.json", needle_report.page),
    "docs/words.md": ("words.json", words_report.page),
}
"""Pages that are made as a whole, from which JSON and by what."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A part of a page that is made from JSON.

    Attributes:
        page: the page's path from the root.
        marker: the comment that opens it; empty for a whole page.
        start: lines of the page before the block's first one.
        has: the lines that stand there.
        made: the lines that the JSON gives.
    """

    page: str
    marker: str
    start: int
    has: Sequence[str]
    made: Sequence[str]

    def difference(self) -> str | None:
        """The first line that differs, with its page, number and block; None where none does."""
        for number, (has, made) in enumerate(zip_longest(self.has, self.made), start=self.start + 1):
            if has != made:
                where = self.marker or "the whole page"
                return f"{self.page}:{number}: {where}: {_shown(has)}; its JSON gives {_shown(made)}"
        return None


def _shown(line: str | None) -> str:
    return "no line" if line is None else f'"{line}"'


def blocks(root: Path) -> Iterator[Block]:
    """Every block of README.md and docs/*.md, in the order in which they stand there.

    Raises:
        UsageError: a block without its end, or one that names no table, or JSON that does not hold what it shows.
        InputNotFoundError: a block whose JSON is missing.
    """
    for path in (root / "README.md", *sorted((root / "docs").glob("*.md"))):
        page = path.relative_to(root).as_posix()
        lines = path.read_text(encoding="utf-8").split("\n")
        if page in PAGES:
            file, make = PAGES[page]
            made = _made(page, root / "docs" / file, make)
            yield Block(page=page, marker="", start=0, has=lines, made=[*made, ""])
        else:
            yield from _blocks_of(page, lines, root / "docs")


def _blocks_of(page: str, lines: Sequence[str], docs: Path) -> Iterator[Block]:
    opened: int | None = None
    for i, line in enumerate(lines):
        is_end, is_marker = line == _END, line.startswith("<!-- table")
        if is_end and opened is not None:
            marker = lines[opened]
            made = _made_by(marker, f"{page}:{opened + 1}", docs)
            yield Block(page=page, marker=marker, start=opened + 1, has=lines[opened + 1 : i], made=made)
            opened = None
        elif is_marker and opened is None:
            opened = i
        elif is_end or is_marker:
            raise UsageError(f"{page}:{i + 1}: {line}", wanted=f"a marker, then {_END}, in turns", fix="add the other")
    if opened is not None:
        raise UsageError(f"{page}:{opened + 1}: {lines[opened]}", wanted=f"{_END} after it", fix="add it")


def _made_by(marker: str, where: str, docs: Path) -> list[str]:
    found = _MARKER.fullmatch(marker)
    if found is None or found["name"] not in TABLES:
        raise UsageError(
            f"{where}: {marker}",
            wanted=f"<!-- table: FILE.json NAME -->, NAME one of {', '.join(TABLES)}",
            fix="correct the marker, or add the table to TABLES in benchmarks/docs_tables.py",
        )
    return _made(where, docs / found["file"], TABLES[found["name"]], *found["arguments"].split())


def _made(where: str, file: Path, make: Callable[..., str], *arguments: str) -> list[str]:
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputNotFoundError(
            f"{where}: {file} does not exist", wanted="the JSON that was measured", fix="correct its name"
        ) from error
    try:
        return make(report, *arguments).strip("\n").split("\n")
    except (LookupError, TypeError, AttributeError, StopIteration) as error:
        raise UsageError(
            f"{where}: {file} is not what this table shows ({type(error).__name__}: {error})",
            wanted="JSON of the table's own kind",
            fix="correct the file's name, the table's or what it asks for",
        ) from error


def differences(root: Path = ROOT) -> list[str]:
    """The first line that differs of every block and page, one sentence each; empty where all are as their JSON."""
    return [said for block in blocks(root) if (said := block.difference()) is not None]


def rewrite(root: Path = ROOT) -> list[str]:
    """Make every block anew; pages without a difference are not written.

    Returns:
        The pages that were written, as paths from the root.
    """
    changed: dict[str, list[Block]] = {}
    for block in blocks(root):
        if block.difference() is not None:
            changed.setdefault(block.page, []).append(block)
    for page, stale in changed.items():
        path = root / page
        lines = path.read_text(encoding="utf-8").split("\n")
        for block in reversed(stale):  # from below, so that the lines above keep their numbers
            lines[block.start : block.start + len(block.has)] = block.made
        write_text(path, "\n".join(lines))
    return list(changed)


def main(arguments: Sequence[str] | None = None, *, root: Path = ROOT) -> int:
    """Run it from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.docs_tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 where a line differs")
    options = parser.parse_args(arguments)
    stale: list[str] = []

    def run() -> None:
        stale.extend(differences(root) if options.check else [])
        for said in stale if options.check else (f"written: {page}" for page in rewrite(root)):
            print(said)

    return exit_code(run) or (EXIT_INPUT_FAILED if stale else 0)


if __name__ == "__main__":
    sys.exit(main())
