"""TSQNet's two modules side by side, and the equations around them (S; docs/method.md, section 3)."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from tsq_cli.errors import WeightsError
from tsq_cli.models.logits import log_probabilities
from tsq_cli.models.tsq_layer import TSQLayer, TSQOutput
from tsq_cli.rules.ordering import tie_order
from tsq_cli.selection import visual_share
from tsq_cli.types import ChosenBy


@dataclass(frozen=True)
class TSQNetOutput:
    """Outputs of the visual (VQM) and the textual module (TQM) for the same B clips."""

    visual: TSQOutput
    textual: TSQOutput


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


@dataclass(frozen=True)
class FrameSaliency:
    """Saliency of each frame, and the categories it comes from.

    Attributes:
        scores: [B, T], from 0 to 1, sums to one over the frames.
        categories: int64 [B, n], class indices, most confident first.
        probabilities: [B, n], from 0 to 1, as they are reported: calibrated where the module is.
        logits: z of all classes [B, C], as they come.
        sure: bool [B, n], whether each category may be named; None where that was not asked.
    """

    scores: Tensor
    categories: Tensor
    probabilities: Tensor
    logits: Tensor
    sure: Tensor | None = None


def frame_saliency(
    output: TSQOutput,
    *,
    top_n: int = 3,
    multi_label: bool = False,
    temperature: float = 1.0,
) -> FrameSaliency:
    """Compute the saliency S = sum_c p_c A_c / sum_c p_c over the n most confident classes (n and weighting ours).

    Args:
        output: of one module.
        top_n: n, at least 1; above C all classes count. Of equally confident classes the lower index comes first.
        multi_label: p is the sigmoid of the logits instead of their softmax.
        temperature: divides the logits before probabilities are reported (Guo et al., "On Calibration of
            Modern Neural Networks", ICML 2017); the p in S are of the logits as they are.

    Raises:
        ValueError: top_n below 1.
    """
    if top_n < 1:
        raise ValueError(f"top_n must be at least 1, got {top_n}")
    log_p = log_probabilities(output.logits, multi_label=multi_label)
    top_log_p, categories = (part[:, :top_n] for part in log_p.sort(dim=1, descending=True, stable=True))
    weights = top_log_p.softmax(dim=1)  # = p_c / sum p_c, and finite where every p_c rounds to zero
    rows = output.attention.gather(1, categories[:, :, None].expand(-1, -1, output.attention.shape[2]))  # [B, n, T]
    scores = torch.einsum("bn,bnt->bt", weights, rows)
    if temperature != 1.0:
        reported = log_probabilities(output.logits / temperature, multi_label=multi_label)
        top_log_p = reported.gather(1, categories)
    return FrameSaliency(scores=scores, categories=categories, probabilities=top_log_p.exp(), logits=output.logits)


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


def object_text_features(object_logits: Tensor, object_embeddings: Tensor) -> Tensor:
    """Compute text features f_t = normalize(sum_o p_t(o) e_o) of frames, p = softmax of the object logits (ours).

    Args:
        object_logits: [..., O] of the object recognizer.
        object_embeddings: [O, Dt], text embeddings of the object names.

    Returns:
        [..., Dt] of unit length, in float32 or wider.
    """
    p, e = _probabilities_and(object_logits, object_embeddings)
    return functional.normalize(p @ e, dim=-1)


def query_lift(
    object_logits: Tensor,
    object_embeddings: Tensor,
    query_embedding: Tensor,
    *,
    sharpness: float,
    temperature: float = 1.0,
) -> Tensor:
    """Measure how much more of what a free text asks for a frame's objects are than objects are by chance (ours).

    The objects' weights are g = softmax over o(sharpness * cos(query, e_o)), and the lift is O sum_o p_t(o) g_o, with
    p_t the softmax of the object logits over the temperature: 1 where a frame's objects have no bearing on the query.

    Args:
        object_logits: [..., O], usually [T, O], of the object recognizer.
        object_embeddings: [O, Dt], text embeddings of the objects.
        query_embedding: [Dt], from the same text encoder.
        sharpness: above 0; higher means fewer objects count.
        temperature: above 0; higher lets less likely objects count too.

    Returns:
        [...], usually [T], from 0 to O, in float32 or wider.
    """
    p, e = _probabilities_and(object_logits / temperature, object_embeddings)
    cosine = functional.cosine_similarity(e, query_embedding.to(e.dtype)[None], dim=1)
    return len(e) * (p @ (sharpness * cosine).softmax(dim=0))


def _probabilities_and(object_logits: Tensor, object_embeddings: Tensor) -> tuple[Tensor, Tensor]:
    """Softmax of the logits, and the embeddings, both in float32 or wider: half precision would lose small p_t(o)."""
    if object_embeddings.ndim != 2 or object_logits.shape[-1] != len(object_embeddings):
        raise ValueError(
            f"object logits {list(object_logits.shape)} must be [..., O] and embeddings "
            f"{list(object_embeddings.shape)} [O, Dt] of the same O objects"
        )
    dtype = torch.promote_types(torch.promote_types(object_logits.dtype, object_embeddings.dtype), torch.float32)
    return object_logits.to(dtype).softmax(dim=-1), object_embeddings.to(dtype)
