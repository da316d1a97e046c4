"""`--runner ray`: what is refused before anything starts."""

import errno
import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.cli.conftest import Result
from tests.cluster.deadly import copies
from tests.machine import needs_signals
from tsq_cli.cli.cluster import column_length, run_there
from tsq_cli.errors import UsageError
from tsq_cli.record_file import RecordFile

Tsq = Callable[..., Result]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--num-workers", "2"], "--num-workers was given to a run in one process"),
        (["--files-column", "path"], "--files-column was given to a run in one process"),
        (["--runner", "ray"], "add --jsonl FILE"),
        (["--runner", "ray", "--jsonl", "-"], "add --jsonl FILE"),
        (["--runner", "ray", "--jsonl", "out.jsonl", "--json"], "--json was given with --runner ray"),
        (["--runner", "ray", "--jsonl", "out.jsonl", "--files-column", "path"], "--files-from FILE beside it"),
    ],
)
def test_options_that_a_runner_has_no_use_for_are_refused(
    tsq: Tsq, demo: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(demo.parent)
    result = tsq("select", demo, *arguments)
    assert result.code == 2
    assert said in result.err
    assert not Path("out.jsonl").exists()


def test_without_ray_the_error_names_the_extra(tsq: Tsq, demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(demo.parent)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    result = tsq("select", demo, "--runner", "ray", "--jsonl", "out.jsonl")
    assert result.code == 2
    assert "pip install '.[ray]'" in result.err


def test_of_a_record_file_only_the_names_of_the_column_were_done_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    pytest.importorskip("ray")
    skipped: list[set[str]] = []

    def run(plan: Any, prepare: Any, names: Any, done: set[str], cluster: Any) -> Iterator[dict[str, str]]:
        skipped.append(set(done))
        yield {"path": "c.mp4"}

    monkeypatch.setattr("tsq_cli.cluster.run.run", run)
    (tmp_path / "list.csv").write_text("path\nb.mp4\nc.mp4\n")
    options: Any = SimpleNamespace(files_from=str(tmp_path / "list.csv"), files_column="path")
    plan: Any = SimpleNamespace(paths=())
    before = iter([(name, {"path": name}) for name in ("a.mp4", "b.mp4")])
    found = list(run_there(plan, lambda: None, before, cast(Any, None), options))  # type: ignore[arg-type, return-value]
    assert found == [({"path": "b.mp4"}, True), ({"path": "c.mp4"}, False)]
    assert skipped == [{"b.mp4"}]
    options.files_from = "s3://films/list.csv"
    with pytest.raises(UsageError, match="is a URL, and --files-column was given"):
        column_length(options)


@needs_signals
@pytest.mark.filterwarnings("ignore")  # Ray's own warnings are many
def test_a_full_disk_ends_a_run_with_whole_lines_and_what_they_tell_is_not_redone(
    tsq: Tsq, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    (tmp_path / "videos").mkdir()
    paths = copies(tmp_path / "videos", *"abcdef")
    jsonl = tmp_path / "out.jsonl"
    arguments = ["select", tmp_path / "videos", "--selector", "uniform", "--runner", "ray", "--jsonl", jsonl]
    written = 0

    class Full(RecordFile):
        def append(self, record: object) -> None:
            nonlocal written
            if written == 2:
                assert self._stream is not None
                monkeypatch.setattr(self, "_stream", Cut(self._stream))
            super().append(record)  # type: ignore[arg-type]
            written += 1

    class Cut:
        """A file on a disk that has room for a hundred bytes."""

        def __init__(self, real: object) -> None:
            self._real = real
            self._room = 100

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

        def write(self, line: bytes) -> int:
            if not self._room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._room -= (taken := min(self._room, len(line)))
            return self._real.write(line[:taken])  # type: ignore[attr-defined, no-any-return]

    with monkeypatch.context() as patch:
        patch.setattr("tsq_cli.cli.output.RecordFile", Full)
        result = tsq(*arguments)
    assert result.code == 1
    assert "No space left on device" in result.err
    before = jsonl.read_bytes()
    assert before.count(b"\n") == 2
    assert before.endswith(b"\n")

    result = tsq(*arguments)
    assert result.code == 0
    assert "4 selected, 2 done before, 0 failed" in result.err
    lines = jsonl.read_bytes()
    assert lines.startswith(before)
    assert sorted(json.loads(line)["video"]["path"] for line in lines.splitlines()) == paths
