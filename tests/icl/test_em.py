"""Partially labelled mixtures: the likelihood rises, labels stay, limits and refusals."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from sklearn.exceptions import ConvergenceWarning

from mlpapers.icl import GMMEMClassifier, make_semisupervised_gmm

FORMS = ("spherical", "diag", "full")


def three_classes(seed, n=90, d=2):
    rng = np.random.default_rng(seed)
    y_true = np.arange(n) % 3
    X = 3 * rng.normal(size=(3, d))[y_true] + rng.normal(size=(n, d)) * rng.uniform(0.5, 2, size=d)
    return X, np.where(np.arange(n) < 12, y_true, -1), y_true


def fit_quietly(model, X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y)


@given(st.integers(0, 500), st.booleans())
@settings(max_examples=25, deadline=None)
def test_symmetric_likelihood_never_falls(seed, known):
    X, y, _, _ = make_semisupervised_gmm(50, 3, n_labeled=5, random_state=seed)
    model = fit_quietly(GMMEMClassifier(sigma=1.0 if known else None, tol=0.0, max_iter=60), X, y)
    history = np.array(model.log_likelihood_)
    assert (np.diff(history) >= -1e-9 * np.abs(history[:-1])).all()


@pytest.mark.parametrize("form", FORMS)
@given(st.integers(0, 500))
@settings(max_examples=15, deadline=None)
def test_general_likelihood_never_falls(form, seed):
    X, y, _ = three_classes(seed)
    model = fit_quietly(GMMEMClassifier(covariance=form, tol=0.0, max_iter=40), X, y)
    history = np.array(model.log_likelihood_)
    assert (np.diff(history) >= -1e-9 * np.abs(history[:-1])).all()


def test_likelihood_is_that_of_what_was_observed():
    X, y, _, _ = make_semisupervised_gmm(40, 3, n_labeled=6, random_state=0)
    model = GMMEMClassifier(tol=1e-12, max_iter=2000).fit(X, y)
    noise = model.sigma_**2 * np.eye(3)
    logs = np.stack([multivariate_normal(mean, noise).logpdf(X) for mean in model.means_])
    unlabelled = np.logaddexp(logs[0], logs[1]) - np.log(2)
    expected = np.where(y == 0, logs[0], np.where(y == 1, logs[1], unlabelled)).sum()
    assert abs(model.log_likelihood_[-1] - expected) < 1e-6 * abs(expected)
    X, y, _ = three_classes(1)
    model = GMMEMClassifier(covariance="full", reg=0.1, tol=1e-12, max_iter=2000).fit(X, y)
    logs = np.stack(
        [
            multivariate_normal(m, S).logpdf(X) - 0.05 * np.trace(np.linalg.inv(S)) + np.log(p)
            for m, S, p in zip(model.means_, model.covariances_, model.priors_)
        ]
    )
    expected = np.where(y < 0, np.logaddexp.reduce(logs), logs[y, np.arange(90)]).sum()
    assert abs(model.log_likelihood_[-1] - expected) < 1e-6 * abs(expected)
    P = np.exp(logs - np.logaddexp.reduce(logs)).T
    assert np.abs(model.predict_proba(X) - P).max() < 1e-4


def test_fully_labelled_mixture_is_a_moment_estimate():
    X, _, y = three_classes(2)
    model = GMMEMClassifier(covariance="full", reg=1e-9).fit(X, y)
    for code in range(3):
        rows = X[y == code]
        assert np.abs(model.means_[code] - rows.mean(axis=0)).max() < 1e-10
        assert np.abs(model.covariances_[code] - np.cov(rows.T, bias=True)).max() < 1e-8
    diagonal = GMMEMClassifier(covariance="diag").fit(X, y).covariances_
    assert not diagonal[:, 0, 1].any()
    round_ = GMMEMClassifier(covariance="spherical").fit(X, y).covariances_
    assert np.abs(round_[:, 0, 0] - round_[:, 1, 1]).max() < 1e-12


def test_symmetric_fixed_point():
    X, y, _, _ = make_semisupervised_gmm(80, 4, n_labeled=6, random_state=3)
    model = GMMEMClassifier(tol=1e-15, max_iter=5000).fit(X, y)
    mu, s2 = model.means_[1], model.sigma_**2
    soft = np.where(y >= 0, 2 * y - 1, np.tanh(X @ mu / s2))
    assert np.abs(X.T @ soft / 80 - mu).max() < 1e-6
    assert abs((np.square(X).sum() - 80 * mu @ mu) / 320 - s2) < 1e-6


def test_given_labels_are_kept():
    for model, (X, y) in (
        (GMMEMClassifier(), make_semisupervised_gmm(60, 3, n_labeled=8, random_state=1)[:2]),
        (GMMEMClassifier(covariance="diag"), three_classes(3)[:2]),
    ):
        model.fit(X, y)
        assert np.array_equal(model.transduction_[y >= 0], y[y >= 0])
        assert set(model.transduction_) <= set(model.classes_)
        assert np.abs(model.predict_proba(X).sum(axis=1) - 1).max() < 1e-12


def test_no_label_at_all():
    X, y, y_true, mu = make_semisupervised_gmm(600, 3, n_labeled=0, sigma=0.5, random_state=2)
    signs = set()
    for seed in range(6):
        model = GMMEMClassifier(random_state=seed).fit(X, y)
        agreement = (model.predict(X) == y_true).mean()
        assert max(agreement, 1 - agreement) > 0.95
        signs.add(bool(model.means_[1] @ mu > 0))
    assert signs == {True, False}


@pytest.mark.parametrize("form", ["spherical-symmetric", *FORMS])
def test_difficult_rows(form):
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=20) + 3 * (np.arange(20) % 2 * 2 - 1), np.ones(20)])
    y = np.where(np.arange(20) < 4, np.arange(20) % 2, -1)
    X[10:] = X[:10]
    model = fit_quietly(GMMEMClassifier(covariance=form), X, y)
    assert np.isfinite(model.predict_proba(X)).all()
    assert (model.predict(X) == np.arange(20) % 2).mean() > 0.9


@pytest.mark.parametrize("form", ["diag", "full"])
@pytest.mark.parametrize("reg", [1e-6, 1e-2])
def test_constant_columns_change_nothing(form, reg):
    X, y, y_true = three_classes(4)
    # Classes of unequal size: the variance of a constant column must not tell them apart.
    rows = (y_true == 0) | (np.arange(90) % 5 < 2)
    X, y = X[rows], y[rows]
    plain = GMMEMClassifier(covariance=form, reg=reg).fit(X, y)
    for constant in (np.zeros((len(X), 1)), np.full((len(X), 8), 5.0)):
        wide = GMMEMClassifier(covariance=form, reg=reg).fit(np.column_stack([X, constant]), y)
        assert wide.n_iter_ == plain.n_iter_
        np.testing.assert_allclose(wide.priors_, plain.priors_, rtol=1e-9)
        np.testing.assert_allclose(
            wide.predict_proba(np.column_stack([X, constant])), plain.predict_proba(X), atol=1e-9
        )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("reg", [1e-6, 1e-1])
def test_columns_that_are_constant_in_a_class(form, reg):
    X, y, y_true = three_classes(5)
    noise = np.random.default_rng(0).normal(size=90)
    wide = np.column_stack([X, np.where(y_true == 0, 0.0, noise)])
    model = fit_quietly(GMMEMClassifier(covariance=form, reg=reg, tol=0.0), wide, y)
    history = np.array(model.log_likelihood_)
    assert (np.diff(history) >= -1e-9 * np.abs(history[:-1])).all()
    if form != "spherical":
        # Nothing but class 0 has the value 0 there.
        assert np.array_equal(model.predict(wide) == 0, y_true == 0)


def test_refusals():
    X, y, _, _ = make_semisupervised_gmm(30, 2, n_labeled=4, random_state=0)
    for name, model in {
        "sigma must be": GMMEMClassifier(sigma=-1.0),
        "sigma belongs": GMMEMClassifier(sigma=1.0, covariance="full"),
        "max_iter": GMMEMClassifier(max_iter=0),
        "tol": GMMEMClassifier(tol=-1.0),
        "covariance": GMMEMClassifier(covariance="tied"),
        "reg": GMMEMClassifier(reg=0.0),
    }.items():
        with pytest.raises(ValueError, match=name):
            model.fit(X, y)
    with pytest.raises(ValueError, match="class"):
        GMMEMClassifier(covariance="full").fit(X, np.full(30, -1))
    with pytest.warns(ConvergenceWarning, match="max_iter"):
        GMMEMClassifier(max_iter=1, tol=0.0).fit(X, y)
