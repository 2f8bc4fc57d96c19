"""The polynomial classifier against matrix powers, and as a plug-in."""

import numpy as np
import pytest

from mlpapers.icl import (
    PolynomialClassifier,
    SemiSupervisedPlugIn,
    factor_label_polynomial,
    make_semisupervised_gmm,
)


def data():
    X, y, _, _ = make_semisupervised_gmm(60, 4, n_labeled=8, sigma=0.8, random_state=0)
    return X, y


def test_polynomial_by_matrices():
    X, y = data()
    s = np.where(y < 0, 0, 2 * y - 1)
    for scale, G in (("n", X.T @ X / 60), ("none", X.T @ X)):
        coef = (0.7, -0.2, 0.05)
        model = PolynomialClassifier(coef, scale=scale).fit(X, y)
        expected = sum(c * np.linalg.matrix_power(G, i) for i, c in enumerate(coef)) @ X.T @ s
        assert np.abs(model.coef_[0] - expected).max() <= 1e-12 * np.abs(expected).max()
    real = (2.0, 3.0, 1.0)
    direct = PolynomialClassifier(real).fit(X, y).coef_
    factored = PolynomialClassifier(factors=factor_label_polynomial(real)).fit(X, y).coef_
    assert np.abs(direct - factored).max() <= 1e-10 * np.abs(direct).max()


def test_first_semi_supervised_plug_in_is_a_polynomial():
    X, y = data()
    sspi = SemiSupervisedPlugIn(1, mixing=0.3, sigma=0.8, normalize=False).fit(X, y).coef_[0]
    polynomial = PolynomialClassifier((0.3 - 0.7 * 0.64, 0.7)).fit(X, y).coef_[0] / 8
    assert np.abs(sspi - polynomial).max() <= 1e-12 * np.abs(sspi).max()


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("coef", PolynomialClassifier(())),
        ("factors", PolynomialClassifier(factors=(1.0,))),
        ("scale", PolynomialClassifier(scale="m")),
    ],
)
def test_bad_parameters_are_named(name, model):
    X, y = data()
    with pytest.raises(ValueError, match=name):
        model.fit(X, y)
