"""The recognizer: class scores of images, and the activations from which saliency maps are made."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tsq_cli.errors import UsageError
from tsq_cli.models.encoders import FrameEncoder
from tsq_cli.models.outputs import RecognizerOutput


class Recognizer(nn.Module):
    """An image classifier that also gives the activations behind its scores.

    Attributes:
        encoder: the network.
        num_classes: C.
        is_pooled_linear: whether the logits are a linear layer on the mean over places of activations [N, D, h, w]:
            then a class activation map, the class' row of weights times the activations, is exact from the forward pass
            alone.

    Raises:
        UsageError: the network has no classifier.
        ValueError: an encoder in training mode, whose dropout would blur what its head computes.
    """

    def __init__(self, encoder: FrameEncoder) -> None:
        super().__init__()
        if not encoder.num_classes:
            raise UsageError(
                f"the network ({type(encoder.model).__name__}) has no classifier",
                wanted="a network that scores classes",
                fix="choose another timm model, for example resnet101",
            )
        if encoder.training:
            raise ValueError("build a Recognizer from an encoder in evaluation mode")
        self.encoder = encoder
        self.num_classes = encoder.num_classes
        self.is_pooled_linear = _is_pooled_linear(encoder)
        self.eval()

    def forward(self, images: Tensor) -> RecognizerOutput:
        """Recognize images, float [N, 3, H, W], prepared as encoder.pretrained_cfg says, in the dtype of the weights.

        Raises:
            UsageError: a network that gives its activations at several sizes.
            ValueError: images of another shape, or not floating point.
        """
        activations = self.encoder.activations(images)
        if not isinstance(activations, Tensor):
            raise UsageError(
                f"the network ({type(self.encoder.model).__name__}) ends in a {type(activations).__name__} of maps",
                wanted="one map of activations",
                fix="choose another timm model, for example resnet101",
            )
        return RecognizerOutput(logits=self.classify(activations), activations=activations)

    def classify(self, activations: Tensor) -> Tensor:
        """Run the head alone, from forward's activations to logits [N, C]; gradients flow through it."""
        logits: Tensor = self.encoder.model.forward_head(activations)
        return logits


@torch.no_grad()
def _is_pooled_linear(encoder: FrameEncoder) -> bool:
    """Test whether the head, on made activations, hands their mean over places to its linear layer.

    The numbers are small and whole, of both signs (a rectifier must show), and their means exact in half precision too.
    """
    made = torch.randint(-4, 5, (2, encoder.feature_dim, 2, 4), generator=torch.Generator().manual_seed(0)).float()
    try:
        features = encoder.model.forward_head(made.to(encoder.classifier_weight), pre_logits=True)
    except (RuntimeError, ValueError):  # from heads that take another number of channels, or another layout
        return False
    return torch.equal(features.float().cpu(), made.mean(dim=(2, 3)))
