"""What the command lines of benchmarks have in common: their options, what they print and write, how they end."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tsq_cli.benchmark.measure import exit_code
from tsq_cli.errors import UsageError
from tsq_cli.files import write_json
from tsq_cli.report.console import SafeConsole
from tsq_cli.report.grid import Grid

Measured = tuple[dict[str, Any], Grid | str]
"""What is written, and what is printed of it."""


def command_line(name: str, description: str | None, *, repeats: int | None = None) -> argparse.ArgumentParser:
    """Begin the parser of benchmarks/NAME.py, with --json, and with --repeats if it times rounds, so many by itself."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    if repeats is not None:
        parser.add_argument("--repeats", type=int, default=repeats, help=f"timed rounds ({repeats})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured to FILE")
    return parser


def run_command(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, measure: Callable[[argparse.Namespace], Measured]
) -> int:
    """Measure, print and write; return the exit code.

    Args:
        parser: of command_line.
        arguments: None for those of the process.
        measure: what is run; a TsqError of it is told without a traceback.
    """
    options = parser.parse_args(arguments)

    def run() -> None:
        if getattr(options, "repeats", 1) < 1:
            raise UsageError(f"--repeats is {options.repeats}", wanted="1 or more", fix="leave it out")
        report, shown = measure(options)
        SafeConsole().print(shown.rich() if isinstance(shown, Grid) else shown)
        if options.json:
            write_json(options.json, report)

    return exit_code(run)
