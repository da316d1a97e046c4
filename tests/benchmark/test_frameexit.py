"""FrameExit against its description: order of visits, running maximum, gates that run and that decide."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from tests.benchmark.networks import array, linear, linear_norm_relu, lively
from tsq_cli.benchmark.methods import FrameExit
from tsq_cli.benchmark.methods.frameexit import frame_indices
from tsq_cli.errors import UsageError

ORDER = [5, 0, 9, 2, 7, 4, 6, 3, 8, 1]  # docs/method.md, section 8
CLASSES = 6


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture
def model() -> FrameExit:
    torch.manual_seed(1)
    return lively(FrameExit(CLASSES, backbone="test_resnet"))


@pytest.fixture
def frames() -> torch.Tensor:
    return torch.randn(10, 3, 64, 64, generator=torch.Generator().manual_seed(2))


def set_gate(model: FrameExit, step: int, *, leaves: bool) -> None:
    """Let the gate of one step, 1 to 8, say the same of every pair of states."""
    decide = model.gates[step - 1].decide
    nn.init.zeros_(decide.weight)
    nn.init.constant_(decide.bias, -1.0 if leaves else 1.0)


def set_first_confidence(model: FrameExit, probability: float) -> None:
    """Let step 0 see one class with this probability and the others share the rest, whatever the frame."""
    nn.init.zeros_(model.classifiers[0].weight)
    nn.init.zeros_(model.classifiers[0].bias)
    model.classifiers[0].bias[2] = np.log(probability * (CLASSES - 1) / (1 - probability))


@pytest.mark.parametrize(
    ("num_frames", "expected"),
    [
        (10, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (25, [0, 2, 5, 8, 10, 13, 16, 18, 21, 24]),  # multiples of 24 / 9 = 2.67, rounded down
        (100, [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]),
        (3, [0, 0, 0, 0, 0, 1, 1, 1, 1, 2]),
        (1, [0] * 10),
    ],
)
def test_frames_lie_from_the_first_to_the_last(num_frames: int, expected: list[int]) -> None:
    assert frame_indices(num_frames).tolist() == expected


def test_a_video_of_no_frames_has_no_indices() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        frame_indices(0)


@pytest.mark.parametrize("exit_after", [1, 2, 6, 10])
def test_answer_is_the_classifier_of_the_running_maximum(
    model: FrameExit, frames: torch.Tensor, exit_after: int
) -> None:
    pooled = array(model.backbone.forward_features(frames)).mean(axis=(2, 3))
    assert isinstance(model.embed.norm, nn.BatchNorm1d)
    f = linear_norm_relu(model.embed.linear, model.embed.norm, pooled)
    z = np.max([f[time] for time in ORDER[:exit_after]], axis=0)
    expected = linear(model.classifiers[exit_after - 1], z)  # type: ignore[arg-type]
    output = model(frames, exit_after=exit_after)
    assert output.num_frames_used == exit_after
    assert output.logits.shape == (CLASSES,)
    np.testing.assert_allclose(array(output.logits), expected, rtol=1e-4, atol=1e-4)


def test_frames_are_visited_one_by_one_in_the_papers_order(model: FrameExit) -> None:
    frames = torch.arange(10.0)[:, None, None, None].expand(10, 3, 64, 64)
    seen: list[float] = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0].mean(dim=(1, 2, 3)).tolist()))
    model(frames, exit_after=10)
    assert seen == ORDER


@pytest.mark.parametrize("step", range(1, 9))
def test_a_gate_that_says_so_ends_it(model: FrameExit, frames: torch.Tensor, step: int) -> None:
    set_first_confidence(model, 0.5)
    for other in range(1, 9):
        set_gate(model, other, leaves=other >= step)
    assert model(frames).num_frames_used == step + 1


def test_without_a_word_from_the_gates_the_last_frame_ends_it(model: FrameExit, frames: torch.Tensor) -> None:
    set_first_confidence(model, 0.5)
    for step in range(1, 9):
        set_gate(model, step, leaves=False)
    assert model(frames).num_frames_used == 10


@pytest.mark.parametrize(("probability", "expected"), [(0.995, 1), (0.985, 2)])
def test_only_a_confident_first_frame_ends_it(
    model: FrameExit, frames: torch.Tensor, probability: float, expected: int
) -> None:
    set_first_confidence(model, probability)
    set_gate(model, 1, leaves=True)
    assert model(frames).num_frames_used == expected


def test_a_gate_compares_two_states_through_shared_layers(model: FrameExit) -> None:
    gate = model.gates[3]
    states = torch.randn(2, 3, 4096).relu()
    hidden = []
    for state in array(states):
        for block in gate.shared:
            state = linear_norm_relu(block.linear, block.norm, state)
        hidden.append(state)
    score = linear(gate.decide, np.concatenate(hidden, axis=1))[:, 0]
    np.testing.assert_allclose(array(gate(*states)), 1 / (1 + np.exp(-score)), rtol=1e-4)
    assert len({round(float(value), 6) for value in score}) == 3


def test_a_set_exit_overrules_gates_but_they_still_run(model: FrameExit, frames: torch.Tensor) -> None:
    set_first_confidence(model, 0.999)
    ran: list[int] = []
    for step in range(1, 9):
        set_gate(model, step, leaves=step < 6)
        model.gates[step - 1].register_forward_hook(lambda *_, step=step: ran.append(step))
    assert model(frames, exit_after=6).num_frames_used == 6
    assert ran == [1, 2, 3, 4, 5]


def test_steps_take_several_videos_and_read_nothing_on_the_host(model: FrameExit) -> None:
    # Tensors of the meta device have no values, so any read of one would raise.
    on_meta = model.to("meta")
    frames = torch.empty(3, 3, 64, 64, device="meta")
    state = on_meta.initial_state(frames)
    for position in range(10):
        state, leaves = on_meta.step(position, frames, state)
        assert (state.shape, leaves.shape, leaves.dtype) == ((3, 4096), (3,), torch.bool)
        assert on_meta.classify(position, state).shape == (3, CLASSES)


def test_folding_changes_rounding_only(frames: torch.Tensor) -> None:
    model = lively(FrameExit(CLASSES, backbone="resnet18"))
    before = model(frames, exit_after=10).logits
    norms = sum(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in model.modules())
    assert model.fold_batch_norms() == norms == 20 + 1 + 8 * 2
    assert not any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in model.modules())
    torch.testing.assert_close(model(frames, exit_after=10).logits, before, rtol=1e-4, atol=1e-4)
    assert model.fold_batch_norms() == 0


@pytest.mark.parametrize("exit_after", [0, 11])
def test_an_exit_outside_the_ten_frames_is_refused(model: FrameExit, frames: torch.Tensor, exit_after: int) -> None:
    with pytest.raises(UsageError, match="1 to 10"):
        model(frames, exit_after=exit_after)


def test_other_numbers_of_frames_are_refused(model: FrameExit, frames: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="10, 3, H, W"):
        model(frames[:9])
