"""Studies: every row changes what it says, nothing else, and stands beside the number that the paper gives for it."""

from __future__ import annotations

import re
from dataclasses import asdict, replace

import pytest

from tsq_cli.errors import UsageError
from tsq_cli.models import TSQLayer, TSQLayerConfig
from tsq_cli.studies.registry import STUDIES, Study, changed, find_studies
from tsq_cli.training.settings import HeadSettings

# The supplementary's tables (docs/method.md, section 7), TSQNet/TQM/VQM where it gives all three.
PAPER = {
    "classifier": "73.3 68.3 74.3",
    "beta": "74.9/72.0/74.6 74.9/72.3/74.6 75.0/72.5/74.6 75.1/72.7/74.6 74.8/72.6/74.6 74.7/72.6/74.6",
    "alpha": "75.1/72.7/74.6 75.0/72.8/74.6 75.1/72.8/74.7 75.3/73.1/74.8 71.2/72.5/67.5",
    "self-attention": "74.2 74.4",
    "layers-heads": "73.7 73.6 74.4",
}
OURS = {
    "init-visual",
    "init-textual",
    "top-n",
    "lambda-v",
    "interaction",
    "scale",
    "text-encoder",
    "pooling",
    "evidence",
}
BASES = {
    "default": HeadSettings(),
    "competing queries": HeadSettings(
        layer=TSQLayerConfig(competition_floor=1.0, blank_frame_penalty=2.0),
        textual_layer=TSQLayerConfig(competition_floor=0.5, positional_embedding=False),
        visual_scale=0.05,
    ),
}


def settings_of(study: Study, base: HeadSettings) -> list[HeadSettings]:
    return [changed(base, {**study.fixed, **row.changes}) for row in study.rows]


def flat(settings: HeadSettings) -> dict[str, object]:
    nested = asdict(settings)
    return nested | {f"layer.{name}": value for name, value in nested.pop("layer").items()}


def test_the_papers_numbers_stand_beside_their_rows() -> None:
    assert {name for name, study in STUDIES.items() if study.from_paper} == set(PAPER)
    assert set(STUDIES) == {*PAPER, *OURS}
    for name, numbers in PAPER.items():
        expected = [tuple(float(number) for number in re.split("/", row)) for row in numbers.split()]
        assert [row.paper for row in STUDIES[name].rows] == expected


@pytest.mark.parametrize("base", BASES.values(), ids=BASES)
@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_rows_differ_in_one_respect_and_can_be_built(study: Study, base: HeadSettings) -> None:
    rows = settings_of(study, base)
    assert len(rows) >= 2
    others = [(row.text_encoder, row.pooling, row.evidence) for row in study.rows]
    assert len(set(zip(rows, others, strict=True))) == len(rows)
    respects = {
        "classifier": {"layer.attention", "layer.classifier"},
        "layers-heads": {"layer.num_layers", "layer.num_heads"},
        "self-attention": {"layer.self_attention"},
        "init-visual": {"visual_init"},
        "init-textual": {"textual_init"},
        "top-n": {"top_n"},
        "lambda-v": {"lambda_v"},
        "interaction": {"interaction", "alpha", "beta"},
        "scale": {"visual_scale", "textual_scale"},
        "text-encoder": set(),
        "pooling": set(),
        "evidence": set(),
    }
    values = [flat(settings) for settings in rows]
    varying = {name for name in values[0] if len({str(one[name]) for one in values}) > 1}
    assert varying == respects.get(study.name, {study.name})
    for settings in rows:
        for dim, layer in ((1280, settings.layer), (384, settings.textual_layer or settings.layer)):
            assert dim % layer.num_heads == 0
            TSQLayer(dim // 8, 40, config=layer)  # an eighth, for its weights are as many as its square
        if study.fixed.keys() & {"layer.competition_floor"}:
            assert settings.textual_layer is None  # a variant of the layer is one of both modules


def test_each_table_holds_the_papers_own_choice() -> None:
    own = HeadSettings()  # its defaults are S's: alpha and beta 0.6, one plain layer
    for name in ("alpha", "classifier", "self-attention", "layers-heads"):
        assert settings_of(STUDIES[name], own).count(own) == 1, name
    assert [settings.alpha for settings in settings_of(STUDIES["beta"], own)] == [0.0] * 6
    assert [settings.beta for settings in settings_of(STUDIES["alpha"], replace(own, beta=0.0))] == [0.6] * 5


def test_studies_are_found_by_name() -> None:
    assert [study.name for study in find_studies(["beta", "alpha", "beta"])] == ["beta", "alpha"]
    assert [study.name for study in find_studies(["beta", "all"])] == list(STUDIES)
    with pytest.raises(UsageError, match=r"'gamma'.*classifier"):
        find_studies(["alpha", "gamma"])
    with pytest.raises(UsageError, match="no study"):
        find_studies([])


def test_changes_are_checked_as_settings_are() -> None:
    settings = changed(HeadSettings(), {"layer.num_heads": 8, "fit.epochs": 3, "top_n": 1})
    assert (settings.layer.num_heads, settings.fit.epochs, settings.top_n) == (8, 3, 1)
    assert settings.layer == TSQLayerConfig(num_heads=8)
    with pytest.raises(UsageError, match="alpha is -1"):
        changed(HeadSettings(), {"alpha": -1.0})
    with pytest.raises(TypeError, match="gamma"):
        changed(HeadSettings(), {"gamma": 1.0})
