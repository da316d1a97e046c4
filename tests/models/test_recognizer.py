from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from tests.models.test_fold import lively
from tsq_cli.errors import UsageError
from tsq_cli.models import FrameEncoder, Recognizer, create_encoder
from tsq_cli.models.fold import fold_batch_norm

SMALL_SWIN = {"embed_dim": 24, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1), "img_size": 64, "window_size": 2}


def recognizer(name: str, **options: Any) -> Recognizer:
    """A timm network of seven classes with seeded random weights, batch norms included."""
    torch.manual_seed(0)
    return Recognizer(FrameEncoder(lively(timm.create_model(name, num_classes=7, **options)), pretrained_cfg={}).eval())


# name, options, side of the pictures, shape of the activations, pooled and linear
NETWORKS = [
    ("resnet18", {}, 96, (2, 512, 3, 3), True),
    ("tf_efficientnet_lite0", {}, 96, (2, 1280, 3, 3), True),
    ("mobilenetv2_100", {}, 64, (2, 1280, 2, 2), True),
    ("regnetx_002", {}, 64, (2, 368, 2, 2), True),
    ("test_nfnet", {}, 96, (2, 192, 3, 3), True),
    ("test_resnet", {"global_pool": "max"}, 96, (2, 96, 3, 3), False),
    ("mobilenetv3_small_050", {}, 64, (2, 288, 2, 2), False),  # a convolution and its activation after pooling
    ("test_convnext", {}, 64, (2, 64, 2, 2), False),  # a norm after pooling
    ("poolformerv2_s12", {}, 64, (2, 512, 2, 2), False),  # a norm with the statistics of the whole map
    ("test_vit", {}, 160, (2, 101, 64), False),  # tokens, the first of which is classified
    ("swin_tiny_patch4_window7_224", SMALL_SWIN, 64, (2, 2, 2, 192), False),  # channels last
    (
        "volo_d1_224",
        {"img_size": 64},
        64,
        (2, 17, 384),
        False,
    ),  # scores of the tokens are mixed in after the classifier
]


@pytest.mark.parametrize(("name", "options", "size", "shape", "pooled_linear"), NETWORKS, ids=[n[0] for n in NETWORKS])
def test_the_head_on_the_activations_gives_timms_own_logits(
    name: str, options: dict[str, Any], size: int, shape: tuple[int, ...], pooled_linear: bool
) -> None:
    network = recognizer(name, **options)
    pictures = torch.randn(2, 3, size, size)
    with torch.no_grad():
        output = network(pictures)
        torch.testing.assert_close(output.logits, network.encoder.model(pictures), rtol=0, atol=0)
        assert torch.equal(network.classify(output.activations), output.logits)
    assert output.logits.shape == (2, network.num_classes) == (2, 7)
    assert output.activations.shape == shape
    assert network.is_pooled_linear is pooled_linear


@pytest.mark.parametrize("name", [name for name, *_, pooled_linear in NETWORKS if pooled_linear])
def test_where_pooled_and_linear_the_logits_are_the_mean_of_class_activation_maps(name: str) -> None:
    """By the formula, and by the head's gradient: at every place of [h, w] it is the class' row over h times w."""
    network = recognizer(name)
    activations = network(torch.randn(2, 3, 128, 96)).activations.detach().requires_grad_()
    classifier = network.encoder.model.get_classifier()
    maps = torch.einsum("cd,ndhw->nchw", classifier.weight, activations)
    logits = network.classify(activations)
    largest = logits.abs().max()
    torch.testing.assert_close((maps.mean((2, 3)) + classifier.bias) / largest, logits / largest, rtol=0, atol=1e-5)
    logits[:, 3].sum().backward()
    assert activations.shape[2:] == (4, 3)
    by_hand = (classifier.weight[3] / 12)[None, :, None, None].expand_as(activations)
    torch.testing.assert_close(activations.grad, by_hand)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_kind_of_head_is_told_in_any_precision_and_after_folding(dtype: torch.dtype) -> None:
    for name, pooled_linear in (("resnet18", True), ("mobilenetv3_small_050", False), ("test_convnext", False)):
        encoder = recognizer(name).encoder
        fold_batch_norm(encoder.model)
        assert Recognizer(encoder.to(dtype)).is_pooled_linear is pooled_linear


class MadeNetwork(nn.Module):
    """The parts of a timm network, with a head of its own making."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head, self.fc = head, nn.Linear(6, 3)

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return images.repeat(1, 2, 1, 1)

    def forward_head(self, activations: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        pooled = self.head(activations.mean((2, 3)))
        return pooled if pre_logits else self.fc(pooled)


@pytest.mark.parametrize(
    ("head", "pooled_linear"),
    [(nn.Identity(), True), (nn.ReLU(), False), (nn.LayerNorm(6), False)],
    ids=str,
)
def test_a_head_is_judged_by_what_it_does(head: nn.Module, pooled_linear: bool) -> None:
    made = Recognizer(FrameEncoder(MadeNetwork(head), pretrained_cfg={}).eval())
    assert made.is_pooled_linear is pooled_linear


def test_dropout_is_no_part_of_a_recognizer() -> None:
    encoder = create_encoder("test_resnet", num_classes=3)
    encoder.model.drop_rate = 0.5
    assert Recognizer(encoder).is_pooled_linear
    with pytest.raises(ValueError, match="evaluation mode"):
        Recognizer(encoder.train())


def test_folding_leaves_activations_and_logits_the_same_up_to_rounding() -> None:
    network = recognizer("resnet50")
    pictures = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        before = network(pictures)
        assert fold_batch_norm(network.encoder.model) == 53
        after = network(pictures)
    for one, other in ((before.activations, after.activations), (before.logits, after.logits)):
        largest = one.abs().max()
        torch.testing.assert_close(other / largest, one / largest, rtol=0, atol=1e-5)


def test_resnet101_is_the_published_architecture() -> None:
    """Deep Residual Learning (2015), table 1, and timm's results table: 44.55 million parameters."""
    with torch.device("meta"):
        network = timm.create_model("resnet101").eval()
        maps = network.forward_features(torch.empty(1, 3, 224, 224))
    assert sum(parameter.numel() for parameter in network.parameters()) == 44_549_160
    assert maps.shape == (1, 2048, 7, 7)
    blocks = [module for module in network.modules() if isinstance(module, timm.models.resnet.Bottleneck)]
    assert len(blocks) == 3 + 4 + 23 + 3


def test_networks_that_classify_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match=r"\(ResNet\) has no classifier; wanted a network that scores classes"):
        Recognizer(create_encoder("test_resnet", num_classes=0))
    with pytest.raises(UsageError, match=r"\(CoaT\) ends in a list of maps"):
        recognizer("coat_tiny", img_size=64)(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match=r"images must be float \[N, 3, H, W\]"):
        recognizer("test_resnet")(torch.zeros(1, 64, 64, 3))
