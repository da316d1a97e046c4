"""Small networks and pictures made from formulas, the same on every machine and with every version of torch."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor

NUM_CLASSES = 10
SIDE = 128

# Heads of several kinds behind last stages of several layouts; none is a linear layer on pooled [N, D, h, w].
NETWORKS: dict[str, dict[str, Any]] = {
    "mobilenetv3_small_050": {},  # [N, D, h, w], a hidden layer behind the pooling
    "convnext_atto": {},  # [N, D, h, w], a layer norm behind the pooling
    "test_mambaout": {},  # [N, h, w, D], a hidden layer behind the pooling
    "swin_tiny_patch4_window7_224": {"img_size": SIDE, "embed_dim": 16, "depths": (1, 1, 1), "num_heads": (1, 2, 4)},
    "test_vit2": {"img_size": SIDE},  # tokens and a class token, mean of the tokens of the places
    "test_vit3": {"img_size": SIDE},  # tokens and a class token, attention over all of them
}


def network(name: str) -> Any:
    """A timm network in evaluation mode, its weights from the raw numbers of a generator whose stream is fixed."""
    model = timm.create_model(name, num_classes=NUM_CLASSES, **NETWORKS.get(name, {})).eval()
    state = model.state_dict()
    generator = np.random.PCG64(len(name))
    for entry, value in state.items():
        if value.is_floating_point():
            uniform = (generator.random_raw(value.numel()) >> np.uint64(11)) * 2.0**-52 - 1  # in [-1, 1)
            numbers = torch.from_numpy(uniform.reshape(tuple(value.shape)))
            state[entry] = _spread_like_trained(entry, numbers).to(value.dtype)
    model.load_state_dict(state)
    return model


def _spread_like_trained(entry: str, uniform: Tensor) -> Tensor:
    """Numbers in [-1, 1) brought to a range that lets every layer pass its input on, alive and of moderate size."""
    if entry.endswith("running_var"):
        return 1 + uniform / 2
    if entry.endswith(("bias", "running_mean")):
        return uniform / 5
    if uniform.ndim < 2:  # weights of norms, scales of layers
        return 1 + uniform / 2
    return uniform * (6 / prod(uniform.shape[1:])) ** 0.5  # keeps the variance through a ReLU (He et al. 2015)


def pictures() -> Tensor:
    """Two unlike network inputs, float32 [2, 3, SIDE, SIDE]: waves of several directions and lengths."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    waves = [
        [np.sin(2 * np.pi * (across * x + down * y * y) + channel) for channel in range(3)]
        for across, down in ((2.0, 5.0), (7.0, 1.5))
    ]
    return torch.from_numpy(np.array(waves, np.float32))
