"""Arithmetic for arrays of two kinds: numpy's against torch's own functions, and torch's kind as torch has it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tsq_cli import arrays

INF = math.inf
FINITE = torch.tensor([[[1.5, -2.0, 0.25], [0.0, -0.0, 3.0]], [[1e4, -1e4, 88.0], [-103.0, 1e-30, -1e-30]]])
"""[2, 2, 3]: ordinary and large numbers, and some whose exponentials leave float32."""
WITH_INF = torch.tensor([[[0.0, -INF, 1.0], [-INF, -INF, 7.0]], [[-INF, 2.0, 1e30], [-1e30, -INF, -1e30]]])
"""The same with minus infinity, in every row and column beside something finite."""

REDUCING: dict[str, tuple[Callable[..., Any], Callable[..., Tensor]]] = {
    "softmax": (arrays.softmax, torch.softmax),
    "log_softmax": (arrays.log_softmax, torch.log_softmax),
    "logsumexp": (arrays.logsumexp, torch.logsumexp),
    "normalize": (arrays.normalize, lambda values, axis: functional.normalize(values, dim=axis)),
}
ELEMENTWISE: dict[str, tuple[Callable[..., Any], Callable[..., Tensor]]] = {
    "softplus": (arrays.softplus, functional.softplus),
    "log_sigmoid": (arrays.log_sigmoid, functional.logsigmoid),
    "sigmoid": (arrays.sigmoid, torch.sigmoid),
}


def both_equal(function: Callable[[Any], Any], values: Tensor, wanted: Tensor) -> None:
    """Compare a function of either kind of the values with what torch gives of them; the kind and type stay."""
    of_torch, of_numpy = function(values), function(values.numpy())
    assert isinstance(of_torch, Tensor)
    assert isinstance(of_numpy, np.ndarray)
    assert of_numpy.dtype == wanted.numpy().dtype
    torch.testing.assert_close(of_torch, wanted, rtol=0, atol=0, equal_nan=True)
    np.testing.assert_allclose(of_numpy, wanted.numpy(), rtol=1e-5, atol=1e-38)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("name", REDUCING)
def test_a_function_along_an_axis_is_torchs(name: str, axis: int, dtype: torch.dtype) -> None:
    ours, theirs = REDUCING[name]
    for values in (FINITE, WITH_INF) if name != "normalize" else (FINITE, torch.zeros(2, 2, 3)):
        if name in ("softmax", "log_softmax") and not values.isfinite().any(dim=axis).all():
            values = values.clamp(min=-1e30)  # of nothing but -inf there is no softmax
        both_equal(lambda values: ours(values, axis), values.to(dtype), theirs(values.to(dtype), axis))


def test_the_sum_of_nothing_has_a_logarithm_and_infinities_do_not_warn() -> None:
    values = torch.full((2, 3), -INF)
    values[1, 1] = 5.0
    both_equal(lambda values: arrays.logsumexp(values, 1), values, torch.logsumexp(values, 1))
    assert arrays.logsumexp(values.numpy(), 1).tolist() == [-INF, 5.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_a_function_of_each_number_is_torchs(name: str, dtype: torch.dtype) -> None:
    ours, theirs = ELEMENTWISE[name]
    values = torch.linspace(-30, 30, 61, dtype=dtype)
    extremes = torch.tensor([-1e4, -200.0, -87.0, 0.0, 87.0, 200.0, 1e4, INF], dtype=dtype)
    for given in (values, extremes):
        of_torch, of_numpy = ours(given), ours(given.numpy())
        torch.testing.assert_close(of_torch, theirs(given), rtol=0, atol=0)
        # torch's softplus is x itself above 20, which is 2e-9 off in float64
        np.testing.assert_allclose(of_numpy, theirs(given).numpy(), rtol=1e-6, atol=1e-38 if name == "sigmoid" else 0)
        assert of_numpy.dtype == theirs(given).numpy().dtype


def test_a_logarithm_of_a_sigmoid_is_finite_where_the_sigmoid_rounds_to_zero() -> None:
    assert arrays.log_sigmoid(np.array([-200.0], np.float32)).tolist() == [-200.0]
    assert arrays.sigmoid(np.array([-200.0], np.float32)).tolist() == [0.0]


@pytest.mark.parametrize("axis", [0, 1])
def test_sorting_is_stable_highest_first(axis: int) -> None:
    values = torch.tensor([[0.5, 0.5, -INF, 2.0, 0.5], [0.5, 1.0, -INF, 2.0, INF], [0.5, 0.5, 0.0, 1.0, -1.0]])
    both_equal(
        lambda values: arrays.descending(values, axis), values, values.argsort(dim=axis, descending=True, stable=True)
    )
    ties = np.zeros(40, np.float32)  # more than an unstable sort leaves in place
    assert arrays.descending(ties, 0).tolist() == list(range(40))
    assert arrays.descending(np.array([0.5, 0.5, 2.0, 0.5]), 0).tolist() == [2, 0, 1, 3]


def test_taking_broadcasts_its_indices() -> None:
    rows, indices = torch.arange(24.0).reshape(2, 3, 4), torch.tensor([[[2], [0]], [[1], [1]]])
    both = [
        arrays.take(rows, indices.expand(2, 2, 4), 1).numpy(),
        arrays.take(rows, indices, 1).numpy(),
        arrays.take(rows.numpy(), indices.numpy(), 1),
    ]
    wanted = torch.gather(rows, 1, indices.expand(2, 2, 4)).numpy()
    for given in both:
        np.testing.assert_array_equal(given, wanted)


def test_half_precision_becomes_float32_and_wider_types_stay() -> None:
    for kind in (torch.float16, torch.bfloat16, torch.float32):
        assert arrays.at_least_float32(torch.ones(2, dtype=kind)).dtype == torch.float32
    assert arrays.at_least_float32(torch.ones(2, dtype=torch.float64)).dtype == torch.float64
    for name, wanted in (("float16", "float32"), ("float32", "float32"), ("float64", "float64")):
        assert arrays.at_least_float32(np.ones(2, name)).dtype == wanted
    third = np.array([1 / 3], np.float16)
    assert arrays.at_least_float32(third)[0] == np.float32(third[0])


def test_float32_converts_numbers_of_any_type_and_copies_none_that_are_it() -> None:
    for values in (torch.tensor([1, 2]), torch.tensor([1.0, 2.0], dtype=torch.float64)):
        assert arrays.float32(values).dtype == torch.float32
        assert arrays.float32(values.numpy()).dtype == np.float32
        assert arrays.float32(values.numpy()).tolist() == arrays.float32(values).tolist() == [1.0, 2.0]
    there = np.ones(3, np.float32)
    assert arrays.float32(there) is there


@pytest.mark.parametrize("kind", [torch.as_tensor, np.asarray])
def test_arrays_are_split_and_joined_along_their_first_axis(kind: Callable[..., Any]) -> None:
    whole = kind(np.arange(12.0).reshape(6, 2))
    parts = arrays.split(whole, [1, 0, 3, 2])
    assert [len(part) for part in parts] == [1, 0, 3, 2]
    assert all(arrays.is_torch(part) == arrays.is_torch(whole) for part in parts)
    joined = arrays.concat(parts)
    assert type(joined) is type(whole)
    np.testing.assert_array_equal(np.asarray(joined), np.asarray(whole))
    parts[0][0, 0] = 99  # a view
    assert float(whole[0, 0]) == 99


def test_an_array_becomes_the_kind_of_an_engine_without_a_copy() -> None:
    values = np.arange(3, dtype=np.float32)
    tensor = arrays.of_engine(values, "torch")
    assert arrays.is_torch(tensor)
    assert arrays.of_engine(tensor, "torch") is tensor
    back = arrays.of_engine(tensor, "onnx")
    assert isinstance(back, np.ndarray)
    assert arrays.of_engine(values, "onnx") is values
    values[0] = 7
    assert float(tensor[0]) == float(back[0]) == 7
    learned = torch.ones(2, requires_grad=True)
    assert arrays.to_numpy(learned * 2).tolist() == [2.0, 2.0]


def test_a_number_of_numpy_is_no_tensor_and_nothing_is_kept_for_gradients() -> None:
    assert not arrays.is_torch(np.float32(1))
    assert arrays.namespace(np.ones(1)) is np
    learned = torch.ones(2, requires_grad=True)
    with arrays.inference(learned):
        assert not (learned * 2).requires_grad
    with arrays.inference(np.ones(2)):
        assert (learned * 2).requires_grad
