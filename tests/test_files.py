"""Nothing half written under a final name; a JSONL of records that survives kills and full disks."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tsq_cli.errors import OutputError, UsageError
from tsq_cli.files import atomic_path
from tsq_cli.record_file import RecordFile


def test_a_file_appears_whole_with_ordinary_permissions(tmp_path: Path) -> None:
    final = tmp_path / "new" / "a.txt"
    with atomic_path(final) as temporary:
        temporary.write_text("whole")
        assert not final.exists()
        assert temporary.suffix == ".txt"
    assert final.read_text() == "whole"
    plain = tmp_path / "plain.txt"
    plain.touch()
    assert final.stat().st_mode == plain.stat().st_mode
    assert os.listdir(final.parent) == ["a.txt"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    final = tmp_path / "a.txt"
    final.write_text("old")

    def fill_the_disk() -> None:
        with atomic_path(final) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OutputError, match=r"a.txt: No space left.*free space"):
        fill_the_disk()
    assert os.listdir(tmp_path) == ["a.txt"]
    assert final.read_text() == "old"


def test_an_error_inside_leaves_nothing_and_passes_through(tmp_path: Path) -> None:
    def stop() -> None:
        with atomic_path(tmp_path / "a.txt"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert os.listdir(tmp_path) == []


def test_a_folder_in_the_way_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    (tmp_path / "a.txt" / "b").touch()

    def write() -> None:
        with atomic_path(tmp_path / "a.txt") as temporary:
            temporary.write_text("x")

    with pytest.raises(OutputError, match=r"a.txt"):
        write()


def record(path: Path, identity: str = "a" * 16, status: str = "ok") -> dict[str, Any]:
    size = path.stat().st_size if path.exists() else 0
    return {"video": {"path": str(path), "size_bytes": size}, "status": status, "settings_hash": identity}


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{i}.mp4" for i in range(4)]
    for i, path in enumerate(paths):
        path.write_bytes(b"x" * (i + 1))
    return paths


def test_only_what_finished_well_with_the_same_settings_and_size_is_done(tmp_path: Path, videos: list[Path]) -> None:
    file = RecordFile(tmp_path / "out.jsonl")
    assert file.finished("a" * 16) == {}
    with file:
        file.append(record(videos[0]))
        file.append(record(videos[1], status="error"))
        file.append(record(videos[2], identity="b" * 16))
        file.append(record(videos[3]))
    videos[3].write_bytes(b"changed")
    assert list(file.finished("a" * 16)) == [str(videos[0])]
    assert list(file.finished("b" * 16)) == [str(videos[2])]
    videos[0].unlink()
    assert file.finished("a" * 16) == {}


def test_a_later_record_of_a_video_wins(tmp_path: Path, videos: list[Path]) -> None:
    file = RecordFile(tmp_path / "out.jsonl")
    with file:
        file.append({**record(videos[0]), "notes": ["first"]})
        file.append({**record(videos[0]), "notes": ["second"]})
    assert file.finished("a" * 16)[str(videos[0])]["notes"] == ["second"]


def test_a_line_cut_short_by_a_kill_is_dropped_and_no_other(tmp_path: Path, videos: list[Path]) -> None:
    path = tmp_path / "out.jsonl"
    file = RecordFile(path)
    with file:
        file.append(record(videos[0]))
        file.append(record(videos[1]))
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    assert list(file.finished("a" * 16)) == [str(videos[0])]
    with file:
        file.append(record(videos[1]))
    assert path.read_bytes() == whole


def test_a_file_that_is_not_ours_is_refused_before_it_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "thesis.txt"
    path.write_text("dear reader\n")
    with pytest.raises(UsageError, match=r"line 1 of .*thesis.txt is not a record"):
        RecordFile(path).finished("a" * 16)
    assert path.read_text() == "dear reader\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said(tmp_path: Path) -> None:
    with RecordFile(Path("/dev/full")) as file, pytest.raises(OutputError, match="No space left"):
        file.append({"status": "ok"})


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
