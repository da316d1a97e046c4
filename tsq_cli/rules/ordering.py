"""Orders of T candidates: evenly spread, by score, and among equal scores (ours)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tsq_cli.types import Int64Array


def spread(num_candidates: int, k: int) -> list[int]:
    """Return the positions at the centers of min(k, T) equal segments of [0, T), in order of time."""
    k = min(k, num_candidates)
    return [math.floor((i + 0.5) * num_candidates / k) for i in range(k)]


def ranking(scores: npt.NDArray[Any] | Sequence[float], k: int | None = None) -> list[int]:
    """Rank positions [T] from the highest score to the lowest.

    If `k` is given, equal scores come in the order of tie_order, so that a flat curve gives frames from the whole
    video (ours); otherwise in order of time.
    """
    values = np.asarray(scores, dtype=np.float64)
    order = np.arange(len(values)) if k is None else tie_order(len(values), k)
    return [int(position) for position in order[np.argsort(-values[order], kind="stable")]]


def tie_order(num_candidates: int, k: int) -> Int64Array:
    """Return the order [T] in which equal candidates are taken: first k evenly spread ones, then the others."""
    even = spread(num_candidates, k)
    first = [even[rank] for rank in _halving(len(even))]
    rest = np.setdiff1d(np.arange(num_candidates), first)
    return np.concatenate([np.array(first, dtype=np.int64), rest])


def _halving(count: int) -> list[int]:
    """Order 0 .. count-1 by halving: the middle first, then the middles of its left and right parts, and so on."""
    order: list[int] = []
    waiting = [(0, count)]
    for start, stop in waiting:
        if start < stop:
            middle_of_part = (start + stop) // 2
            order.append(middle_of_part)
            waiting += [(start, middle_of_part), (middle_of_part + 1, stop)]
    return order
