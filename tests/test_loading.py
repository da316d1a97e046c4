"""Videos that hang, and videos that kill: the run goes on, and the next one knows."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests import processes
from tests.machine import needs_signals
from tests.video.clips import clip
from tsq_cli import loading
from tsq_cli.batch import RunPlan, run
from tsq_cli.clip import Clip, load_clip
from tsq_cli.config import Limits, SelectSettings
from tsq_cli.errors import DecoderCrashError, InputNotFoundError, VideoTimeoutError
from tsq_cli.journal import Death
from tsq_cli.loading import Loader, find_killers
from tsq_cli.pictures import Outputs
from tsq_cli.pipeline import Selector

ROOT = Path(__file__).parents[1]
SETTINGS = SelectSettings(selector="uniform", num_frames=2, num_candidates=4)


@pytest.fixture
def copies(tmp_path: Path) -> list[str]:
    return [str(shutil.copy(clip("h264_b_frames").path, tmp_path / f"{number}.mp4")) for number in range(4)]


@pytest.fixture
def hangs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Reading any of these videos hangs inside C, so to say: nothing that it is asked to do ends it."""
    names: list[str] = []
    over = threading.Event()

    def load(path: str, *args: Any, **options: Any) -> Clip:
        if Path(path).name in names:
            over.wait()
        return load_clip(path, *args, **options)

    monkeypatch.setattr(loading, "load_clip", load)
    monkeypatch.setattr(loading, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(loading, "STOP_SECONDS", 0.2)
    yield names
    over.set()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_video_that_hangs_is_given_up_and_the_others_are_done(
    copies: list[str], hangs: list[str], workers: int
) -> None:
    hangs += ["0.mp4", "2.mp4"]
    plan = RunPlan(
        paths=copies, settings=SETTINGS, outputs=Outputs(), pack_sha256=None, workers=workers,
        limits=Limits(timeout_seconds=0.5),
    )  # fmt: skip
    records = list(run(plan, Selector.without_model))
    assert [record["status"] for record in records] == ["error", "ok", "error", "ok"]
    assert records[0]["error"]["type"] == "VideoTimeoutError"
    assert "not read within 0.5 s" in records[0]["error"]["message"]


def test_waiting_in_line_is_not_counted(copies: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "GRACE_SECONDS", 0.0)

    def load(path: str, *args: Any, **options: Any) -> Clip:
        time.sleep(0.15)
        return load_clip(path, *args, **options)

    monkeypatch.setattr(loading, "load_clip", load)
    with Loader(Limits(timeout_seconds=0.5), 1) as loader:
        for begun in [loader.begin(path, SETTINGS) for path in copies]:  # the last one is there after 0.6 s
            loader.wait(begun).close()


def test_leaving_does_not_wait_for_what_hangs(copies: list[str], hangs: list[str]) -> None:
    hangs += ["0.mp4"]

    def interrupted() -> None:
        with Loader(Limits(), 1) as loader:
            loader.begin(copies[0], SETTINGS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()


def test_leaving_waits_for_no_video_that_was_not_begun(copies: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, should_stop: Callable[[], bool], **__: Any) -> Clip:
        while not should_stop():
            time.sleep(0.01)
        raise CancelledError

    waited: list[Future[Clip]] = []

    def watched(futures: list[Future[Clip]], timeout: float) -> Any:
        waited.extend(futures)
        return wait(futures, timeout)

    monkeypatch.setattr(loading, "load_clip", load)
    monkeypatch.setattr(loading, "wait", watched)
    with Loader(Limits(), 1) as loader:
        begun = [loader.begin(path, SETTINGS) for path in copies]
        while begun[0].began is None:
            time.sleep(0.01)
    assert waited == [begun[0].future]
    assert [one.future.done() for one in begun if one.future is not None] == [True] * 4


def test_clips_that_nobody_took_are_closed(copies: list[str]) -> None:
    with Loader(Limits(), 2) as loader:
        begun = [loader.begin(path, SETTINGS) for path in copies[:2]]
        clips = [one.future.result() for one in begun if one.future is not None]
        assert all(clip.source.table.packets is not None for clip in clips)
    assert all(clip.source.table.packets is None for clip in clips)


def test_decoding_ahead_keeps_the_order_and_a_bound(
    copies: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def load(path: str, *args: Any, **options: Any) -> Clip:
        begun.append(Path(path).name)
        if path == copies[0]:
            time.sleep(0.2)  # the first is the last one done
        return load_clip(path, *args, **options)

    monkeypatch.setattr(loading, "load_clip", load)
    large = replace(SETTINGS, short_side=64)
    jobs = [(copies[0], SETTINGS), (str(tmp_path / "none.mp4"), SETTINGS), (copies[1], large), (copies[2], SETTINGS)]
    jobs += [(path, SETTINGS) for path in copies * 4]
    results = loading.decode_ahead(jobs, 2)
    first, missing, small = (next(results) for _ in range(3))
    assert isinstance(first, Clip)
    assert first.path == copies[0]
    assert isinstance(missing, InputNotFoundError)
    assert isinstance(small, Clip)
    assert (small.path, small.batch.pixels.shape[1]) == (copies[1], 64)
    assert len(begun) <= 3 + 2  # two beyond the one that was yielded
    fourth = next(results)
    results.close()
    assert len(begun) <= 4 + 2, "nothing begins once the caller has left"
    for loaded in (first, small, fourth):
        assert isinstance(loaded, Clip)
        loaded.close()


def test_a_pass_over_a_video_has_its_own_time(copies: list[str]) -> None:
    with Loader(Limits(timeout_seconds=0.05), 1) as loader, loader.reading(copies[0]) as should_stop:
        time.sleep(0.1)
        with pytest.raises(VideoTimeoutError, match=r"0.mp4 was not read within 0.05 s"):
            should_stop()


@needs_signals
def test_the_only_suspect_of_a_crash_is_not_tried_again(tmp_path: Path) -> None:
    found = find_killers(Death((str(tmp_path / "gone.mp4"),), "Segmentation fault"), Limits())
    assert list(found) == [str(tmp_path / "gone.mp4")]
    error = found[str(tmp_path / "gone.mp4")]
    assert isinstance(error, DecoderCrashError)
    assert "killed an earlier run while it was read (Segmentation fault)" in str(error)


@needs_signals
def test_other_suspects_are_tried_alone(copies: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: str, *args: Any, **options: Any) -> Clip:
        if path == copies[1]:
            os.kill(os.getpid(), signal.SIGSEGV)
        return load_clip(path, *args, **options)

    monkeypatch.setattr(loading, "load_clip", load)
    for death in (Death(tuple(copies[:3]), "Segmentation fault"), Death(tuple(copies[:3]), None)):
        assert list(find_killers(death, Limits())) == [copies[1]]
    assert find_killers(Death((copies[0], "no such file", "a\0b"), None), Limits()) == {}


POISON = """
import os, signal, sys
from pathlib import Path
from tsq_cli import loading
real = loading.load_clip
def load(path, *args, **options):
    if Path(path).name == "poison.mp4":
        os.kill(os.getpid(), getattr(signal, os.environ["DIE_BY"]))
    return real(path, *args, **options)
loading.load_clip = load
from tsq_cli.__main__ import main
main()
"""


@needs_signals
def test_a_video_that_kills_the_run_is_named_recorded_and_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a.mp4", "poison.mp4", "z.mp4"):
        shutil.copy(clip("h264_b_frames").path, folder / name)
    lines = tmp_path / "out.jsonl"
    command = ["-c", POISON, "select", folder, "--selector", "uniform", "--jsonl", lines]
    environment = {**os.environ, "DIE_BY": "SIGSEGV", "PYTHONPATH": str(ROOT)}

    def tsq(*more: str) -> subprocess.CompletedProcess[str]:
        return processes.run([*command, *more], env=environment)

    assert tsq().returncode == -signal.SIGSEGV
    for _ in range(2):
        ended = tsq()
        assert ended.returncode == 1, ended.stderr
        assert "poison.mp4 killed an earlier run while it was read (Segmentation fault)" in ended.stderr
        records = {Path(r["video"]["path"]).name: r for r in map(json.loads, lines.read_text().splitlines())}
        assert len(lines.read_text().splitlines()) == 3
        assert {name: record["status"] for name, record in records.items()} == {
            "a.mp4": "ok", "poison.mp4": "error", "z.mp4": "ok",
        }  # fmt: skip
        assert records["poison.mp4"]["error"]["type"] == "DecoderCrashError"
    assert sorted(os.listdir(tmp_path)) == ["out.jsonl", "videos"]
    assert tsq("--overwrite").returncode == -signal.SIGSEGV  # asked for, and tried


def test_leaving_does_not_wait_for_a_lock_that_an_interrupted_submit_left_behind(
    copies: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "STOP_SECONDS", 0.2)
    may_load = threading.Event()

    def load(*args: Any, **options: Any) -> Clip:
        may_load.wait()
        return load_clip(*args, **options)

    monkeypatch.setattr(loading, "load_clip", load)
    with Loader(Limits(), workers=1) as loader:
        begun = loader.begin(copies[0], SETTINGS)
        left_behind = loader._executor._idle_semaphore._cond  # type: ignore[attr-defined]
        left_behind.acquire()  # as a signal leaves it that strikes the main thread inside submit()
        may_load.set()
        loader.wait(begun).close()
    (thread,) = loader._executor._threads  # type: ignore[attr-defined]
    assert thread.is_alive()  # it waits for the lock; leaving did not wait for it
    left_behind.release()
    thread.join(10)
    assert not thread.is_alive()
