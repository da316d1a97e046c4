"""Early exits: a tuning whose optimum is known, and what one costs; and through files, as tsq classify leaves."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from tests.evaluation.world import Measured
from tests.packs.making import NAMES
from tsq_cli.classifier import Classifier
from tsq_cli.config import ClassifySettings, SelectorName, SelectSettings
from tsq_cli.consensus import Consensus, EarlyExit
from tsq_cli.data import read_video_list
from tsq_cli.errors import TsqError, UsageError
from tsq_cli.evaluation.compare import METRICS
from tsq_cli.evaluation.costs import Costs
from tsq_cli.evaluation.early_exit import exit_report, exit_row, frame_scores, tune_early_exit
from tsq_cli.evaluation.evaluate import evaluate
from tsq_cli.evaluation.selectors import selector_input
from tsq_cli.features.cache import FeatureCache
from tsq_cli.packs import find_pack
from tsq_cli.pipeline import Selector

COSTS = Costs(visual=6, textual=4, both=9, frame=2, num_candidates=16)


def scores_of(p: list[list[float]]) -> torch.Tensor:
    """Scores [N, K, 2] whose softmax is p and 1 - p after each frame."""
    first = torch.tensor(p, dtype=torch.float64)
    return torch.stack([first, 1 - first], dim=-1).log()


def test_the_temperatures_are_those_of_the_truth() -> None:
    """Of ten videos at 0.9 eight are right: a probability of 0.8 is the likeliest, so odds of 9 become odds of 4."""
    scores = scores_of([[0.9, 0.6]] * 10)
    targets = np.array([[True, False]] * 8 + [[False, True]] * 2)
    tuned = tune_early_exit(scores, targets)
    assert tuned is not None
    assert tuned.temperatures == pytest.approx((np.log(9) / np.log(4), np.log(1.5) / np.log(4)), rel=2e-3)
    several = torch.full((10, 2, 1), np.log(9))
    truth = np.array([[True]] * 8 + [[False]] * 2)
    found = tune_early_exit(several, truth, multi_label=True)
    assert found is not None
    assert found.temperatures[0] == pytest.approx(np.log(9) / np.log(4), rel=2e-3)


def test_the_bar_is_the_one_of_the_fewest_frames_that_loses_nothing() -> None:
    """Videos that are sure at 0.9 are right from the first frame on; those at 0.7 are wrong until the second."""
    p = [[0.9, 0.9]] * 50 + [[0.3, 0.9]] * 50
    targets = np.array([[True, False]] * 100)
    tuned = tune_early_exit(scores_of(p), targets)
    assert tuned is not None
    row, mean = exit_row(scores_of(p), tuned, COSTS, Consensus())
    assert mean == pytest.approx(1.5)
    assert (row.k, row.giga_macs) == (2, 9 + 1.5 * 2)
    assert (row.scores.argmax(axis=1) == 0).all()
    # Six in ten may be wrong, and half of them are: one frame is enough.
    lax = tune_early_exit(scores_of(p), targets, goal=0.6)
    assert lax is not None
    assert exit_row(scores_of(p), lax, COSTS, Consensus())[1] == 1.0
    # Where one frame says it all, it stops at once.
    same = tune_early_exit(scores_of([[0.9, 0.9]] * 4), targets[:4])
    assert same is not None
    assert exit_row(scores_of([[0.9, 0.9]] * 4), same, COSTS, Consensus())[1] == 1.0


@pytest.mark.parametrize(("lost", "is_early"), [(4, True), (6, False)])
def test_what_is_lost_counts_with_its_uncertainty(lost: int, is_early: bool) -> None:
    """Of 1000 videos 4 lost are at most 0.4 + 1.645 * 0.2 = 0.73 percent, 6 lost 0.6 + 1.645 * 0.244 = 1.002."""
    p = [[0.9, 0.9]] * (1000 - lost) + [[0.1, 0.9]] * lost
    tuned = tune_early_exit(scores_of(p), np.array([[True, False]] * 1000))
    assert (tuned is not None) == is_early


def test_where_every_bar_loses_too_much_there_is_none() -> None:
    """A video that is surest of the wrong class is lost by every bar that ends any video early."""
    p = [[0.1, 0.9]] * 5 + [[0.8, 0.9]] * 5
    assert tune_early_exit(scores_of(p), np.array([[True, False]] * 10)) is None
    assert tune_early_exit(scores_of([[0.9]] * 4), np.array([[True, False]] * 4)) is None  # one frame saves none


def test_an_exit_is_compared_with_the_same_scores_after_all_frames(measured: Measured) -> None:
    """An exit that never comes changes nothing, whatever its temperatures."""
    videos = read_video_list(measured.list_file, root=measured.folder / "videos")
    k = measured.pack.config.settings.num_frames
    never = replace(measured.recognizer, early_exit=EarlyExit(bar=1.0, temperatures=(3.0,) * (k - 1) + (0.1,)))
    cache = FeatureCache(measured.folder / "cache")
    report = evaluate(videos, measured.pack, never, cache, selectors=("uniform",), early_exit=True, resamples=5).report
    row, last = report["rows"][-1], report["early_exit"]["curve"][-1]
    assert report["early_exit"]["mean_frames"] == k
    assert (row["map"]["value"], row["top1"]["value"]) == (last["map"], last["top1"])
    assert row["gains"]["no_exit"] == {name: {"value": 0.0, "low": 0.0, "high": 0.0} for name in METRICS}


def test_a_report_has_the_packs_bar_among_others_and_ends_without_one() -> None:
    p = [[0.9, 0.9], [0.45, 0.8], [0.2, 0.1]]
    targets = np.array([[True, False], [True, False], [False, True]])
    exit_at = EarlyExit(bar=0.75, temperatures=(1.0, 1.0))
    report = exit_report(scores_of(p), targets, exit_at, COSTS, Consensus())
    assert [point["bar"] for point in report["curve"]] == [0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95, 0.99, None]
    own, last = report["curve"][5], report["curve"][-1]
    assert own["mean_frames"] == report["mean_frames"] == pytest.approx(4 / 3)  # the second video needs both
    assert own["top1"] == 1.0
    assert (last["mean_frames"], last["giga_macs"], last["top1"], last["map"]) == (2.0, 13.0, 1.0, 1.0)
    assert report["curve"][0]["top1"] == pytest.approx(2 / 3)  # 0.55 for the wrong class, after one frame
    json.dumps(report)


def test_frames_are_seen_best_first() -> None:
    curve = torch.tensor([[0.1, 0.5, 0.4]], dtype=torch.float64)
    logits = np.array([[[1.0, 0.0], [2.0, 0.0], [4.0, 0.0]]])
    inputs = selector_input((curve, curve), logits, np.array([[True, False]]))
    scores = frame_scores(inputs, logits, 2, Consensus())
    assert scores[0, :, 0].tolist() == [2.0, 3.0]  # frame 1, then the mean with frame 2


def test_a_clip_stops_where_it_is_sure_and_another_goes_to_its_end(measured: Measured) -> None:
    settings = SelectSettings(num_candidates=4, num_frames=3, selector="tsq")
    whole = Classifier(Selector(measured.pack), measured.recognizer, ClassifySettings(maps=False))
    every = [whole.classify(video.path, settings) for video in measured.evaluation.videos[:2]]
    sharp = 1e-4  # a temperature at which whatever is first is sure of itself
    for exit_at, used in (
        (EarlyExit(bar=0.9, temperatures=(sharp, 1.0, 1.0)), 1),
        (EarlyExit(bar=0.9, temperatures=(1.0, sharp, 1.0)), 2),
        (EarlyExit(bar=1.0, temperatures=(1.0, 1.0, 0.9)), 3),
    ):
        loaded = replace(measured.recognizer, early_exit=exit_at)
        classifier = Classifier(Selector(measured.pack), loaded, ClassifySettings(maps=True, early_exit=True))
        for video, usual in zip(measured.evaluation.videos[:2], every, strict=True):
            record = classifier.classify(video.path, settings)
            assert record.recognizer is not None
            assert record.recognizer.frames_used == used
            assert record.predictions is not None
            assert record.maps is not None
            assert len(record.maps.values) == used
            best = [c.position for c in by_score(measured, video.path)][:used]
            seen = [frame.candidate.position for frame in record.frames if frame.predictions is not None]
            assert seen == sorted(best)
            for frame, same in zip(record.frames, usual.frames, strict=True):
                assert frame.candidate == same.candidate
                if frame.predictions is not None:
                    assert same.predictions is not None
                    assert frame.predictions[0].label == same.predictions[0].label
                    assert frame.predictions[0].score == pytest.approx(same.predictions[0].score, abs=1e-4)
            if used == 3:
                assert usual.predictions is not None
                assert record.predictions[0].label == usual.predictions[0].label
                ratio = np.log(record.predictions[0].score / record.predictions[1].score) / np.log(
                    usual.predictions[0].score / usual.predictions[1].score
                )
                assert ratio == pytest.approx(1 / 0.9, rel=1e-2)


def by_score(measured: Measured, path: str) -> list[Any]:
    """The chosen candidates from the best one on."""
    settings = SelectSettings(num_candidates=4, num_frames=3, selector="tsq", order="score")
    return [frame.candidate for frame in Selector(measured.pack).select(path, settings).frames]


def test_clips_of_a_batch_leave_one_by_one(measured: Measured) -> None:
    """One of two clips is sure after a frame: the bar lies between their probabilities."""
    from tsq_cli.clip import load_clip

    settings = SelectSettings(num_candidates=4, num_frames=3, selector="tsq")
    paths = [video.path for video in measured.evaluation.videos[:2]]

    def classify(bar: float) -> list[Any]:
        loaded = replace(measured.recognizer, early_exit=EarlyExit(bar=bar, temperatures=(0.01, 0.01, 0.01)))
        classifier = Classifier(Selector(measured.pack), loaded, ClassifySettings(maps=False, early_exit=True))
        clips = [load_clip(path, settings) for path in paths]
        records = classifier.process_clips(clips, settings)
        for clip in clips:
            clip.close()
        return records

    first = [record.predictions[0].score for record in classify(1e-9)]
    assert abs(first[0] - first[1]) > 1e-4
    used = [record.recognizer.frames_used for record in classify(sum(first) / 2)]
    assert used[int(np.argmax(first))] == 1
    assert used[int(np.argmin(first))] > 1


def test_an_early_exit_that_was_not_tuned_is_refused(measured: Measured) -> None:
    settings = SelectSettings(num_candidates=4, num_frames=3, selector="tsq")
    asked = ClassifySettings(maps=False, early_exit=True)
    tuned = replace(measured.recognizer, early_exit=EarlyExit(bar=0.5, temperatures=(1.0, 1.0)))
    for loaded, says, words in (
        (
            measured.recognizer,
            asked,
            "the pack has none.*use --recognizer embedded .*PACK --recognizer embedded --tune-early-exit FILE",
        ),
        (tuned, replace(asked, pooling="probabilities"), "another pooling or evidence than the pack's"),
        (tuned, asked, "with 3 frames; wanted at most 2"),
    ):
        with pytest.raises(UsageError, match=words):
            Classifier(Selector(measured.pack), loaded, says).early_exit(settings)
    enough = replace(measured.recognizer, early_exit=EarlyExit(bar=0.5, temperatures=(1.0, 1.0, 1.0)))
    classifier = Classifier(Selector(measured.pack), enough, asked)
    assert classifier.early_exit(settings) == enough.early_exit
    for others in (
        *(replace(settings, selector=rule) for rule in get_args(SelectorName) if rule != "tsq"),
        replace(settings, query="a cat"),
    ):
        with pytest.raises(UsageError, match=r"frames chosen by .*; wanted those of the rule tsq"):
            classifier.early_exit(others)
    for changed, words in (
        ({"num_candidates": 8}, r"num_candidates \(-n\) 8; wanted 4"),
        ({"num_candidates": "auto"}, r"num_candidates \(-n\) auto; wanted 4"),
        ({"lambda_v": 0.5}, "lambda_v 0.5; wanted 0.6"),
        ({"top_n": 1}, "top_n 1; wanted 2"),
        ({"sharpest": True}, "sharpest .* True; wanted False"),
    ):
        with pytest.raises(UsageError, match=words):
            classifier.early_exit(replace(settings, **changed))
    own = replace(settings, lambda_v=0.6, top_n=2)  # the pack's own, typed
    assert classifier.early_exit(own) == enough.early_exit
    assert Classifier(Selector(measured.pack), tuned, ClassifySettings()).early_exit(settings) is None


def test_evaluate_tunes_one_and_a_pack_with_it_has_a_row(measured: Measured, tmp_path: Path) -> None:
    videos = read_video_list(measured.list_file, root=measured.folder / "videos")
    cache = FeatureCache(measured.folder / "cache")
    options: dict[str, Any] = {"selectors": ("tsq", "all"), "ks": (2,), "resamples": 5}
    with pytest.raises(UsageError, match="the pack has none for this recognizer"):
        evaluate(videos, measured.pack, measured.recognizer, cache, early_exit=True, **options)
    tuned = evaluate(videos, measured.pack, measured.recognizer, cache, tune=True, **options).tuned
    assert tuned is not None
    k = measured.pack.config.settings.num_frames
    assert len(tuned.temperatures) == k
    loaded = replace(measured.recognizer, early_exit=tuned)
    found = evaluate(videos, measured.pack, loaded, cache, early_exit=True, **options)
    row = found.report["rows"][-1]
    assert (row["selector"], row["k"]) == ("tsq early exit", k)
    assert row["giga_macs"] == pytest.approx(found.report["early_exit"]["giga_macs"])
    assert 1 <= found.report["early_exit"]["mean_frames"] <= k
    assert set(row["gains"]) >= {"all", "no_exit"}
    last = found.report["early_exit"]["curve"][-1]
    assert row["gains"]["no_exit"]["map"]["value"] == pytest.approx(row["map"]["value"] - last["map"])
    json.dumps(found.report)


def test_one_is_tuned_only_for_the_recognizer_that_will_have_it(measured: Measured) -> None:
    """Refused before decoding: there is no cache to decode into."""
    videos = read_video_list(measured.list_file, root=measured.folder / "videos")
    choice = replace(measured.recognizer.choice, name="resnet101.a1h_in1k", role=None)
    other = replace(measured.recognizer, choice=choice)
    no_cache: Any = None
    with pytest.raises(UsageError, match=r"for the recognizer resnet101.*use --recognizer embedded, here and"):
        evaluate(videos, measured.pack, other, no_cache, tune=True)


def test_a_pack_may_state_one(measured: Measured) -> None:
    path = measured.folder / "small" / "pack.json"
    document = json.loads(path.read_text())
    assert len(NAMES) == 3
    try:
        for value, words in (
            ({"bar": 0.8, "temperatures": [1.0, 1.25]}, ""),
            ({"bar": 0.0, "temperatures": [1.0]}, "bar above 0"),
            ({"bar": 0.5, "temperatures": ["much"]}, "temperatures"),
        ):
            changed = {**document, "settings": {**document["settings"], "early_exit": value}}
            path.write_text(json.dumps(changed))
            if words:
                with pytest.raises(TsqError, match=words):
                    find_pack(str(path.parent))
            else:
                assert find_pack(str(path.parent)).settings.early_exit == EarlyExit(bar=0.8, temperatures=(1.0, 1.25))
    finally:
        path.write_text(json.dumps(document))
