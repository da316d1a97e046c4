"""The networks. They know tensors and texts, nothing about files of videos or data sets.

Names are imported on first use: the settings of networks, which packs store, are then free of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tsq_cli.models.attention import refuse_not_finite
    from tsq_cli.models.encoders import FrameEncoder, create_encoder
    from tsq_cli.models.layer_config import TSQLayerConfig
    from tsq_cli.models.logits import log_probabilities, probabilities
    from tsq_cli.models.outputs import EncoderOutput, FrameSaliency, RecognizerOutput, TSQNetOutput, TSQOutput
    from tsq_cli.models.pooling import pool, video_scores
    from tsq_cli.models.preprocess import Preprocessor
    from tsq_cli.models.recognizer import Recognizer
    from tsq_cli.models.saliency import frame_saliency, object_text_features, query_lift
    from tsq_cli.models.text import TextEncoder
    from tsq_cli.models.tsq_layer import TSQLayer
    from tsq_cli.models.tsqnet import CHOSEN_ON_DEVICE, TSQNet, fuse_on_device

__all__ = [
    "CHOSEN_ON_DEVICE",
    "EncoderOutput",
    "FrameEncoder",
    "FrameSaliency",
    "Preprocessor",
    "Recognizer",
    "RecognizerOutput",
    "TSQLayer",
    "TSQLayerConfig",
    "TSQNet",
    "TSQNetOutput",
    "TSQOutput",
    "TextEncoder",
    "create_encoder",
    "frame_saliency",
    "fuse_on_device",
    "log_probabilities",
    "object_text_features",
    "pool",
    "probabilities",
    "query_lift",
    "refuse_not_finite",
    "video_scores",
]

_HOMES = {
    "EncoderOutput": "outputs",
    "FrameEncoder": "encoders",
    "create_encoder": "encoders",
    "TSQLayerConfig": "layer_config",
    "Preprocessor": "preprocess",
    "log_probabilities": "logits",
    "probabilities": "logits",
    "pool": "pooling",
    "video_scores": "pooling",
    "Recognizer": "recognizer",
    "RecognizerOutput": "outputs",
    "TextEncoder": "text",
    "TSQLayer": "tsq_layer",
    "TSQOutput": "outputs",
    "refuse_not_finite": "attention",
    "CHOSEN_ON_DEVICE": "tsqnet",
    "FrameSaliency": "outputs",
    "TSQNet": "tsqnet",
    "TSQNetOutput": "outputs",
    "frame_saliency": "saliency",
    "fuse_on_device": "tsqnet",
    "object_text_features": "saliency",
    "query_lift": "saliency",
}


def __getattr__(name: str) -> Any:
    """Import one of the names above on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
