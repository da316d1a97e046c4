"""The `tsq` program, also as `python -m tsq_cli`: signals end a run cleanly, even while its code is loading."""

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

    If a plain KeyboardInterrupt interrupts code compiled from a string (as while a dataclass is created), Python
    records it as unhandled and finally kills itself, even if it was handled later.
    """

    seen = False
    """Whether one was raised: C libraries turn it into an ImportError while they load."""


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    _Interrupted.seen = True
    raise _Interrupted


def main() -> None:
    """Run the program to its end: SIGTERM and SIGHUP act as Ctrl-C, and a hanging thread does not keep it alive."""
    code: object = EXIT_INTERRUPTED
    # Before numpy is loaded. The threads of its OpenBLAS spin while they wait: where another process has a core, a
    # product of 2 ms took 40.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
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
    except BaseException as error:  # raised before or after the program's own error handling
        if not (_Interrupted.seen or isinstance(error, KeyboardInterrupt)):
            raise
        print("tsq: interrupted", file=sys.stderr)
    from tsq_cli.files import remove_unfinished

    remove_unfinished()
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        # A thread hangs inside FFmpeg, at a packet that never ends: the run has given up that video, so end without it.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, OSError, ValueError):  # there may be no stream, or no reader
                stream.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))
    sys.exit(code)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
