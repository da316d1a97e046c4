"""The `tsq` program, also as `python -m tsq_cli`: signals end a run in order, also while its own code is loading."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

from tsq_cli.errors import EXIT_INTERRUPTED


class _Interrupted(KeyboardInterrupt):
    """A signal that asks the program to end.

    Of a plain KeyboardInterrupt that meets code made of a text, such as a dataclass in the making, Python remembers for
    its own exit code that it was not handled there, and kills itself in the end, however well it was handled later.
    """

    seen = False
    """Whether one was raised, whatever became of it: libraries in C turn it into an ImportError while they load."""


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    _Interrupted.seen = True
    raise _Interrupted


def main() -> None:
    """Run the program, and end it: SIGTERM and SIGHUP as Ctrl-C does, and no thread that hangs keeps it alive."""
    code: object = EXIT_INTERRUPTED
    try:
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # ignored under nohup: stays so
                signal.signal(number, _interrupt)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _interrupt)
        from tsq_cli.cli.app import main as run

        run()
    except SystemExit as ended:
        code = ended.code
    except BaseException as error:  # before the program's own boundary stood, or after it
        if not (_Interrupted.seen or isinstance(error, KeyboardInterrupt)):
            raise
        print("tsq: interrupted", file=sys.stderr)
    from tsq_cli.files import remove_unfinished

    remove_unfinished()
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        # Inside FFmpeg, at a packet that never ends: the run has given that video up, and so does the program.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # there may be none, or nobody at its end
                stream.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))
    sys.exit(code)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
