"""CLIP and SigLIP: what transformers' own classes and image processors compute, and files that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPImageProcessor, CLIPModel, SiglipImageProcessor, SiglipModel

from tests.packs.image_text_making import SIDE, make_model
from tsq_cli.errors import UsageError, WeightsError
from tsq_cli.models.image_text import NEUTRAL_TEXTS, SIGLIP_LEVEL, ImageTextModel, ImageTower, preprocessor_of

NAMES = ["a dog", "a cat", "a red cup of coffee"]


def frames() -> torch.Tensor:
    """Coarse patches, uint8 [3, 48, 64, 3]."""
    rng = np.random.default_rng(0)
    return torch.from_numpy(np.kron(rng.integers(0, 256, (3, 6, 8, 3)), np.ones((1, 8, 8, 1))).astype(np.uint8))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> tuple[CLIPModel, Path]:
    folder = tmp_path_factory.mktemp("models") / "clip"
    return make_model(folder, "clip"), folder


@pytest.fixture(scope="module")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> tuple[SiglipModel, Path]:
    folder = tmp_path_factory.mktemp("models") / "siglip"
    return make_model(folder, "siglip"), folder


def own_logits(model: CLIPModel | SiglipModel, folder: Path, texts: list[str]) -> torch.Tensor:
    """The logits [P, N] of transformers' own processor and forward pass."""
    from transformers import AutoTokenizer

    is_clip = isinstance(model, CLIPModel)
    processor = (CLIPImageProcessor if is_clip else SiglipImageProcessor).from_pretrained(folder)
    pixels = processor(list(frames().numpy()), return_tensors="pt")["pixel_values"]
    padding = {"padding": True} if is_clip else {"padding": "max_length", "max_length": 24}
    tokens = AutoTokenizer.from_pretrained(folder)(texts, return_tensors="pt", **padding)
    inputs = {"input_ids": tokens["input_ids"]} | ({"attention_mask": tokens["attention_mask"]} if is_clip else {})
    with torch.inference_mode():
        return model(pixel_values=pixels, **inputs).logits_per_text


def test_clip_matches_by_the_softmax_of_its_own_logits(clip: tuple[CLIPModel, Path]) -> None:
    model, folder = clip
    loaded = ImageTextModel.from_pretrained(str(folder))
    with torch.inference_mode():
        matches = loaded.match(loaded(loaded.preprocessor(frames())), loaded.embed_names(NAMES))
    wanted = []
    for name in NAMES:
        logits = own_logits(model, folder, [f"a photo of {name}.", *NEUTRAL_TEXTS])
        wanted.append(logits.softmax(dim=0)[0])
    np.testing.assert_allclose(matches, torch.stack(wanted), atol=0.01)
    assert matches.std() > 0.05  # neither all one nor all zero


def test_siglip_matches_by_its_sigmoid_with_the_level_at_a_half(siglip: tuple[SiglipModel, Path]) -> None:
    model, folder = siglip
    loaded = ImageTextModel.from_pretrained(str(folder))
    with torch.inference_mode():
        matches = loaded.match(loaded(loaded.preprocessor(frames())), loaded.embed_names(NAMES))
    probabilities = own_logits(model, folder, [f"This is a photo of {name}." for name in NAMES]).sigmoid()
    odds = probabilities / (1 - probabilities) / (SIGLIP_LEVEL / (1 - SIGLIP_LEVEL))
    np.testing.assert_allclose(matches, odds / (1 + odds), atol=0.01)
    np.testing.assert_array_equal(matches >= 0.5, probabilities >= SIGLIP_LEVEL)


def test_a_tower_classifies_by_the_models_logits(siglip: tuple[SiglipModel, Path]) -> None:
    model, folder = siglip
    loaded = ImageTextModel.from_pretrained(str(folder))
    tower = ImageTower(loaded, loaded.embed_names(NAMES))
    with torch.inference_mode():
        features = tower.forward_features(loaded.preprocessor(frames()))
        logits = tower.forward_head(features)
    own = own_logits(model, folder, [f"This is a photo of {name}." for name in NAMES])
    np.testing.assert_allclose(logits, own.T, atol=0.05)
    np.testing.assert_array_equal(tower.shown(features), loaded.match(features, loaded.embed_names(NAMES)) >= 0.5)


def test_preprocessing_follows_the_models_own_file() -> None:
    base = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 2}
    cropped = preprocessor_of({**base, "size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224})
    assert (cropped.input_size, cropped.resize_side, cropped.interpolation) == (224, 256, "bilinear")
    squashed = preprocessor_of({**base, "size": {"height": 64, "width": 64}})
    half_black = torch.zeros(1, 100, 300, 3, dtype=torch.uint8)
    half_black[:, :, 150:] = 255
    assert squashed(half_black).shape == (1, 3, 64, 64)
    np.testing.assert_allclose(squashed(half_black)[0, 0, 32, [0, 63]], [-1, 1], atol=1e-6)  # both ends are seen


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("config.json", {"model_type": "bert"}, "model_type is 'bert'"),
        ("preprocessor_config.json", {"size": {"height": 32, "width": 64}}, "could not be loaded"),
        ("preprocessor_config.json", {"image_mean": "none"}, "could not be loaded"),
        ("preprocessor_config.json", {"image_std": [0, 0, 0]}, "std above 0"),
        ("preprocessor_config.json", {"crop_size": {"height": 10**9}}, "could not be loaded"),
        ("config.json", {"logit_scale_init_value": 1.0, "text_config": {"vocab_size": 3}}, "could not be loaded"),
    ],
)
def test_files_that_do_not_fit_are_refused(
    clip: tuple[CLIPModel, Path], tmp_path: Path, file: str, change: dict[str, object], said: str
) -> None:
    for path in clip[1].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    document = json.loads((tmp_path / file).read_text())
    (tmp_path / file).write_text(json.dumps({**document, **change}))
    with pytest.raises(WeightsError, match=said):
        ImageTextModel.from_pretrained(str(tmp_path))


def test_pickled_weights_are_not_read(clip: tuple[CLIPModel, Path], tmp_path: Path) -> None:
    for path in clip[1].iterdir():
        if path.suffix != ".safetensors":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    torch.save(clip[0].state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="could not be loaded"):
        ImageTextModel.from_pretrained(str(tmp_path))


def test_a_text_that_is_too_long_is_refused(clip: tuple[CLIPModel, Path]) -> None:
    with pytest.raises(UsageError, match="at most 24 tokens"):
        ImageTextModel.from_pretrained(str(clip[1])).embed_names(["dog " * 30])


def test_the_made_model_is_as_small_as_its_pictures(clip: tuple[CLIPModel, Path]) -> None:
    assert ImageTextModel.from_pretrained(str(clip[1])).preprocessor.input_size == SIDE
