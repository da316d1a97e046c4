"""The composer of examples/needle.py: its truth is read back from decoded pixels; the photographs are plain colors."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tsq_cli import Classifier
from tsq_cli.clip import load_clip
from tsq_cli.config import SelectSettings
from tsq_cli.consensus import Consensus, EarlyExit
from tsq_cli.errors import InputNotFoundError, UsageError
from tsq_cli.packs import Pack, load_pack
from tsq_cli.selection import Choice

EXAMPLES = Path(__file__).parents[1] / "examples"
NUM_PHOTOS = 40
COUNTS = {"plain": 2, "hard": 1, "long": 1, "blanks": 1, "lone": 1}


@pytest.fixture(scope="module")
def needle() -> ModuleType:
    """The example as a module; its folder is on the path only while it is imported."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        return importlib.import_module("needle")
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def measures(needle: ModuleType) -> ModuleType:
    """Its part that reads and scores videos."""
    return sys.modules["needle_measure"]


def color_of(index: int) -> tuple[int, int, int]:
    """A color per class, at least 40 levels from every other one in some channel."""
    return 40 + 50 * (index % 4), 40 + 50 * (index // 4 % 4), 40 + 50 * (index // 16)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One plain color per class, portrait and landscape in turn."""
    folder = tmp_path_factory.mktemp("photos")
    for index in range(NUM_PHOTOS):
        size = (341, 256) if index % 2 else (256, 384)
        Image.new("RGB", size, color_of(index)).save(folder / f"{index:03d}_n{index:08d}_class_{index}.jpg", quality=95)
    return folder


@pytest.fixture(scope="module")
def videos(needle: ModuleType, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few composed videos of both parts and all variants."""
    folder = tmp_path_factory.mktemp("videos")
    needle.compose(photos, folder, COUNTS, seed=3)
    return folder


def truths(videos: Path, part: str, variant: str) -> list[tuple[Path, dict[str, Any]]]:
    """Paths of the videos of a folder, each with its truth."""
    files = sorted((videos / part / variant).glob("[0-9]*.json"))
    return [(path.with_suffix(".mp4"), json.loads(path.read_text())) for path in files]


def shown_class(pixels: np.ndarray) -> int | None:
    """The class whose color fills a decoded picture [H, W, 3], None where no color comes near."""
    mean = pixels.reshape(-1, 3).mean(axis=0)
    error = [np.abs(mean - color_of(index)).max() for index in range(NUM_PHOTOS)]
    return int(np.argmin(error)) if min(error) < 12 else None


@pytest.mark.parametrize("part", ["tuning", "held-out"])
@pytest.mark.parametrize("variant", ["plain", "long"])
def test_the_truth_is_what_the_pixels_show(measures: ModuleType, videos: Path, part: str, variant: str) -> None:
    found = truths(videos, part, variant)
    assert len(found) == COUNTS[variant]
    event_shots = {"plain": 2, "long": 4}[variant]
    for path, truth in found:
        clip = load_clip(path, SelectSettings())
        shown = [shown_class(pixels) for pixels in clip.batch.pixels]
        event = truth["event"]["class_index"]
        in_truth = measures.truth_of(truth["event"]["seconds"], clip.batch.pts_seconds)
        clip.close()
        assert in_truth.sum() == event_shots
        assert [one == event for one in shown] == in_truth.tolist()
        others = [one for one in shown if one != event]
        assert None not in others
        assert len(set(others)) == len(others) == 16 - event_shots


def test_the_two_parts_share_no_class(needle: ModuleType, photos: Path, videos: Path) -> None:
    parts = {
        part: {
            shot["photo"]
            for variant in COUNTS
            for _, truth in truths(videos, part, variant)
            for shot in truth["shots"]
            if "photo" in shot
        }
        for part in ("tuning", "held-out")
    }
    assert parts["tuning"].isdisjoint(parts["held-out"])
    found = [{photo.path.name for photo in needle.find_photos(photos, part)} for part in ("tuning", "held-out")]
    assert found[0].isdisjoint(found[1])
    assert found[0] | found[1] == {path.name for path in photos.iterdir()}
    assert parts["tuning"] <= found[0]


def test_every_candidate_falls_into_its_own_shot(videos: Path) -> None:
    path, truth = truths(videos, "held-out", "plain")[0]
    clip = load_clip(path, SelectSettings())
    seconds = clip.batch.pts_seconds
    clip.close()
    assert np.floor(seconds).astype(int).tolist() == list(range(16))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", truth["width"], truth["height"])
        assert sum(1 for _ in container.decode(stream)) == 16 * truth["fps"]


@pytest.mark.parametrize(("variant", "event_shots", "other_shots"), [("blanks", 2, 9), ("lone", 1, 0)])
def test_blank_shots_hide_the_event_nowhere(videos: Path, variant: str, event_shots: int, other_shots: int) -> None:
    _, truth = truths(videos, "tuning", variant)[0]
    kinds = [shot["kind"] for shot in truth["shots"]]
    assert kinds.count("event") == event_shots
    assert kinds.count("other") == other_shots
    assert set(kinds) - {"event", "other"} <= {"title card", "plain color", "dark", "blurred"}
    event_photo = {shot["photo"] for shot in truth["shots"] if shot["kind"] == "event"}
    assert len(event_photo) == 1
    assert all(shot.get("photo") not in event_photo for shot in truth["shots"] if shot["kind"] != "event")


def test_hard_events_are_cropped_and_recolored(videos: Path) -> None:
    _, truth = truths(videos, "tuning", "hard")[0]
    for shot in truth["shots"]:
        widths = (shot["look"]["start"][2], shot["look"]["end"][2])
        recolored = shot["look"]["brightness"] != 1.0
        assert recolored == (shot["kind"] == "event")
        low, high = (0.35, 0.7) if shot["kind"] == "event" else (0.6, 1.0)
        assert low * 0.95 <= min(widths) < max(widths) <= min(1.0, high * 1.05)


def test_the_camera_moves_as_the_truth_says(needle: ModuleType) -> None:
    ramp = np.tile(np.linspace(0, 255, 680, dtype=np.uint8)[None, :, None], (512, 1, 3))
    picture = Image.fromarray(ramp)
    videos_module = sys.modules["needle_videos"]
    photo = videos_module.Photo(path=Path("ramp.jpg"), class_index=0, class_name="ramp")
    # Half the width, at the right edge: the ramp's second half, so its middle is three quarters of 255.
    look = videos_module.Look(start=(1.0, 0.5, 0.5), end=(0.0, 0.5, 0.5))
    shot = videos_module.Shot("event", photo, look)
    for progress, expected in ((0.0, 0.75), (0.5, 0.5), (1.0, 0.25)):
        drawn = np.asarray(videos_module.draw(shot, progress, lambda path: picture))
        assert drawn.shape == (256, 340, 3)
        assert drawn.mean() == pytest.approx(255 * expected, abs=1.5)


def test_the_same_seed_gives_the_same_plan_and_finished_videos_are_kept(
    needle: ModuleType, photos: Path, videos: Path, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in videos.rglob("*.mp4")}
    needle.compose(photos, videos, COUNTS, seed=3)
    assert {path: path.stat().st_mtime_ns for path in videos.rglob("*.mp4")} == before
    few = dict.fromkeys(COUNTS, 0) | {"plain": 1}
    needle.compose(photos, tmp_path, few, seed=3)
    assert truths(tmp_path, "tuning", "plain")[0][1] == truths(videos, "tuning", "plain")[0][1]
    needle.compose(photos, tmp_path, few, seed=4)  # a video of another seed is no finished one
    assert truths(tmp_path, "tuning", "plain")[0][1]["shots"] != truths(videos, "tuning", "plain")[0][1]["shots"]


def test_recall_counts_the_event_frames_found(measures: ModuleType) -> None:
    truth = np.zeros(16, dtype=bool)
    truth[[2, 9]] = True
    assert measures.recall([Choice(i, "uniform") for i in (1, 2, 3, 4, 5)], truth) == 0.5
    assert measures.recall([Choice(i, "uniform") for i in (9, 2, 3, 4, 5)], truth) == 1.0
    truth[:8] = True  # nine event frames and five choices: all five can be right, no more
    assert measures.recall([Choice(i, "uniform") for i in (0, 1, 2, 3, 15)], truth) == pytest.approx(0.8)


def test_the_interval_holds_the_mean_and_narrows_with_more_videos(measures: ModuleType) -> None:
    few, many = measures.summary([0.0, 1.0] * 10), measures.summary([0.0, 1.0] * 1000)
    for found in (few, many):
        assert found["mean"] == 0.5
        assert found["low"] < 0.5 < found["high"]
    # A proportion of 0.5 over n videos has a standard error of 0.5 / sqrt(n), and 1.96 of them on each side.
    assert few["high"] - few["low"] == pytest.approx(2 * 1.96 * 0.5 / 20**0.5, rel=0.2)
    assert many["high"] - many["low"] == pytest.approx(2 * 1.96 * 0.5 / 2000**0.5, rel=0.2)


def test_photographs_that_are_missing_or_misnamed_are_named(needle: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(InputNotFoundError, match=r"0 \.jpg files"):
        needle.find_photos(tmp_path, "tuning")
    for index in range(32):
        (tmp_path / f"cat{index}.jpg").touch()
    with pytest.raises(UsageError, match="names no class"):
        needle.find_photos(tmp_path, "held-out")
    assert needle.main(["compose", "--photos", str(tmp_path / "none"), "--videos", str(tmp_path)]) == 2


@pytest.fixture(scope="module")
def pack() -> Pack:
    return load_pack("imagenet-lite")


@pytest.fixture(scope="module")
def read(measures: ModuleType, pack: Pack, videos: Path) -> dict[int, list[Any]]:
    """The plain held-out videos, by what the sampler looks at."""
    return measures.read_videos(pack, videos, "held-out", "plain", (96, pack.visual_preprocessor.input_size))


def test_tuning_rebuilds_the_saliency_of_the_pipeline(
    needle: ModuleType, measures: ModuleType, pack: Pack, read: dict[int, list[Any]]
) -> None:
    chosen = needle.pack_settings(pack)
    for videos_read in read.values():
        assert len(videos_read) == COUNTS["plain"]
        same = measures.rescore(pack, videos_read, chosen)
        other = measures.rescore(pack, videos_read, {**chosen, "visual_scale": 0.1, "textual_scale": 1.0})
        for video, again, changed in zip(videos_read, same, other, strict=True):
            np.testing.assert_allclose(again.visual, video.visual, rtol=1e-5)
            np.testing.assert_allclose(again.textual, video.textual, rtol=1e-5)
            assert np.abs(changed.visual / video.visual - 1).max() > 0.01
            assert np.abs(changed.textual / video.textual - 1).max() > 0.01
            for z, z_again in zip(video.classes, again.classes, strict=True):
                torch.testing.assert_close(z_again, z, rtol=1e-4, atol=1e-4)
        settings = pack.config.settings
        measured = measures.measure(videos_read, settings.lambda_v, settings.consensus)
        assert measured["random"]["recall"]["mean"] == pytest.approx(5 / 16, abs=0.2)
        assert set(measured["fused"]) == {"accuracy", "recall"}


def test_the_samplers_size_changes_what_it_sees_and_not_what_the_recognizer_sees(read: dict[int, list[Any]]) -> None:
    for small, own in zip(*read.values(), strict=True):
        assert torch.equal(small.recognized, own.recognized)
        assert not torch.allclose(small.features, own.features, rtol=0.1)


def test_accuracy_is_what_the_classify_chain_says(
    measures: ModuleType, pack: Pack, videos: Path, read: dict[int, list[Any]]
) -> None:
    classifier = Classifier.load("imagenet-lite", recognizer="embedded", dtype="float32", device="cpu")
    settings = pack.config.settings
    paths = sorted((videos / "held-out" / "plain").glob("*.mp4"))
    for path, video in zip(paths, read[pack.visual_preprocessor.input_size], strict=True):
        record = classifier.classify(path)
        chosen = [Choice(frame.candidate.position, frame.chosen_by) for frame in record.frames]
        first = record.predictions[0]
        # The default pack weighs the frames' probabilities by S^v, and its visual module's own count as their root.
        positions = [choice.position for choice in chosen]
        weights = video.visual[positions] / video.visual[positions].sum()
        p = (weights[:, None] * video.recognized[positions].softmax(dim=1).numpy()).sum(axis=0)
        p *= video.classes[0].softmax(dim=0).numpy() ** 0.25
        p **= 1 / settings.words.recognizer_temperature
        assert p[first.index] / p.sum() == pytest.approx(first.score, rel=1e-3)
        for right in (first.index, 1000):
            assert measures.is_right(replace(video, class_index=right), chosen, settings.consensus) == (right < 1000)


def synthetic(measures: ModuleType, recognized: Tensor, *, right: int, own: int, best: int) -> Any:
    """A video of 16 frames and 10 classes whose sampler looks at frame `best` and says class `own`."""
    logits = torch.zeros(16, 10)
    logits[:, own] = 9.0
    curve = np.full(16, 0.02)
    curve[best] = 0.7
    classes = 9.0 * torch.eye(10)[own]
    return measures.Video(
        truth=curve > 0.5,
        class_index=right,
        features=torch.zeros(16, 4),
        logits=logits,
        recognized=recognized,
        visual=curve,
        textual=curve,
        classes=(classes, classes),
    )


def test_accuracy_asks_the_recognizer_and_not_the_sampler(measures: ModuleType) -> None:
    recognized = torch.zeros(16, 10)
    recognized[[2, 5], 3] = 1.0
    chosen = [Choice(2, "visual"), Choice(5, "textual")]
    for right in (3, 7):
        video = synthetic(measures, recognized, right=right, own=7, best=2)
        assert measures.is_right(video, chosen, Consensus()) == (right == 3)
        # class 3 is ahead by a logit of one, class 7 by 9 times the weight in the evidence
        assert measures.is_right(video, chosen, Consensus(evidence_visual=0.1)) == (right == 3)
        assert measures.is_right(video, chosen, Consensus(evidence_visual=0.2)) == (right == 7)


def test_only_rows_with_a_sampler_have_its_scores(measures: ModuleType) -> None:
    """Frame 4, which the sampler prefers, shows class 3 weakly; the others show class 5 more strongly."""
    recognized = torch.zeros(16, 10)
    recognized[:, 5] = 1.0
    recognized[4] = 2.0 * torch.eye(10)[3]
    weighted = Consensus(pooling="weighted-logits")  # frame 4 weighs 0.7 of 0.78 and of 1.0
    videos = [synthetic(measures, recognized, right=3, own=0, best=4)]
    (row,) = measures.compared({"plain": videos}, 0.6, [weighted])
    assert row["plain"] == {
        "fused": 1.0, "two that agree": 0.0, "uniform": 0.0, "all 16": 0.0, measures.ALL_SCORED: 1.0
    }  # fmt: skip
    ways = measures.measure(videos, 0.6, weighted)
    assert [ways[way]["accuracy"]["mean"] for way in ("fused", "uniform", "all 16", "random")] == [1.0, 0.0, 0.0, 0.0]
    (row,) = measures.compared({"plain": videos}, 0.6, [Consensus()])
    assert set(row["plain"].values()) == {0.0}  # five frames: 4 / 5 of class 5, 2 / 5 of class 3


def test_an_early_exit_is_measured_frame_by_frame(measures: ModuleType) -> None:
    """One video whose best frame is sure and right; one that is never sure, and right only by its last frames."""
    sure, unsure = torch.zeros(16, 10), torch.zeros(16, 10)
    sure[4, 3] = 9.0
    unsure[4, 5], unsure[[0, 1, 2, 3], 3] = 1.0, 0.5
    videos = [synthetic(measures, recognized, right=3, own=0, best=4) for recognized in (sure, unsure)]
    ordered = [replace(video, visual=np.linspace(0.2, 0.1, 16), textual=video.visual) for video in videos]
    for video in ordered:
        video.visual[4] = 0.7
    found = measures.early_exit(ordered, 1.0, Consensus(), EarlyExit(bar=0.9, temperatures=(1.0,) * 5))
    assert found == {"accuracy_all": 1.0, "accuracy": 1.0, "mean_frames": 3.0}  # of 1 and 5
    found = measures.early_exit(ordered, 1.0, Consensus(), EarlyExit(bar=0.2, temperatures=(1.0,) * 5))
    assert found == {"accuracy_all": 1.0, "accuracy": 0.5, "mean_frames": 1.0}  # e / (e + 9) = 0.23


def test_the_samplers_cost_is_that_of_its_network(needle: ModuleType, pack: Pack) -> None:
    # Its authors (tensorflow/tpu, efficientnet/lite) give EfficientNet-Lite0 407 million multiply-adds at 224 pixels,
    # with a few that are no convolution. Of 7 x 7 places in the last stage, 96 pixels leave 3 x 3.
    assert needle.sampler_cost(pack, 224) == pytest.approx(16 * 0.407, rel=0.06)
    assert needle.sampler_cost(pack, 96) == pytest.approx(needle.sampler_cost(pack, 224) * 9 / 49, rel=0.02)


def test_the_table_of_sizes_takes_each_ones_best_scales(needle: ModuleType) -> None:
    def row(size: int, floor: float, fused: float) -> dict[str, Any]:
        scores = {"fused": fused, "VQM": 0.5, "TQM": 0.25, "accuracy": 0.125}
        return {
            "input_size": size,
            "giga_macs": size / 100,
            "competition_floor": floor,
            "visual_scale": 0.2,
        } | dict.fromkeys(COUNTS, scores)

    accuracy = {name: {"uniform": 0.1, "all 16": 0.2} for name in COUNTS}
    rows = [row(224, 5.0, 0.7), row(224, 6.0, 0.9), row(96, 5.0, 0.8), row(96, 6.0, 0.6)]
    table = sys.modules["needle_report"].size_table({"input_sizes": rows, "accuracy": accuracy})
    assert table[2:4] == [
        "| 224 | 2.24 | 6 | 0.2 | 90.0 | 90.0 | 90.0 | 90.0 | 90.0 | 90.0 | 50.0 | 25.0 | 12.5 |",
        "| 96 | 0.96 | 5 | 0.2 | 80.0 | 80.0 | 80.0 | 80.0 | 80.0 | 80.0 | 50.0 | 25.0 | 12.5 |",
    ]
    assert table[-1] == "Accuracy without a sampler, mean: uniform 10.0, all 16 20.0."
