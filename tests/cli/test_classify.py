"""`tsq classify` from the outside: what it names, where it looks, which recognizer it takes and says it takes."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.cli.conftest import DEMO, ROOT, Result
from tests.models.test_fold import lively
from tests.packs.hub import LocalHub, served_by

SCHEMA = json.loads((ROOT / "docs" / "schema.json").read_text())
Tsq = Callable[..., Result]
NOWHERE = "http://127.0.0.1:9"  # the discard port: nothing answers


def valid(record: dict[str, Any]) -> dict[str, Any]:
    jsonschema.Draft202012Validator(SCHEMA).validate(record)
    return record


def timm_says(paths: list[str]) -> torch.Tensor:
    """EfficientNet-Lite0's probabilities of each saved frame [K, 1000]: timm's own network and transform."""
    network = timm.create_model("tf_efficientnet_lite0").eval()
    saved = load_file(ROOT / "weights" / "imagenet-lite" / "visual_encoder.safetensors")
    network.load_state_dict(saved)
    transform = timm.data.create_transform(
        input_size=224, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic", crop_pct=0.875
    )
    pictures = []
    for path in paths:
        with Image.open(path) as picture:
            pictures.append(transform(picture.convert("RGB")))
    with torch.inference_mode():
        return network(torch.stack(pictures)).softmax(dim=1)


def test_the_demo_is_named_in_words_and_bars(tsq: Tsq, demo: Path) -> None:
    result = tsq("classify", demo, "--recognizer", "embedded")
    assert result.code == 0
    assert "recognizer: " in result.err
    assert "tf_efficientnet_lite0" in result.err
    assert len(result.err.splitlines()) == 1
    rows = [line for line in result.out.splitlines() if "of 5" in line and "candidates" not in line]
    assert len(rows) == 5
    assert rows[0].split("  ")[0].strip() == "Egyptian cat"
    assert "█" in rows[0]


def test_predictions_are_those_of_timm_on_the_saved_frames(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    """The pack's own pooling without its evidence, which is not in the record; tests/test_needle.py has both."""
    options = ("--recognizer", "embedded", "--json", "-o", tmp_path / "frames", "--format", "png", "--topk", "3")
    record = valid(json.loads(tsq("classify", demo, "--dtype", "float32", "--evidence", "0", *options).out))
    weights = torch.tensor([frame["score_visual"] for frame in record["frames"]])
    expected = weights / weights.sum() @ timm_says([frame["path"] for frame in record["frames"]])
    assert [entry["index"] for entry in record["predictions"]] == expected.topk(3).indices.tolist()
    for entry in record["predictions"]:
        # Decoded to 256 rows first, then resized from bytes: not to the bit what Pillow makes of the full frame.
        assert entry["score"] == pytest.approx(float(expected[entry["index"]]), abs=0.03)
    one = record["frames"][2]
    (alone,) = timm_says([one["path"]])
    assert one["predictions"][0]["index"] == int(alone.argmax())
    assert record["maps"] is None
    assert record["recognizer"]["requested"] == "embedded"
    assert {frame["map"] for frame in record["frames"]} == {None}


def test_the_same_frames_as_select_with_every_selector(tsq: Tsq, demo: Path) -> None:
    for selector in ("tsq", "uniform"):
        options = (demo, "--json", "--selector", selector, "-k", "3")
        selected = json.loads(tsq("select", *options).out)
        classified = valid(json.loads(tsq("classify", *options, "--recognizer", "embedded").out))
        positions = [[frame["position"] for frame in record["frames"]] for record in (selected, classified)]
        assert positions[0] == positions[1]
        assert selected["predictions"] is None
        assert len(classified["predictions"]) == 5
        assert selected["settings_hash"] != classified["settings_hash"]


def test_pooling_and_evidence_are_in_the_record(tsq: Tsq, demo: Path) -> None:
    names = ("pooling", "evidence_visual", "evidence_textual")
    usual = valid(json.loads(tsq("classify", demo, "--recognizer", "embedded", "--json").out))
    assert [usual["recognizer"][name] for name in names] == ["weighted-probabilities", 0.25, 0]  # the default pack's
    asked = ("--pooling", "best-two", "--evidence", "0.5,0.25")
    record = valid(json.loads(tsq("classify", demo, "--recognizer", "embedded", "--json", *asked).out))
    assert [record["recognizer"][name] for name in names] == ["best-two", 0.5, 0.25]
    assert record["settings_hash"] != usual["settings_hash"]
    assert record["predictions"][0]["label"] == "Egyptian cat"
    assert record["predictions"][0]["score"] != usual["predictions"][0]["score"]
    assert [frame["predictions"] for frame in record["frames"]] == [frame["predictions"] for frame in usual["frames"]]


