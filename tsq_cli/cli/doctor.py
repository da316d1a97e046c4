"""`tsq doctor`, and the versions that `tsq --version -v` prints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING

import typer
from rich.table import Table
from rich.text import Text

from tsq_cli.cli import options
from tsq_cli.cli.output import print_error, print_json, progress_bar
from tsq_cli.errors import EXIT_INPUT_FAILED
from tsq_cli.report.console import SafeConsole

if TYPE_CHECKING:
    from tsq_cli.doctor import Finding

EXAMPLES = options.examples("tsq doctor", "tsq doctor --json")


def doctor(*, json: options.JsonOption = False) -> None:
    """Examine this installation (device, codecs, packs, hub, extras), and name the command that brings what is missing.

    Hashes the files of every pack, imports torch, and asks the hub for one page. Exit code 1 if something is missing
    that `tsq select VIDEO` needs; optional parts that are missing do not count.
    """
    from tsq_cli.doctor import examine, versions

    with progress_bar("examining"):
        findings = list(examine())
    missing = [finding.name for finding in findings if finding.is_needed and not finding.ok]
    if json:
        print_json({"ok": not missing, "versions": versions(), "findings": [asdict(each) for each in findings]})
    else:
        print_versions()
        _print_findings(findings)
    if missing:
        print_error(f"tsq select cannot work: {', '.join(missing)} missing or damaged")
        raise typer.Exit(EXIT_INPUT_FAILED)


def print_versions() -> None:
    """Print the versions of tsq, of the libraries it stands on and of the system, one per line."""
    from tsq_cli.doctor import versions

    found = versions()
    width, out = max(map(len, found)), SafeConsole()
    for name, version in found.items():
        out.print(f"{name:{width}}  {version or 'not installed'}", soft_wrap=True)


def _print_findings(findings: Iterable[Finding]) -> None:
    out = SafeConsole(least_width=100)
    for part, members in groupby(findings, key=lambda finding: finding.part):
        out.print()
        out.print(part, style="bold")
        table = Table.grid(padding=(0, 2))
        for finding in members:
            table.add_row(_state(finding), finding.name, finding.detail)
            if finding.fix:
                table.add_row("", "", Text(f"fix: {finding.fix}", style="cyan"))
        out.print(table)


def _state(finding: Finding) -> Text:
    """Say in one word whether a part is there; what is optional and absent is no fault."""
    if finding.ok:
        return Text("ok", style="green")
    return Text("MISSING", style="red bold") if finding.is_needed else Text("absent", style="yellow")
