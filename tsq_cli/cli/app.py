"""The `tsq` program: its commands, and the place where errors are printed, once, as one line."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from tsq_cli import __version__
from tsq_cli.cli import ablate, benchmark, classify, doctor, evaluate, mcp, packs, select, train, tsne
from tsq_cli.cli.options import examples
from tsq_cli.cli.output import info
from tsq_cli.cli.streams import safe_streams
from tsq_cli.errors import EXIT_INTERRUPTED, EXIT_OK, StdoutClosedError, TsqError, UsageError, one_line

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
app.command("select", epilog=select.EXAMPLES)(select.select)
app.command("classify", epilog=classify.EXAMPLES)(classify.classify)
app.command("train", epilog=train.EXAMPLES)(train.train)
app.command("evaluate", epilog=evaluate.EXAMPLES)(evaluate.evaluate)
app.command("ablate", epilog=ablate.EXAMPLES)(ablate.ablate)
app.command("tsne", epilog=tsne.EXAMPLES)(tsne.tsne)
app.command("benchmark", epilog=benchmark.EXAMPLES)(benchmark.benchmark)
app.command("mcp", epilog=mcp.EXAMPLES)(mcp.mcp)
app.command("doctor", epilog=doctor.EXAMPLES)(doctor.doctor)
app.add_typer(packs.app, name="packs")


def _print_version(context: typer.Context, value: bool) -> None:
    if not value or context.resilient_parsing:  # resilient: a shell asks for completions
        return
    if context.params.get("verbose"):
        doctor.print_versions()
    else:
        print(f"tsq {__version__}")
    raise typer.Exit


@app.callback()
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
def _program() -> Callable[..., Any]:
    """Build the commands once, however often a process runs them."""
    return typer.main.get_command(app)


def main() -> None:
    """Run the program; an expected error becomes one line on stderr and its exit code (TSQ_DEBUG=1: a traceback)."""
    with safe_streams(), _errors_as_exit_codes():
        code = _program()(prog_name="tsq", standalone_mode=False)
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
