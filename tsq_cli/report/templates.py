"""HTML templates; every text put into them is made printable and shortened."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tsq_cli.printable import printable

MOST_CHARACTERS = 500
"""Largest length of one text on a page (ours): longer than common paths; a name can have any length."""

MOST_OF_A_NAME = 120
"""Largest length of a class's name in a line or a table (ours)."""


@cache
def environment() -> Environment:
    """Load the templates of this folder. Text is made printable and then escaped; Markup is inserted unchanged.

    The filter `name` shortens names of classes.
    """
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["name"] = lambda name: printable(name, MOST_OF_A_NAME)
    return made


def _shown(value: Any) -> Any:
    return printable(value, MOST_CHARACTERS) if isinstance(value, str) and not isinstance(value, Markup) else value
