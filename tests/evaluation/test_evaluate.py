"""Accuracy against cost: on a made world by scikit-learn, and through real files as tsq classify recognizes them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.evaluation.references import average_precision_score
from tests.evaluation.world import Measured
from tsq_cli.classifier import Classifier
from tsq_cli.config import ClassifySettings, SelectSettings
from tsq_cli.consensus import Consensus
from tsq_cli.data import read_video_list
from tsq_cli.errors import UsageError
from tsq_cli.evaluation.bootstrap import Bootstrap, with_interval
from tsq_cli.evaluation.compare import recognized, score_selectors, selected_scores
from tsq_cli.evaluation.costs import Costs, count_costs
from tsq_cli.evaluation.evaluate import evaluate
from tsq_cli.evaluation.metrics import mean_average_precision, top_k_accuracy
from tsq_cli.evaluation.selectors import SelectorInput, class_probabilities, select
from tsq_cli.features.cache import FeatureCache
from tsq_cli.models.flops import count
from tsq_cli.pipeline import Selector
from tsq_cli.scoring import encode, tsq_scores
from tsq_cli.selection import RuleSettings

N, T, C = 60, 8, 6


def world(*, seed: int = 0) -> tuple[SelectorInput, np.ndarray, np.ndarray]:
    """Videos of which two frames show their class and the others another one; saliency knows which, nearly."""
    rng = np.random.default_rng(seed)
    targets = np.eye(C, dtype=np.bool_)[rng.permutation(np.arange(N) % C)]
    shows = np.zeros((N, T), dtype=np.bool_)
    np.put_along_axis(shows, rng.random((N, T)).argsort(axis=1)[:, :2], True, axis=1)
    classes = np.where(shows, targets.argmax(axis=1)[:, None], rng.integers(C, size=(N, T)))
    logits = 3 * np.eye(C)[classes] + rng.normal(size=(N, T, C))
    inputs = SelectorInput(
        saliency_visual=shows + rng.normal(scale=0.3, size=(N, T)),
        saliency_textual=shows + rng.normal(scale=0.3, size=(N, T)),
        frame_probabilities=class_probabilities(logits),
        targets=targets,
        class_scores=(2.0 * targets + rng.normal(size=(N, C)), targets + rng.normal(size=(N, C))),
    )
    return inputs, logits, targets


def row_of(report: dict[str, Any], selector: str, k: int) -> dict[str, Any]:
    (row,) = [row for row in report["rows"] if (row["selector"], row["k"]) == (selector, k)]
    return row


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return score_selectors(*world(), ks=(5, 2, 16), resamples=200, cost=lambda name, k: k + len(name))


def test_every_rule_has_a_row_for_every_number_of_frames_and_all_has_one(report: dict[str, Any]) -> None:
    assert report["ks"] == [2, 5, 8]
    rules = ["tsq", "vqm", "tqm", "uniform", "random", "middle", "confident", "agree", "agree3"]
    expected = [(rule, k) for rule in rules for k in (2, 5, 8)] + [("all", 8)] + [("oracle", k) for k in (2, 5, 8)]
    expected += [("z-visual", 0), ("z-textual", 0)]
    assert [(row["selector"], row["k"]) for row in report["rows"]] == expected
    assert row_of(report, "oracle", 2)["giga_macs"] == 2 + len("oracle")
    json.dumps(report)


@pytest.mark.parametrize(("selector", "k"), [("tsq", 2), ("uniform", 5), ("oracle", 2), ("all", 8)])
def test_values_are_scikit_learns_on_the_mean_logits_of_the_chosen_frames(
    report: dict[str, Any], selector: str, k: int
) -> None:
    inputs, logits, targets = world()
    chosen = select(selector, inputs, k)
    mean = np.stack([logits[n, positions].mean(axis=0) for n, positions in enumerate(chosen)])
    scores = np.exp(mean) / np.exp(mean).sum(axis=1, keepdims=True)
    row = row_of(report, selector, k)
    assert row["map"]["value"] == pytest.approx(average_precision_score(targets, scores, average="macro"), abs=1e-12)
    assert row["top1"]["value"] == (scores.argmax(axis=1) == targets.argmax(axis=1)).mean()
    ranks = (scores > scores[targets][:, None]).sum(axis=1)
    assert row["top5"]["value"] == (ranks < 5).mean()
    assert row["map"]["low"] <= row["map"]["value"] <= row["map"]["high"]


def test_the_world_is_ranked_as_it_was_made(report: dict[str, Any]) -> None:
    by_rule = {rule: row_of(report, rule, 2)["map"]["value"] for rule in ("oracle", "tsq", "uniform")}
    assert by_rule["oracle"] > by_rule["tsq"] > by_rule["uniform"] + 0.2
    gain = row_of(report, "tsq", 2)["gains"]["uniform"]["map"]
    assert gain["value"] == pytest.approx(by_rule["tsq"] - by_rule["uniform"])
    assert 0 < gain["low"] < gain["value"] < gain["high"]
    loss = row_of(report, "uniform", 2)["gains"]["all"]["map"]
    assert loss["low"] < loss["value"] < loss["high"] < 0


def test_with_all_frames_every_rule_is_the_same_and_gains_nothing(report: dict[str, Any]) -> None:
    values = {row["map"]["value"] for row in report["rows"] if row["k"] == T}
    assert len(values) == 1
    assert row_of(report, "tsq", T)["gains"]["all"]["map"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert row_of(report, "all", T)["gains"] == {}
    assert list(row_of(report, "uniform", 2)["gains"]) == ["all", "best"]
    assert list(row_of(report, "z-visual", 0)["gains"]) == ["all", "best"]


def test_differences_are_paired(report: dict[str, Any]) -> None:
    """The interval of the difference of two alike rules is far narrower than theirs would be if drawn apart."""
    vqm, tsq = row_of(report, "vqm", 5), row_of(report, "tsq", 5)
    inputs, logits, targets = world()
    alike = score_selectors(
        replace(inputs, settings=RuleSettings(lambda_v=1.0)), logits, targets, selectors=("tsq", "vqm"), ks=(5,)
    )
    assert row_of(alike, "tsq", 5)["map"] == row_of(alike, "vqm", 5)["map"]
    bootstrap = Bootstrap(targets, resamples=200)
    replicates = [
        bootstrap.mean_average_precision(selected_scores(name, inputs, logits, 5, Consensus()))
        for name in ("tsq", "all")
    ]
    value = tsq["map"]["value"] - row_of(report, "all", T)["map"]["value"]
    assert tsq["gains"]["all"]["map"] == pytest.approx(
        with_interval(value, replicates[0] - replicates[1], least=-1), abs=1e-12
    )
    assert vqm["gains"]["all"]["map"] != tsq["gains"]["all"]["map"]


def test_evidence_and_weights_reach_the_rows_that_pay_for_them(report: dict[str, Any]) -> None:
    inputs, logits, targets = world()
    consensus = Consensus(pooling="weighted-logits", evidence_visual=0.5)
    inputs = replace(inputs, saliency_visual=np.abs(inputs.saliency_visual))
    scored = score_selectors(inputs, logits, targets, ks=(2,), resamples=20, consensus=consensus)
    assert (scored["pooling"], scored["evidence"]) == ("weighted-logits", {"visual": 0.5, "textual": 0.0})
    scores = []
    for n, positions in enumerate(select("vqm", inputs, 2)):
        weights = inputs.saliency_visual[n, positions]
        z_v = inputs.class_scores[0][n]  # type: ignore[index]
        scores.append((weights / weights.sum()) @ logits[n, positions] + 0.5 * z_v)
    p = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    value = row_of(scored, "vqm", 2)["map"]["value"]
    assert value == pytest.approx(average_precision_score(targets, p, average="macro"), abs=1e-12)
    assert value != row_of(report, "vqm", 2)["map"]["value"]
    for name, k in (("uniform", 2), ("random", 2), ("confident", 2), ("agree", 2), ("oracle", 2), ("all", 8)):
        assert row_of(scored, name, k)["map"]["value"] == row_of(report, name, k)["map"]["value"]


def test_the_class_scores_of_a_module_are_rows_of_no_frame(report: dict[str, Any]) -> None:
    inputs, _, targets = world()
    assert inputs.class_scores is not None
    for name, z in zip(("z-visual", "z-textual"), inputs.class_scores, strict=True):
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
        expected = average_precision_score(targets, p, average="macro")
        assert row_of(report, name, 0)["map"]["value"] == pytest.approx(expected, abs=1e-12)
    with pytest.raises(ValueError, match="z-visual needs the class scores"):
        selected_scores("z-visual", replace(inputs, class_scores=None), np.zeros((N, T, C)), 0, Consensus())


def test_the_best_of_the_baselines_is_named_and_beaten_or_not(report: dict[str, Any]) -> None:
    baselines = ("uniform", "random", "middle", "confident", "agree", "agree3")
    for k in (2, 5):
        values = {name: row_of(report, name, k)["map"]["value"] for name in baselines}
        values["all"] = row_of(report, "all", T)["map"]["value"]
        best = max(values, key=lambda name: values[name])
        assert report["best_baselines"][str(k)] == best
        tsq = row_of(report, "tsq", k)
        assert tsq["gains"]["best"]["map"]["value"] == pytest.approx(tsq["map"]["value"] - values[best])
        assert "best" not in row_of(report, best, T if best == "all" else k)["gains"]
    assert report["best_baselines"]["0"] == "all"
    alone = score_selectors(*world(), selectors=("tsq", "oracle", "z-visual"), ks=(2,), resamples=5)
    assert (alone["best_baselines"], row_of(alone, "tsq", 2)["gains"]) == ({}, {})


def test_of_equal_baselines_all_frames_are_named() -> None:
    """With K = T every one of them has all frames."""
    scored = score_selectors(*world(), selectors=("tsq", "uniform", "middle", "all"), ks=(T,), resamples=5)
    assert scored["best_baselines"] == {str(T): "all"}


def test_random_is_the_mean_over_seeds_with_its_spread() -> None:
    inputs, logits, targets = world()
    several = score_selectors(inputs, logits, targets, selectors=("random",), ks=(2,), seeds=(3, 4, 9), resamples=20)
    alone = [
        score_selectors(inputs, logits, targets, selectors=("random",), ks=(2,), seeds=(seed,), resamples=20)
        for seed in (3, 4, 9)
    ]
    values = [one["rows"][0]["map"]["value"] for one in alone]
    assert len(set(values)) == 3
    assert several["rows"][0]["map"]["value"] == pytest.approx(np.mean(values))
    assert several["rows"][0]["spread"]["map"] == pytest.approx(np.std(values, ddof=1))
    assert alone[0]["rows"][0]["spread"] is None


def test_resamples_are_the_metrics_of_the_resampled_videos() -> None:
    _, logits, targets = world(seed=5)
    scores = np.round(class_probabilities(logits[:, 0]), 1)  # with ties
    scores[:, 3] = scores[0, 3]
    bootstrap = Bootstrap(targets, resamples=30, seed=7)
    hits = np.take_along_axis(targets, scores.argmax(axis=1)[:, None], axis=1)[:, 0]
    generator = np.random.default_rng(7)
    drawn = [generator.integers(N, size=N) for _ in range(30)]
    expected = [mean_average_precision(scores[some], targets[some]) for some in drawn]
    np.testing.assert_allclose(bootstrap.mean_average_precision(scores), expected, rtol=1e-6)
    expected = [top_k_accuracy(scores[some], targets[some], 1) for some in drawn]
    np.testing.assert_allclose(bootstrap.mean(hits), expected, rtol=1e-6)


def test_a_class_that_a_resample_lacks_does_not_count() -> None:
    targets = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], dtype=np.bool_)
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.1, 0.9]])
    np.testing.assert_allclose(Bootstrap(targets, resamples=50).mean_average_precision(scores), 1.0)


def test_an_interval_lies_around_its_value() -> None:
    replicates = np.arange(1001) / 1000 + 0.25  # 0.25 to 1.25, mean 0.75
    assert with_interval(0.5, replicates) == pytest.approx({"value": 0.5, "low": 0.025, "high": 0.975})
    assert with_interval(0.25, replicates) == pytest.approx({"value": 0.25, "low": 0.0, "high": 0.725})
    assert with_interval(0.25, replicates, least=-1) == pytest.approx({"value": 0.25, "low": -0.225, "high": 0.725})
    assert with_interval(0.9, replicates) == pytest.approx({"value": 0.9, "low": 0.425, "high": 1.0})


def test_several_labels_are_scored_by_sigmoid() -> None:
    logits = np.array([[[2.0, -1.0], [0.0, 1.0]]])
    inputs = SelectorInput(
        saliency_visual=np.array([[0.5, 0.5]]),
        saliency_textual=np.array([[0.5, 0.5]]),
        frame_probabilities=class_probabilities(logits),
        targets=np.array([[True, False]]),
    )
    scores = recognized(inputs, logits, np.array([[0, 1]]), Consensus(multi_label=True))
    np.testing.assert_allclose(scores, 1 / (1 + np.exp([[-1.0, 0.0]])))
    np.testing.assert_allclose(
        recognized(inputs, logits, np.array([[0]]), Consensus()),
        [[np.exp(3) / (1 + np.exp(3)), 1 / (1 + np.exp(3))]],
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"selectors": ("tsq", "best")}, "the selectors are best"),
        ({"selectors": ()}, "no selector"),
        ({"ks": (5, 0)}, r"\[5, 0\]"),
        ({"seeds": ()}, "0 seeds"),
        ({"resamples": 0}, "0 resamples"),
    ],
)
def test_a_plan_that_cannot_be_measured_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        score_selectors(*world(), **options)


def test_arrays_that_do_not_fit_are_refused() -> None:
    inputs, logits, targets = world()
    with pytest.raises(ValueError, match="do not fit"):
        score_selectors(inputs, logits[:, :5], targets)


@pytest.mark.parametrize(
    ("selector", "k", "expected"),
    [
        ("tsq", 5, 9 + 5 * 2), ("vqm", 5, 6 + 5 * 2), ("tqm", 1, 4 + 2), ("uniform", 5, 5 * 2), ("random", 3, 3 * 2),
        ("middle", 99, 16 * 2), ("confident", 5, 16 * 2), ("oracle", 1, 16 * 2), ("all", 16, 16 * 2),
        ("agree", 5, 16 * 2), ("agree3", 5, 16 * 2), ("z-visual", 0, 6), ("z-textual", 0, 4),
    ],
)  # fmt: skip
def test_a_rule_costs_what_must_look_before_it_and_the_recognizer_after_it(
    selector: str, k: int, expected: float
) -> None:
    assert Costs(visual=6, textual=4, both=9, frame=2, num_candidates=16).of(selector, k) == expected


@pytest.mark.parametrize(
    ("selector", "consensus", "expected"),
    [
        ("vqm", Consensus(evidence_visual=1.0), 6 + 10), ("vqm", Consensus(evidence_textual=1.0), 9 + 10),
        ("vqm", Consensus(pooling="weighted-logits"), 6 + 10), ("tqm", Consensus(pooling="weighted-logits"), 9 + 10),
        ("tqm", Consensus(evidence_textual=1.0), 4 + 10), ("tqm", Consensus(evidence_visual=1.0), 9 + 10),
        ("uniform", Consensus(evidence_visual=1.0), 10), ("agree", Consensus(evidence_visual=1.0), 32),
    ],
)  # fmt: skip
def test_a_rule_by_one_module_pays_for_the_other_where_it_is_read(
    selector: str, consensus: Consensus, expected: float
) -> None:
    costs = Costs(visual=6, textual=4, both=9, frame=2, num_candidates=16)
    assert costs.of(selector, 5, consensus) == expected  # type: ignore[arg-type]


def test_costs_are_those_of_the_chain_that_selects(measured: Measured) -> None:
    """The whole sampler counted as tsq select runs it, and the recognizer on two frames at once."""
    pack, recognizer = measured.pack, measured.recognizer
    pixels = torch.zeros(4, 64, 64, 3, dtype=torch.uint8)

    def sampler() -> None:
        features, logits = encode(pack, [pixels])
        tsq_scores(pack, torch.stack(features), torch.stack(logits), top_n=2)

    costs = count_costs(pack, recognizer)
    networks = [pack.visual_encoder, pack.tsqnet]
    assert costs.both == pytest.approx(count(sampler, modules=networks).giga_macs, rel=1e-6)
    two = recognizer.preprocessor(pixels[:2], "cpu", torch.float32)
    assert costs.of("uniform", 2) == pytest.approx(count(recognizer.recognizer, two).giga_macs, rel=1e-9)
    assert costs.both < costs.visual + costs.textual  # one encoder serves both


def test_videos_are_recognized_as_tsq_classify_recognizes_them(measured: Measured) -> None:
    for selector in ("tsq", "uniform"):
        classifier = Classifier(Selector(measured.pack), measured.recognizer, ClassifySettings(maps=False))
        settings = SelectSettings(num_candidates=4, num_frames=2, selector=selector)  # type: ignore[arg-type]
        for number, video in enumerate(measured.evaluation.videos[:3]):
            predictions = classifier.classify(video.path, settings).predictions
            assert predictions is not None
            (expected,) = (one.score for one in predictions if one.index == video.labels[0])
            assert measured.evaluation.true_probability[selector][number] == pytest.approx(expected, abs=2e-5)
    uniform, selected = (measured.evaluation.true_probability[name] for name in ("uniform", "tsq"))
    assert np.ptp(selected) > 100 * 2e-5  # random weights say little, but not the same of all videos
    assert np.abs(selected - uniform).max() > 10 * 2e-5


def test_the_consensus_is_the_same_as_in_tsq_classify(measured: Measured) -> None:
    asked: dict[str, Any] = {"pooling": "weighted-probabilities", "evidence": (0.5, 0.25)}
    videos = read_video_list(measured.list_file, root=measured.folder / "videos")
    cache = FeatureCache(measured.folder / "cache")
    options: dict[str, Any] = {"selectors": ("tsq", "uniform"), "ks": (2,), "resamples": 1, **asked}
    found = evaluate(videos, measured.pack, measured.recognizer, cache, **options)
    assert found.report["evidence"] == {"visual": 0.5, "textual": 0.25}
    settings = ClassifySettings(maps=False, **asked)
    classifier = Classifier(Selector(measured.pack), measured.recognizer, settings)
    for order in ("time", "score"):
        chosen = SelectSettings(num_candidates=4, num_frames=2, selector="tsq", order=order)  # type: ignore[arg-type]
        record = classifier.classify(found.videos[1].path, chosen)
        assert record.predictions is not None
        (score,) = (one.score for one in record.predictions if one.index == found.videos[1].labels[0])
        assert found.true_probability["tsq"][1] == pytest.approx(score, abs=2e-5)
        assert measured.evaluation.true_probability["tsq"][1] != pytest.approx(score, abs=2e-3)
    recognizer = record.to_dict()["recognizer"]
    assert (recognizer["pooling"], recognizer["evidence_visual"], recognizer["evidence_textual"]) == (
        "weighted-probabilities", 0.5, 0.25,
    )  # fmt: skip
    plain = Classifier(Selector(measured.pack), measured.recognizer, ClassifySettings(maps=False))
    assert plain.classify(found.videos[1].path, chosen).settings_hash != record.settings_hash


def test_what_only_a_sampler_gives_is_refused_where_none_runs(measured: Measured) -> None:
    uniform = SelectSettings(num_candidates=4, num_frames=2, selector="uniform")
    for asked, words in (
        ({"evidence": (1.0,)}, "evidence was asked for"),
        ({"pooling": "weighted-logits"}, "the pooling weighted-logits was asked for"),
    ):
        settings = ClassifySettings(maps=False, **asked)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=f"{words} with a selector that runs no network"):
            Classifier(Selector(measured.pack), measured.recognizer, settings).consensus(uniform)
    own = replace(measured.recognizer, consensus=Consensus(pooling="weighted-logits", evidence_visual=1.0))
    classifier = Classifier(Selector(measured.pack), own, ClassifySettings(maps=False))
    assert classifier.consensus(uniform) == Consensus()  # of the pack: left out
    others = replace(own, class_names=("a", "b", "c"))
    with pytest.raises(UsageError, match="name other classes"):
        Classifier(Selector(measured.pack), others, ClassifySettings(maps=False)).consensus(SelectSettings())


def test_the_report_says_of_what_it_is(measured: Measured) -> None:
    report = measured.evaluation.report
    assert report["list"]["found"] == f"found 7 of 8 videos of {measured.list_file} (1 missing: gone.mkv)"
    assert report["list"]["missing"] == ["gone.mkv"]
    (failed,) = report["list"]["failed"]
    assert failed["id"] == "broken.mkv"
    assert "broken.mkv" in failed["reason"]
    assert (report["pooling"], report["evidence"]) == ("logits", {"visual": 0.0, "textual": 0.0})
    assert report["num_videos"] == 6
    assert [video["id"] for video in report["videos"]] == [f"{number}.mkv" for number in range(6)]
    assert report["videos"][1]["classes"] == ["dog"]
    assert report["pack"] == {"name": "small", "sha256": measured.pack.config.sha256, "input_size": 64}
    assert report["recognizer"]["name"] == "test_efficientnet"
    assert {row["k"] for row in report["rows"]} == {0, 1, 2, 4}


def test_a_class_that_the_pack_does_not_know_is_refused(measured: Measured, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{measured.evaluation.videos[0].path} horse\n")
    with pytest.raises(UsageError, match="'horse'"):
        evaluate(
            read_video_list(tmp_path / "list.txt"), measured.pack, measured.recognizer, FeatureCache(tmp_path / "cache")
        )
    assert not (tmp_path / "cache").exists()
