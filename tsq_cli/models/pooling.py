"""From the logits of K frames to the class scores of their video: the one implementation behind every command.

TSN (Wang et al., ECCV 2016) averages scores of frames; which scores, and whether it should be a mean, decides how
selections compare (docs/method.md, section 5). All of it is ours where no source is named.
"""

from __future__ import annotations

import math

from tsq_cli.arrays import Array, log_sigmoid, log_softmax, logsumexp, namespace, sigmoid
from tsq_cli.consensus import UNWEIGHTED, Consensus, Pooling
from tsq_cli.models.logits import log_probabilities

_TINY = 1.2e-38  # the least positive number of float32 that is normal

RECURRENCE = 0.5
"""r of the pooling `recurrence`: the odds that a frame shows the video's class, not anything else; one frame in three
(ours, chosen between all candidates, where it is fewer, and selected frames, where it is more)."""


def pool(
    logits: Array,
    method: Pooling = "logits",
    *,
    weights: Array | None = None,
    multi_label: bool = False,
    recurrence: float = RECURRENCE,
) -> Array:
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
    xp = namespace(logits)
    shares = _shares(weights) if method in UNWEIGHTED and weights is not None else None
    kind = UNWEIGHTED.get(method, method)
    if kind == "logits":
        return logits.mean(axis=-2) if shares is None else (xp.astype(shares, logits.dtype) * logits).sum(axis=-2)
    log_p = log_probabilities(logits, multi_label=multi_label)
    if kind == "probabilities":
        pooled = _log_mean(log_p, shares)
        return pooled - _log_mean(log_sigmoid(-logits), shares) if multi_label else pooled
    if kind == "best-two":
        pooled = xp.sort(log_p, axis=-2)[..., -2:, :].mean(axis=-2)
        # of several labels log p - log(1 - p), finite where p rounds to one
        return pooled - xp.log(-xp.expm1(xp.clip(pooled, None, -_TINY))) if multi_label else pooled
    num_classes = 2 if multi_label else logits.shape[-1]
    recurs = xp.log1p(recurrence * num_classes * xp.exp(log_p)).sum(axis=-2)
    if not multi_label:
        return recurs
    return recurs - xp.log1p(recurrence * num_classes * sigmoid(-logits)).sum(axis=-2)


def video_scores(
    logits: Array,
    consensus: Consensus = Consensus(),  # noqa: B008 - frozen
    *,
    weights: Array | None = None,
    class_scores: tuple[Array, Array] | None = None,
    temperature: float | None = None,
) -> Array:
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
            own = namespace(scores).astype(of_module, scores.dtype)
            scores = scores + share * (own if multi_label else log_softmax(own, -1))
    if temperature is None:
        return scores
    if not multi_label and UNWEIGHTED.get(consensus.pooling, consensus.pooling) == "logits":
        of_frames, of_mean = _strength(logits).mean(axis=-1), _strength(pooled)  # a mean's is never the greater one
        scores = scores * (of_frames / namespace(scores).clip(of_mean, 1e-6, None))[..., None]
    return scores / temperature


def _shares(weights: Array) -> Array:
    """Bring weights [..., K] to a sum of one, [..., K, 1]; where all are zero, all are alike."""
    xp = namespace(weights)
    total = weights.sum(axis=-1, keepdims=True)
    safe = xp.where(total > 0, total, xp.ones_like(total))
    return xp.where(total > 0, weights / safe, xp.full_like(weights, 1.0 / weights.shape[-1]))[..., None]


def _log_mean(log_p: Array, shares: Array | None) -> Array:
    """Logarithm of the mean of p over the frames, [..., K, C] to [..., C]."""
    if shares is None:
        return logsumexp(log_p, -2) - math.log(log_p.shape[-2])
    xp = namespace(log_p)
    # a share of zero counts for nothing, and has no logarithm
    log_shares = xp.log(xp.clip(xp.astype(shares, log_p.dtype), _TINY, None))
    return logsumexp(log_p + xp.where(shares > 0, log_shares, xp.full_like(log_shares, -math.inf)), -2)


def _strength(logits: Array) -> Array:
    """Distance of the strongest class from the mean of all classes, per row of logits."""
    return namespace(logits).max(logits, axis=-1) - logits.mean(axis=-1)
