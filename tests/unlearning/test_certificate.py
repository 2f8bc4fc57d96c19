"""Certificates say what they compare with and what they assume."""

import dataclasses

import numpy as np
import pytest

from mlpapers.unlearning import gaussian_mechanism_delta


def test_epsilon_spent_is_that_of_the_mechanism(classify):
    model = classify(noise_scale=0.7)
    assert model.certificate_.epsilon_spent == 0.0
    result = model.unlearn([1, 2])
    certificate = model.certificate_
    assert certificate.epsilon_spent == result.epsilon_spent
    spent = gaussian_mechanism_delta(certificate.epsilon_spent, result.residual_bound / 0.7)
    assert spent == pytest.approx(certificate.delta, rel=1e-6)
    output = classify(perturbation="output", noise_scale=0.7)
    gap = output.unlearn([1, 2]).parameter_gap_bound
    assert gaussian_mechanism_delta(output.certificate_.epsilon_spent, gap / 0.7) == pytest.approx(
        1e-5, rel=1e-6
    )


def test_assumptions_follow_the_options(classify):
    def texts(data_values=None, **params):
        return " | ".join(classify(data_values, **params).certificate_.assumptions)

    assert "direction of the residual is independent" in texts()
    strict = texts(accounting="strict")
    assert "decision to re-anchor does not depend on b" in strict
    assert "direction of the residual" not in strict
    output = texts(perturbation="output", accounting="strict")
    assert "per release" in output
    assert "independent of the noise" not in output
    assert "only exact removals" in texts(perturbation="none")
    assert "removed rows may have shaped them" in texts(np.arange(200.0))
    assert "rule" in texts(np.arange(200.0), values_public=True, weighting=np.exp)
    for params in ({}, {"perturbation": "output"}, {"perturbation": "none"}):
        assert "preprocessing" in texts(**params)


def test_it_is_a_frozen_value(classify):
    certificate = classify().certificate_
    assert certificate == classify().certificate_
    with pytest.raises(dataclasses.FrozenInstanceError):
        certificate.valid = False
