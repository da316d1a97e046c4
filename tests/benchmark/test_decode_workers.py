"""Threads beside processes: both decode every file, and what they took is written down."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks import decode_workers
from tests.cli.conftest import DEMO
from tsq_cli import SelectSettings
from tsq_cli.clip import load_clip


def test_all_candidates_of_all_files_are_decoded() -> None:
    with ThreadPoolExecutor(2) as pool:
        assert decode_workers.decode_all(pool, [str(DEMO)] * 3) == 3 * 16
    clip = load_clip(DEMO, SelectSettings())
    assert (decode_workers.decode(str(DEMO)) == clip.batch.pixels).all()
    clip.close()


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "workers.json"
    arguments = [str(DEMO), str(DEMO), "--workers", "2", "--repeats", "1", "--json", str(target)]
    assert decode_workers.main(arguments) == 0
    report = json.loads(target.read_text())
    assert report["videos"] == 2
    assert [(row["kind"], row["workers"]) for row in report["rows"]] == [("threads", 2), ("processes", 2)]
    for row in report["rows"]:
        assert row["videos_per_second"] == pytest.approx(2 / row["timing"]["seconds"][0])
    assert "2 processes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no_such.mp4"], "no_such.mp4"),
        ([str(DEMO), "--workers", "0"], "--workers is 0"),
        ([str(DEMO), "--repeats", "0"], "--repeats is 0"),
    ],
)
def test_wrong_use_is_explained(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert decode_workers.main(arguments) == 2
    assert message in capsys.readouterr().err
