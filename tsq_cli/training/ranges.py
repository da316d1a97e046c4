"""Checks of settings, for the `__post_init__` of their dataclasses. Free of torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, get_args

from tsq_cli.errors import UsageError


def at_least(settings: Any, least: float, *names: str) -> None:
    """Refuse values below a number, or not finite.

    Raises:
        UsageError: it names the first.
    """
    for name in names:
        value = getattr(settings, name)
        if not (math.isfinite(value) and value >= least):
            raise bad(name, value, f"{least} or more", settings)


def above_zero(settings: Any, *names: str) -> None:
    """Refuse values of 0 and less, or not finite; None passes.

    Raises:
        UsageError: it names the first.
    """
    for name in names:
        value = getattr(settings, name)
        if value is not None and not (math.isfinite(value) and value > 0):
            raise bad(name, value, "a number above 0", settings)


def at_most(settings: Any, most: float, *names: str) -> None:
    """Refuse values above a number.

    Raises:
        UsageError: it names the first.
    """
    for name in names:
        if getattr(settings, name) > most:
            raise bad(name, getattr(settings, name), f"{most} or less", settings)


def one_of(settings: Any, **choices: Any) -> None:
    """Refuse values that are not of their Literal.

    Raises:
        UsageError: it names the first.
    """
    for name, choice in choices.items():
        if getattr(settings, name) not in get_args(choice):
            raise bad(name, repr(getattr(settings, name)), "one of " + ", ".join(get_args(choice)), settings)


def check_validation(settings: Any, stages: Sequence[str]) -> None:
    """Refuse TrainSettings whose validation list, its part, its share and the stages' patience do not fit together.

    Raises:
        UsageError: a share out of range, a share of a part, or a patience with nothing to measure on.
    """
    share = settings.val_share
    if share is not None and not 0 < share < 1:
        raise UsageError(
            f"--val (val_list) is {settings.val_list}",
            wanted="a list of labeled videos, or the share of the training list to hold out, above 0 and below 1",
            fix=f"try --val 0.2; a file of that name is ./{settings.val_list}",
        )
    if share is not None and settings.val_subset is not None:
        raise UsageError(
            f"--val-subset (val_subset) is {settings.val_subset!r}, and --val the share {settings.val_list}",
            wanted="a part of a list, or a share",
            fix="drop one of them",
        )
    if settings.val_list is None and (patient := [name for name in stages if getattr(settings, name).fit.patience]):
        raise UsageError(
            f"--patience ({patient[0]}.fit.patience) is {getattr(settings, patient[0]).fit.patience}, without videos "
            "to evaluate on",
            wanted="a list or a share of validation videos, by which a better epoch is known",
            fix="add --val, or drop the patience",
        )


def bad(name: str, value: object, wanted: str, settings: Any = None) -> UsageError:
    """Build the error for a value; `settings` are asked for the default."""
    defaults = {item.name: item.default for item in dataclasses.fields(settings)} if settings is not None else {}
    default = defaults.get(name)
    fix = "correct it" if default in (None, dataclasses.MISSING) else f"the default is {default}"
    return UsageError(f"{name} is {value}", wanted=wanted, fix=fix)
