"""What other libraries compute, imported by the first test that asks: every worker would wait for it otherwise."""

from __future__ import annotations

from typing import Any


def average_precision_score(targets: Any, scores: Any, **options: Any) -> float:
    """scikit-learn's."""
    from sklearn.metrics import average_precision_score as reference

    return float(reference(targets, scores, **options))
