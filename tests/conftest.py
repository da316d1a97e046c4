"""For all tests: one core per worker, child processes with the signals of a program run by hand, one loaded pack."""

from __future__ import annotations

import atexit
import functools
import gc
import hashlib
import os
import signal
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any

import pytest

from tests.marks import skip_without_cuda

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from tsq_cli import Selector
    from tsq_cli.models import TextEncoder
    from tsq_cli.types import FrameBatch

# Workers of pytest-xdist share the cores, and threads that wait for each other across them cost most of the time. Set
# before torch is imported, and inherited by child processes.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Where the parent ignores SIGINT (nohup, the background of a script), children would too, and so would their children.
# A handler is not inherited: a program that is started gets the default back.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Let no test of properties fail for the time it takes (not where tests are only handed out to workers)."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        from hypothesis import settings

        settings.register_profile("tsq", deadline=None)
        settings.load_profile("tsq")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector off what the imports leave behind: it would look through it again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        # At the very end: libraries tell there of what was not freed. Before that pytest collects several times more.
        atexit.register(gc.unfreeze)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest module: workers take whole modules, and one of them would be busy with it at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/video/test_odd_clips.py"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none, before any fixture of it is made."""
    skip_without_cuda(item)


@pytest.fixture(scope="session", autouse=True)
def _digests_taken_once() -> Generator[None, None, None]:
    """Have a worker read large weights for their sha256 a single time, as long as nobody touches the file."""
    from tsq_cli.packs import members

    known: dict[tuple[int, ...], Any] = {}

    def file_digest(stream: IO[bytes], name: str) -> Any:
        found = os.fstat(stream.fileno())
        key = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        if found.st_size < 2**22:
            return hashlib.file_digest(stream, name)
        if key not in known:
            known[key] = hashlib.file_digest(stream, name)
        return known[key]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(members, "hashlib", SimpleNamespace(file_digest=file_digest))
        yield


@pytest.fixture(scope="session")
def selector() -> Selector:
    """The default pack on the CPU in float32, loaded once per worker."""
    from tsq_cli import Selector

    return Selector.load("imagenet-lite", device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def _decoding_once() -> Callable[..., FrameBatch]:
    from tests.decoding import decoding_once

    return decoding_once()


@pytest.fixture(scope="session")
def _encoding_once() -> Callable[..., Any]:
    from tests.decoding import encoding_once

    return encoding_once()


@pytest.fixture
def demo_decoded_once(
    monkeypatch: pytest.MonkeyPatch, _decoding_once: Callable[..., FrameBatch], _encoding_once: Callable[..., Any]
) -> None:
    """Let the program decode each choice of the demo's frames a single time per worker; tests/video has the decoder.

    Networks under ONNX Runtime, too, see the same frames once; tests/packs/test_graphs.py has those.
    """
    for module in ("classifier", "clip", "pictures", "result"):
        monkeypatch.setattr(f"tsq_cli.{module}.decode_frames", _decoding_once)
    monkeypatch.setattr("tsq_cli.models.onnx.OnnxEncoder.__call__", _encoding_once)


@pytest.fixture(scope="session")
def _loading_once() -> Callable[..., TextEncoder]:
    from tsq_cli.packs.texts import load_text_encoder

    return functools.cache(load_text_encoder)


@pytest.fixture
def text_encoder_loaded_once(monkeypatch: pytest.MonkeyPatch, _loading_once: Callable[..., TextEncoder]) -> None:
    """Let packs of one text encoder share it, for all tests of a worker."""
    monkeypatch.setattr("tsq_cli.packs.load.load_text_encoder", _loading_once)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this run's that all workers see, for what is made once by whoever needs it first."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder
