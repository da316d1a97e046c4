"""The JSONL of a batch: one line for each video, survives kills and full disks, and is nobody else's file."""

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.machine import needs_fifos, needs_signals
from tsq_cli.errors import OutputError, UsageError
from tsq_cli.journal import CRASHED
from tsq_cli.record_file import RecordFile


def record(path: Path, identity: str = "a" * 16, status: str = "ok") -> dict[str, Any]:
    found = path.stat()
    return {
        "schema_version": 4,
        "video": {"path": str(path), "size_bytes": found.st_size, "modified_ns": found.st_mtime_ns},
        "status": status,
        "error": None if status == "ok" else {"type": "NotAVideoError", "message": "no"},
        "settings_hash": identity,
        "frames": [],
        "sheet": None,
        "exports": {},
    }


def done(path: Path, identity: str = "a" * 16) -> dict[str, dict[str, Any]]:
    with RecordFile(path) as file:
        return dict(file.finished(identity))


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{i}.mp4" for i in range(4)]
    for i, path in enumerate(paths):
        path.write_bytes(b"x" * (i + 1))
    return paths


def test_only_what_finished_well_with_the_same_settings_is_done(tmp_path: Path, videos: list[Path]) -> None:
    path = tmp_path / "out.jsonl"
    assert done(path) == {}
    with RecordFile(path) as file:
        file.append(record(videos[0]))
        file.append(record(videos[1], status="error"))
        file.append(record(videos[2], identity="b" * 16))
    assert list(done(path)) == [str(videos[0])]
    assert list(done(path, "b" * 16)) == [str(videos[2])]


def longer(video: Path) -> None:
    video.write_bytes(b"another length")


def rewritten(video: Path) -> None:
    size, modified = video.stat().st_size, video.stat().st_mtime_ns
    video.write_bytes(bytes(size))
    os.utime(video, ns=(modified, modified + 1))


@pytest.mark.parametrize("change", [longer, rewritten, Path.unlink])
def test_a_video_that_changed_is_done_again(tmp_path: Path, videos: list[Path], change: Callable[[Path], None]) -> None:
    path = tmp_path / "out.jsonl"
    with RecordFile(path) as file:
        file.append(record(videos[2]))
    assert list(done(path)) == [str(videos[2])]
    change(videos[2])
    assert done(path) == {}


@pytest.mark.parametrize("kind", ["path", "map", "sheet"])
def test_a_video_whose_picture_is_gone_is_done_again(tmp_path: Path, videos: list[Path], kind: str) -> None:
    path, picture = tmp_path / "out.jsonl", tmp_path / "picture.png"
    picture.touch()
    frame = {"path": None, "map": None} | ({} if kind == "sheet" else {kind: str(picture)})
    sheet = str(picture) if kind == "sheet" else None
    with RecordFile(path) as file:
        file.append({**record(videos[0]), "frames": [{"path": None, "map": None}, frame], "sheet": sheet})
    assert list(done(path)) == [str(videos[0])]
    picture.unlink()
    assert done(path) == {}


def test_a_video_that_killed_a_run_is_not_read_again_until_it_changes(tmp_path: Path, videos: list[Path]) -> None:
    path = tmp_path / "out.jsonl"
    crashed = {**record(videos[0], status="error"), "error": {"type": CRASHED, "message": "killed"}}
    with RecordFile(path) as file:
        file.append(crashed)
    assert done(path, "of other settings") == {str(videos[0]): crashed}
    videos[0].write_bytes(b"mended")
    assert done(path) == {}


def test_a_later_record_of_a_video_wins_and_is_the_one_that_stays(tmp_path: Path, videos: list[Path]) -> None:
    path = tmp_path / "out.jsonl"
    with RecordFile(path) as file:
        file.append({**record(videos[0]), "notes": ["first"]})
        file.append(record(videos[1], status="error"))
        file.append(record(videos[1]))
        file.append({**record(videos[0]), "notes": ["second"]})
        file.append(record(videos[0], status="error"))
        file.append({**record(videos[0]), "notes": ["third"]})
    assert len(path.read_text().splitlines()) == 6
    assert done(path)[str(videos[0])]["notes"] == ["third"]
    path.chmod(0o640)
    with RecordFile(path) as file:
        file.append(record(videos[2]))
        file.finish()
    kept = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["video"]["path"] for line in kept] == [str(videos[i]) for i in (1, 0, 2)]
    assert kept[1]["notes"] == ["third"]
    assert path.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == [*(video.name for video in videos), "out.jsonl"]


def test_a_video_that_failed_last_is_done_again(tmp_path: Path, videos: list[Path]) -> None:
    path = tmp_path / "out.jsonl"
    with RecordFile(path) as file:
        file.append(record(videos[0]))
        file.append(record(videos[0], status="error"))
    assert done(path) == {}


def test_nothing_is_rewritten_where_every_video_has_one_line(tmp_path: Path, videos: list[Path]) -> None:
    path = tmp_path / "out.jsonl"
    with RecordFile(path) as file:
        file.append(record(videos[0]))
        before = path.stat().st_ino
        file.finish()
    assert path.stat().st_ino == before


def test_a_symlink_stays_one(tmp_path: Path, videos: list[Path]) -> None:
    link = tmp_path / "link.jsonl"
    link.symlink_to(tmp_path / "real.jsonl")
    with RecordFile(link) as file:
        file.append(record(videos[0]))
        file.append(record(videos[0]))
        file.finish()
    assert link.is_symlink()
    assert len((tmp_path / "real.jsonl").read_text().splitlines()) == 1
    assert list(done(link)) == [str(videos[0])]


def test_a_line_cut_short_by_a_kill_is_dropped_and_no_other(tmp_path: Path, videos: list[Path]) -> None:
    path = tmp_path / "out.jsonl"
    with RecordFile(path) as file:
        file.append(record(videos[0]))
        file.append(record(videos[1]))
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    assert list(done(path)) == [str(videos[0])]
    with RecordFile(path) as file:
        file.append(record(videos[1]))
    assert path.read_bytes() == whole


def test_a_whole_last_line_that_lost_its_newline_is_kept(tmp_path: Path, videos: list[Path]) -> None:
    path = tmp_path / "out.jsonl"
    with RecordFile(path) as file:
        file.append(record(videos[0]))
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with RecordFile(path) as file:
        assert [path for path, _ in file.finished("a" * 16)] == [str(videos[0])]
        file.append(record(videos[1]))
    assert [json.loads(line)["video"]["path"] for line in path.read_text().splitlines()] == [
        str(videos[0]),
        str(videos[1]),
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"dear reader\n",
        b"dear reader",
        b"{}",
        b'{"a": 1}\n',
        b"[" * 100_000,
        b"\xff\xfe\0binary",
        b'{"video": {"path": 3}}',
    ],
)
def test_a_file_that_is_not_ours_is_refused_before_it_is_touched(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "thesis.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"line 1 of .*thesis.txt is not a record"), RecordFile(path):
        pass
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_a_strange_line_among_ours_is_refused_before_it_is_touched(tmp_path: Path, videos: list[Path]) -> None:
    path = tmp_path / "out.jsonl"
    with RecordFile(path) as file:
        file.append(record(videos[0]))
    content = path.read_bytes() + b"my notes"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"line 2 of .*out.jsonl is not a record"), RecordFile(path):
        pass
    assert path.read_bytes() == content


@needs_signals
def test_a_second_run_is_refused_and_harms_nothing(tmp_path: Path, videos: list[Path]) -> None:
    path = tmp_path / "out.jsonl"
    code = (
        "import sys; from pathlib import Path; from tsq_cli.record_file import RecordFile;"
        "RecordFile(Path(sys.argv[1])).__enter__()"
    )
    with RecordFile(path) as file:
        file.append(record(videos[0]))
        other = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
        assert "another run is writing to" in other.stderr
        file.append(record(videos[1]))
    assert len(path.read_text().splitlines()) == 2
    with RecordFile(path) as file:
        file.append(record(videos[2]))


@needs_fifos
def test_a_pipe_takes_lines_and_remembers_nothing(tmp_path: Path, videos: list[Path]) -> None:
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_text()))
    reader.start()
    with RecordFile(fifo) as file:
        assert list(file.finished("a" * 16)) == []
        assert file.journal is None
        file.append(record(videos[0]))
        file.finish()
    reader.join(30)
    assert json.loads(got[0])["video"]["path"] == str(videos[0])
    assert sorted(os.listdir(tmp_path)) == [*(video.name for video in videos), "pipe"]


def test_a_name_of_the_longest_length_works(tmp_path: Path, videos: list[Path]) -> None:
    path = tmp_path / ("n" * 249 + ".jsonl")
    with RecordFile(path) as file:
        file.append(record(videos[0]))
    assert list(done(path)) == [str(videos[0])]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said(tmp_path: Path) -> None:
    with RecordFile(Path("/dev/full")) as file, pytest.raises(OutputError, match="No space left"):
        file.append({"status": "ok", "video": {"path": "a"}})


def test_a_write_that_fails_midway_is_taken_back(tmp_path: Path, videos: list[Path]) -> None:
    file = RecordFile(tmp_path / "out.jsonl")
    with file:
        file.append(record(videos[0]))
        assert file._stream is not None
        real_write = file._stream.write
        calls = []

        class FillingUp:
            """The first write takes ten bytes, the second finds the disk full."""

            def __getattr__(self, name: str) -> Any:
                return getattr(file_stream, name)

            def write(self, data: bytes) -> int:
                calls.append(len(data))
                if len(calls) == 2:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return int(real_write(data[:10]) or 0)

        file_stream = file._stream
        file._stream = FillingUp()  # type: ignore[assignment]
        with pytest.raises(OutputError, match="No space left"):
            file.append(record(videos[1]))
        file._stream = file_stream
    assert len(calls) == 2
    assert [json.loads(line)["video"]["path"] for line in file.path.read_text().splitlines()] == [str(videos[0])]
