"""`--parquet`: a row per video in files that other tools read."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Result

pa = pytest.importorskip("pyarrow")
dataset = pytest.importorskip("pyarrow.dataset")
parquet = pytest.importorskip("pyarrow.parquet")

Tsq = Callable[..., Result]


def rows(folder: Path) -> list[dict[str, Any]]:
    return dataset.dataset(folder, format="parquet").to_table().to_pylist()  # type: ignore[no-any-return]


def test_rows_say_what_the_records_say(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    (demo.parent / "empty.mp4").touch()
    result = tsq("classify", demo, demo.parent / "empty.mp4", "-k", "2", "-o", tmp_path / "frames", "--json",
                 "--recognizer", "embedded", "--parquet", tmp_path / "rows")  # fmt: skip
    assert result.code == 1
    good, bad = json.loads(result.out)
    first, second = rows(tmp_path / "rows")
    assert json.loads(first["record"]) == good
    assert first["path"] == str(demo)
    assert first["duration_seconds"] == 26
    assert first["time_seconds"] == [frame["time_seconds"] for frame in good["frames"]]
    assert all(Path(file).is_file() for file in first["file"])
    assert (first["label"], first["label_score"]) == (
        good["predictions"][0]["label"],
        good["predictions"][0]["score"],
    )
    assert second["status"] == "error"
    assert second["error"] == bad["error"]["message"]
    assert second["label"] is None


def test_files_are_written_as_they_are_full_and_those_of_an_earlier_run_give_way(
    tsq: Tsq, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tsq_cli.cli.parquet_shards.ROWS", 2)
    names = [*"abcd", os.fsdecode(b"\xff")]
    for name in names:
        shutil.copy(demo, tmp_path / f"{name}.mp4")
    videos = [tmp_path / f"{name}.mp4" for name in names]
    options = ["--selector", "uniform", "--jsonl", tmp_path / "out.jsonl", "--parquet", tmp_path / "rows"]
    assert tsq("select", *videos, *options).code == 0
    files = ["records-00000.parquet", "records-00001.parquet", "records-00002.parquet"]
    assert sorted(os.listdir(tmp_path / "rows")) == files
    assert [parquet.read_metadata(tmp_path / "rows" / file).num_rows for file in files] == [2, 2, 1]
    assert rows(tmp_path / "rows")[4]["path"] == f"{tmp_path}/\\udcff.mp4"

    # All five are done; what the earlier run wrote is replaced by this run's rows, not added to.
    assert tsq("select", *videos[:3], *options).code == 0
    assert sorted(os.listdir(tmp_path / "rows")) == files[:2]
    assert [row["path"] for row in rows(tmp_path / "rows")] == [str(video) for video in videos[:3]]


def test_a_file_that_tsq_did_not_write_is_kept(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "rows" / "records-00007.parquet"
    theirs.parent.mkdir()
    parquet.write_table(pa.table({"a": [1]}), theirs)
    before = theirs.read_bytes()
    result = tsq("select", demo, "--selector", "uniform", "--parquet", theirs.parent)
    assert result.code == 2
    assert "records-00007.parquet was not written by tsq; wanted a folder without it" in result.err
    assert [*theirs.parent.iterdir()] == [theirs]
    assert theirs.read_bytes() == before


def test_another_run_writes_into_another_folder(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    from tsq_cli.cli.parquet_shards import ParquetShards

    with ParquetShards(tmp_path / "rows"):
        result = tsq("select", demo, "--selector", "uniform", "--parquet", tmp_path / "rows")
    assert result.code == 2
    assert "another run is writing to --parquet" in result.err
    assert [*(tmp_path / "rows").iterdir()] == []


def test_an_interrupted_run_leaves_the_rows_it_has(
    tsq: Tsq, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tsq_cli.cli import output

    shutil.copy(demo, tmp_path / "b.mp4")

    def stop(record: dict[str, Any]) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(output, "video_line", stop)
    monkeypatch.setattr(output, "MOST_TABLES", 0)
    result = tsq("select", demo, tmp_path / "b.mp4", "--selector", "uniform", "--parquet", tmp_path / "rows")
    assert result.code == 130
    assert [row["path"] for row in rows(tmp_path / "rows")] == [str(demo)]
