"""Sizes of batches on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

from tsq_cli.arrays import Array, split

# On a CPU a few frames at a time stay in the cache: 16 frames of 160 x 160 through EfficientNet-Lite0 take 1.15 times
# as long all at once as in eights, and 1.2 times as long in fours. Fewer of larger frames fit; a deep network such as
# ResNet-101, whose weights outweigh its activations, is fastest with twice as many. In half precision twice as many
# fit: in bfloat16 48 frames take 0.94 times as long in sixteens as in eights, and all at once 0.99 times.
CPU_PIXELS_AT_ONCE = 8 * 162 * 162  # of float32: four frames of 224 x 224, eight of 160 x 160


def cpu_microbatches(images: Array, *, multiplier: int = 1) -> Sequence[Array]:
    """Split images [N, 3, H, W] into microbatches: one batch on a GPU, small ones on a CPU, where they are faster.

    Args:
        images: N at least 1, in any precision.
        multiplier: pixels of a microbatch on a CPU, as a multiple of what is best for a light network.

    Returns:
        Equal parts, give or take one image.
    """
    if str(images.device) != "cpu":
        return (images,)
    pixels = multiplier * CPU_PIXELS_AT_ONCE * 4 // images.dtype.itemsize
    most = max(1, pixels // (images.shape[2] * images.shape[3]))
    parts = -(-len(images) // most)
    lengths = [len(images) // parts + (part < len(images) % parts) for part in range(parts)]
    return split(images, lengths)
