from __future__ import annotations

import numpy as np
import torch
from scipy.special import expit, log_expit, log_softmax, softmax

from tsq_cli.models import log_probabilities, probabilities

LOGITS = np.random.default_rng(0).normal(0, 20, (2, 3, 5))


def test_they_are_scipys_softmax_over_the_last_axis_or_its_logistic_function() -> None:
    logits = torch.from_numpy(LOGITS)
    np.testing.assert_allclose(probabilities(logits), softmax(LOGITS, axis=-1), rtol=1e-12)
    np.testing.assert_allclose(probabilities(logits, multi_label=True), expit(LOGITS), rtol=1e-12)
    np.testing.assert_allclose(log_probabilities(logits), log_softmax(LOGITS, axis=-1), rtol=1e-9)
    np.testing.assert_allclose(log_probabilities(logits, multi_label=True), log_expit(LOGITS), rtol=1e-9)


def test_logarithms_are_finite_where_the_probability_rounds_to_zero() -> None:
    far = torch.tensor([0.0, -400.0])
    assert probabilities(far)[1] == probabilities(far, multi_label=True)[1] == 0
    assert log_probabilities(far)[1] == log_probabilities(far, multi_label=True)[1] == -400
