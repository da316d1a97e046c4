"""Small networks whose every part matters, and their layers written out by hand in float64."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Array = NDArray[np.float64]
Network = TypeVar("Network", bound=nn.Module)


def lively(network: Network) -> Network:
    """Batch norms with statistics of their own, as training leaves them: the initial ones would hide mistakes."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.3)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return network


def array(tensor: torch.Tensor | None) -> Array:
    assert tensor is not None
    values: Array = tensor.detach().double().numpy()
    return values


def linear(layer: nn.Linear, x: Array) -> Array:
    return x @ array(layer.weight).T + array(layer.bias)


def linear_norm_relu(layer: nn.Linear, norm: nn.BatchNorm1d, x: Array) -> Array:
    scaled = (linear(layer, x) - array(norm.running_mean)) / np.sqrt(array(norm.running_var) + norm.eps)
    return np.maximum(scaled * array(norm.weight) + array(norm.bias), 0)


def gru(layer: nn.GRU, steps: Array) -> Array:
    """States [T, H] of a gated recurrent unit over [T, D]; the reset gate r acts after its matrix, as in torch."""

    def sigmoid(x: Array) -> Array:
        values: Array = 1 / (1 + np.exp(-x))
        return values

    h = np.zeros(layer.hidden_size)
    states = []
    for x in steps:
        from_input = np.split(array(layer.weight_ih_l0) @ x + array(layer.bias_ih_l0), 3)
        from_state = np.split(array(layer.weight_hh_l0) @ h + array(layer.bias_hh_l0), 3)
        r, z = (sigmoid(from_input[i] + from_state[i]) for i in range(2))
        h = (1 - z) * np.tanh(from_input[2] + r * from_state[2]) + z * h
        states.append(h)
    return np.stack(states)
