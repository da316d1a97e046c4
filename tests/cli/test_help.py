"""Help: every command ends with examples that it would accept, each on a line of its own."""

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tsq_cli.cli.app import program


def commands(group: Any, *names: str) -> Iterator[tuple[str, ...]]:
    """The names that lead to each command and each group of commands, the program itself among them."""
    yield names
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, *names, name)


PROGRAM = typer.main.get_command(program())
COMMANDS = sorted(commands(PROGRAM))


def shown_examples(names: tuple[str, ...], width: int) -> list[str]:
    """The lines below "Examples" in a command's help on a terminal of a width."""
    shown = CliRunner().invoke(program(), [*names, "--help"], prog_name="tsq", env={"COLUMNS": str(width)})
    assert shown.exit_code == 0, shown.output
    lines = [line.strip() for line in shown.output.splitlines()]
    below = lines[lines.index("Examples") + 2 :]
    return below[: below.index("")]


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_help_ends_with_examples_that_parse(names: tuple[str, ...]) -> None:
    examples = shown_examples(names, 80)
    assert examples == shown_examples(names, 120)
    assert 2 <= len(examples) <= 4
    for example in examples:
        program, *words = shlex.split(example)
        assert program == "tsq"
        called: list[str] = []
        command: Any = PROGRAM
        while hasattr(command, "commands"):
            called.append(words.pop(0))
            command = command.commands[called[-1]]
        assert tuple(called)[: len(names)] == names
        command.make_context(called[-1], words)  # raises where an option is unknown or a value does not fit
