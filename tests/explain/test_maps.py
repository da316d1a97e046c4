from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from tests.explain.networks import NETWORKS, network, pictures
from tsq_cli.errors import UsageError
from tsq_cli.explain import class_activation_maps, grad_cam, normalize_maps, saliency_maps, seen_box
from tsq_cli.models.encoders import FrameEncoder, create_encoder
from tsq_cli.models.preprocess import Preprocessor
from tsq_cli.models.recognizer import Recognizer

FIXTURE = Path(__file__).with_name("grad_cam.npz")


def recognizer(model: Any) -> Recognizer:
    return Recognizer(FrameEncoder(model, pretrained_cfg={}).eval()).eval()


def assert_alike(ours: Tensor, theirs: Tensor, *, relative: float) -> None:
    """Every place within a share of the largest value."""
    torch.testing.assert_close(ours, theirs, rtol=0, atol=relative * float(theirs.abs().max()))


def test_cam_by_hand() -> None:
    activations = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 1.0], [0.0, 2.0]]]])  # [1, 2, 2, 2]
    row = torch.tensor([2.0, -3.0])
    maps = class_activation_maps(activations.half(), row.half())
    assert maps.dtype == torch.float32
    assert maps.tolist() == [[[2.0, 1.0], [6.0, 2.0]]]


