"""Reading layers back: the polynomial that was put in comes out, with the estimator it is."""

import numpy as np
import pytest
import torch

from mlpapers.icl import (
    MultilayerLinearAttention,
    PolynomialAttention,
    attention_polynomial,
    interpret_attention,
)
from mlpapers.testing import check_result


def test_polynomial_comes_back():
    model = PolynomialAttention(2)
    with torch.no_grad():
        model.a.fill_(0.2)
        model.b.fill_(-0.3)
        model.c.fill_(1.5)
    result = interpret_attention(model, n_features=4, n_tasks=300)
    assert result.r2 > 1 - 1e-10
    assert np.abs(result.coef - attention_polynomial([0.2], [-0.3], 1.5)).max() < 1e-6
    check_result(result)


def test_nearest_estimators():
    one = MultilayerLinearAttention.from_polynomial([], [], 0.5, 3)
    assert interpret_attention(one, n_tasks=200).nearest == "SPI"
    # 1 - (t - 1) / 2 is alpha + (1 - alpha)(t - 1) up to scale, with a negative slope: no EM step.
    falling = MultilayerLinearAttention.from_polynomial([0.0], [-0.2 / 50], 1.0, 3)
    found = interpret_attention(falling, n_tasks=200)
    assert found.nearest == "SSPI-1"
    assert found.distances["EM-step"] == 1.0
    rising = MultilayerLinearAttention.from_polynomial([0.0], [0.2 / 50], 1.0, 3)
    assert interpret_attention(rising, n_tasks=200).distances["EM-step"] < 1e-6


def test_refusals():
    with pytest.raises(TypeError, match="model"):
        interpret_attention(torch.nn.Linear(2, 2))
    with pytest.raises(TypeError, match="softmax"):
        interpret_attention(MultilayerLinearAttention(3, softmax=True))
    with pytest.raises(ValueError, match="n_features"):
        interpret_attention(MultilayerLinearAttention(3), n_features=4)
    with pytest.raises(ValueError, match="n_tasks"):
        interpret_attention(MultilayerLinearAttention(3), n_tasks=1)
    with pytest.raises(ValueError, match="p must be a finite number in"):
        interpret_attention(MultilayerLinearAttention(3), p=0.0)  # all answers are 0
