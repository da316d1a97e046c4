"""Names that can be believed: temperatures and levels by hand, and "unsure" wherever a name would stand."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmarks import words
from benchmarks.words_material import SCENES, Material, spelled_out
from tests.packs.making import make_pack, write_json
from tests.report.page_material import CATEGORIES, asked, page, pictures, read, record
from tsq_cli import Classifier, Selector
from tsq_cli.cli import csv_rows, output
from tsq_cli.config import ClassifySettings
from tsq_cli.consensus import Consensus, EarlyExit
from tsq_cli.errors import WeightsError
from tsq_cli.inputs import Inputs
from tsq_cli.models import TSQLayer, TSQLayerConfig, TSQNetOutput, TSQOutput, frame_saliency
from tsq_cli.packs import Pack, find_pack, load_pack
from tsq_cli.packs.words import Words
from tsq_cli.report import sheet
from tsq_cli.report.page_words import why
from tsq_cli.scoring import ClipScores, tsq_scores

pytestmark = pytest.mark.usefixtures("demo_decoded_once")

ROOT = Path(__file__).parents[1]
SURVEILLANCE = ROOT.parent / "shared" / "fights"
UNSURE = tuple(replace(category, is_sure=False) for category in CATEGORIES)
NAMES = [category.label for category in CATEGORIES]


# Probabilities


@pytest.mark.parametrize(
    ("temperature", "expected"),
    [
        (1.0, [3 / 6, 2 / 6, 1 / 6]),
        (0.5, [9 / 14, 4 / 14, 1 / 14]),  # squares
        (2.0, [math.sqrt(3) / 4.1463, math.sqrt(2) / 4.1463, 1 / 4.1463]),  # roots: 1.7321 + 1.4142 + 1
    ],
)
def test_a_temperature_changes_what_is_reported_and_not_the_curve(temperature: float, expected: list[float]) -> None:
    logits = torch.tensor([[math.log(2.0), math.log(1.0), math.log(3.0)]])
    attention = torch.tensor([[[0.1, 0.2, 0.3, 0.4], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]]])
    saliency = frame_saliency(TSQOutput(logits=logits, attention=attention), top_n=2, temperature=temperature)
    torch.testing.assert_close(saliency.probabilities, torch.tensor([expected[:2]]), rtol=1e-4, atol=0)
    torch.testing.assert_close(saliency.scores, torch.tensor([[0.04, 0.08, 0.42, 0.46]]))  # weights 3/5 and 2/5
    reported = frame_saliency(
        TSQOutput(logits=logits, attention=attention), top_n=1, multi_label=True, temperature=temperature
    )
    assert reported.probabilities.item() == pytest.approx(1 / (1 + 3 ** (-1 / temperature)))


# Levels


def test_evidence_is_the_best_frames_own_score() -> None:
    """Two classes along the axes, three frames; rivals take from the logits and not from the evidence."""
    layer = TSQLayer(
        2,
        2,
        config=TSQLayerConfig(projections=False, positional_embedding=False, competition_floor=0.0),
        queries=torch.eye(2),
        classifier_weight=2 * torch.eye(2),
        classifier_bias=torch.tensor([0.5, -1.0]),
    )
    frames = torch.tensor([[[1.0, 3.0], [4.0, 0.0], [2.0, 2.0]]])
    assert layer(frames).evidence is None
    layer.gives_evidence = True
    seen = layer(frames)
    torch.testing.assert_close(seen.evidence, torch.tensor([[8.5, 5.0]]))
    assert not seen.evidence.requires_grad
    assert (seen.logits < seen.evidence).all()


def scores_of(
    visual: list[float], textual: list[float], evidence: list[float], said: Words, *, multi_label: bool = False
) -> ClipScores:
    """What a pack with these words makes of one clip of two frames, whose modules say this."""

    def module(logits: list[float]) -> TSQOutput:
        attention = torch.full((1, len(logits), 2), 0.5)
        return TSQOutput(logits=torch.tensor([logits]), attention=attention, evidence=torch.tensor([evidence]))

    def tsqnet(_features: Tensor, _texts: Tensor) -> TSQNetOutput:
        return TSQNetOutput(visual=module(visual), textual=module(textual))

    config = SimpleNamespace(settings=SimpleNamespace(words=said, multi_label=multi_label))
    pack = SimpleNamespace(
        tsqnet=tsqnet, textual_embeddings=torch.eye(3), config=config, class_names="abc", image_text=None
    )
    return tsq_scores(cast(Pack, pack), torch.zeros(1, 2, 4), torch.zeros(1, 2, 3), top_n=2)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    ("textual", "evidence", "least", "sure"),
    [
        ([2.0, 1.0, 0.0], [7.0, 9.0, 9.0], 7.0, True),
        ([2.0, 1.0, 0.0], [6.9, 9.0, 9.0], 7.0, False),  # no frame looks like it
        ([1.0, 2.0, 0.0], [7.0, 9.0, 9.0], 7.0, False),  # the modules differ
        ([1.0, 2.0, 0.0], [0.0, 0.0, 0.0], None, True),  # a pack that asks for nothing
    ],
)
def test_a_category_is_named_where_both_modules_and_a_frame_say_so(
    textual: list[float], evidence: list[float], least: float | None, sure: bool, multi_label: bool
) -> None:
    scores = scores_of([3.0, 1.0, 0.0], textual, evidence, Words(least_evidence=least), multi_label=multi_label)
    read_back = scores.read()
    assert [category.label for category in read_back.visual_categories] == ["a", "b"]
    of_visual, of_textual = (
        [category.is_sure for category in categories]
        for categories in (read_back.visual_categories, read_back.textual_categories)
    )
    second = least is None  # is anybody's candidate, and named by nobody, where names are asked to prove themselves
    assert of_visual == of_textual == [sure, second]


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_recognizer_names_what_reaches_its_level(tmp_path: Path, multi_label: bool) -> None:
    document = make_pack(tmp_path / "small")
    document["settings"]["multi_label"] = multi_label
    path = ROOT / "examples" / "demo.mp4"
    recognized = {}
    for level in (0.0, 1.0):
        document["settings"]["words"] = {"recognizer_temperature": 2.0, "least_probability": level}
        write_json(tmp_path / "small", document)
        classifier = Classifier.load(str(tmp_path / "small"), recognizer="embedded", device="cpu")
        recognized[level] = classifier.classify(path).to_dict()
    sure, unsure = recognized[0.0], recognized[1.0]
    assert sure["stated"]["prediction"] == sure["predictions"][0]["label"]
    assert unsure["stated"]["prediction"] == "unsure"
    assert not any(prediction["is_sure"] for prediction in unsure["predictions"])
    assert not any(frame["predictions"][0]["is_sure"] for frame in unsure["frames"])
    assert [p["label"] for p in sure["predictions"]] == [p["label"] for p in unsure["predictions"]]


def test_a_level_is_of_calibrated_probabilities_only(tmp_path: Path) -> None:
    """Probabilities of another pooling than the pack's are as they come, and no level was measured for them."""
    document = make_pack(tmp_path / "small")
    document["settings"]["words"] = {"recognizer_temperature": 2.0, "least_probability": 1.0}
    write_json(tmp_path / "small", document)
    for pooling, named in (("logits", False), ("probabilities", True)):
        classifier = Classifier.load(
            str(tmp_path / "small"), recognizer="embedded", settings=ClassifySettings(pooling=pooling), device="cpu"
        )
        record = classifier.classify(ROOT / "examples" / "demo.mp4").to_dict()
        assert [prediction["is_sure"] for prediction in record["predictions"]] == [named] * 3
        assert not any(frame["predictions"][0]["is_sure"] for frame in record["frames"])  # calibrated by themselves


