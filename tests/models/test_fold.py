from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from tsq_cli.models import create_encoder
from tsq_cli.models.fold import fold_batch_norm


def lively(network: nn.Module) -> nn.Module:
    """Batch norms with statistics of their own, as training leaves them: the initial ones would fold to nothing."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)  # type: ignore[union-attr, operator]
            module.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr, operator]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    return network.eval()


@pytest.mark.parametrize(
    "name",
    ["tf_efficientnet_lite0", "efficientnet_b0", "mobilenetv2_100", "mobilenetv3_small_050", "resnet18", "resnet50"],
)
def test_folding_changes_rounding_only(name: str) -> None:
    network = lively(timm.create_model(name, num_classes=7))
    pictures = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        before = network(pictures)
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert fold_batch_norm(network) == norms > 10
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    with torch.inference_mode():
        after = network(pictures)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3 * float(before.abs().max()))


def test_other_networks_are_left_alone() -> None:
    network = timm.create_model("densenet121").eval()
    names = [name for name, _ in network.named_modules()]
    assert fold_batch_norm(network) == 0
    assert [name for name, _ in network.named_modules()] == names


def test_an_encoder_answers_the_same_after_folding() -> None:
    torch.manual_seed(0)
    encoder = create_encoder("resnet18", num_classes=5).eval()
    pictures = torch.randn(3, 3, 64, 64)
    with torch.inference_mode():
        before = encoder(pictures)
        assert fold_batch_norm(encoder.model) == 20
        after = encoder(pictures)
    torch.testing.assert_close(after.features, before.features, rtol=1e-3, atol=1e-4)
