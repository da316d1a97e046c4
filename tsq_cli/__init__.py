"""tsq picks the few frames of a video that matter (TSQNet, Temporal Saliency Query Network, ECCV 2022)."""

__version__ = "0.1.0"