@pytest.mark.parametrize("name", ["resnet101", "tf_efficientnet_lite0"])
def test_cam_and_grad_cam_agree_where_the_head_is_pooled_and_linear(name: str) -> None:
    torch.manual_seed(0)
    pooled = Recognizer(create_encoder(name, num_classes=10))
    assert pooled.is_pooled_linear
    with torch.inference_mode():
        output = pooled(pictures()[:, :, :96, :96])
    for class_index in (0, 7):
        cam = saliency_maps(pooled, output, class_index)
        assert cam.shape == (2, 3, 3)
        assert (cam.amax(dim=(1, 2)) - cam.amin(dim=(1, 2)) > 0.1 * cam.abs().max()).all()  # something to agree on
        assert_alike(grad_cam(pooled, output.activations, class_index), cam, relative=1e-4)
        shares = cam.mean(dim=(1, 2)) + pooled.encoder.classifier_bias[class_index]
        assert_alike(shares.detach(), output.logits[:, class_index].clone(), relative=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_grad_cam_agrees_with_the_library(name: str) -> None:
    stored = np.load(FIXTURE)
    other = recognizer(network(name))
    assert not other.is_pooled_linear
    with torch.inference_mode():
        ours = saliency_maps(other, other(pictures()), int(stored[f"{name}/class"]))
    theirs = torch.from_numpy(stored[f"{name}/raw"])
    assert ours.dtype == torch.float32
    assert_alike(ours, theirs * theirs[0].numel(), relative=1e-4)  # the library averages gradients, we add them up
    # The library's scaling also brings the least place to zero.
    scaled = normalize_maps(ours, "frame")
    scaled -= scaled.min(axis=(1, 2), keepdims=True)
    scaled /= scaled.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(scaled, stored[f"{name}/scaled"], atol=1e-4)
    assert (scaled > 0.1).sum() > 2


@pytest.mark.parametrize("name", ["convnext_atto", "test_vit3"])
def test_the_head_computes_in_float32_and_keeps_no_gradient(name: str) -> None:
    half = recognizer(network(name).bfloat16())
    with torch.no_grad():
        activations = half(pictures().bfloat16()).activations
    # The same rounded weights, widened beforehand.
    wide = recognizer(network(name).bfloat16().float())
    ours = grad_cam(half, activations, 3)
    assert_alike(ours, grad_cam(wide, activations.float(), 3), relative=1e-6)
    assert not ours.requires_grad
    assert all(parameter.grad is None for parameter in half.parameters())
    assert next(half.parameters()).dtype == torch.bfloat16


def test_networks_that_do_not_look_at_places_are_refused() -> None:
    token = recognizer(timm.create_model("test_vit", num_classes=5).eval())
    with torch.inference_mode():
        output = token(torch.randn(2, 3, 160, 160))
    with pytest.raises(UsageError, match=r"test_vit classifies from its class token.* choose another recognizer"):
        saliency_maps(token, output, 3)

    oblong = recognizer(timm.create_model("test_vit2", img_size=(64, 96), num_classes=5).eval())
    with pytest.raises(UsageError, match=r"test_vit2 ends in tokens that form no square of places \(24\)"):
        saliency_maps(oblong, oblong(torch.randn(1, 3, 64, 96)), 3)


def test_maps_compare_over_the_clip_or_fill_each_frame() -> None:
    maps = torch.tensor([[[4.0, -8.0], [1.0, 0.0]], [[2.0, 1.0], [0.0, -1.0]], [[-3.0, -1.0], [-2.0, -4.0]]])
    clip = normalize_maps(maps, "clip")
    assert clip.dtype == np.float32
    assert clip.tolist() == [[[1.0, 0.0], [0.25, 0.0]], [[0.5, 0.25], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]
    frame = normalize_maps(maps, "frame")
    assert frame.tolist() == [[[1.0, 0.0], [0.25, 0.0]], [[1.0, 0.5], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]
    assert not normalize_maps(maps[2:], "clip").any()


def preprocessor(**settings: Any) -> Preprocessor:
    plain = {"input_size": 224, "mean": (0, 0, 0), "std": (1, 1, 1), "interpolation": "bilinear", "crop_pct": 0.875}
    return Preprocessor(**plain | settings)


@pytest.mark.parametrize(
    ("width", "height", "settings"),
    [
        (455, 256, {}),  # not resized; 115.5 columns to the left of the crop
        (256, 453, {}),  # 114.5 rows above it
        (457, 256, {}),
        (256, 256, {}),
        (300, 235, {"crop_pct": 0.95}),  # 235.8 rounded down
    ],
)
def test_lines_around_the_box_are_unseen_and_lines_inside_are_seen(
    width: int, height: int, settings: dict[str, Any]
) -> None:
    preprocess = preprocessor(**settings)
    box = np.array(seen_box(width, height, preprocess)) * [width, height, width, height]
    left, top, right, bottom = box.round().astype(int).tolist()
    np.testing.assert_allclose(box, [left, top, right, bottom], atol=1e-9)
    frames = np.zeros((2, height, width, 3), np.uint8)
    frames[0], frames[1, top:bottom, left:right] = 255, 255
    frames[0, top:bottom, left:right] = 0  # white all around the box
    frames[1, top + 1 : bottom - 1, left + 1 : right - 1] = 0  # a white line just inside
    around, inside = preprocess(torch.from_numpy(frames))
    assert not around.any()
    edges = [inside[:, 0], inside[:, -1], inside[:, :, 0], inside[:, :, -1]]
    assert all((edge == 1).all() for edge in edges)


@pytest.mark.parametrize(
    ("width", "height", "settings"),
    [
        (240, 135, {}),
        (135, 241, {}),
        (101, 100, {}),
        (250, 77, {"crop_pct": 0.95}),
        (250, 140, {"input_size": 96, "crop_pct": 1.0}),  # the whole height, shrunk
        (200, 200, {"crop_pct": 1.0}),  # the whole frame
    ],
)
def test_the_box_of_resized_frames_is_what_the_network_sees(width: int, height: int, settings: dict[str, Any]) -> None:
    preprocess = preprocessor(**settings)
    # Each pixel holds its own column (or row): a ramp, which linear resizing leaves a ramp.
    columns, rows = np.meshgrid(np.arange(width), np.arange(height))
    ramps = np.stack([columns, rows, 0 * rows], axis=2).astype(np.uint8)[None]
    seen = preprocess(torch.from_numpy(ramps))[0] * 255
    left, top, right, bottom = seen_box(width, height, preprocess)
    for channel, (start, end), size in ((0, (left, right), width), (1, (top, bottom), height)):
        values = seen[channel].mean(dim=channel)  # of columns over rows, of rows over columns
        middle = float(values.mean()) + 0.5  # value 0 stands for the middle of the first pixel
        assert middle == pytest.approx((start + end) / 2 * size, abs=0.15)
        inner = values[len(values) // 4 : -len(values) // 4]
        step = float((inner[-1] - inner[0]) / (len(inner) - 1))
        assert step == pytest.approx((end - start) * size / preprocess.input_size, rel=0.02)
    assert (left, right) == (0, 1) if width == height and preprocess.crop_pct == 1 else left > 0