def test_a_pack_that_says_nothing_of_words_is_never_unsure(tmp_path: Path) -> None:
    make_pack(tmp_path / "small")
    assert load_pack(tmp_path / "small").config.settings.words == Words()
    for name in ("imagenet", "actions40"):
        assert find_pack(name).settings.words == Words()


@pytest.mark.parametrize(
    "wrong",
    [
        {"visual_temperature": 0.0},
        {"recognizer_temperature": -1.0},
        {"least_probability": 1.5},
        {"least_probability": None},
        {"level": 3},
    ],
)
def test_words_that_make_no_sense_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    document = make_pack(tmp_path / "small")
    document["settings"]["words"] = wrong
    write_json(tmp_path / "small", document)
    with pytest.raises(WeightsError, match="words"):
        load_pack(tmp_path / "small")


# What is said


def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **changes: Any) -> str:
    """The table of a record."""
    monkeypatch.setenv("COLUMNS", "200")
    inputs = Inputs(paths=("clips/cat.mp4",), single=True)
    with output.Output(inputs, verb="x", as_json=False, jsonl=None, csv=None, html=None) as out:
        out.add(record(**changes).to_dict())
    return capsys.readouterr().out


def test_the_table_says_unsure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    sure = printed(monkeypatch, capsys, predictions=CATEGORIES, visual_categories=CATEGORIES)
    assert "unsure" not in sure
    assert sure.count("Egyptian cat") == 3  # a class, and two lines
    text = printed(monkeypatch, capsys, predictions=UNSURE, visual_categories=UNSURE, textual_categories=UNSURE)
    assert text.count("unsure") == 3
    assert not any(name in text for name in NAMES)
    lines = {line[:3]: line for line in text.splitlines()}
    assert lines["S^v"].endswith("  unsure")
    assert lines["S^t"].endswith("  unsure")


