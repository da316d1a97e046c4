"""Image encoders of timm behind one small interface: one forward pass gives features and class scores."""

from __future__ import annotations

import difflib
import pickle
import textwrap
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from torch import Tensor, nn

from tsq_cli.errors import UsageError, WeightsError
from tsq_cli.models.outputs import EncoderOutput

# Errors of timm, huggingface_hub, torch and safetensors for weights that are missing, damaged or of another network.
_LOADING_ERRORS = (OSError, RuntimeError, ValueError, KeyError, EOFError, SafetensorError, pickle.UnpicklingError)

_found_names = set[str]()
"""Names that timm was found to have: to ask it takes milliseconds, and many packs name the same networks."""


class FrameEncoder(nn.Module):
    """A timm network with a linear classifier (or none); made by create_encoder.

    Attributes:
        model: the network itself.
        feature_dim: D.
        num_classes: O, 0 for a network without a classifier.
        pretrained_cfg: timm's description of its input: input_size (3, H, W), mean, std, interpolation, crop_pct,
            crop_mode.

    Raises:
        UsageError: the network's classifier is not one linear layer (a pair of heads, a convolution).
    """

    def __init__(self, model: Any, *, pretrained_cfg: Mapping[str, Any]) -> None:
        super().__init__()
        classifier = model.get_classifier()
        if not isinstance(classifier, nn.Linear | nn.Identity):
            raise UsageError(
                f"the network's classifier is {type(classifier).__name__}",
                wanted="one linear layer on pooled features",
                fix="choose another timm model, for example resnet50",
            )
        self.model: Any = model
        self.pretrained_cfg = dict(pretrained_cfg)
        self.num_classes = classifier.out_features if isinstance(classifier, nn.Linear) else 0
        self.feature_dim: int = classifier.in_features if isinstance(classifier, nn.Linear) else model.head_hidden_size

    @property
    def classifier_weight(self) -> Tensor:
        """Weights of the classifier, [O, D], one row w_o per class; a live view of the parameter.

        Raises:
            ValueError: the network has no classifier.
        """
        return self._classifier().weight

    @property
    def classifier_bias(self) -> Tensor:
        """Biases b_o of the classifier, [O]; zeros where it has none.

        Raises:
            ValueError: the network has no classifier.
        """
        classifier = self._classifier()
        return classifier.weight.new_zeros(self.num_classes) if classifier.bias is None else classifier.bias

    def forward(self, images: Tensor) -> EncoderOutput:
        """Encode images, normalized as pretrained_cfg says and in the dtype of the weights, float [N, 3, H, W].

        Raises:
            ValueError: images of another shape, or not floating point.
        """
        features = self.model.forward_head(self.activations(images), pre_logits=True)
        return EncoderOutput(features=features, logits=self._classifier()(features) if self.num_classes else None)

    def activations(self, images: Tensor) -> Any:
        """Compute the last stage before pooling: a tensor in the network's own layout, or a list of several sizes.

        Args:
            images: as for forward.

        Raises:
            ValueError: images of another shape, or not floating point.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(f"images must be float [N, 3, H, W], got {images.dtype} {list(images.shape)}")
        return self.model.forward_features(images)

    def _classifier(self) -> nn.Linear:
        if not self.num_classes:
            raise ValueError("this encoder has no classifier (num_classes=0)")
        classifier: nn.Linear = self.model.get_classifier()
        return classifier


def create_encoder(
    timm_name: str,
    *,
    num_classes: int | None = None,
    pretrained: bool = False,
) -> FrameEncoder:
    """Build a timm network as a FrameEncoder in eval mode, on the CPU, in float32.

    Its weights are random, or with pretrained those that timm loads through the hub or its local cache (HF_ENDPOINT,
    HF_HUB_OFFLINE and HF_HUB_CACHE are honored).

    Args:
        timm_name: a timm model, with a weights tag or without ("resnet101", "resnet101.a1h_in1k"), or timm's
            "hf-hub:owner/name" and "local-dir:folder".
        num_classes: O; None keeps the model's own number, 0 drops the classifier. With pretrained and a number other
            than the weights' own, the classifier starts random, ready for training; all else must be in the weights.
        pretrained: load the published weights.

    Raises:
        UsageError: timm has no model or weights of that name, or the classifier is not one linear layer.
        WeightsError: weights out of reach, damaged, or of another network.
    """
    timm = _timm()
    check_timm_name(timm_name)
    # timm stops asking for every tensor when a pretrained network is built with another number of classes.
    overrides = {} if num_classes is None or pretrained else {"num_classes": num_classes}
    try:
        model = timm.create_model(timm_name, pretrained=pretrained, **overrides)
    except _LOADING_ERRORS as error:
        # The first line can be a headline ("Error(s) in loading state_dict"), with the reason in the lines after it.
        reason = textwrap.shorten(str(error), 300, placeholder=" ...").removesuffix(".")
        raise WeightsError(
            f"{timm_name} could not be loaded: {reason}",
            wanted="its weights from the hub, the local cache or the folder named",
            fix="check the name and the network (HF_ENDPOINT, HF_HUB_OFFLINE), or copy the weights into HF_HUB_CACHE",
        ) from error
    if num_classes is not None and num_classes != model.num_classes:
        model.reset_classifier(num_classes)
    return FrameEncoder(model, pretrained_cfg=timm.data.resolve_model_data_config(model)).eval()


def check_timm_name(timm_name: str) -> None:
    """Refuse a name that timm cannot load, before anything is loaded.

    Args:
        timm_name: as for create_encoder.

    Raises:
        UsageError: timm has no such model, or no weights of that tag; the message has near names.
    """
    source, colon, place = timm_name.partition(":")
    if colon and source in ("hf-hub", "local-dir") and place:
        return
    if timm_name in _found_names:
        return
    timm = _timm()
    architecture, _, tag = timm_name.partition(".")
    known = timm.list_models()
    if architecture in known:
        known = timm.list_models(architecture, include_tags=True)
        if not tag or timm_name in known:
            _found_names.add(timm_name)
            return
    near = difflib.get_close_matches(timm_name, known, n=3)
    raise UsageError(
        f"timm has no model named {timm_name!r}",
        wanted="a timm model name, hf-hub:owner/name or local-dir:folder",
        fix=f"did you mean {' or '.join(near)}?" if near else "see timm.list_models()",
    )


def _timm() -> Any:
    """Import timm, which takes seconds, only where a network is built. It has no types."""
    import timm

    return timm
