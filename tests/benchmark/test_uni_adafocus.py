"""Uni-AdaFocus against its description: which frames, which patch of each, and what is made of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from tests.benchmark.networks import Array, array, linear, linear_norm_relu, lively
from tsq_cli.benchmark.methods import UniAdaFocus
from tsq_cli.benchmark.methods.uni_adafocus import cut_patches, quantile_frames

CLASSES = 6
N = 3


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def model() -> UniAdaFocus:
    """Small networks; policies are so strong that each frame gets another patch, and frames lie unevenly."""
    torch.manual_seed(1)
    model = lively(UniAdaFocus(CLASSES, patch_side=64, glance="test_efficientnet", focus="test_resnet"))
    model.spatial[-1].weight *= 30
    model.temporal[-1].weight *= 30
    return model


@pytest.fixture
def videos() -> torch.Tensor:
    """Noise that is stronger from frame to frame."""
    noise = torch.randn(2, 3 * N, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    return noise * torch.linspace(0.2, 3, 3 * N)[:, None, None, None]


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([0.25] * 4, [1, 4, 7, 10]),  # quantiles 1/8, 3/8, ... of an even weight: the middle of each glance's three
        # 1/8 lies 0.25 into the first glance's 0.5, and so on; half of a glance's three frames is 1.5, floored
        ([0.5, 0.0, 0.0, 0.5], [0, 2, 9, 11]),
        ([0.0, 0.8, 0.2, 0.0], [3, 4, 5, 7]),  # 3 + 3 (0.125, 0.375, 0.625) / 0.8; 6 + 3 (0.875 - 0.8) / 0.2 = 7.125
        ([1.0, 0.0, 0.0, 0.0], [0, 1, 2, 3]),  # 0.375, 1.125, 1.875, 2.625: the last two of frames 0, 1, 1, 2 move on
        ([0.0, 0.0, 0.0, 1.0], [8, 9, 10, 11]),  # 9, 10, 11, 12 would end after the video: all are held before its end
    ],
)
def test_frames_lie_at_even_quantiles_of_the_weights(weights: list[float], expected: list[int]) -> None:
    assert quantile_frames(torch.tensor([weights, [0.25] * 4])).tolist() == [expected, [1, 4, 7, 10]]


def by_inverse_transform(weights: Array) -> list[int]:
    """Frame by frame, in numpy: where a line through the accumulated weights passes each quantile."""
    count = len(weights)
    reached = np.concatenate(([0], np.cumsum(weights)))
    found: list[int] = []
    for i in range(count):
        frame = int(np.interp((i + 0.5) / count, reached, np.arange(count + 1) * 3))
        found.append(max(frame, found[-1] + 1) if found else frame)
    return [min(frame, 2 * count + i) for i, frame in enumerate(found)]


def test_frames_of_random_weights_are_those_of_a_plain_interpolation() -> None:
    weights = (torch.randn(50, 16, generator=torch.Generator().manual_seed(0)) * 3).softmax(dim=1)
    chosen = quantile_frames(weights)
    assert chosen.tolist() == [by_inverse_transform(array(row)) for row in weights]
    assert bool((chosen.diff(dim=1) > 0).all())
    assert (int(chosen.min()) >= 0, int(chosen.max()) <= 47) == (True, True)


def pixels_with_their_places(count: int) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
    return torch.stack([torch.stack((rows, columns, torch.full((224, 224), float(n)))) for n in range(count)])


@pytest.mark.parametrize("side", [96, 128])
def test_patches_lie_where_their_places_say(side: int) -> None:
    places = torch.tensor([[0.5, 0.25, 0.0, 0.25], [0.3, 0.6, 0.5, 0.1], [0.9, 0.2, 0.7, 0.3]])
    patches = cut_patches(pixels_with_their_places(3), places, side)
    assert patches.shape == (3, 3, side, side)
    centers = (np.arange(side) + 0.5) / side  # of the patch's pixels, in parts of its side
    for number, (y, x, height, width) in enumerate(places.double().numpy()):
        tall, wide = 96 + 128 * height, 96 + 128 * width
        rows = y * (224 - tall) + tall * centers - 0.5
        columns = x * (224 - wide) + wide * centers - 0.5
        np.testing.assert_allclose(array(patches[number, 0]), np.repeat(rows[:, None], side, axis=1), atol=1e-3)
        np.testing.assert_allclose(array(patches[number, 1]), np.repeat(columns[None], side, axis=0), atol=1e-3)
        np.testing.assert_allclose(array(patches[number, 2]), number, atol=1e-4)


def test_a_patch_of_its_own_size_is_a_plain_cut() -> None:
    frames = torch.randn(2, 3, 224, 224)
    # a quarter of 128 more than 96 is 128, whose corner moves by 96; 96 itself moves by 128
    wide = cut_patches(frames, torch.tensor([[0.5, 0.25, 0.25, 0.25]]).expand(2, -1), 128)
    torch.testing.assert_close(wide, frames[:, :, 48:176, 24:152], rtol=1e-3, atol=1e-4)
    small = cut_patches(frames, torch.tensor([[1.0, 0.5, 0.0, 0.0]]).expand(2, -1), 96)
    torch.testing.assert_close(small, frames[:, :, 128:224, 64:160], rtol=1e-3, atol=1e-4)


def norm(layer: nn.Module, x: Array) -> Array:
    """A batch norm over axis 1, then the activation."""
    around = [-1, *[1] * (x.ndim - 2)]
    mean, var, weight, bias = (
        array(value).reshape(around)
        for value in (layer.running_mean, layer.running_var, layer.weight, layer.bias)  # type: ignore[arg-type]
    )
    return np.maximum((x - mean) / np.sqrt(var + layer.eps) * weight + bias, 0)  # type: ignore[no-any-return, operator]


def test_where_to_look_comes_from_the_maps(model: UniAdaFocus, videos: torch.Tensor) -> None:
    maps = array(model.glance.network.forward_features(videos[0, 1::3])).swapaxes(0, 1)  # [D, N, 7, 7]
    x = np.einsum("dnhw,ed->enhw", maps, array(model.spatial[0].conv.weight)[:, :, 0, 0, 0])[None]
    x = norm(model.spatial[0].norm, x)
    for block in model.spatial[1:3]:
        padded = np.pad(x[0], ((0, 0), (1, 1), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3, 3), axis=(1, 2, 3))
        x = norm(block.norm, np.einsum("dnhwtuv,edtuv->enhw", windows, array(block.conv.weight), optimize=True)[None])
    scores = np.einsum("dnhw,edhw->en", x[0], array(model.spatial[3].weight)[:, :, 0])
    glanced = 1 / (1 + np.exp(-scores))
    at = np.arange(3 * N) / 3 - 1 / 3  # glance i is frame 3 i + 1; before the first and after the last nothing changes
    expected = np.stack([np.interp(at, np.arange(N), row) for row in glanced], axis=1)
    found = model.look(videos[:, 1::3]).places[0]
    np.testing.assert_allclose(array(found), expected, atol=1e-4)
    assert np.ptp(expected, axis=0).min() > 1e-3


def test_when_to_look_comes_from_the_pooled_glances(model: UniAdaFocus, videos: torch.Tensor) -> None:
    x = array(model.glance.network.forward_features(videos[1, 1::3]).mean(dim=(2, 3))).T[None]
    for block in model.temporal[:2]:
        padded = np.pad(x[0], ((0, 0), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, 3, axis=1)
        x = norm(block.norm, np.einsum("dnt,edt->en", windows, array(block.conv.weight))[None])
    scores = array(model.temporal[2].weight)[0, :, 0] @ x[0]
    weights = np.exp(scores - scores.max())
    expected = by_inverse_transform(weights / weights.sum())
    assert model.look(videos[:, 1::3]).frames[1].tolist() == expected
    assert expected != [1, 4, 7]


def test_the_answer_is_made_of_both_maxima(model: UniAdaFocus, videos: torch.Tensor) -> None:
    looks = model.look(videos[:1, 1::3])
    chosen = looks.frames[0]
    patches = cut_patches(videos[0, chosen], looks.places[0, chosen], 64)
    local = array(model.focus.forward_features(patches).mean(dim=(2, 3)))
    pooled = array(model.glance.network.forward_features(videos[0, 1::3]).mean(dim=(2, 3)))
    states = [
        linear_norm_relu(block.linear, block.norm, features).max(axis=0)  # type: ignore[arg-type]
        for block, features in ((model.embed_glance, pooled), (model.embed_focus, local))
    ]
    expected = linear(model.classifier, np.concatenate(states))
    np.testing.assert_allclose(array(model(videos[:1])[0]), expected, rtol=1e-3, atol=1e-4)


def test_both_forms_and_single_videos_give_one_answer(model: UniAdaFocus, videos: torch.Tensor) -> None:
    together = model(videos)
    assert together.shape == (2, CLASSES)
    torch.testing.assert_close(model.forward_as_published(videos), together, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.cat([model(video[None]) for video in videos]), together, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[1], rtol=1e-3)


def test_nothing_is_read_on_the_host(model: UniAdaFocus) -> None:
    # Tensors of the meta device have no values, so any read of one raises.
    videos = torch.empty(2, 3 * N, 3, 224, 224, device="meta")
    assert model.to("meta")(videos).shape == (2, CLASSES)


def test_folding_changes_rounding_only(videos: torch.Tensor) -> None:
    model = lively(UniAdaFocus(CLASSES, glance="test_efficientnet", focus="resnet18"))
    before = model(videos)
    kinds = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
    norms = sum(isinstance(module, kinds) for module in model.modules())
    assert model.fold_batch_norms() == norms > 10
    assert not any(isinstance(module, kinds) for module in model.modules())
    torch.testing.assert_close(model(videos), before, rtol=1e-3, atol=1e-4)
    assert model.fold_batch_norms() == 0


@pytest.mark.parametrize("shape", [(9, 3, 224, 224), (1, 9, 3, 192, 192), (1, 8, 3, 224, 224)])
def test_other_shapes_are_refused(model: UniAdaFocus, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="B, 3 N, 3, 224, 224"):
        model(torch.zeros(shape))