def test_the_csv_says_unsure_and_keeps_the_score(tmp_path: Path) -> None:
    made = record(predictions=UNSURE)
    frames = tuple(replace(frame, predictions=UNSURE[:2]) for frame in made.frames[:1]) + made.frames[1:]
    csv_rows.write_csv(tmp_path / "t.csv", [replace(made, frames=frames).to_dict()])
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as stream:
        first, second, _ = csv.DictReader(stream)
    assert (first["label"], first["label_score"]) == ("unsure", "0.52")
    assert (first["frame_label"], first["frame_label_score"]) == ("unsure", "0.52")
    assert second["frame_label"] == "Egyptian cat"


def test_the_record_states_and_keeps_its_candidates() -> None:
    made = record(visual_categories=UNSURE, textual_categories=CATEGORIES, predictions=UNSURE).to_dict()
    assert made["stated"] == {"visual": "unsure", "textual": "Egyptian cat", "prediction": "unsure"}
    assert [category["label"] for category in made["top_categories"]["visual"]] == NAMES
    assert [category["is_sure"] for category in made["predictions"]] == [False] * 3
    assert json.loads(json.dumps(made)) == made
    searched = record(query=asked("a cat"), recognized=False, predictions=None).to_dict()
    assert searched["stated"]["textual"] is None
    assert searched["stated"]["prediction"] is None


def test_the_page_says_unsure(tmp_path: Path) -> None:
    made = record(visual_categories=UNSURE, textual_categories=UNSURE, predictions=UNSURE)
    made = replace(made, frames=tuple(replace(frame, predictions=UNSURE[:2]) for frame in made.frames))
    text = read(page(tmp_path / "page.html", made, made, with_pictures=False)).text
    assert text.count("unsure") >= 2 * (1 + 1 + 2)  # of each video: in the index, its class, both curves
    assert not any(name in text for name in NAMES)
    (by_looks,) = [why(frame, made.to_dict()) for frame in made.to_dict()["frames"] if frame["chosen_by"] == "visual"]
    assert by_looks.startswith("It looks like what stands out in the video, of which no name is sure: ")


