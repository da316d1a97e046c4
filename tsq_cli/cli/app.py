"""The `tsq` program: its commands, and the place where errors are printed, once, as one line."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Annotated, Any

import typer

from tsq_cli import __version__
from tsq_cli.cli.options import examples
from tsq_cli.cli.output import info
from tsq_cli.cli.streams import safe_streams
from tsq_cli.errors import EXIT_INTERRUPTED, EXIT_OK, StdoutClosedError, TsqError, UsageError, one_line

COMMANDS = ("select", "classify", "train", "evaluate", "ablate", "tsne", "benchmark", "mcp", "doctor", "packs")
"""Names of the commands, in the order of the help, each that of its module and its function."""


def _print_version(context: typer.Context, value: bool) -> None:
    if not value or context.resilient_parsing:  # resilient: a shell asks for completions
        return
    if context.params.get("verbose"):
        from tsq_cli.cli.doctor import print_versions

        print_versions()
    else:
        print(f"tsq {__version__}")
    raise typer.Exit


def root(
    _version: Annotated[
        # Not eager, so that -v behind it is known.
        bool, typer.Option("--version", callback=_print_version, help="Show the version and exit.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", is_eager=True, help="With --version: show those of all libraries too.")
    ] = False,
) -> None:
    """Select the few frames of a video that matter, and classify it from them (TSQNet, ECCV 2022)."""
    if verbose:
        raise UsageError(
            "-v stands before the command", wanted="it behind the command", fix="write tsq select -v VIDEO"
        )


@functools.cache
def program(names: tuple[str, ...] = COMMANDS) -> typer.Typer:
    """Build the program with some of its commands, of which each loads what it needs.

    Args:
        names: of COMMANDS.
    """
    app = typer.Typer(
        name="tsq",
        help="Select the few frames of a video that matter, and classify it from them (TSQNet, ECCV 2022).",
        epilog=examples("tsq select video.mp4 -k 5", "tsq classify video.mp4 --html report.html", "tsq packs list")
        + (
            "\n\n`tsq COMMAND --help` has more. Results go to stdout, messages to stderr. Exit codes: 0 all done, "
            "1 an input failed, 2 usage, 3 weights unavailable, 130 interrupted, 141 stdout closed by its reader."
        ),
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    for name in names:
        module = import_module(f"tsq_cli.cli.{name}")
        if name == "packs":
            app.add_typer(module.app, name=name)
        else:
            app.command(name, epilog=module.EXAMPLES)(getattr(module, name))
    return app


@functools.cache
def _command(names: tuple[str, ...]) -> Callable[..., Any]:
    return typer.main.get_command(program(names))


def main() -> None:
    """Run the program; an expected error becomes one line on stderr and its exit code (TSQ_DEBUG=1: a traceback)."""
    with safe_streams(), _errors_as_exit_codes():
        # The others would take longer to load than it takes to choose frames.
        named = tuple(name for name in COMMANDS if sys.argv[1:2] == [name] and "_TSQ_COMPLETE" not in os.environ)
        code = _command(named or COMMANDS)(prog_name="tsq", standalone_mode=False)
        sys.stdout.flush()  # writing buffered output may fail too
        if code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code or EXIT_OK)


@contextmanager
def _errors_as_exit_codes() -> Iterator[None]:
    """Report what stopped the command on one line of stderr, and exit with its code."""
    try:
        yield
    except StdoutClosedError as error:
        sys.exit(error.exit_code)  # the reader closed stdout on purpose: no message
    except (TsqError, typer.TyperException) as error:
        if os.environ.get("TSQ_DEBUG") == "1":
            raise
        if isinstance(error, TsqError):
            info(str(error))
        else:
            info(f"{one_line(error.format_message()).rstrip('.')}; see tsq --help")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        info("interrupted")
        sys.exit(EXIT_INTERRUPTED)
