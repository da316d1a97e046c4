"""TSQNet's two modules side by side (S; docs/method.md, section 3), and their fusion on a GPU."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from tsq_cli.errors import WeightsError
from tsq_cli.models.outputs import TSQNetOutput
from tsq_cli.models.tsq_layer import TSQLayer
from tsq_cli.rules.ordering import tie_order
from tsq_cli.selection import visual_share
from tsq_cli.types import ChosenBy


class TSQNet(nn.Module):
    """The visual and the textual query module over the same frames and classes (S).

    Args:
        visual: VQM; its queries start as visual prototypes of the classes.
        textual: TQM; its queries start as embeddings of the class names.

    Raises:
        WeightsError: the two modules know different numbers of classes.
    """

    def __init__(self, visual: TSQLayer, textual: TSQLayer) -> None:
        super().__init__()
        if visual.num_classes != textual.num_classes:
            raise WeightsError(
                f"the visual module knows {visual.num_classes} classes and the textual module {textual.num_classes}",
                wanted="the same classes in both",
                fix="take both modules from one pack",
            )
        self.vqm = visual
        self.tqm = textual

    def forward(self, visual_features: Tensor, text_features: Tensor) -> TSQNetOutput:
        """Run both modules on B clips of T frames.

        Args:
            visual_features: X^v [B, T, Dv] of the visual encoder.
            text_features: X^t [B, T, Dt], see object_text_features.

        Raises:
            ValueError: features of the wrong shape, or of different B or T.
            WeightsError: features that are not finite.
        """
        if visual_features.shape[:2] != text_features.shape[:2]:
            raise ValueError(
                f"visual features {list(visual_features.shape)} and text features {list(text_features.shape)} "
                "must be of the same clips and frames [B, T]"
            )
        return TSQNetOutput(visual=self.vqm(visual_features), textual=self.tqm(text_features))


CHOSEN_ON_DEVICE: tuple[ChosenBy, ...] = ("visual", "textual", "refill")
"""Meaning of the reasons that fuse_on_device gives."""


def fuse_on_device(visual: Tensor, textual: Tensor, k: int, *, lambda_v: float) -> tuple[Tensor, Tensor]:
    """Choose K frames of each of B clips as tsq_cli.selection.fuse does, without the host waiting for the device.

    Args:
        visual, textual: S^v and S^t [B, T].
        k: K, from 1 to T.
        lambda_v: share of the visual module in [0, 1].

    Returns:
        Positions and reasons, int64 [B, K] each, in the order of the choice; a reason is an index of CHOSEN_ON_DEVICE.

    Raises:
        UsageError: a share outside [0, 1].
    """
    t = visual.shape[1]
    n_v = visual_share(k, lambda_v)
    ties = _ties(t, k, visual.device)
    rank_v, rank_t = (  # of the candidates as `ties` lists them: a stable sort keeps equal ones in its order
        scores[:, ties].sort(dim=1, descending=True, stable=True).indices.argsort(dim=1) for scores in (visual, textual)
    )
    # First those that VQM wants, then those that TQM wants, then the others as VQM ranks them.
    place = torch.where(rank_v < n_v, rank_v, torch.where(rank_t < k - n_v, t + rank_t, 2 * t + rank_v))
    first, order = (part[:, :k] for part in place.sort(dim=1))
    return ties[order], first // t


@functools.cache
def _ties(num_candidates: int, k: int, device: torch.device) -> Tensor:
    return torch.from_numpy(tie_order(num_candidates, k)).to(device)