def test_an_early_exit_says_how_many_frames_were_looked_at(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    asked = ("--recognizer", "embedded", "--early-exit", "--html", tmp_path / "page.html")
    record = json.loads(tsq("classify", demo, "--json", *asked[:3]).out)
    used, listed = record["recognizer"]["frames_used"], len(record["frames"])
    assert 1 <= used < listed == 5
    assert f"early exit after {used} of 5 frames" in " ".join(tsq("classify", demo, *asked).out.split())
    page = " ".join((tmp_path / "page.html").read_text().split())
    assert f"from the best {used} of the 5 selected frames and the sampler&#39;s own classes: " in page


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("--evidence", "much"), "--evidence is 'much'; wanted one number from 0 to 100, or two"),
        (("--evidence", "1,2,3"), "--evidence is '1,2,3'"),
        (("--evidence=-1",), "--evidence is '-1'"),
        (("--evidence", "1,1e9"), "--evidence is '1,1e9'"),
        (("--evidence", "1", "--selector", "uniform"), "evidence was asked for with a selector that runs no network"),
        (("--pooling", "max"), "'max' is not one of"),
        (("--early-exit", "--pooling", "logits"), "with another pooling or evidence than the pack's"),
        (("--early-exit", "-k", "6"), "with 6 frames; wanted at most 5"),
        (("--early-exit", "--selector", "vqm"), "with frames chosen by vqm; wanted those of"),
        (("--early-exit", "-n", "20"), "with num_candidates (-n) 20; wanted 16, for which its bar was tuned; use that"),
        (("--early-exit", "--sharpest"), "with sharpest (--sharpest) True; wanted False, for which its bar was tuned"),
    ],
)
def test_what_cannot_be_pooled_is_refused_before_decoding(
    tsq: Tsq, tmp_path: Path, asked: tuple[str, ...], words: str
) -> None:
    (tmp_path / "no.mp4").write_bytes(b"no video")
    result = tsq("classify", tmp_path / "no.mp4", "--recognizer", "embedded", *asked)
    assert result.code == 2
    assert words in " ".join(result.err.split())


