from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

from tsq_cli.errors import InputNotFoundError, UsageError
from tsq_cli.models.layer_config import TSQLayerConfig
from tsq_cli.training.settings import (
    Augmentation,
    EncoderSettings,
    FitSettings,
    HeadSettings,
    RecognizerSettings,
    TrainSettings,
    read_settings,
    settings_from,
)

FULL = TrainSettings(
    train_list="train.txt",
    val_list="lists/val ü.txt",
    stages="encoder,heads",
    num_candidates=8,
    heads=HeadSettings(
        alpha=0.2,
        interaction="js",
        visual_scale=0.05,
        layer=TSQLayerConfig(num_layers=2, self_attention=True),
        textual_layer=TSQLayerConfig(competition_floor=8.0),
        fit=FitSettings(epochs=3, optimizer="sgd", clip_norm=0),
    ),
    encoder=EncoderSettings(augmentation=Augmentation(flip=False)),
)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    FULL.write(tmp_path / "train.toml")
    assert read_settings(tmp_path / "train.toml", {}) == FULL
    text = (tmp_path / "train.toml").read_text(encoding="utf-8")
    assert "[heads.fit]" in text
    assert 'stages = "encoder,heads"' in text


def test_a_file_need_hold_only_what_differs(tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('train_list = "a.txt"\n[heads]\nalpha = 1\n[heads.fit]\nepochs = 7\n')
    settings = read_settings(tmp_path / "run.toml", {"heads.fit.epochs": None, "heads.fit.seed": 4, "pack": "imagenet"})
    assert settings == TrainSettings(
        train_list="a.txt",
        pack="imagenet",
        heads=HeadSettings(alpha=1.0, fit=dataclasses.replace(HeadSettings().fit, epochs=7, seed=4)),
    )


def test_a_table_that_is_not_whole_keeps_the_defaults_of_its_own_place() -> None:
    values = {"train_list": "a.txt", "recognizer": {"fit": {"learning_rate": 0.5}}}
    overrides = {"heads.fit.seed": 2, "encoder.fit.epochs": None, "recognizer.fit.epochs": 4}
    settings = settings_from(values, overrides, origin="options")
    assert settings.heads == HeadSettings(fit=dataclasses.replace(HeadSettings().fit, seed=2))
    assert settings.encoder == EncoderSettings()
    fitting = dataclasses.replace(RecognizerSettings().fit, learning_rate=0.5, epochs=4)
    assert settings.recognizer == RecognizerSettings(fit=fitting)
    assert values == {"train_list": "a.txt", "recognizer": {"fit": {"learning_rate": 0.5}}}, "left as it was"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('train_list = "a"\n[heads]\nalfa = 1', r"run.toml: heads\.alfa is an unknown key"),
        ('train_list = "a"\n[heads]\nalpha = "much"', r"heads\.alpha is 'much'"),
        ('train_list = "a"\n[heads.fit]\nepochs = 0', "epochs is 0; wanted 1 or more"),
        ("pack = 'imagenet'", "train_list is missing"),
        ("train_list = ", "no TOML file"),
        ('train_list = "a"\nstages = ""', "stages is ''"),
        ('train_list = "a"\nstages = "encoder,head"', "wanted some of encoder,heads,recognizer"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_settings(tmp_path / "run.toml", {})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputNotFoundError, match=r"run\.toml cannot be read"):
        read_settings(tmp_path / "run.toml", {})


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (FitSettings, {"epochs": 0}),
        (FitSettings, {"learning_rate": 0.0}),
        (FitSettings, {"learning_rate": float("nan")}),
        (FitSettings, {"weight_decay": -1.0}),
        (FitSettings, {"optimizer": "lion"}),
        (FitSettings, {"precision": "float64"}),
        (FitSettings, {"keep": "first"}),
        (FitSettings, {"patience": -1}),
        (HeadSettings, {"alpha": -0.1}),
        (HeadSettings, {"prototype_ratio": 0.0}),
        (HeadSettings, {"prototype_ratio": 1.1}),
        (HeadSettings, {"lambda_v": 1.5}),
        (HeadSettings, {"visual_scale": 0.0}),
        (HeadSettings, {"interaction": "cosine"}),
        (HeadSettings, {"visual_init": "text"}),
        (Augmentation, {"min_area": 0.0}),
        (EncoderSettings, {"frames_per_video": 0}),
        (EncoderSettings, {"backbone_lr_scale": 2.0}),
        (RecognizerSettings, {"method": "guess"}),
        (TrainSettings, {"train_list": "a", "num_frames": 0}),
        (TrainSettings, {"train_list": "a", "split_seed": -1}),
        *((TrainSettings, {"train_list": "a", "val_list": share}) for share in ("0", "1", "1.5", "-0.2", "nan", "inf")),
        (TrainSettings, {"train_list": "a", "val_list": "0.2", "val_subset": "test"}),
        (TrainSettings, {"train_list": "a", "heads": HeadSettings(fit=FitSettings(patience=3))}),
    ],
)
def test_values_out_of_range_are_refused_by_name(kind: Any, values: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"heads\.fit\.patience\) is 3" if "heads" in values else list(values)[-1]):
        kind(**values)


@pytest.mark.parametrize(
    ("typed", "share"), [("0.2", 0.2), (".5", 0.5), ("1e-3", 0.001), ("val.txt", None), ("./0.2", None), (None, None)]
)
def test_a_share_is_a_number_and_anything_else_a_list(typed: str | None, share: float | None) -> None:
    assert TrainSettings(train_list="a", val_list=typed).val_share == share


def _tree(kind: Any) -> list[Any]:
    """A settings class and those inside it."""
    inside = [part for hint in get_type_hints(kind).values() for part in (hint, *get_args(hint))]
    return [kind, *(found for part in inside if dataclasses.is_dataclass(part) for found in _tree(part))]


def test_what_toml_cannot_say_is_the_default() -> None:
    # TOML has no null: a value that may be None must be None where it is left out
    for kind in _tree(TrainSettings):
        for item in dataclasses.fields(kind):
            if type(None) in get_args(get_type_hints(kind)[item.name]):
                assert item.default is None, f"{kind.__name__}.{item.name}"


def test_the_papers_values_are_the_defaults() -> None:
    heads = HeadSettings()
    assert (heads.alpha, heads.beta, heads.prototype_ratio, heads.lambda_v) == (0.6, 0.6, 0.3, 0.6)
    assert heads.layer == TSQLayerConfig()
    assert EncoderSettings().fit.epochs == 10
    assert (FULL.num_frames, TrainSettings(train_list="a").num_candidates) == (5, 16)


def test_settings_are_read_without_torch() -> None:
    code = "import sys, tsq_cli.training.settings; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
