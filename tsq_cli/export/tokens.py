"""Estimates of the tokens that pictures cost, by the published formula of each family of models."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from tsq_cli.config import ExportKind
from tsq_cli.report.token_sheet import MOST_SIDE, PIXELS_PER_TOKEN

Size = tuple[int, int]
"""Width and height in pixels."""


def gpt4o(width: int, height: int) -> int:
    """Count as GPT-4o does: 85 tokens, and 170 per tile of 512 x 512 pixels.

    The picture is first made to fit 2048 x 2048, then scaled down to a shorter side of 768. Newer models count patches.
    Source: OpenAI, "Images and vision", calculating costs, detail high.
    """
    scale = min(1.0, 2048 / max(width, height))
    scale = min(scale, 768 / min(width, height))
    return 85 + 170 * math.ceil(round(width * scale) / 512) * math.ceil(round(height * scale) / 512)


def claude(width: int, height: int) -> int:
    """Count as Claude does: width x height / 750, at most 1,600, with a longer side of at most 1568.

    The newest models keep larger pictures. Source: Anthropic, "Vision", image costs.
    """
    scale = min(1.0, MOST_SIDE / max(width, height))
    return min(1600, math.ceil(width * scale * height * scale / PIXELS_PER_TOKEN))


def qwen_image(width: int, height: int, patch: int) -> int:
    """Count as Qwen does for an image: one token per patch x patch pixels, 4 to 16,384, sides rounded to patches.

    Source: smart_resize of qwen_vl_utils, with 28 pixels for Qwen2-VL and Qwen2.5-VL, 32 for Qwen3-VL.
    """
    rows, columns = max(1, round(height / patch)), max(1, round(width / patch))
    return min(16384, max(4, rows * columns))


def qwen3_video(sizes: Sequence[Size]) -> int:
    """Count as Qwen3-VL does for a video: one token per 32 x 32 pixels of each pair of frames, at most 12,288.

    Source: smart_resize of transformers' Qwen3VLVideoProcessor with the size that the published models set
    (longest_edge 25,165,824); times as text come on top.
    """
    width, height = sizes[0]
    pairs = math.ceil(len(sizes) / 2)
    return min(12288, pairs * max(1, round(height / 32)) * max(1, round(width / 32)))


def _sum(formula: Callable[[int, int], int]) -> Callable[[Sequence[Size]], int]:
    return lambda sizes: sum(formula(*size) for size in sizes)


_QWEN3_VIDEO: Mapping[str, Callable[[Sequence[Size]], int]] = {
    "Qwen3-VL (patches of 32 px, pairs of frames merged at mean times)": qwen3_video,
    "Qwen3-VL with each frame twice, at its own time": lambda sizes: qwen3_video([*sizes, *sizes]),
}

ESTIMATES: Mapping[ExportKind, Mapping[str, Callable[[Sequence[Size]], int]]] = {
    "openai": {"GPT-4o (85 + 170 per tile of 512 px)": _sum(gpt4o)},
    "anthropic": {"Claude (width x height / 750)": _sum(claude)},
    "qwen": {
        "Qwen2.5-VL (patches of 28 px)": _sum(lambda width, height: qwen_image(width, height, 28)),
        "Qwen3-VL (patches of 32 px)": _sum(lambda width, height: qwen_image(width, height, 32)),
    },
    "vllm": _QWEN3_VIDEO,
    "hf": _QWEN3_VIDEO,
}
"""For each kind with pictures, the formulas by the model that they are of."""


def estimate(kind: ExportKind, sizes: Sequence[Size]) -> dict[str, int]:
    """Estimate the tokens of a video's pictures, by model; empty for exports without pictures.

    Args:
        kind: of the export.
        sizes: width and height of each picture.
    """
    return {model: count(sizes) for model, count in ESTIMATES.get(kind, {}).items()}


class Costs:
    """Pictures and tokens of a run, added up by kind of export."""

    def __init__(self) -> None:
        self._images: Counter[ExportKind] = Counter()
        self._tokens: dict[ExportKind, Counter[str]] = {}

    def add(self, kind: ExportKind, sizes: Sequence[Size]) -> None:
        """Add the pictures of one video."""
        if kind in ESTIMATES:
            self._images[kind] += len(sizes)
            self._tokens.setdefault(kind, Counter()).update(estimate(kind, sizes))

    def lines(self) -> list[str]:
        """Say what each kind of export holds: images, and tokens by model."""
        return [
            f"export {kind}: {self._images[kind]} images, about "
            + ", ".join(f"{count:,} tokens for {model}" for model, count in tokens.items())
            for kind, tokens in self._tokens.items()
        ]
