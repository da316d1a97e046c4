from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file

from tsq_cli.errors import UsageError, WeightsError
from tsq_cli.models import create_encoder

SMALL = "test_resnet"  # timm's own network for tests, half a million parameters


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("tf_efficientnet_lite0", 64),
        ("mobilenetv2_100", 64),
        ("efficientnet_b0", 64),
        ("resnet18", 64),  # resnet101 is the same class, five times the size
        ("mobilenetv3_small_050", 64),  # its head has a layer between pooling and classifier
        ("test_vit", 160),  # no convolution, no feature map
    ],
)
def test_features_and_logits_equal_those_of_timm(name: str, size: int) -> None:
    torch.manual_seed(0)
    whole = timm.create_model(name, num_classes=7).eval()
    headless = timm.create_model(name, num_classes=0).eval()
    headless.load_state_dict({key: whole.state_dict()[key] for key in headless.state_dict()})
    encoder = create_encoder(name, num_classes=7)
    encoder.model.load_state_dict(whole.state_dict())
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        output = encoder(images)
        torch.testing.assert_close(output.logits, whole(images), rtol=0, atol=0)
        torch.testing.assert_close(output.features, headless(images), rtol=0, atol=0)
        by_hand = output.features @ encoder.classifier_weight.T + encoder.classifier_bias
    size_of_logits = output.logits.abs().max()  # random weights can make them tiny
    torch.testing.assert_close(by_hand / size_of_logits, output.logits / size_of_logits)
    assert output.features.unique().numel() > 50
    assert output.features.shape == (2, encoder.feature_dim)
    assert encoder.num_classes == 7
    assert not encoder.training


def test_the_published_number_of_classes_and_preprocessing_are_kept() -> None:
    encoder = create_encoder("tf_efficientnet_lite0")
    assert (encoder.num_classes, encoder.feature_dim) == (1000, 1280)
    assert encoder.classifier_weight.shape == (1000, 1280)
    assert encoder.pretrained_cfg["input_size"] == (3, 224, 224)
    assert encoder.pretrained_cfg["mean"] == (0.5, 0.5, 0.5)
    assert encoder.pretrained_cfg["std"] == (0.5, 0.5, 0.5)
    assert encoder.pretrained_cfg["interpolation"] == "bicubic"
    assert encoder.pretrained_cfg["crop_pct"] == 0.875


def test_an_encoder_without_a_classifier_gives_features_only() -> None:
    encoder = create_encoder(SMALL, num_classes=0)
    output = encoder(torch.randn(1, 3, 64, 64))
    assert output.logits is None
    assert output.features.shape == (1, encoder.feature_dim)
    with pytest.raises(ValueError, match="no classifier"):
        _ = encoder.classifier_weight


@pytest.fixture
def published(tmp_path: Path, offline: None) -> torch.nn.Module:
    """A network whose weights lie in tmp_path as in a hub cache."""
    torch.manual_seed(3)
    network: torch.nn.Module = timm.create_model(SMALL).eval()
    weights_in(tmp_path).parent.mkdir(parents=True)
    (weights_in(tmp_path).parents[2] / "refs").mkdir()
    (weights_in(tmp_path).parents[2] / "refs" / "main").write_text("0" * 40)
    save_file(network.state_dict(), weights_in(tmp_path))
    return network


def weights_in(cache: Path) -> Path:
    repository = timm.get_pretrained_cfg(SMALL).hf_hub_id
    return cache / f"models--{repository.replace('/', '--')}" / "snapshots" / ("0" * 40) / "model.safetensors"


def test_pretrained_weights_come_from_the_local_hub_cache(tmp_path: Path, published: torch.nn.Module) -> None:
    images = torch.randn(1, 3, 64, 64)
    encoder = create_encoder(SMALL, pretrained=True)
    torch.testing.assert_close(encoder(images).logits, published(images), rtol=0, atol=0)

    weights = weights_in(tmp_path).read_bytes()
    weights_in(tmp_path).write_bytes(weights[: len(weights) // 2])
    with pytest.raises(WeightsError, match=f"{SMALL} could not be loaded: .*incomplete"):
        create_encoder(SMALL, pretrained=True)


@pytest.mark.parametrize("num_classes", [None, 7])
def test_published_weights_must_be_whole_whatever_the_number_of_classes(
    tmp_path: Path, published: torch.nn.Module, num_classes: int | None
) -> None:
    images = torch.randn(1, 3, 64, 64)
    encoder = create_encoder(SMALL, num_classes=num_classes, pretrained=True)
    assert encoder(images).logits.shape == (1, num_classes or 1000)
    torch.testing.assert_close(encoder.activations(images), published.forward_features(images), rtol=0, atol=0)

    good = published.state_dict()
    tensor = good.pop("conv1.0.weight")
    for flawed in (good, {**good, "conv1.0.wait": tensor}, {**good, "conv1.0.weight": tensor[:1]}):
        save_file(flawed, weights_in(tmp_path))
        with pytest.raises(WeightsError, match=rf"{SMALL} could not be loaded: .*conv1\.0\.weight") as caught:
            create_encoder(SMALL, num_classes=num_classes, pretrained=True)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [SMALL, "hf-hub:owner/name", "local-dir:no/such/folder"])
def test_weights_out_of_reach_say_what_to_do(name: str, offline: None) -> None:
    with pytest.raises(WeightsError, match=f"{name} could not be loaded: .*HF_HUB_CACHE"):
        create_encoder(name, pretrained=True)


def test_unknown_and_unfit_networks_are_refused() -> None:
    with pytest.raises(UsageError, match=r"no model named 'resnet1001'.*did you mean resnet101"):
        create_encoder("resnet1001")
    with pytest.raises(UsageError, match=rf"no model named '{SMALL}\.r161_in1k'.*did you mean {SMALL}\.r160_in1k"):
        create_encoder(f"{SMALL}.r161_in1k")
    with pytest.raises(UsageError, match="classifier is tuple; wanted one linear layer"):
        create_encoder("deit_tiny_distilled_patch16_224")


@pytest.mark.parametrize(
    "images", [torch.zeros(3, 64, 64), torch.zeros(1, 64, 64, 3), torch.zeros(1, 3, 64, 64, dtype=torch.uint8)]
)
def test_images_of_another_kind_are_refused(images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"images must be float \[N, 3, H, W\]"):
        create_encoder(SMALL)(images)
