"""Saliency maps of recognizers: computed, scaled and drawn. Importing it loads no torch."""

from tsq_cli.explain.maps import class_activation_maps, grad_cam, normalize_maps, saliency_maps, seen_box
from tsq_cli.explain.render import heat, overlay, upsample_to_frame

__all__ = [
    "class_activation_maps",
    "grad_cam",
    "heat",
    "normalize_maps",
    "overlay",
    "saliency_maps",
    "seen_box",
    "upsample_to_frame",
]
