"""The methods of other authors in `tsq benchmark`, as published and tuned (see tsq_cli/benchmark/runners.py)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tsq_cli.benchmark.methods import AdaFocus, FrameExit, UniAdaFocus
from tsq_cli.benchmark.methods.frameexit import FRAME_ORDER
from tsq_cli.benchmark.methods.uni_adafocus import FRAMES_PER_GLANCE, glances, picked
from tsq_cli.benchmark.runners import BenchmarkConfig, Runner
from tsq_cli.models.device import to_device
from tsq_cli.models.graphs import Graphed
from tsq_cli.models.preprocess import Preprocessor
from tsq_cli.packs import find_pack

BACKBONE = "resnet50"
"""Backbone of FrameExit, and the network with which AdaFocus and Uni-AdaFocus look closely."""

IMAGENET_INPUT = Preprocessor(
    input_size=224,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    interpolation="bicubic",
    crop_pct=0.875,
)
"""Preprocessing of all of them."""


class OtherMethodRunner(Runner):
    """A method of other authors: one network, fed 224 pixels as ImageNet networks are."""

    def __init__(self, setting: BenchmarkConfig, network: FrameExit | AdaFocus | UniAdaFocus) -> None:
        super().__init__(setting)
        self._network: FrameExit | AdaFocus | UniAdaFocus = network.to(setting.device)
        self._dtype = torch.float32

    @property
    def networks(self) -> list[nn.Module]:
        """All networks that take part."""
        return [self._network]

    def optimize(self) -> None:
        """See Runner."""
        self._network.fold_batch_norms()
        self._dtype = self._setting.dtype
        self._network.to(self._dtype)
        for module in self._network.modules():
            if isinstance(module, nn.Conv2d):  # Conv3d has no such layout
                module.to(memory_format=torch.channels_last)


class FrameExitRunner(OtherMethodRunner):
    """FrameExit, one video at a time, each frame prepared when it is visited."""

    name = "FrameExit"
    batches = False
    _network: FrameExit

    def __init__(self, setting: BenchmarkConfig) -> None:
        super().__init__(setting, FrameExit(len(find_pack(setting.pack).class_names), backbone=BACKBONE))
        self.title = f"FrameExit, {setting.exit_after} frames ({BACKBONE})"
        self._steps: list[Callable[[Tensor, Tensor], Any]] = [self._step(i) for i in range(len(FRAME_ORDER))]

    def optimize(self) -> None:
        """See Runner."""
        super().optimize()
        self._steps = [Graphed(step) for step in self._steps]

    def frames_used(self, frames: Tensor) -> Tensor:
        """See Runner."""
        return frames[:, : len(FRAME_ORDER)]

    def forward(self, pixels: Tensor) -> Tensor:
        """See Runner; B is 1."""
        state = pixels.new_zeros(1, self._network.embed.linear.out_features, dtype=self._dtype)
        for position, time in enumerate(FRAME_ORDER):
            state, leaves = self._steps[position](pixels[:, time], state)  # each position has a graph of its own
            leaves.cpu()  # the wait is the method's; what it says is not heeded, as random weights would leave anywhere
            if position + 1 == self._setting.exit_after:
                break
        return self._network.classify(position, state).argmax(dim=1)

    def classify(self, frames: Tensor) -> Tensor:
        """See Runner."""
        videos = torch.split(self.frames_used(frames), 1)
        return torch.cat([self.forward(to_device(video, self._setting.device)).cpu() for video in videos])

    def _step(self, position: int) -> Callable[[Tensor, Tensor], Any]:
        def step(pixels: Tensor, state: Tensor) -> Any:
            return self._network.step(position, IMAGENET_INPUT(pixels, pixels.device, self._dtype), state)

        return step


class AdaFocusRunner(OtherMethodRunner):
    """AdaFocus on T frames."""

    name = "AdaFocus"
    _network: AdaFocus

    def __init__(self, setting: BenchmarkConfig) -> None:
        super().__init__(setting, AdaFocus(len(find_pack(setting.pack).class_names), focus=BACKBONE))
        self.title = f"AdaFocus, {setting.num_candidates} frames ({BACKBONE})"
        self._classify: Callable[[Tensor], Tensor] = _per_video(self._as_published)

    def optimize(self) -> None:
        """See Runner."""
        super().optimize()
        self._classify = self._tuned
        self._whole = Graphed(self.forward)

    def forward(self, pixels: Tensor) -> Tensor:
        """See Runner."""
        return self._classify(pixels).argmax(dim=1)

    def _as_published(self, pixels: Tensor) -> Tensor:
        return self._network.forward_as_published(_prepared(pixels, self._dtype))

    def _tuned(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self._network(_prepared(pixels, self._dtype))
        return logits


class UniAdaFocusRunner(OtherMethodRunner):
    """Uni-AdaFocus, which glances at T of 3 T frames and looks closely at patches of T.

    As published all frames are prepared, as its authors' loader does; tuned, only those that are looked at.
    """

    _network: UniAdaFocus

    def __init__(self, setting: BenchmarkConfig, patch_side: int) -> None:
        num_classes = len(find_pack(setting.pack).class_names)
        super().__init__(setting, UniAdaFocus(num_classes, patch_side=patch_side, focus=BACKBONE))
        self.name = f"Uni-AdaFocus {patch_side}"
        self.title = f"{self.name}, {setting.num_candidates} of {self.num_given} frames, random weights ({BACKBONE})"
        self._classify: Callable[[Tensor], Tensor] = _per_video(self._as_published)

    @property
    def num_given(self) -> int:
        """See Runner."""
        return FRAMES_PER_GLANCE * self._setting.num_candidates

    def optimize(self) -> None:
        """See Runner."""
        super().optimize()
        self._classify = self._tuned
        self._whole = Graphed(self.forward)

    def forward(self, pixels: Tensor) -> Tensor:
        """See Runner."""
        return self._classify(pixels).argmax(dim=1)

    def _as_published(self, pixels: Tensor) -> Tensor:
        return self._network.forward_as_published(_prepared(pixels, self._dtype))

    def _tuned(self, pixels: Tensor) -> Tensor:
        looks = self._network.look(_prepared(glances(pixels), self._dtype))
        return self._network.answer(looks, _prepared(picked(pixels, looks.frames), self._dtype))


def _per_video(classify: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Give a CPU one video of a batch [B, ...] after the other; a GPU takes all at once.

    There all frames of 32 videos at once take four to ten times as long, in memory mapped anew for each layer (ours).
    """

    def each(videos: Tensor) -> Tensor:
        parts = (videos,) if videos.is_cuda else torch.split(videos, 1)
        return torch.cat([classify(part) for part in parts])

    return each


def _prepared(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    """Frames uint8 [B, F, H, W, 3] as the networks take them, [B, F, 3, 224, 224]."""
    images: Tensor = IMAGENET_INPUT(pixels.flatten(0, 1), pixels.device, dtype)
    return images.reshape(*pixels.shape[:2], *images.shape[1:])
