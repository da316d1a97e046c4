"""Folding of batch normalization into the convolution before it (ours; exact up to rounding)."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# Families whose blocks run their children in the order they are listed, so that a batch norm right after a convolution
# in the list also follows it, alone, in the computation. tests/models/test_fold.py holds each to its unfolded outputs.
FAMILIES = ("EfficientNet", "MobileNetV3", "ResNet")


def fold_batch_norm(network: nn.Module) -> int:
    """Fold every batch norm of a timm network that directly follows a convolution, in place.

    Args:
        network: in evaluation mode; one of another family than FAMILIES is left alone.

    Returns:
        The number of batch norms folded away.
    """
    if type(network).__name__ not in FAMILIES:
        return 0
    folded = 0
    for parent in network.modules():
        children = list(parent.named_children())
        for (conv_name, conv), (norm_name, norm) in pairwise(children):
            if not (isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
                continue
            if conv.out_channels == norm.num_features and norm.track_running_stats:
                with torch.no_grad():
                    setattr(parent, conv_name, fuse_conv_bn_eval(conv, norm))
                # timm's batch norms carry the activation that follows them.
                setattr(parent, norm_name, getattr(norm, "act", nn.Identity()))
                folded += 1
    return folded
