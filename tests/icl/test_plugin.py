"""Plug-in classifiers: formulas by brute force, invariances, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpapers.icl import (
    GMMEMClassifier,
    PolynomialClassifier,
    SemiSupervisedPlugIn,
    SupervisedPlugIn,
    make_semisupervised_gmm,
)
from mlpapers.icl._simulate import gram_statistics


def data(seed=0, n=60, d=4, m=8, sigma=0.8):
    X, y, y_true, mu = make_semisupervised_gmm(n, d, n_labeled=m, sigma=sigma, random_state=seed)
    return X, y, y_true, mu


def signs(y):
    return np.where(y < 0, 0, 2 * y - 1)


def test_supervised_mean():
    X, y, _, _ = data()
    model = SupervisedPlugIn().fit(X, y)
    s = signs(y)
    assert np.abs(model.coef_[0] - (X * s[:, None]).sum(axis=0) / 8).max() < 1e-14
    assert np.array_equal(model.predict(X), (X @ model.coef_[0] > 0).astype(int))
    unlabelled_moved = X.copy()
    unlabelled_moved[y < 0] += 3.0
    assert np.abs(SupervisedPlugIn().fit(unlabelled_moved, y).coef_ - model.coef_).max() < 1e-14


def test_without_labels():
    X, y, _, _ = data()
    with pytest.warns(UserWarning, match="no labelled row"):
        model = SupervisedPlugIn().fit(X, np.full(len(y), -1))
    assert not model.coef_.any()
    assert (model.predict(X) == model.classes_[0]).all()
    with pytest.raises(ValueError, match="class"):
        SemiSupervisedPlugIn().fit(X, np.full(len(y), -1))


def test_numbers_that_are_all_missing_are_refused():
    X, y, _, _ = data()
    for estimator in (SupervisedPlugIn(), GMMEMClassifier()):
        with pytest.raises(ValueError, match="at least two classes among the labelled rows"):
            estimator.fit(X, np.full(len(y), np.nan))


@pytest.mark.parametrize("mark", [-1, -1.0, None, "-1"])
def test_every_mark_can_stand_on_every_row(mark):
    X, y, _, _ = data()
    for labels in ([mark] * len(y), np.array([mark] * len(y), dtype=object)):
        with pytest.warns(UserWarning, match="no labelled row"):
            model = SupervisedPlugIn().fit(X, labels)
        assert not model.coef_.any()
    spread = GMMEMClassifier(random_state=0).fit(X, [mark] * len(y))
    assert np.array_equal(spread.means_, GMMEMClassifier(random_state=0).fit(X, np.full(len(y), -1)).means_)
    for estimator in (SupervisedPlugIn(), GMMEMClassifier()):
        with pytest.raises(ValueError, match="inconsistent numbers of samples"):
            estimator.fit(X, [mark] * 3)


@pytest.mark.parametrize("k", [0, 1, 2, 3, np.inf])
def test_semi_supervised_direction(k):
    X, y, _, _ = data()
    model = SemiSupervisedPlugIn(k, mixing=0.3, sigma=0.8).fit(X, y)
    mu_s = X.T @ signs(y) / 8
    if k == np.inf:
        v = np.linalg.svd(X, full_matrices=False)[2][0]
        v *= np.sign(v @ mu_s)
    else:
        v = np.linalg.matrix_power(X.T @ X / 60 - 0.64 * np.eye(4), int(k)) @ mu_s
    expected = 0.3 * mu_s / np.linalg.norm(mu_s) + 0.7 * v / np.linalg.norm(v)
    assert np.abs(model.coef_[0] - expected).max() < 1e-10
    if k != np.inf:
        raw = SemiSupervisedPlugIn(k, mixing=0.3, sigma=0.8, normalize=False).fit(X, y)
        assert np.abs(raw.coef_[0] - 0.3 * mu_s - 0.7 * v).max() < 1e-10


def test_estimated_noise_and_tuned_mixing():
    X, y, _, mu = data(n=800, m=10)
    model = SemiSupervisedPlugIn(random_state=0).fit(X, y)
    assert abs(model.sigma_ - 0.8) < 0.05
    assert 0.0 <= model.mixing_ <= 1.0
    # With so many rows the eigenvector is nearly all that counts.
    assert model.mixing_ <= 0.3
    cosine = abs(model.coef_[0] @ mu) / np.linalg.norm(model.coef_)
    assert cosine > abs(SupervisedPlugIn().fit(X, y).coef_[0] @ mu) / np.linalg.norm(
        SupervisedPlugIn().fit(X, y).coef_
    )


def test_orthogonal_eigenvector_leaves_the_supervised_mean():
    X = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    y = np.array([-1, -1, 1, 0])
    model = SemiSupervisedPlugIn(mixing=0.0, sigma=0.5).fit(X, y)
    assert np.abs(model.coef_[0] - [0.0, 1.0]).max() < 1e-14


def test_centring():
    X, y, _, _ = data()
    shift = np.array([5.0, -3.0, 2.0, 1.0])
    model = SemiSupervisedPlugIn(mixing=0.5, sigma=0.8, center=True)
    far, near = (model.fit(rows, y).decision_function(rows) for rows in (X + shift, X))
    assert np.abs(far - near).max() < 1e-10


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_rotations_do_not_matter(seed):
    X, y, _, _ = data(seed)
    R = np.linalg.qr(np.random.default_rng(seed).normal(size=(4, 4)))[0]
    for model in (
        SupervisedPlugIn(),
        SemiSupervisedPlugIn(sigma=0.8),
        SemiSupervisedPlugIn(2, mixing=0.4),
        PolynomialClassifier((1.0, -0.2, 0.1)),
    ):
        plain = model.fit(X, y).decision_function(X)
        turned = model.fit(X @ R, y).decision_function(X @ R)
        assert np.abs(plain - turned).max() <= 1e-9 * np.abs(plain).max()


@given(st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_swapped_labels_swap_the_sign(seed):
    X, y, _, _ = data(seed)
    swapped = np.where(y < 0, y, 1 - y)
    for model in (
        SupervisedPlugIn(),
        SemiSupervisedPlugIn(mixing=0.4, sigma=0.8),
        PolynomialClassifier((1.0, 0.3)),
    ):
        plain = model.fit(X, y).coef_
        assert np.abs(model.fit(X, swapped).coef_ + plain).max() <= 1e-12 * np.abs(plain).max()


def test_simulated_statistics_have_the_law_of_the_samples():
    n, m, d, sigma, tasks = 12, 4, 3, 0.9, 30_000
    drawn = gram_statistics(n, m, d, sigma, tasks, np.random.default_rng(0))
    # E X'X/n = mu mu' + sigma^2 I, E mu_s = mu; and the correlation of both through mu_s' G mu_s.
    gap = drawn.gram - drawn.mu[:, :, None] * drawn.mu[:, None, :]
    assert np.abs(gap.mean(axis=0) - sigma**2 * np.eye(d)).max() < 0.02
    rng = np.random.default_rng(1)
    mu = np.eye(d)[0]
    X = mu + sigma * rng.standard_normal((tasks, n, d))
    mu_s = X[:, :m].mean(axis=1)
    gram = np.einsum("bni,bnj->bij", X, X) / n
    brute = np.einsum("bi,bij,bj->b", mu_s, gram, mu_s)
    fast = np.einsum("bi,bij,bj->b", drawn.mu_s, drawn.gram, drawn.mu_s)
    assert abs(brute.mean() - fast.mean()) < 5 * np.hypot(brute.std(), fast.std()) / np.sqrt(tasks)
    assert abs(brute.std() / fast.std() - 1) < 0.05
    few = gram_statistics(2, 1, d, sigma, 20_000, np.random.default_rng(2))
    assert abs(few.gram.trace(axis1=1, axis2=2).mean() - (1 + d * sigma**2)) < 0.05


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("k ", SemiSupervisedPlugIn(-1)),
        ("mixing", SemiSupervisedPlugIn(mixing=1.5)),
        ("sigma", SemiSupervisedPlugIn(sigma=0.0)),
        ("normalize", SemiSupervisedPlugIn(normalize=False)),
    ],
)
def test_bad_parameters_are_named(name, model):
    X, y, _, _ = data()
    with pytest.raises(ValueError, match=name):
        model.fit(X, y)


def test_bad_labels_are_refused():
    X, y, _, _ = data()
    with pytest.raises(ValueError, match="sigma must be given"):
        SemiSupervisedPlugIn().fit(X[:, :1], y)
    with pytest.raises(ValueError, match="Only binary"):
        SupervisedPlugIn().fit(X, np.arange(60) % 3)
    with pytest.raises(ValueError, match="class"):
        SupervisedPlugIn().fit(X, np.ones(60))
    with pytest.warns(UserWarning, match="taken for a class"):
        model = SupervisedPlugIn().fit(X, np.where(y == 1, 1, -1))
    assert model.classes_.tolist() == [-1, 1]
