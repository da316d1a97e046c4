"""Memory of runs over many files: files are copied in turns, and what each process held is written down."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks import memory
from tests.video.clips import clip

SMALL = clip("h264_all_keyframes").path


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Two videos, and one that cannot be opened."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a.mp4", "c.mp4"):
        shutil.copy(SMALL, folder / name)
    (folder / "b.mp4").write_bytes(b"no video")
    return folder


def test_files_are_copies_of_usable_videos_in_turns(videos: Path, tmp_path: Path) -> None:
    usable = memory.usable(sorted(videos.iterdir()))
    assert [video.name for video in usable] == ["a.mp4", "c.mp4"]
    copies = sorted(memory.copied(usable, 3, tmp_path / "copies").iterdir())
    assert [copy.name for copy in copies] == ["00000-a.mp4", "00001-c.mp4", "00002-a.mp4"]
    assert {copy.read_bytes() for copy in copies} == {SMALL.read_bytes()}
    assert not any(copy.is_symlink() for copy in copies)


def test_every_command_is_run_over_a_tenth_and_over_all(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(memory, "COMMANDS", {"tsq select": ["select", "--selector", "uniform"]})  # needs no network
    target = tmp_path / "memory.json"
    assert memory.main([str(videos), "--files", "10", "--json", str(target)]) == 0
    report = json.loads(target.read_text())
    assert (report["videos"], report["workers"]) == (2, 1)
    assert [(row["command"], row["files"]) for row in report["rows"]] == [("tsq select", 1), ("tsq select", 10)]
    one, ten = report["rows"]
    assert 30 < one["peak_mib"] < 1000
    assert ten["cpu_seconds"] > one["cpu_seconds"] > 0
    assert f"{ten['peak_mib']:.0f}" in capsys.readouterr().out


def test_wrong_use_is_explained(videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert memory.main([str(videos), "--files", "9"]) == 2
    assert "--files is 9; wanted 10 or more" in capsys.readouterr().err
    (videos / "a.mp4").unlink()
    (videos / "c.mp4").unlink()
    assert memory.main([str(videos)]) == 2
    assert "no video could be used" in capsys.readouterr().err