def test_the_sheet_says_unsure(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(sheet, "draw_text", lambda _draw, _corner, text, _width, **_rest: drawn.append(text))
    made = record(visual_categories=UNSURE)
    assert isinstance(sheet.draw_sheet(made, pictures(made).candidates), Image.Image)
    assert drawn[0] == "cat.mp4  -  unsure"


# What is seen


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return Classifier.load("imagenet-lite", recognizer="embedded", device="cpu")


def test_the_cat_of_the_demo_is_named(classifier: Classifier) -> None:
    stated = classifier.classify(ROOT / "examples" / "demo.mp4").to_dict()["stated"]
    assert set(stated.values()) == {"Egyptian cat"}


@pytest.mark.skipif(not SURVEILLANCE.is_dir(), reason="no surveillance clips beside the checkout")
def test_few_surveillance_clips_have_a_sure_name(classifier: Classifier) -> None:
    paths = sorted(SURVEILLANCE.rglob("*.mp4"))[::10]
    stated = [classifier.classify(path).to_dict()["stated"] for path in paths]
    assert len(stated) >= 8
    for who in ("visual", "textual", "prediction"):
        assert sum(names[who] != "unsure" for names in stated) <= 1, [names[who] for names in stated]


@pytest.mark.skipif(not SURVEILLANCE.is_dir(), reason="no surveillance clips beside the checkout")
def test_the_textual_module_is_no_longer_certain_of_everything() -> None:
    selector = Selector.load("imagenet-lite", device="cpu")
    first = [selector.select(path).textual_categories[0].score for path in sorted(SURVEILLANCE.rglob("*.mp4"))[::10]]
    assert len(first) >= 8
    assert max(first) < 0.98
    assert sorted(first)[len(first) // 2] < 0.8


# What benchmarks/words.py computes


def answer(kind: str, right: bool, probability: float, evidence: float = 0.0) -> words.Answer:
    material = Material(
        name="clip",
        kind=cast(Any, kind),
        part="tuning",
        group="g",
        right=frozenset(),
        read=lambda: np.zeros(0, np.uint8),
    )
    return words.Answer(
        material=material, right=right, probability=probability, evidence=evidence, frames=0.0, agreed=True
    )


def test_calibration_error_by_hand() -> None:
    given = [answer("whole", right, p) for p, right in ((0.91, True), (0.99, False), (0.25, True), (1.0, True))]
    # the bin of 0.91, 0.99 and 1.0: probabilities of 2.9 in all, 2 right; that of 0.25: 0.25, 1 right
    assert words.calibration_error(given) == pytest.approx((0.9 + 0.75) / 4)


def clip(right: int, frames: list[list[float]], visual: list[float], weights: list[float]) -> words.Clip:
    return words.Clip(
        material=replace(answer("whole", True, 0.0).material, right=frozenset({right})),
        visual=torch.tensor(visual),
        textual=torch.zeros(3),
        evidence=torch.zeros(3),
        frames=torch.tensor(frames),
        weights=torch.tensor(weights),
        strongest=torch.zeros(3),
    )


def test_the_recognizer_answers_by_the_packs_consensus() -> None:
    """Frames of 0.8, 0.1, 0.1 and of 0.2, 0.6, 0.2, the first weighing a third of the second; p^v 0.25, 0.25, 0.5."""
    logs = [[math.log(p) for p in row] for row in ((0.8, 0.1, 0.1), (0.2, 0.6, 0.2), (0.25, 0.25, 0.5))]
    one = clip(0, logs[:2], logs[2], [0.1, 0.3])
    mean = words.distributions(10.0, Consensus(pooling="probabilities"))["recognizer"]
    assert mean(one, None).tolist() == pytest.approx([0.5, 0.35, 0.15])
    weighted = words.distributions(10.0, Consensus(pooling="weighted-probabilities", evidence_visual=0.5))["recognizer"]
    products = [0.35 * 0.5, 0.475 * 0.5, 0.175 * math.sqrt(0.5)]  # of the weighted means and the roots of p^v
    assert weighted(one, None).tolist() == pytest.approx([product / sum(products) for product in products])
    sharper = [product**2 for product in products]
    assert weighted(one, 0.5).tolist() == pytest.approx([square / sum(sharper) for square in sharper])


def test_the_temperature_is_the_one_of_the_least_loss() -> None:
    """Three clips of four are right about a class that leads by a logit of one: 0.75 at 1 / T = log 6, of 3 classes."""
    clips = [clip(right, [[1.0, 0.0, 0.0]], [0.0] * 3, [1.0]) for right in (0, 0, 0, 1)]
    recognizer = words.distributions(10.0, Consensus())["recognizer"]
    assert words.fit_temperature(clips, recognizer, ("whole",)) == pytest.approx(1 / math.log(6), abs=0.01)


def test_the_least_level_spares_film() -> None:
    film = [answer("film", False, 0.0, evidence) for evidence in range(1, 41)]  # 5 % of 40 are two
    film += [answer("film", True, 0.0, 99.0), answer("whole", False, 0.0, 99.0)]  # neither counts
    rule, _ = words.RULES["evidence"]
    assert words.least(film, rule, range(100)) == 39
    assert words.least(film, rule, range(30)) is None


def test_names_of_clips_are_spelled_out() -> None:
    assert list(spelled_out("av1 v_Diving_g01_c08-10 cursed-vfr fi001")) == [
        "av1", "v_Diving_g01_c08", "v_Diving_g01_c09", "v_Diving_g01_c10", "cursed-vfr", "fi001"
    ]  # fmt: skip


def test_scenes_name_classes_of_the_pack_and_no_clip_twice() -> None:
    names = find_pack("imagenet-lite").class_names
    stems = [stem for some, _ in SCENES for stem in spelled_out(some)]
    assert len(set(stems)) == len(stems)
    assert {name for _, some in SCENES for name in some.split("|") if name} <= set(names)


def test_the_pack_holds_what_was_measured() -> None:
    measured = json.loads((ROOT / "docs" / "words.json").read_text())
    settings = find_pack("imagenet-lite").settings
    assert settings.text_logit_scale == measured["pack"]["text_logit_scale"]
    assert settings.words == Words(
        visual_temperature=measured["temperatures"]["visual"],
        textual_temperature=measured["temperatures"]["textual"],
        least_evidence=measured["levels"]["visual"],
        recognizer_temperature=measured["temperatures"]["recognizer"],
        least_probability=measured["levels"]["recognizer"],
    )
    assert measured["levels"]["textual"] == measured["levels"]["visual"]
    assert Consensus(**measured["consensus"]) == settings.consensus


def test_the_packs_early_exit_is_the_one_that_was_tuned() -> None:
    measured = json.loads((ROOT / "docs" / "needle.json").read_text())
    tuned, settings = measured["tuning"]["early_exit"], find_pack("imagenet-lite").settings
    assert settings.early_exit == EarlyExit(bar=tuned["bar"], temperatures=tuple(tuned["temperatures"]))
    assert Consensus(**measured["tuning"]["consensus"]) == Consensus(**measured["evaluation"]["consensus"])
    assert Consensus(**measured["evaluation"]["consensus"]) == settings.consensus
