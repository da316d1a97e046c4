"""The equations around the two modules (S; docs/method.md, section 3), on arrays of either engine."""

from __future__ import annotations

from tsq_cli.arrays import Array, at_least_float32, descending, namespace, normalize, softmax, take
from tsq_cli.models.logits import log_probabilities
from tsq_cli.models.outputs import FrameSaliency, TSQOutput


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
    categories = descending(log_p, 1)[:, :top_n]
    top_log_p = take(log_p, categories, 1)
    weights = softmax(top_log_p, 1)  # = p_c / sum p_c, and finite where every p_c rounds to zero
    rows = take(output.attention, categories[:, :, None], 1)  # [B, n, T]
    scores = (weights[:, None, :] @ rows)[:, 0]
    if temperature != 1.0:
        reported = log_probabilities(output.logits / temperature, multi_label=multi_label)
        top_log_p = take(reported, categories, 1)
    return FrameSaliency(
        scores=scores, categories=categories, probabilities=namespace(log_p).exp(top_log_p), logits=output.logits
    )


def object_text_features(object_logits: Array, object_embeddings: Array) -> Array:
    """Compute text features f_t = normalize(sum_o p_t(o) e_o) of frames, p = softmax of the object logits (ours).

    Args:
        object_logits: [..., O] of the object recognizer.
        object_embeddings: [O, Dt], text embeddings of the object names.

    Returns:
        [..., Dt] of unit length, in float32 or wider.
    """
    p, e = _probabilities_and(object_logits, object_embeddings)
    return normalize(p @ e, -1)


def query_lift(
    object_logits: Array,
    object_embeddings: Array,
    query_embedding: Array,
    *,
    sharpness: float,
    temperature: float = 1.0,
) -> Array:
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
    query = namespace(e).astype(query_embedding, e.dtype, copy=False)
    cosine = normalize(e, 1) @ normalize(query, 0)
    return len(e) * (p @ softmax(sharpness * cosine, 0))


def _probabilities_and(object_logits: Array, object_embeddings: Array) -> tuple[Array, Array]:
    """Softmax of the logits, and the embeddings, both in float32 or wider: half precision would lose small p_t(o)."""
    if object_embeddings.ndim != 2 or object_logits.shape[-1] != len(object_embeddings):
        raise ValueError(
            f"object logits {list(object_logits.shape)} must be [..., O] and embeddings "
            f"{list(object_embeddings.shape)} [O, Dt] of the same O objects"
        )
    logits, embeddings = at_least_float32(object_logits), at_least_float32(object_embeddings)
    xp = namespace(logits)
    dtype = xp.result_type(logits.dtype, embeddings.dtype)
    return softmax(xp.astype(logits, dtype, copy=False), -1), xp.astype(embeddings, dtype, copy=False)
