"""Make grad_cam.npz: what the grad-cam library says of the small networks in networks.py.

The library brings matplotlib and OpenCV, so it is no requirement of the tests. In an environment of its own:

    pip install -e '.[test]' grad-cam==1.5.7
    python -m tests.explain.make_grad_cam_fixture
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from timm.layers import to_2tuple

from tests.explain.networks import NETWORKS, network, pictures

FIXTURE = Path(__file__).with_name("grad_cam.npz")
LAST_STAGES = {
    "mobilenetv3_small_050": "blocks",
    "convnext_atto": "norm_pre",
    "test_mambaout": "stages",
    "swin_tiny_patch4_window7_224": "norm",
    "test_vit2": "norm",
    "test_vit3": "norm",
}


class RememberingGradCAM(GradCAM):  # type: ignore[misc]
    """Keeps the map that the library makes before it clips and scales."""

    raw: np.ndarray

    def get_cam_image(self, *args: Any, **kwargs: Any) -> np.ndarray:
        self.raw = super().get_cam_image(*args, **kwargs)
        return self.raw


def channels_first(model: Any) -> Any:
    """The library's reshape_transform: the last stage's layout -> [N, D, h, w]."""
    if getattr(model, "output_fmt", "NCHW") == "NHWC":
        return lambda values: values.permute(0, 3, 1, 2)
    if hasattr(model, "patch_embed"):
        grid = to_2tuple(model.patch_embed.grid_size)
        return lambda values: values[:, model.num_prefix_tokens :].transpose(1, 2).unflatten(2, grid)
    return None


def main() -> None:
    stored: dict[str, Any] = {"library": f"grad-cam {version('grad-cam')}"}
    for name in NETWORKS:
        model = network(name)
        images = pictures()
        class_index = int(model(images).mean(dim=0).argmax())
        targets = [ClassifierOutputTarget(class_index)] * len(images)
        with RememberingGradCAM(
            model, [model.get_submodule(LAST_STAGES[name])], reshape_transform=channels_first(model)
        ) as library:
            library(images, targets)
            stored[f"{name}/class"] = class_index
            stored[f"{name}/raw"] = library.raw.astype(np.float32)
            stored[f"{name}/scaled"] = scale_cam_image(np.maximum(library.raw, 0))
        print(name, class_index, library.raw.shape, library.raw.min(), library.raw.max())
    np.savez_compressed(FIXTURE, **stored)


if __name__ == "__main__":
    main()
