"""AdaFocus against its description: where crops lie, what chooses them, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import nn

from tests.benchmark.networks import array, gru, linear, lively
from tsq_cli.benchmark.methods import AdaFocus
from tsq_cli.benchmark.methods.adafocus import crop, crop_on_host
from tsq_cli.errors import UsageError

CLASSES = 6
either_crop = pytest.mark.parametrize("cut", [crop, crop_on_host])


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def model() -> AdaFocus:
    """Small networks; the policy's choices are spread, so that each frame gets a crop of its own."""
    torch.manual_seed(1)
    model = lively(AdaFocus(CLASSES, glance="test_efficientnet", focus="test_resnet"))
    model.policy.gru.weight_ih_l0 *= 30
    nn.init.normal_(model.policy.choose.weight)
    return model


@pytest.fixture
def videos() -> torch.Tensor:
    """Noise that is stronger from frame to frame."""
    noise = torch.randn(2, 4, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    return noise * torch.arange(1.0, 5.0)[:, None, None, None]


@either_crop
def test_crops_lie_where_their_cells_say(cut: Callable[..., torch.Tensor]) -> None:
    # Each pixel carries its own row, column and frame.
    pixels = torch.stack(torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij"))
    frames = torch.stack([torch.cat((pixels, torch.full((1, 224, 224), float(n)))) for n in range(49)])
    crops = cut(frames, torch.arange(49))
    assert crops.shape == (49, 3, 128, 128)
    for cell, (rows, columns, number) in enumerate(crops):
        top, left = np.floor(np.array([cell // 7, cell % 7]) / 6 * (224 - 128) + 1e-9)
        assert (rows[0, 0], columns[0, 0]) == (top, left)
        assert (rows[-1, -1], columns[-1, -1]) == (top + 127, left + 127)
        assert (rows.diff(dim=0) == 1).all()
        assert (columns.diff(dim=1) == 1).all()
        assert (number == cell).all()


@either_crop
@pytest.mark.parametrize(
    ("cell", "top", "left"), [(0, 0, 0), (6, 0, 96), (42, 96, 0), (48, 96, 96), (24, 48, 48), (9, 16, 32)]
)
def test_a_square_drawn_at_a_cell_fills_its_crop(
    cut: Callable[..., torch.Tensor], cell: int, top: int, left: int
) -> None:
    frames = torch.zeros(1, 3, 224, 224)
    frames[:, :, top : top + 128, left : left + 128] = 1
    assert cut(frames, torch.tensor([cell])).mean() == 1
    assert cut(frames, torch.tensor([cell - 1 if cell else 1])).mean() < 1


def test_the_policy_takes_the_best_cell_after_each_frame(model: AdaFocus) -> None:
    maps = torch.randn(1, 8, 256, 7, 7)
    conv, _, _, dense, _ = model.policy.look
    small = np.einsum("tchw,oc->tohw", array(maps[0]), array(conv.weight)[:, :, 0, 0])  # type: ignore[arg-type]
    small = np.maximum(small + array(conv.bias)[:, None, None], 0).reshape(8, 32 * 49)  # type: ignore[arg-type]
    states = gru(model.policy.gru, np.maximum(linear(dense, small), 0))  # type: ignore[arg-type]
    expected = linear(model.policy.choose, states).argmax(axis=1)
    cells, _ = model.policy(maps)
    assert cells[0].tolist() == expected.tolist()
    assert len(set(expected)) > 2


def test_the_cell_chosen_is_the_cell_looked_at(model: AdaFocus, videos: torch.Tensor) -> None:
    nn.init.zeros_(model.policy.choose.weight)
    nn.init.zeros_(model.policy.choose.bias)
    model.policy.choose.bias[9] = 1.0  # second row, third column
    seen: list[torch.Tensor] = []
    model.focus.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(videos)
    assert torch.equal(torch.cat(seen), videos.flatten(0, 1)[:, :, 16:144, 32:160])


def test_answer_is_made_of_glances_and_closer_looks_after_the_last_frame(model: AdaFocus, videos: torch.Tensor) -> None:
    maps = model.glance.network.forward_features(videos[1])
    cells, _ = model.policy(maps[None])
    looks = []
    for frame, cell in zip(videos[1], cells[0].tolist(), strict=True):
        top, left = 16 * (cell // 7), 16 * (cell % 7)
        looks.append(model.focus.forward_features(frame[None, :, top : top + 128, left : left + 128]).mean(dim=(2, 3)))
    steps = np.concatenate((array(maps.mean(dim=(2, 3))), array(torch.cat(looks))), axis=1)
    expected = linear(model.classifier, gru(model.video, steps)[-1])
    assert len(set(cells[0].tolist())) > 2
    np.testing.assert_allclose(array(model(videos)[1]), expected, rtol=1e-4, atol=1e-5)


def test_both_forms_give_one_answer(model: AdaFocus, videos: torch.Tensor) -> None:
    together = model(videos)
    assert together.shape == (2, CLASSES)
    torch.testing.assert_close(model.forward_as_published(videos), together, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0], together[1], rtol=1e-3)


def test_a_batch_answers_as_its_videos_alone(model: AdaFocus, videos: torch.Tensor) -> None:
    alone = torch.cat([model(video[None]) for video in videos])
    torch.testing.assert_close(model(videos), alone, rtol=1e-4, atol=1e-5)


def test_one_form_reads_nothing_on_the_host_and_the_other_does(model: AdaFocus) -> None:
    # Tensors of the meta device have no values, so any read of one raises.
    videos = torch.empty(2, 3, 3, 224, 224, device="meta")
    on_meta = model.to("meta")
    assert on_meta(videos).shape == (2, CLASSES)
    with pytest.raises(RuntimeError, match="meta"):
        on_meta.forward_as_published(videos)


def test_folding_changes_rounding_only(videos: torch.Tensor) -> None:
    model = lively(AdaFocus(CLASSES, glance="test_efficientnet", focus="resnet18"))
    before = model(videos)
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert model.fold_batch_norms() == norms > 10
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    torch.testing.assert_close(model(videos), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 3, 224, 224), (1, 5, 3, 192, 192), (1, 5, 1, 224, 224)])
def test_other_shapes_are_refused(model: AdaFocus, shape: tuple[int, ...]) -> None:
    for form in (model, model.forward_as_published):
        with pytest.raises(ValueError, match="B, T, 3, 224, 224"):
            form(torch.zeros(shape))


def test_a_glance_of_another_grid_is_refused() -> None:
    with pytest.raises(UsageError, match="7 x 7"):
        AdaFocus(CLASSES, glance="test_vit", focus="test_resnet")
