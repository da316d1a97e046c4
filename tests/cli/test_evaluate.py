"""`tsq evaluate` from the outside: streams, files, exit codes."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Result
from tests.evaluation.world import write_list
from tests.packs.making import make_pack
from tsq_cli.evaluation import evaluate as evaluation

Tsq = Callable[..., Result]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    write_list(folder)
    make_pack(folder / "small")
    return folder


def options(given: Path) -> list[str | Path]:
    return [
        "evaluate", given / "list.txt", "--root", given / "videos", "--pack", given / "small",
        "--recognizer", "embedded", "--resamples", "20", "-k", "1,2", "--cache", given / "cache",
    ]  # fmt: skip


def test_tables_go_to_stdout_talk_to_stderr_and_a_broken_video_is_an_exit_code(tsq: Tsq, given: Path) -> None:
    result = tsq(*options(given))
    assert result.code == 1  # broken.mkv
    for words in ("2 of 4 frames, 6 videos of 3 classes", "TSQNet (both modules)", "mAP by number of frames", "oracle"):
        assert words in result.out, words
    for words in ("found 7 of 8 videos", "1 missing: gone.mkv", "recognizer: test_efficientnet", "broken.mkv"):
        assert words in result.err, words


def test_an_early_exit_is_tuned_and_then_measured(tsq: Tsq, given: Path, tmp_path: Path) -> None:
    tuned = tsq(*options(given), "--selectors", "tsq", "--tune-early-exit", tmp_path / "exit.json")
    assert f"early exit: {tmp_path / 'exit.json'}, to be copied into settings of pack.json" in tuned.err
    found = json.loads((tmp_path / "exit.json").read_text())
    assert set(found) == {"pooling", "evidence_visual", "evidence_textual", "early_exit"}
    refused = tsq(*options(given), "--early-exit")
    assert refused.code == 2
    assert "the pack has none" in refused.err
    pack = tmp_path / "small"
    shutil.copytree(given / "small", pack)
    document = json.loads((pack / "pack.json").read_text())
    document["settings"] |= found
    (pack / "pack.json").write_text(json.dumps(document))
    result = tsq(*options(given), "--pack", pack, "--early-exit", "--selectors", "tsq,uniform", "--pooling", "logits")
    for words in ("tsq early exit", "Early exit: at most", "mAP over no exit", "Pooling of the frames: logits."):
        assert words in result.out, words


def test_an_early_exit_that_no_bar_allows_is_said_and_not_written(
    tsq: Tsq, given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "tune_early_exit", lambda *_, **__: None)
    tuned = tsq(*options(given), "--selectors", "tsq", "--tune-early-exit", tmp_path / "exit.json")
    assert "no early exit: each bar may lose more than 1.0% of the videos, or" in tuned.err
    assert f"{tmp_path / 'exit.json'} is not written" in tuned.err
    assert not (tmp_path / "exit.json").exists()


def test_files_are_written_where_asked(tsq: Tsq, given: Path, tmp_path: Path) -> None:
    names = ["all.json", "tables.md", "cost.png", "drawn"]
    flags = ["--report", "--markdown", "--plot", "--sheets"]
    files = [word for flag, name in zip(flags, names, strict=True) for word in (flag, tmp_path / name)]
    result = tsq(*options(given), *files, "--sheet-ids", "2.mkv, 5.mkv", "--selectors", "tsq,uniform,random")
    assert result.code == 1
    report = json.loads((tmp_path / "all.json").read_text())
    rows = [(row["selector"], row["k"]) for row in report["rows"]]
    assert rows == [(rule, k) for rule in ("tsq", "uniform", "random") for k in (1, 2)]
    assert report["seeds"] == [0, 1, 2, 3, 4]
    origin = report["provenance"]
    assert (origin["dtype"], origin["engine"], origin["device"]) == ("float32", "torch", "cpu")
    assert origin["seeds"] == {"random": [0, 1, 2, 3, 4], "bootstrap": 0}
    (listed,) = origin["lists"]
    assert listed["sha256"] == hashlib.sha256((given / "list.txt").read_bytes()).hexdigest()
    assert (listed["name"], listed["num_videos"], listed["num_missing"]) == ("list.txt", 7, 1)
    assert "Measured in float32 on " in (tmp_path / "tables.md").read_text()
    assert "| TSQNet (both modules) |" in (tmp_path / "tables.md").read_text()
    assert "the visual module sees 64 pixels" in (tmp_path / "tables.md").read_text()
    with Image.open(tmp_path / "cost.png") as picture:
        assert picture.size == (1200, 750)
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["01-2.mkv.png", "02-5.mkv.png", "sheets.md"]


def test_one_sheet_in_the_papers_layout(tsq: Tsq, given: Path, tmp_path: Path) -> None:
    lines = [f"{number}.mkv {label}\n" for number, label in enumerate(("cat", "cat", "cat", "cat", "dog", "tree"))]
    (tmp_path / "list.txt").write_text("".join(lines))
    own = [tmp_path / "list.txt" if word == given / "list.txt" else word for word in options(given)]
    result = tsq(*own, "--selectors", "tsq,uniform", "--sheets", tmp_path / "drawn", "--sheet-layout", "paper")
    assert result.code == 0, result.err
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["paper.png", "sheets.md"]


def test_json_on_stdout_is_one_document_and_the_cache_leaves_nothing_to_chance(tsq: Tsq, given: Path) -> None:
    first, again = (tsq(*options(given), "--json").out for _ in range(2))
    assert first == again
    assert json.loads(first)["num_videos"] == 6


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--selectors", "tsq,best"], "the selectors are best"),
        (["-k", "1,x"], "'1,x'"),
        (["-k", "0"], "[0]"),
        (["--seeds", "0"], "0 seeds"),
        (["--plot", "cost.gif"], "cost.gif"),
        (["--sheet-ids", "1.mkv"], "--sheet-ids was given alone"),
        (["--sheets", "x", "--sheet-ids", "7.mkv"], "no video 7.mkv"),
        (["--sheet-layout", "paper"], "--sheet-layout was given alone"),
        (["--sheets", "x", "--sheet-layout", "paper", "--sheet-ids", "1.mkv"], "3 of one class, then 3"),
        (["--pack", "imagenet-lite"], "'cat'"),
        (["--pack", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_decoded(
    tsq: Tsq, given: Path, more: list[str], message: str
) -> None:
    result = tsq(*[given / "new" if word == given / "cache" else word for word in options(given)], *more)
    assert result.code == 2
    assert message in result.err
    assert not (given / "new").exists()


def test_smaller_pictures_cost_less_and_say_so(tsq: Tsq, given: Path) -> None:
    reports = [
        json.loads(tsq(*options(given), "--json", "--selectors", "tsq,uniform", *more).out)
        for more in ([], ["--input-size", "48"])
    ]
    assert reports[0]["pack"]["input_size"] > reports[1]["pack"]["input_size"] == 48
    sampler = [report["rows"][0]["giga_macs"] - report["rows"][2]["giga_macs"] for report in reports]
    assert 0 < sampler[1] < sampler[0]
    result = tsq(*options(given), "--input-size", "8")
    assert (result.code, "--input-size is 8" in result.err) == (2, True)
