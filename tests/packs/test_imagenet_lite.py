"""The default pack feeds its network as it was trained: a photograph goes through timm's own transform beside it."""

from __future__ import annotations

import numpy as np
import pytest
import skimage.data
import timm
import torch
from PIL import Image

from tsq_cli.packs import Pack, load_pack

PHOTOGRAPHS = {"chelsea": ("Egyptian cat", "tabby"), "coffee": ("espresso",), "rocket": ("missile", "projectile")}


@pytest.fixture(scope="module")
def pack() -> Pack:
    return load_pack("imagenet-lite", dtype=torch.float32)


@pytest.mark.parametrize("role", ["visual", "object"])
def test_pixels_are_scaled_as_the_network_was_trained(pack: Pack, role: str) -> None:
    preprocessor = pack.visual_preprocessor if role == "visual" else pack.object_preprocessor
    levels = torch.tensor([0, 51, 255], dtype=torch.uint8)[:, None, None, None].expand(-1, 256, 300, 3)
    images = preprocessor(levels)
    assert images.shape[2:] == (preprocessor.input_size,) * 2
    # EfficientNet-Lite's authors scale to (x - 127) / 128; timm and this pack to (x / 255 - 0.5) / 0.5.
    for image, expected in zip(images, (-1.0, -0.6, 1.0), strict=True):
        torch.testing.assert_close(image, torch.full_like(image, expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_are_named(pack: Pack, name: str) -> None:
    photograph = getattr(skimage.data, name)()
    side = pack.visual_preprocessor.input_size
    transform = timm.data.create_transform(
        input_size=side, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic", crop_pct=0.875
    )
    expected = transform(Image.fromarray(photograph))
    (image,) = pack.visual_preprocessor(torch.from_numpy(np.ascontiguousarray(photograph))[None])
    assert (image - expected).abs().mean() < 0.02  # Pillow rounds to bytes after its resize
    with torch.inference_mode():
        logits = pack.visual_encoder(image[None]).logits[0]
    assert pack.object_names[int(logits.argmax())] in PHOTOGRAPHS[name]
