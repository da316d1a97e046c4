"""Values that a shell completes for options whose choices are not fixed. None of them loads torch, and none fails.

Fixed choices (rules, precisions, ...) are completed by typer, and paths by the shell, which completes files wherever
these functions return nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from tsq_cli.errors import TsqError


def packs(incomplete: str) -> list[str]:
    """Complete the name of an installed pack."""
    from tsq_cli.packs.registry import pack_names

    try:
        return _beginning_with(incomplete, pack_names())
    except TsqError:  # a search folder that is not there: the command itself reports it
        return []


def recognizers(incomplete: str) -> list[str]:
    """Complete auto, embedded, or the recognizer of an installed pack."""
    from tsq_cli.packs import list_packs

    try:
        models = [pack.roles.recognizer.model for pack in list_packs()[0]]
    except TsqError:
        models = []
    return _beginning_with(incomplete, ["auto", "embedded", *models])


def devices(incomplete: str) -> list[str]:
    """Complete the name of a device, whether this machine has it or not."""
    return _beginning_with(incomplete, ["auto", "cpu", "cuda"])


def studies(incomplete: str) -> list[str]:
    """Complete the name of a study."""
    from tsq_cli.studies.registry import STUDIES

    return _beginning_with(incomplete, ["all", *STUDIES])


def _beginning_with(incomplete: str, values: Iterable[str]) -> list[str]:
    return [value for value in dict.fromkeys(values) if value.startswith(incomplete)]
