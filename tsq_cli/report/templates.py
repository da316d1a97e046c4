"""HTML templates, into which every text goes printable and of bounded length."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tsq_cli.printable import printable

MOST_CHARACTERS = 500
"""Of one text on a page (ours): more than a path that people use has; a name can be of any length."""

MOST_OF_A_NAME = 120
"""Characters of a class's name where it stands in a line or a table (ours)."""


@cache
def environment() -> Environment:
    """The templates of this folder. Text is made printable and then escaped; what is Markup goes as it is.

    The filter `name` is for names of classes.
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
