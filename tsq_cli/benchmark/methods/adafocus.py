"""AdaFocus, which glances at whole frames to choose where in each of them to look closely.

Source: Wang, Chen, Jiang, Song, Han, Huang: "Adaptive Focus for Efficient Video Recognition", ICCV 2021.

    glance  MobileNetV2(frame) -> map [1280, 7, 7], pooled [1280]
    policy  ReLU(Linear(ReLU(Conv(map)))) -> GRU over the frames -> Linear -> the best of 7 x 7 cells
    focus   ResNet-50(128 x 128 crop at that cell) -> [2048]
    video   GRU over the frames' [1280 + 2048] -> Linear at the last frame
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tsq_cli.errors import UsageError
from tsq_cli.models import create_encoder
from tsq_cli.models.fold import fold_batch_norm
from tsq_cli.models.microbatches import cpu_microbatches

FRAME_SIDE = 224
CROP_SIDE = 128
GRID = 7
HIDDEN_DIM = 1024
# Cell i of a side is a = i / (GRID - 1) of the way, and its crop starts at floor(a * (FRAME_SIDE - CROP_SIDE)): 16 i.
CELL_STRIDE = (FRAME_SIDE - CROP_SIDE) // (GRID - 1)


class AdaFocus(nn.Module):
    """AdaFocus with random weights, in evaluation mode, float32, on the CPU.

    There are two forms of it, with the same weights and answers. `forward_as_published` takes the frames one after
    another through policy, crop and focus network, and cuts each crop where the host has read that it lies. `forward`
    uses that no later frame depends on an earlier crop: the policy runs over all frames, the crops are gathered on the
    device, nothing is read on the host, and the focus network sees all crops at once (on a CPU a few at a time, as
    TSQNet's networks do). Tuning is `forward` with fold_batch_norms(), channels-last weights, half precision, and one
    CUDA graph of it all or `glance.compile()` and `focus.compile()`.

    Args:
        num_classes: C.
        glance: a timm network whose feature map is a 32nd of the frame's side; the paper's is MobileNetV2.
        focus: a timm network; the paper's is ResNet-50.

    Raises:
        UsageError: timm has no such network, or the glance network's map has another size.
    """

    def __init__(self, num_classes: int = 200, *, glance: str = "mobilenetv2_100", focus: str = "resnet50") -> None:
        super().__init__()
        focus_encoder = create_encoder(focus, num_classes=0)
        self.glance = Glance(glance)
        self.focus = focus_encoder.model
        self.policy = _Policy(self.glance.map_dim)
        self.video = nn.GRU(self.glance.pooled_dim + focus_encoder.feature_dim, HIDDEN_DIM, batch_first=True)
        self.classifier = nn.Linear(HIDDEN_DIM, num_classes)
        self.eval()

    def forward(self, frames: Tensor) -> Tensor:
        """Classify B videos, all frames of a stage together and with nothing read on the host.

        Args:
            frames: float [B, T, 3, 224, 224] in time order, T = 16 in the paper, normalized for the networks.

        Returns:
            [B, C], one score per class.

        Raises:
            ValueError: frames of another shape.
        """
        _check(frames)
        images = frames.flatten(0, 1)  # [B, T, ...] -> [B * T, ...]
        glances = [self.glance(chunk) for chunk in cpu_microbatches(images)]
        maps, pooled = (_by_video(torch.cat(parts), frames) for parts in zip(*glances, strict=True))
        cells, _ = self.policy(maps)
        crops = crop(images, cells.flatten())
        local = torch.cat([self.focus(chunk) for chunk in cpu_microbatches(crops)])
        return self._classify(pooled, _by_video(local, frames))

    def forward_as_published(self, frames: Tensor) -> Tensor:
        """The same answer, frame by frame, each crop cut after the host has read its place; see `forward`."""
        _check(frames)
        maps, pooled = (_by_video(part, frames) for part in self.glance(frames.flatten(0, 1)))
        hidden: Tensor | None = None
        local = []
        for time in range(frames.shape[1]):
            cells, hidden = self.policy(maps[:, time : time + 1], hidden)
            local.append(self.focus(crop_on_host(frames[:, time], cells[:, 0])))
        return self._classify(pooled, torch.stack(local, dim=1))

    def _classify(self, pooled: Tensor, local: Tensor) -> Tensor:
        """Class scores [B, C] after the last frame, from glances [B, T, 1280] and closer looks [B, T, 2048]."""
        states, _ = self.video(torch.cat((pooled, local), dim=2))
        logits: Tensor = self.classifier(states[:, -1])
        return logits

    def fold_batch_norms(self) -> int:
        """Fold every batch norm into the convolution before it, in place; returns how many."""
        return fold_batch_norm(self.glance.network) + fold_batch_norm(self.focus)


def crop(frames: Tensor, cells: Tensor) -> Tensor:
    """Cut one crop from each frame, gathered on the device.

    Args:
        frames: [N, 3, 224, 224].
        cells: int64 [N], from 0 to 48, row by row.

    Returns:
        [N, 3, 128, 128], channels last in memory; its corner lies at 16 times the cell's row and column.
    """
    along = torch.arange(CROP_SIDE, device=frames.device)
    rows = (cells // GRID * CELL_STRIDE)[:, None] + along  # [N, 128]
    columns = (cells % GRID * CELL_STRIDE)[:, None] + along
    which = torch.arange(len(frames), device=frames.device)[:, None, None]
    picked = frames[which, :, rows[:, :, None], columns[:, None, :]]  # [N, 128, 128, 3]: the gathered axes come first
    return picked.permute(0, 3, 1, 2)


def crop_on_host(frames: Tensor, cells: Tensor) -> Tensor:
    """The same as `crop`, frame by frame, where the host waits for each cell and cuts there."""
    places = [divmod(int(cell), GRID) for cell in cells]
    corners = [(row * CELL_STRIDE, column * CELL_STRIDE) for row, column in places]
    return torch.stack(
        [
            frame[:, top : top + CROP_SIDE, left : left + CROP_SIDE]
            for frame, (top, left) in zip(frames, corners, strict=True)
        ]
    )


class Glance(nn.Module):
    """A timm network that gives its feature map along with the pooled features."""

    def __init__(self, timm_name: str) -> None:
        super().__init__()
        encoder = create_encoder(timm_name, num_classes=0)
        self.network = encoder.model
        self.map_dim: int = self.network.num_features
        self.pooled_dim = encoder.feature_dim
        reduction = self.network.feature_info[-1]["reduction"]
        if reduction * GRID != FRAME_SIDE:
            raise UsageError(
                f"the feature map of {timm_name} is a {reduction}th of the frame's side",
                wanted=f"{GRID} x {GRID} cells of a frame of {FRAME_SIDE}",
                fix="choose a network that halves the side five times, for example mobilenetv2_100",
            )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Maps [N, 1280, 7, 7] and pooled features [N, 1280] of images [N, 3, 224, 224]."""
        maps = self.network.forward_features(images)
        return maps, self.network.forward_head(maps, pre_logits=True)


class _Policy(nn.Module):
    """Chooses a cell for each frame, knowing the frames before it."""

    def __init__(self, map_dim: int) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(map_dim, 32, kernel_size=1),
            nn.ReLU(),
            nn.Flatten(),  # [N, 32, 7, 7] -> [N, 1568]
            nn.Linear(32 * GRID**2, HIDDEN_DIM),
            nn.ReLU(),
        )
        self.gru = nn.GRU(HIDDEN_DIM, HIDDEN_DIM, batch_first=True)
        self.choose = nn.Linear(HIDDEN_DIM, GRID**2)

    def forward(self, maps: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Choose a cell for each of T frames.

        Args:
            maps: [B, T, 1280, 7, 7].
            hidden: what it knows of the frames before, [1, B, 1024]; None at the start of the videos.

        Returns:
            cells, int64 [B, T], from 0 to 48; hidden after the last frame, [1, B, 1024]. The paper's softmax over the
            cells is left out, for it does not move the best one.
        """
        states, hidden = self.gru(_by_video(self.look(maps.flatten(0, 1)), maps), hidden)
        return self.choose(states).argmax(dim=2), hidden


def _by_video(values: Tensor, frames: Tensor) -> Tensor:
    """Split [B * T, ...] as frames [B, T, ...] are."""
    return values.reshape(*frames.shape[:2], *values.shape[1:])


def _check(frames: Tensor) -> None:
    if frames.ndim != 5 or frames.shape[2:] != (3, FRAME_SIDE, FRAME_SIDE):
        raise ValueError(f"frames must be [B, T, 3, {FRAME_SIDE}, {FRAME_SIDE}], got {list(frames.shape)}")
