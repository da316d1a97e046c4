"""From the logits of K frames to the class scores of their video: the one implementation behind every command.

TSN (Wang et al., ECCV 2016) averages scores of frames; which scores, and whether it should be a mean, decides how
selections compare (docs/method.md, section 5). All of it is ours where no source is named.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from tsq_cli.consensus import UNWEIGHTED, Consensus, Pooling
from tsq_cli.models.logits import log_probabilities

RECURRENCE = 0.5
"""r of the pooling `recurrence`: the odds that a frame shows the video's class, not anything else; one frame in three
(ours, chosen between all candidates, where it is fewer, and selected frames, where it is more)."""


def pool(
    logits: Tensor,
    method: Pooling = "logits",
    *,
    weights: Tensor | None = None,
    multi_label: bool = False,
    recurrence: float = RECURRENCE,
) -> Tensor:
    """Pool the logits of K frames into scores of their video, whose softmax (or sigmoid) are its probabilities.

    With p the softmax of a frame's logits (the sigmoid if `multi_label`) and sums over the K frames:

    - `logits`: the mean of the logits; `weighted-logits`: sum of w_t z_t, w brought to a sum of one.
    - `probabilities`: the mean of p; `weighted-probabilities`: sum of w_t p_t.
    - `best-two`: for each class the geometric mean of its two highest p; of the one p of a single frame.
    - `recurrence`: for each class the log-likelihood that it recurs, sum of log(1 + r C p_tc), against frames that
      show any class. Of several labels each is a problem of two classes, p and 1 - p.

    Args:
        logits: floating point [..., K, C], K at least 1.
        method: as above.
        weights: of the frames, at least 0, [..., K]; None, or zero throughout, weighs all alike. Only the weighted
            methods read them.
        multi_label: whether several classes may hold at once.
        recurrence: r, above 0.

    Returns:
        [..., C] in the dtype of the logits.

    Raises:
        ValueError: no frame, or weights of another shape.
    """
    if logits.ndim < 2 or logits.shape[-2] < 1:
        raise ValueError(f"logits must be [..., K, C] with a frame or more, got {list(logits.shape)}")
    if weights is not None and weights.shape != logits.shape[:-1]:
        raise ValueError(f"weights {list(weights.shape)} do not fit logits {list(logits.shape)}")
    shares = _shares(weights) if method in UNWEIGHTED and weights is not None else None
    kind = UNWEIGHTED.get(method, method)
    if kind == "logits":
        return logits.mean(dim=-2) if shares is None else (shares.to(logits.dtype) * logits).sum(dim=-2)
    log_p = log_probabilities(logits, multi_label=multi_label)
    if kind == "probabilities":
        pooled = _log_mean(log_p, shares)
        return pooled - _log_mean(functional.logsigmoid(-logits), shares) if multi_label else pooled
    if kind == "best-two":
        pooled = log_p.topk(min(2, logits.shape[-2]), dim=-2).values.mean(dim=-2)
        # of several labels log p - log(1 - p), finite where p rounds to one
        return (
            pooled - (-torch.expm1(pooled.clamp(max=-torch.finfo(pooled.dtype).tiny))).log() if multi_label else pooled
        )
    num_classes = 2 if multi_label else logits.shape[-1]
    recurs = torch.log1p(recurrence * num_classes * log_p.exp()).sum(dim=-2)
    if not multi_label:
        return recurs
    return recurs - torch.log1p(recurrence * num_classes * (-logits).sigmoid()).sum(dim=-2)


def video_scores(
    logits: Tensor,
    consensus: Consensus = Consensus(),  # noqa: B008 - frozen
    *,
    weights: Tensor | None = None,
    class_scores: tuple[Tensor, Tensor] | None = None,
    temperature: float | None = None,
) -> Tensor:
    """Compute the class scores of a video, whose softmax (or sigmoid) are its probabilities.

    score = pooled + evidence_visual log p^v + evidence_textual log p^t, p^v = softmax(z^v) and p^t = softmax(z^t) of
    the sampler on the whole video. Of several labels log-odds are added, which are z itself.

    Args:
        logits: [..., K, C] of the frames.
        consensus: how they become one.
        weights: S^v of the frames, [..., K], see pool.
        class_scores: z^v and z^t of the video, [..., C] each; needed only with evidence.
        temperature: None leaves the scores as they are. A number calibrates them, in an order that stays: it divides
            them; and where frames that show different things have shrunk each other's logits in a mean, the scores
            first get the strength back that the frames have by themselves (ours). With several labels each class
            stands alone, so that nothing is brought back.

    Returns:
        [..., C] in the dtype of the logits.

    Raises:
        ValueError: as pool, or evidence without class_scores.
    """
    multi_label = consensus.multi_label
    pooled = scores = pool(logits, consensus.pooling, weights=weights, multi_label=multi_label)
    if consensus.has_evidence:
        if class_scores is None:
            raise ValueError("evidence needs the class scores of the sampler")
        for share, of_module in zip((consensus.evidence_visual, consensus.evidence_textual), class_scores, strict=True):
            own = of_module.to(scores.dtype)
            scores = scores + share * (own if multi_label else own.log_softmax(dim=-1))
    if temperature is None:
        return scores
    if not multi_label and UNWEIGHTED.get(consensus.pooling, consensus.pooling) == "logits":
        of_frames, of_mean = _strength(logits).mean(dim=-1), _strength(pooled)  # a mean's is never the greater one
        scores = scores * (of_frames / of_mean.clamp_min(1e-6))[..., None]
    return scores / temperature


def _shares(weights: Tensor) -> Tensor:
    """Bring weights [..., K] to a sum of one, [..., K, 1]; where all are zero, all are alike."""
    total = weights.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, weights / total.where(total > 0, 1.0), 1.0 / weights.shape[-1])[..., None]


def _log_mean(log_p: Tensor, shares: Tensor | None) -> Tensor:
    """Logarithm of the mean of p over the frames, [..., K, C] to [..., C]."""
    if shares is None:
        return log_p.logsumexp(dim=-2) - math.log(log_p.shape[-2])
    return (log_p + shares.to(log_p.dtype).log()).logsumexp(dim=-2)


def _strength(logits: Tensor) -> Tensor:
    """Distance of the strongest class from the mean of all classes, per row of logits."""
    return logits.amax(dim=-1) - logits.mean(dim=-1)
