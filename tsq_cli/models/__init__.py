"""The networks. They know tensors and texts, nothing about files of videos or data sets."""

from tsq_cli.models.encoders import EncoderOutput, FrameEncoder, create_encoder
from tsq_cli.models.recognizer import Recognizer, RecognizerOutput
from tsq_cli.models.text import TextEncoder
from tsq_cli.models.tsq_layer import TSQLayer, TSQLayerConfig, TSQOutput, refuse_not_finite
from tsq_cli.models.tsqnet import (
    CHOSEN_ON_DEVICE,
    FrameSaliency,
    TSQNet,
    TSQNetOutput,
    frame_saliency,
    fuse_on_device,
    object_text_features,
    query_frame_scores,
)

__all__ = [
    "CHOSEN_ON_DEVICE",
    "EncoderOutput",
    "FrameEncoder",
    "FrameSaliency",
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
    "object_text_features",
    "query_frame_scores",
    "refuse_not_finite",
]