def test_maps_lie_beside_each_other_and_say_what_they_show(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "maps"
    result = tsq("classify", demo, "--recognizer", "embedded", "--json", "--maps", folder, "--map-format", "npy")
    record = valid(json.loads(result.out))
    shown = record["maps"]
    assert (shown["label"], shown["scale"]) == (record["predictions"][0]["label"], "clip")
    left, top, right, bottom = shown["box"]
    assert (top, bottom) == pytest.approx((0.0625, 0.9375), abs=0.003)  # 224 of 256 rows
    assert (right - left) * 455 == pytest.approx(224, abs=1)
    maps = [np.load(frame["map"]) for frame in record["frames"]]
    assert {(values.shape, values.dtype) for values in maps} == {((256, 455), np.dtype(np.float32))}
    assert max(values.max() for values in maps) == pytest.approx(1.0, abs=0.05)
    columns = np.flatnonzero(np.max(maps, axis=(0, 1)))
    assert columns.min() / 455 >= left - 0.005
    assert columns.max() / 455 <= right + 0.005


@pytest.mark.parametrize("map_format", ["overlay", "heat"])
def test_maps_as_pictures(tsq: Tsq, demo: Path, tmp_path: Path, map_format: str) -> None:
    folder = tmp_path / "maps"
    options = ("--maps", folder, "--map-format", map_format, "--map-scale", "frame", "-k", "2")
    result = tsq("classify", demo, "--recognizer", "embedded", *options)
    assert result.code == 0
    assert f"maps   {folder}: 2 saved, of Egyptian cat" in result.out
    for path in folder.iterdir():
        with Image.open(path) as picture:
            assert picture.size == (455, 256)
            assert picture.mode == ("RGB" if map_format == "overlay" else "RGBA")


def test_csv_has_a_label_for_the_video_and_each_frame(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_text("not a video")
    table = tmp_path / "t.csv"
    result = tsq("classify", demo, bad, "--recognizer", "embedded", "--csv", table)
    assert result.code == 1
    assert "1 classified, 0 done before, 1 failed" in result.err
    with table.open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["label"] for row in rows[:5]} == {"Egyptian cat"}
    labels = {row["frame_label"] for row in rows[:5]}  # a frame alone can be less sure than all together
    assert labels <= {"Egyptian cat", "tiger cat", "tabby cat", "unsure"}
    assert (rows[5]["status"], rows[5]["label"]) == ("error", "")


def test_a_second_run_skips_what_is_done_with_the_same_recognizer_only(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    lines = tmp_path / "out.jsonl"
    page = tmp_path / "report.html"
    first = ("classify", demo, "--recognizer", "embedded", "--jsonl", lines)
    contents = []
    for more in ((), (), ("--html", page), ("--topk", "2"), ("--topk", "2")):
        assert tsq(*first, *more).code == 0
        contents.append(lines.read_text())
        assert len(contents[-1].splitlines()) == 1
    plain, again, paged, fewer, fewer_again = contents
    assert plain == again
    assert paged != plain, "a page needs maps, so the video is done again"
    assert fewer != paged
    assert fewer == fewer_again
    assert "demo.mp4" in page.read_text()


def test_one_page_about_good_and_bad_videos(tsq: Tsq, tmp_path: Path) -> None:
    good = Path(shutil.copy(DEMO, tmp_path / "good <b>.mp4"))
    bad = tmp_path / "bad.mp4"
    bad.write_text("not a video")
    page = tmp_path / "report.html"
    result = tsq("classify", good, bad, "--recognizer", "embedded", "--html", page)
    assert result.code == 1
    text = page.read_text()
    assert "good &lt;b&gt;.mp4" in text
    assert "good <b>.mp4" not in text
    assert "bad.mp4" in text
    assert "Egyptian cat" in text
    assert f"page: {page}" in result.err


def test_no_hub_means_the_packs_own_classifier_or_exit_3(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    with served_by(NOWHERE, tmp_path / "cache"):
        auto = tsq("classify", demo, "--json")
        named = tsq("classify", demo, "--recognizer", "resnet101", "--json")
    assert auto.code == 0, auto.err
    record = valid(json.loads(auto.out))
    assert record["recognizer"]["name"] == "tf_efficientnet_lite0"
    assert record["recognizer"]["requested"] == "auto"
    assert "resnet101" in record["recognizer"]["reason"]
    assert record["recognizer"]["reason"] in auto.err
    assert (named.code, named.out) == (3, "")
    last = named.err.strip().splitlines()
    assert len(last) == 1, named.err
    for word in ("resnet101", "tsq packs pull", "embedded"):
        assert word in last[0]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--topk", "0"), "predictions"),
        (("--recognizer", "resnet1001"), "resnet101"),
        (("--recognizer", ""), "timm model name"),
        (("--map-format", "gif"), "gif"),
        (("-k", "0"), "num_frames"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(tsq: Tsq, demo: Path, options: tuple[str, ...], word: str) -> None:
    result = tsq("classify", demo, *options)
    assert result.code == 2
    assert result.out == ""
    assert len(result.err.strip().splitlines()) == 1
    assert word in result.err


def test_the_whole_chain_with_resnet101_from_a_hub(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = lively(timm.create_model("resnet101"))
    folder = tmp_path / "resnet101"
    folder.mkdir()
    save_file(network.state_dict(), folder / "model.safetensors")
    frames, maps = tmp_path / "frames", tmp_path / "maps"
    with LocalHub({"timm/resnet101.a1h_in1k": folder}) as hub, served_by(hub.url, tmp_path / "cache"):
        options = ("-k", "3", "--json", "-o", frames, "--format", "png", "--maps", maps, "--map-format", "npy")
        done = tsq("classify", demo, "--dtype", "float32", *options)
    assert done.code == 0, done.err
    record = valid(json.loads(done.out))
    assert record["recognizer"]["name"] == "resnet101.a1h_in1k"
    assert record["recognizer"]["source"] == "timm"
    assert f"recognizer: resnet101.a1h_in1k, from the hub at {hub.url}" in done.err
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    pictures = []
    for frame in record["frames"]:
        with Image.open(frame["path"]) as picture:
            pictures.append(transform(picture.convert("RGB")))
    with torch.inference_mode():
        activations = network.forward_features(torch.stack(pictures))
        expected = network.forward_head(activations).mean(dim=0)
    first = record["predictions"][0]
    assert first["index"] == int(expected.argmax())
    assert first["score"] == pytest.approx(float(expected.softmax(dim=0).max()), rel=0.1)
    by_hand = torch.einsum("d,kdhw->khw", network.fc.weight[first["index"]], activations).relu()
    hottest = by_hand.flatten(1).amax(dim=1)  # of each frame, on the scale that all share
    for frame, value in zip(record["frames"], (hottest / hottest.max()).tolist(), strict=True):
        assert np.load(frame["map"]).max() == pytest.approx(value, abs=0.12)


def test_a_network_without_places_classifies_but_gives_no_maps(tsq: Tsq, demo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "vit"
    timm.models.save_for_hf(timm.create_model("test_vit"), folder, model_args={})
    assert (folder / "config.json").is_file()
    named = ("classify", demo, "--recognizer", f"local-dir:{folder}", "-k", "1")
    assert tsq(*named).code == 0
    refused = tsq(*named, "--maps", tmp_path / "maps")
    assert refused.code == 2
    assert "classifies from its class token" in refused.err
    assert not (tmp_path / "maps").exists()
