"""TSQNet with early exit in `tsq benchmark`: chosen frames are recognized one by one, until the class is sure."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tsq_cli.benchmark.runners import BenchmarkConfig, Pass, TSQNetRunner, chosen_frames
from tsq_cli.models import pool
from tsq_cli.models.early_exit import is_sure
from tsq_cli.models.graphs import Graphed
from tsq_cli.recognition import prepare_frames, recognize_images

MEASURED_FRAMES = 2.79
"""Frames of at most five after which the pack actions40 is sure, on average over 960 test videos.

Source: docs/training/actions40.json, early_exit.mean_frames (ours); imagenet-lite needs 2.6 to 3.5 (docs/needle.md).
"""
SURE_AFTER = math.ceil(MEASURED_FRAMES)
"""The same in whole frames, rounded up."""

_BAR = 1.0  # what the scores say is not heeded, whatever the bar


class EarlyExitRunner(TSQNetRunner):
    """TSQNet that recognizes its frames one by one and stops when sure, as `tsq classify --early-exit` does.

    After each frame the host waits for the answer whether the class is sure.
    With random weights it would be sure anywhere, so every video leaves after the same number of frames, as FrameExit
    does here. On a GPU the sampler is one graph and the look at a frame another.
    """

    name = "TSQNet early exit"

    def __init__(self, setting: BenchmarkConfig) -> None:
        super().__init__(setting)
        self._sure_after = setting.sure_after or min(SURE_AFTER, setting.num_frames)
        self.title = (
            f"{self.name}, {self._sure_after} of {setting.num_frames} frames "
            f"({self._pack.config.name}, {self.input_size} px) + {self._recognizer_title}"
        )
        self._sampler: Callable[[Tensor], tuple[Tensor, Tensor]] = self._sample
        self._look: Callable[[Tensor], Tensor] = self._recognize_frame

    def optimize(self) -> None:
        """See Runner."""
        super().optimize()
        self._whole = self.forward  # the host waits within
        self._sampler = Graphed(self._sample)
        self._look = Graphed(self._recognize_frame)

    def forward(self, pixels: Tensor) -> Tensor:
        """See Runner."""
        chosen, weights = self._sampler(pixels)
        seen: list[Tensor] = []
        for step in range(self._sure_after):
            seen.append(self._look(chosen[:, step]))
            scores = pool(torch.stack(seen, dim=1), self._setting.pooling, weights=weights[:, : step + 1])
            is_sure(scores, _BAR).cpu()  # the wait is the method's
        classes: Tensor = scores.argmax(dim=1)
        return classes

    def _sample(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Choose frames, best first: uint8 [B, K, H, W, 3], and S^v of each, [B, K]."""
        state = Pass(pixels)
        for stage in (self._preprocess, self._encode, self._encode_objects, self._choose):
            stage(state)
        return chosen_frames(state), state.weights

    def _recognize_frame(self, frames: Tensor) -> Tensor:
        """Class scores [B, C] of one frame of each video, uint8 [B, H, W, 3]."""
        images = prepare_frames(self._recognizer, self._preprocessor, frames)
        logits: Tensor = recognize_images(self._recognizer, images).logits.float()
        return logits
