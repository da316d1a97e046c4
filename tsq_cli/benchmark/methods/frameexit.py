"""FrameExit, which looks at one frame after another until it has seen enough.

Source: Ghodrati, Ejnordi Bejnordi, Habibian: "FrameExit: Conditional Early Exiting for Efficient Video Recognition",
CVPR 2021.

    f_t = ReLU(BN(Linear(ResNet-50(frame)))) [4096]    z_t = max(f_t, z_{t-1})    classes_t = Linear_t(z_t)
    step 0 leaves on a confident prediction, steps 1..8 when their gate on (z_t, z_{t-1}) says so, step 9 always
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from tsq_cli.errors import UsageError
from tsq_cli.models import create_encoder
from tsq_cli.models.fold import fold_batch_norm

# Positions in time of the ten frames, in the order of visits: the middle, both ends, then what lies between.
FRAME_ORDER = (5, 0, 9, 2, 7, 4, 6, 3, 8, 1)
STATE_DIM = 4096


def frame_indices(num_frames: int, count: int = len(FRAME_ORDER)) -> NDArray[np.int64]:
    """Indices of `count` frames spread over a video from its first to its last frame, rounded down, in time order.

    Returns:
        int64 [count], from 0 to num_frames - 1; they repeat where the video is shorter than that.

    Raises:
        ValueError: a video or a count of no frames.
    """
    if num_frames < 1 or count < 1:
        raise ValueError(f"num_frames and count must be at least 1, got {num_frames} and {count}")
    return np.linspace(0, num_frames - 1, count).astype(np.int64)


@dataclass(frozen=True)
class FrameExitOutput:
    """FrameExit's answer for one video.

    Attributes:
        logits: [C], one score per class.
        num_frames_used: from 1 to 10.
    """

    logits: Tensor
    num_frames_used: int


class FrameExit(nn.Module):
    """FrameExit with random weights, in evaluation mode, float32, on the CPU.

    There is one form of it. As published it runs as it stands: one frame after another, and after each the host waits
    for the outcome, to know whether there will be a next. Tuning leaves that wait in place, for it is the method, and
    makes what lies between two waits cheap: fold_batch_norms(), channels-last weights, half precision, and either
    `backbone.compile()` (99.8 % of the work, compiled once) or one CUDA graph of `step` for each of the
    ten positions (its shapes are static, and it reads nothing on the host).

    Args:
        num_classes: C.
        backbone: a timm network; the paper's is ResNet-50.
        confidence: the top probability above which step 0 leaves (0.99; the paper's 0.95 is for Mini-Kinetics).

    Raises:
        UsageError: timm has no such network.
    """

    def __init__(self, num_classes: int = 200, *, backbone: str = "resnet50", confidence: float = 0.99) -> None:
        super().__init__()
        encoder = create_encoder(backbone, num_classes=0)
        self.backbone = encoder.model
        self.confidence = confidence
        self.embed = LinearBlock(encoder.feature_dim, STATE_DIM)
        self.gates = nn.ModuleList(_Gate() for _ in FRAME_ORDER[1:-1])
        self.classifiers = nn.ModuleList(nn.Linear(STATE_DIM, num_classes) for _ in FRAME_ORDER)
        self.eval()

    def forward(self, frames: Tensor, *, exit_after: int | None = None) -> FrameExitOutput:
        """Classify one video.

        Args:
            frames: float [10, 3, H, W] in time order, 224 x 224 in the paper, normalized for the backbone.
            exit_after: leave after this many frames, 1 to 10, whatever gates and confidence say: they are computed and
                waited for just the same, but with random weights they would leave anywhere. None lets them decide.

        Raises:
            ValueError: frames of another shape.
            UsageError: exit_after out of range.
        """
        if frames.ndim != 4 or len(frames) != len(FRAME_ORDER):
            raise ValueError(f"frames must be [{len(FRAME_ORDER)}, 3, H, W], got {list(frames.shape)}")
        if exit_after is not None and not 1 <= exit_after <= len(FRAME_ORDER):
            raise UsageError(
                f"FrameExit is to leave after {exit_after} frames",
                wanted=f"1 to {len(FRAME_ORDER)} frames",
                fix="choose a number in that range, or let its gates decide",
            )
        state = self.initial_state(frames[:1])
        for position, time in enumerate(FRAME_ORDER):
            state, leaves = self.step(position, frames[time : time + 1], state)
            gates_decide = bool(leaves)  # the host waits for the device here
            if gates_decide if exit_after is None else position + 1 == exit_after:
                break
        return FrameExitOutput(logits=self.classify(position, state)[0], num_frames_used=position + 1)

    def initial_state(self, frames: Tensor) -> Tensor:
        """z_{-1} of B frames [B, 3, H, W]: zeros [B, 4096], below which no f_t falls, so that z_0 = f_0."""
        return frames.new_zeros(len(frames), STATE_DIM)

    def step(self, position: int, frame: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
        """Look at one more frame of each of B videos.

        Args:
            position: step in the order of visits, 0 to 9; FRAME_ORDER[position] is the frame's place in time.
            frame: float [B, 3, H, W].
            previous: state before this step, [B, 4096].

        Returns:
            the state after this step, [B, 4096], and whether each video leaves here, bool [B]. All on the device.
        """
        state = torch.maximum(self.embed(self.backbone(frame)), previous)
        if position == 0:
            leaves = self.classify(0, state).float().softmax(dim=1).amax(dim=1) > self.confidence
        elif position < len(FRAME_ORDER) - 1:
            leaves = self.gates[position - 1](state, previous) < 0.5
        else:
            leaves = torch.ones(len(frame), dtype=torch.bool, device=frame.device)
        return state, leaves

    def classify(self, position: int, state: Tensor) -> Tensor:
        """Class scores [B, C] of the states [B, 4096] that leave at this position."""
        logits: Tensor = self.classifiers[position](state)
        return logits

    def fold_batch_norms(self) -> int:
        """Fold every batch norm into the convolution or linear layer before it, in place; returns how many."""
        blocks = [module for module in self.modules() if isinstance(module, LinearBlock)]
        return fold_batch_norm(self.backbone) + sum(block.fold() for block in blocks)


class _Gate(nn.Module):
    """Says whether to go on from two states in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Sequential(LinearBlock(STATE_DIM, 128), LinearBlock(128, 64))
        self.decide = nn.Linear(128, 1)

    def forward(self, state: Tensor, previous: Tensor) -> Tensor:
        """Probability [B] of going on, from z_t and z_{t-1}, each [B, 4096] and through the same layers."""
        now, before = self.shared(torch.cat((state, previous))).chunk(2)  # [2B, 64] -> twice [B, 64]
        score: Tensor = self.decide(torch.cat((now, before), dim=1))[:, 0]
        return score.sigmoid()


class LinearBlock(nn.Module):
    """ReLU(BN(Linear(x))), [B, in_dim] to [B, out_dim]."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, out_dim)
        self.norm: nn.BatchNorm1d | nn.Identity = nn.BatchNorm1d(out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in_dim] to [B, out_dim]."""
        normed: Tensor = self.norm(self.linear(x))
        return normed.relu()

    def fold(self) -> int:
        """Fold the batch norm into the linear layer, in place; returns how many there were to fold."""
        if isinstance(self.norm, nn.Identity):
            return 0
        self.linear, self.norm = fuse_linear_bn_eval(self.linear, self.norm), nn.Identity()
        return 1
