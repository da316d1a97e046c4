"""A study: each row is trained as it says and scored by the frames it chooses; what cannot differ does not."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.evaluation.references import average_precision_score
from tests.studies.synthetic import DT, CountedSource, make_data
from tsq_cli.errors import UsageError, WeightsError
from tsq_cli.studies.ablation import StudyData, run_study
from tsq_cli.studies.registry import BERT, RANDOM_TEXT, STUDIES
from tsq_cli.training.settings import FitSettings, HeadSettings

# No clipping: the length of the gradient is the one place where the modules meet when neither teaches the other.
SETTINGS = HeadSettings(fit=FitSettings(epochs=2, learning_rate=1e-2, warmup_epochs=0, clip_norm=0))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def data() -> StudyData:
    return make_data()


def seeds_of(data: StudyData) -> list[int]:
    assert isinstance(data.source, CountedSource)
    return data.source.seeds


def column(report: dict[str, Any], name: str) -> list[list[float]]:
    return [row[name]["values"] for row in report["rows"]]


def test_the_share_of_the_modules_is_varied_without_training_anew(data: StudyData) -> None:
    report = run_study(STUDIES["lambda-v"], data, SETTINGS, seeds=(3, 4), num_frames=2)
    assert seeds_of(data) == [3, 4]
    tsqnet, tqm, vqm = (column(report, name) for name in ("tsqnet", "tqm", "vqm"))
    assert tsqnet[0] == tqm[0]  # all frames from the textual module
    assert tsqnet[-1] == vqm[-1]  # all from the visual one
    assert tqm == [tqm[0]] * 6
    assert vqm == [vqm[0]] * 6
    assert len({tuple(values) for values in tsqnet}) > 2
    assert [row["name"] for row in report["rows"] if row["is_default"]] == ["lambda_v 0.6"]


def test_pooling_and_evidence_are_varied_without_training_anew(data: StudyData) -> None:
    report = run_study(STUDIES["pooling"], data, SETTINGS, seeds=(3,), num_frames=2, pooling="probabilities")
    assert seeds_of(data) == [3]
    truth, p = data.validation.targets.numpy(), data.frame_logits.double().softmax(dim=2)
    rows = {row["name"]: row for row in report["rows"]}
    assert [name for name, row in rows.items() if row["is_default"]] == ["probabilities"]
    everything = {name: row["reference"]["all"] for name, row in rows.items()}
    assert everything["probabilities"] == pytest.approx(average_precision_score(truth, p.mean(dim=1), average="macro"))
    best = p.topk(2, dim=1).values.prod(dim=1).sqrt()
    assert everything["best-two"] == pytest.approx(
        average_precision_score(truth, best / best.sum(dim=1, keepdim=True), average="macro")
    )
    assert report["reference"] == rows["weighted-probabilities"]["reference"] == rows["probabilities"]["reference"]
    assert len({row["tsqnet"]["mean"] for row in rows.values()}) > 2

    evidence = run_study(STUDIES["evidence"], data, SETTINGS, seeds=(3,), num_frames=2, pooling="probabilities")
    assert seeds_of(data) == [3, 3]
    none, *others = evidence["rows"]
    assert none["is_default"]
    assert none["tsqnet"] == rows["probabilities"]["tsqnet"]
    assert not any(row["is_default"] for row in others)
    assert len({row["vqm"]["mean"] for row in others}) > 2


def test_a_module_that_nothing_teaches_stays_what_it_is(data: StudyData) -> None:
    faster = replace(SETTINGS, fit=replace(SETTINGS.fit, learning_rate=5e-2))
    report = run_study(STUDIES["beta"], data, faster, seeds=(0,), num_frames=1)
    assert seeds_of(data) == [0] * 6
    vqm, tqm = column(report, "vqm"), column(report, "tqm")
    assert vqm == [vqm[0]] * 6  # as in the paper's table: 74.6 in all rows
    assert len({tuple(values) for values in tqm}) > 1
    assert report["rows"][0]["paper"] == [74.9, 72.0, 74.6]
    assert all(row["vqm"]["sd"] is None for row in report["rows"])


def test_scores_are_those_of_recognition_from_the_chosen_frames(data: StudyData) -> None:
    report = run_study(STUDIES["init-visual"], data, SETTINGS, seeds=(0, 1), num_frames=2)
    truth = data.validation.targets.numpy()
    logits = data.frame_logits.double()

    def expected(positions: list[int]) -> float:
        return float(average_precision_score(truth, logits[:, positions].mean(dim=1).softmax(dim=1), average="macro"))

    assert report["reference"]["all"] == pytest.approx(expected(list(range(8))))
    assert report["reference"]["uniform"] == pytest.approx(expected([2, 6]))  # centers of two halves of eight
    random, prototypes = report["rows"]
    for row in (random, prototypes):
        for name in ("tsqnet", "tqm", "vqm"):
            assert row[name]["mean"] == pytest.approx(statistics.mean(row[name]["values"]))
            assert row[name]["sd"] == pytest.approx(statistics.stdev(row[name]["values"]))
    # Two frames in eight show the event: who finds them beats who looks everywhere.
    assert prototypes["tsqnet"]["mean"] > report["reference"]["all"] > report["reference"]["uniform"]
    assert prototypes["vqm"]["mean"] > random["vqm"]["mean"]
    assert report["reference"]["oracle"] > prototypes["tsqnet"]["mean"]
    assert (report["num_videos"], report["num_classes"], report["num_candidates"]) == (60, 5, 8)
    assert json.loads(json.dumps(report)) == report
    assert run_study(STUDIES["init-visual"], data, SETTINGS, seeds=(0, 1), num_frames=2)["rows"] == report["rows"]


@pytest.mark.parametrize("name", ["classifier", "self-attention", "layers-heads", "interaction"])
def test_every_variant_trains(data: StudyData, name: str) -> None:
    steps: list[tuple[str, int, int]] = []
    settings = replace(SETTINGS, fit=replace(SETTINGS.fit, epochs=1))

    def progress(*step: Any) -> None:
        steps.append(step)

    report = run_study(STUDIES[name], data, settings, seeds=(0,), num_frames=2, progress=progress)
    assert len({row["tsqnet"]["mean"] for row in report["rows"]}) > 1
    total = 3 * len(report["rows"])  # 40 clips are three batches of 16
    assert steps == [(name, number + 1, total) for number in range(total)]


def test_rows_of_other_texts_are_left_out_with_the_reason(data: StudyData) -> None:
    study = STUDIES["text-encoder"]
    alone = run_study(study, data, SETTINGS, seeds=(0,), num_frames=2)
    assert [row["left_out"] is None for row in alone["rows"]] == [True, False, False]
    assert alone["rows"][1]["tsqnet"] is None

    asked: list[str] = []
    noise = torch.randn(5, DT, generator=torch.Generator().manual_seed(1))

    def text_data(encoder: str) -> StudyData:
        asked.append(encoder)
        if encoder == BERT:
            raise WeightsError("it is out of reach", wanted="a network", fix="connect")
        return replace(data, queries_textual=noise)

    report = run_study(study, data, SETTINGS, text_data=text_data, seeds=(0,), num_frames=2)
    assert asked == [BERT, RANDOM_TEXT]
    own, bert, random = report["rows"]
    assert (own["left_out"], bert["left_out"], random["left_out"]) == (
        None,
        "it is out of reach; wanted a network; connect",
        None,
    )
    assert own["vqm"] == alone["rows"][0]["vqm"]
    assert own["tqm"]["mean"] > random["tqm"]["mean"]
    assert [row["is_default"] for row in report["rows"]] == [True, False, False]


@pytest.mark.parametrize(
    ("options", "word"), [({"seeds": ()}, "no seed"), ({"num_frames": 9}, "-k is 9"), ({"num_frames": 0}, "-k is 0")]
)
def test_what_cannot_be_run_is_refused(data: StudyData, options: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word):
        run_study(STUDIES["alpha"], data, SETTINGS, **options)
    assert seeds_of(data) == []


def changes(data: StudyData) -> dict[str, Callable[[], StudyData]]:
    clips = data.validation
    return {
        "queries_textual": lambda: replace(data, queries_textual=data.queries_textual[:4]),
        "validation.textual": lambda: replace(data, validation=replace(clips, textual=clips.textual[:, :5])),
        "validation.targets": lambda: replace(data, validation=replace(clips, targets=clips.targets[:9])),
    }


@pytest.mark.parametrize("name", ["queries_textual", "validation.textual", "validation.targets"])
def test_data_that_does_not_fit_is_refused(data: StudyData, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        changes(data)[name]()


def test_several_labels_are_told_apart_one_by_one(data: StudyData) -> None:
    targets = data.validation.targets.clone()
    targets[:30, 0] = 1.0
    several = replace(data, validation=replace(data.validation, targets=targets), multi_label=True)
    report = run_study(STUDIES["lambda-v"], several, SETTINGS, seeds=(0,), num_frames=2)
    odds = 1 / (1 + np.exp(-data.frame_logits.double().mean(dim=1).numpy()))
    assert report["reference"]["all"] == pytest.approx(average_precision_score(targets.numpy(), odds, average="macro"))
    assert report["multi_label"]
