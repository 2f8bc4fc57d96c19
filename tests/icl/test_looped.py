"""Looping: what loops keep, how soft labels arrive, which loop is chosen, what is refused."""

from contextlib import nullcontext
from functools import partial
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from sklearn import config_context, get_config
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC

from mlpapers.icl import (
    GMMEMClassifier,
    LoopedClassifier,
    MiniPFNClassifier,
    PolynomialClassifier,
    SemiSupervisedPlugIn,
    SupervisedPlugIn,
    make_semisupervised_gmm,
)
from mlpapers.icl._guard import labeled_errors, stratified_folds
from mlpapers.icl._labels import read_labels
from mlpapers.icl._loop import LoopSettings, balanced, noisy, run_loops
from mlpapers.icl._soft import choose_way, why_hard
from mlpapers.testing import check_result


@pytest.fixture(scope="module")
def gmm():
    X, y, y_true, _ = make_semisupervised_gmm(120, 4, n_labeled=12, random_state=0)
    return X, y, y_true


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    known = np.where(np.random.default_rng(0).random(150) < 0.15, y, -1)
    return X, known, y


def by_hand(X, y, n_loops):
    """Loops of GaussianNB by weights, written out."""
    known, unknown = y >= 0, y < 0
    model = GaussianNB().fit(X[known], y[known])
    P = model.predict_proba(X[unknown])
    for _ in range(n_loops):
        rows = np.concatenate([X[known], X[unknown], X[unknown]])
        labels = np.concatenate([y[known], np.zeros(unknown.sum()), np.ones(unknown.sum())])
        weights = np.concatenate([np.ones(known.sum()), P[:, 0], P[:, 1]])
        model = GaussianNB().fit(rows, labels, sample_weight=weights)
        P = model.predict_proba(X[unknown])
    return model, P


def test_loops_are_refits_with_weights(gmm):
    X, y, _ = gmm
    looped = LoopedClassifier(GaussianNB(), n_loops=3, selection="last", tol=0.0).fit(X, y)
    model, P = by_hand(X, y, 3)
    assert np.abs(looped.predict_proba(X) - model.predict_proba(X)).max() < 1e-8
    assert np.abs(looped.label_distributions_[y < 0] - P).max() < 1e-8
    assert looped.soft_ == "weight"
    assert np.abs(looped.risks_[-1] - (2 * (1 - P.max(axis=1))).mean()) < 1e-8
    stages = list(looped.staged_predict_proba(X))
    assert len(stages) == len(looped.estimators_) == looped.n_loops_ + 1 == 4
    assert np.abs(stages[0] - GaussianNB().fit(X[y >= 0], y[y >= 0]).predict_proba(X)).max() == 0


@pytest.mark.parametrize("base", [LogisticRegression(), GaussianNB(), KNeighborsClassifier(3)])
def test_without_loops_or_unlabelled_rows_it_is_the_base(gmm, base):
    X, y, y_true = gmm
    plain = clone(base).fit(X[y >= 0], y[y >= 0]).predict_proba(X)
    assert np.array_equal(LoopedClassifier(base, n_loops=0).fit(X, y).predict_proba(X), plain)
    full = LoopedClassifier(base).fit(X, y_true)
    assert np.array_equal(full.predict_proba(X), clone(base).fit(X, y_true).predict_proba(X))
    assert full.n_loops_ == 0
    assert not hasattr(base, "classes_")


def test_generative_bases_gain():
    gains = []
    for seed in range(12):
        X, y, y_true, _ = make_semisupervised_gmm(300, 6, n_labeled=12, random_state=seed)
        looped = LoopedClassifier(GaussianNB(), selection="last").fit(X, y)
        before = (next(looped.staged_predict(X)) == y_true)[y < 0].mean()
        gains.append((looped.transduction_ == y_true)[y < 0].mean() - before)
    assert np.mean(gains) > 2 * np.std(gains) / np.sqrt(12) > 0


def test_given_labels_are_kept(iris):
    X, known, _ = iris
    for base, soft in ((GaussianNB(), "auto"), (KNeighborsClassifier(3), "hard"), (Ridge(), "auto")):
        looped = LoopedClassifier(base, soft=soft).fit(X, known)
        assert np.array_equal(looped.transduction_[known >= 0], known[known >= 0])
        assert np.abs(looped.label_distributions_.sum(axis=1) - 1).max() < 1e-12
        assert np.abs(looped.predict_proba(X).sum(axis=1) - 1).max() < 1e-12


def test_selection_by_risk(gmm):
    X, y, _ = gmm
    risk = LoopedClassifier(GaussianNB(), tol=0.0).fit(X, y)
    assert risk.best_loop_ == int(np.argmin(risk.risks_))
    assert risk.estimator_ is risk.estimators_[risk.best_loop_]
    last = LoopedClassifier(GaussianNB(), selection="last", tol=0.0).fit(X, y)
    assert last.best_loop_ == last.n_loops_ == 5


def test_guard_compares_held_out_labels(gmm):
    X = gmm[0]
    rng = np.random.default_rng(1)
    rows = np.concatenate([np.flatnonzero(gmm[2] == c)[:6] for c in (0, 1)])
    known = np.full(120, -1)
    known[rows] = gmm[2][rows]
    looped = LoopedClassifier(GaussianNB(), selection="cv", random_state=0).fit(X, known)
    before, after = looped.loop_result_.labeled_errors
    risk = LoopedClassifier(GaussianNB(), random_state=0).fit(X, known)
    assert looped.best_loop_ == (risk.best_loop_ if after <= before else 0)
    # With fewer than five labels in a class it does not look.
    known[rows[:2]] = -1
    few = LoopedClassifier(GaussianNB(), selection="cv").fit(X, known)
    assert np.isnan(few.loop_result_.labeled_errors).all()
    folds = stratified_folds(np.repeat([0, 1], [7, 13]), 10, rng)
    assert np.bincount(folds).tolist() == [2] * 10


def test_guard_falls_back_where_looping_hurts():
    # Clusters that cut across the classes: pseudo-labels follow the clusters, held-out labels do not.
    rng = np.random.default_rng(0)
    n = 200
    side = rng.integers(0, 2, n)
    X = np.column_stack([6.0 * side + rng.normal(size=n), rng.normal(size=n)])
    truth = (X[:, 1] > 0).astype(int)
    rows = np.concatenate([np.flatnonzero(truth == c)[:12] for c in (0, 1)])
    known = np.full(n, -1)
    known[rows] = truth[rows]
    harmful = LoopedClassifier(GaussianNB(), selection="last", n_loops=20, tol=0.0)
    settings = LoopSettings("weight", 20, None, 0.0, 0.0, 0.0, None, 0)
    errors = labeled_errors(
        GaussianNB(), X[rows], truth[rows], X[known < 0], np.array([0, 1]), settings, np.random.default_rng(0)
    )
    guarded = clone(harmful).set_params(selection="cv").fit(X, known)
    assert (guarded.best_loop_ == 0) == bool(errors[1] > errors[0]) or guarded.best_loop_ > 0
    score = (guarded.predict(X) == truth).mean()
    assert score >= min((stage == truth).mean() for stage in guarded.staged_predict(X))


@pytest.mark.parametrize(
    ("base", "way"),
    [
        (GaussianNB(), "weight"),
        (GaussianNB(), "hard"),
        (KNeighborsClassifier(3), "hard"),
        (Ridge(), "regress"),
    ],
)
def test_ways_to_hand_soft_labels_over(iris, base, way):
    X, known, y = iris
    looped = LoopedClassifier(base, soft=way).fit(X, known)
    assert looped.soft_ == way
    assert (looped.predict(X) == y).mean() > 0.6
    auto = "weight" if isinstance(base, GaussianNB) else way
    found = LoopedClassifier(base)
    with pytest.warns(UserWarning, match="looped over hard labels") if auto == "hard" else nullcontext():
        found.fit(X, known)
    assert found.soft_ == auto


@pytest.mark.parametrize("routing", [False, True])
def test_weights_reach_the_steps_of_a_pipeline(gmm, routing):
    X, y, _ = gmm
    plain = LoopedClassifier(GaussianNB(), selection="last").fit(X, y)
    passed_on = make_pipeline("passthrough", make_pipeline(GaussianNB()))
    with config_context(enable_metadata_routing=routing):
        nested = LoopedClassifier(passed_on, selection="last").fit(X, y)
    assert nested.soft_ == plain.soft_ == "weight"
    np.testing.assert_array_equal(nested.predict_proba(X), plain.predict_proba(X))
    # The scaler weighs rows too: an unlabelled row, there once per class, counts as one.
    scaled = LoopedClassifier(make_pipeline(StandardScaler(), GaussianNB()), selection="last", n_loops=1)
    scaler = scaled.fit(X, y).estimator_.named_steps["standardscaler"]
    np.testing.assert_allclose(scaler.mean_, X.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(scaler.var_, X.var(axis=0), rtol=1e-12)
    with pytest.warns(UserWarning, match="Pipeline takes neither soft labels nor weights"):
        LoopedClassifier(make_pipeline(StandardScaler(), KNeighborsClassifier(3))).fit(X, y)


@pytest.mark.parametrize(
    "base",
    [LinearSVC(), RidgeClassifier(), make_pipeline(StandardScaler(), LinearSVC())],
    ids=lambda base: type(base).__name__,
)
@pytest.mark.parametrize("name", ["gmm", "iris"])
def test_hard_labels_need_only_predictions(request, base, name):
    X, y, _ = request.getfixturevalue(name)
    names = np.array(["ash", "birch", "cedar"])
    given = np.where(y < 0, "-1", names[y])
    known, model = y >= 0, clone(base)
    stages = [model.fit(X[known], given[known]).predict(X)]
    for _ in range(3):
        stages.append(model.fit(X, np.where(known, given, stages[-1])).predict(X))
    looped = LoopedClassifier(base, soft="hard", selection="last", n_loops=3, tol=0.0).fit(X, given)
    np.testing.assert_array_equal(list(looped.staged_predict(X)), stages)
    np.testing.assert_array_equal(looped.predict(X), stages[-1])
    assert set(looped.label_distributions_.ravel()) == {0.0, 1.0}
    assert not hasattr(looped, "predict_proba")
    assert not hasattr(looped, "staged_predict_proba")
    found = LoopedClassifier(base, selection="last")
    with pytest.warns(UserWarning, match="looped over hard labels"):
        found.fit(X, given)
    assert found.soft_ == "hard"


@pytest.mark.parametrize(
    ("options", "way_out"),
    [
        ({}, "selection='last'"),
        ({"selection": "cv"}, "selection='last'"),
        ({"selection": "last", "balance": "prior"}, "balance=None"),
    ],
)
def test_what_needs_probabilities_says_so(gmm, options, way_out):
    X, y, y_true = gmm
    looped = LoopedClassifier(LinearSVC(), soft="hard", **options)
    with pytest.raises(TypeError, match=f"LinearSVC does not predict; pass {way_out}"):
        looped.fit(X, y)
    for rows in (LoopedClassifier(LinearSVC(), n_loops=0).fit(X, y), looped.fit(X, y_true)):
        assert rows.n_loops_ == 0


def test_probabilities_from_inner_folds_are_not_weighted():
    support = SVC(probability=True)
    for base in (support, make_pipeline(StandardScaler(), support)):
        assert choose_way(base, "auto") == "hard"
        assert choose_way(base, "weight") == "weight"
        assert "folds of its own" in why_hard(base)


def test_regression_of_two_classes_is_one_regressor(gmm):
    X, y, _ = gmm
    looped = LoopedClassifier(LinearRegression(), n_loops=0).fit(X, y)
    target = 2.0 * y[y >= 0] - 1.0
    s = np.clip(LinearRegression().fit(X[y >= 0], target).predict(X), -1, 1)
    assert np.abs(looped.predict_proba(X)[:, 1] - (1 + s) / 2).max() < 1e-12


def test_regressors_that_say_nothing_are_uniform():
    class Silent(Ridge):
        def predict(self, X):
            return np.full(len(X), -5.0)

    X, y = load_iris(return_X_y=True)
    P = LoopedClassifier(Silent(), n_loops=1).fit(X, np.where(np.arange(150) % 5, y, -1)).predict_proba(X)
    assert np.abs(P - 1 / 3).max() < 1e-12


def test_order_of_rows_does_not_matter(gmm):
    X, y, _ = gmm
    order = np.random.default_rng(0).permutation(len(y))
    model = LoopedClassifier(GaussianNB(), selection="last", random_state=0)
    one, other = (clone(model).fit(X[rows], y[rows]) for rows in (slice(None), order))
    assert np.abs(one.predict_proba(X) - other.predict_proba(X)).max() < 1e-8
    assert np.array_equal(one.transduction_[order], other.transduction_)


def test_pool_damping_noise_and_balance(gmm):
    X, y, _ = gmm
    grown = LoopedClassifier(GaussianNB(), pool_step=30, random_state=0, selection="last", tol=0.0).fit(X, y)
    assert grown.n_loops_ == 5
    P = np.random.default_rng(0).dirichlet(np.ones(3), size=50)
    shares = np.array([0.5, 0.3, 0.2])
    assert np.abs(balanced(P, shares).mean(axis=0) - shares).max() < 1e-6
    shaken = noisy(P, 0.1, np.random.default_rng(1))
    assert np.abs(shaken.sum(axis=1) - 1).max() < 1e-12
    assert (shaken >= 0).all()
    assert not np.array_equal(shaken, P)
    settings = LoopSettings("weight", 2, None, 0.5, 0.0, 0.0, None, 0)
    known = y >= 0
    trace = run_loops(
        GaussianNB(), X[known], y[known], X[~known], np.array([0, 1]), settings, np.random.default_rng(0)
    )
    fresh = trace.models[1].predict_proba(X[~known])
    assert np.abs(trace.distributions[1] - 0.5 * fresh - 0.5 * trace.distributions[0]).max() < 1e-12
    options = {"pool_step": 20, "label_noise": 0.1, "balance": "prior", "random_state": 3}
    same = [LoopedClassifier(GaussianNB(), **options).fit(X, y) for _ in range(2)]
    assert np.array_equal(same[0].label_distributions_, same[1].label_distributions_)


def test_it_stops_when_labels_settle(gmm):
    X, y, _ = gmm
    looped = LoopedClassifier(GaussianNB(), n_loops=500, tol=1e-3).fit(X, y)
    assert looped.n_loops_ < 500


@pytest.mark.parametrize(
    ("names", "mark"),
    [
        (["ham", "spam"], "?"),
        (["ham", "spam"], np.str_("?")),
        ([3, 7], 0),
        ([0.0, 1.0], np.nan),
        (["a", "b"], None),
        ([1, 2], None),
    ],
)
def test_marks_of_missing_labels(gmm, names, mark):
    X, y, _ = gmm
    labels = [names[code] if code >= 0 else mark for code in y]
    given = np.array(labels, dtype=object if mark is None or isinstance(names[0], str) else None)
    looped = LoopedClassifier(GaussianNB(), unlabeled=mark).fit(X, given)
    plain = LoopedClassifier(GaussianNB()).fit(X, y)
    assert looped.classes_.tolist() == names
    assert np.array_equal(looped.predict(X), np.array(names)[plain.predict(X)])


@pytest.mark.parametrize("mark", [None, np.nan, pd.NA, pd.NaT], ids=str)
@pytest.mark.parametrize("names", [["ham", "spam"], [-1, 1], [0.0, 1.0], [False, True]], ids=str)
@pytest.mark.parametrize(
    "model",
    [LoopedClassifier(GaussianNB()), GMMEMClassifier(), SemiSupervisedPlugIn(), SupervisedPlugIn()],
    ids=lambda model: type(model).__name__,
)
@pytest.mark.parametrize(
    "container", [list, pd.Series, partial(np.array, dtype=object)], ids=["list", "series", "array"]
)
def test_missing_values_mark_rows_unasked(gmm, model, names, mark, container):
    X, y, _ = gmm
    given = container([names[code] if code >= 0 else mark for code in y])
    found, plain = clone(model).fit(X, given), clone(model).fit(X, y)
    assert found.classes_.tolist() == names
    assert np.array_equal(found.predict(X), np.array(names)[plain.predict(X)])


@pytest.mark.parametrize("dtype", ["Int64", "string", "category", "float32"])
def test_missing_values_of_pandas_types(gmm, dtype):
    X, y, _ = gmm
    given = pd.Series(y, dtype="Int64").mask(y < 0).astype(dtype)
    found, plain = LoopedClassifier(GaussianNB()).fit(X, given), LoopedClassifier(GaussianNB()).fit(X, y)
    assert np.array_equal(found.transduction_.astype(float).astype(int), plain.transduction_)


def test_names_and_minus_one_in_one_array(gmm):
    X, y, _ = gmm
    given = np.array([*np.array(["ham", "spam"])[y.clip(0)], -1])[np.where(y >= 0, np.arange(len(y)), -1)]
    found = LoopedClassifier(GaussianNB()).fit(X, given)
    assert found.classes_.tolist() == ["ham", "spam"]
    assert np.array_equal(
        found.predict(X) == "spam", LoopedClassifier(GaussianNB()).fit(X, y).predict(X) == 1
    )
    with pytest.warns(UserWarning, match="taken for a class"):
        assert LoopedClassifier(GaussianNB()).fit(X, (2 * y.clip(0) - 1).astype(str)).classes_.tolist() == [
            "-1",
            "1",
        ]


@pytest.mark.parametrize(
    "model",
    [
        LoopedClassifier(GaussianNB(), selection="last"),
        GMMEMClassifier(),
        *(GMMEMClassifier(covariance=form) for form in ("spherical", "diag", "full")),
        SemiSupervisedPlugIn(),
        SupervisedPlugIn(),
        PolynomialClassifier([1.0, 1.0]),
    ],
    ids=str,
)
@pytest.mark.parametrize("mark", ["-1", -1])
def test_text_marks_in_every_container(gmm, model, mark):
    X, y, _ = gmm
    labels = [("ham", "spam")[code] if code >= 0 else mark for code in y]
    plain = np.array(["ham", "spam"])[clone(model).fit(X, y).predict(X)]
    text = ["string", "category", "str"] if mark == "-1" else ["category"]
    for given in (
        labels,
        np.array(labels),
        np.array(labels, dtype=object),
        pd.Series(labels, dtype=object),
        pd.Categorical(labels),
        *(pd.Series(labels, dtype=dtype) for dtype in text),
    ):
        found = clone(model).fit(X, given)
        assert found.classes_.tolist() == ["ham", "spam"]
        np.testing.assert_array_equal(found.predict(X), plain)


@pytest.mark.parametrize("names", [[0, 1], [0.0, 1.0], ["0", "1"]], ids=str)
@pytest.mark.parametrize("options", [{}, {"unlabeled": -1}], ids=str)
def test_objects_are_read_as_their_values(gmm, names, options):
    X, y, _ = gmm
    labels = [*names, -1 if isinstance(names[0], str) else type(names[0])(-1)]
    plain = LoopedClassifier(GaussianNB()).fit(X, y)
    for given in (np.array(labels)[y], np.array(labels, dtype=object)[y]):
        found = LoopedClassifier(GaussianNB(), **options).fit(X, given)
        assert found.classes_.tolist() == names
        np.testing.assert_array_equal(found.predict_proba(X), plain.predict_proba(X))


def test_objects_of_one_name_beside_minus_one(gmm):
    X, _, y_true = gmm
    with pytest.warns(UserWarning, match="taken for a class"):
        found = LoopedClassifier(GaussianNB()).fit(X, np.array(["ham", -1], dtype=object)[y_true])
    assert found.classes_.tolist() == ["-1", "ham"]


def test_minus_one_can_be_a_class(gmm):
    X, _, y_true = gmm
    with pytest.warns(UserWarning, match="taken for a class"):
        looped = LoopedClassifier(GaussianNB()).fit(X, 2 * y_true - 1)
    assert looped.classes_.tolist() == [-1, 1]
    assert read_labels(np.array([0, 1, -1])).codes.tolist() == [0, 1, -1]


class Watched(GaussianNB):
    """Notes what scikit-learn would check; from the `spoilt`-th prediction on it predicts NaN."""

    seen: ClassVar[list[bool]] = []
    spoilt: ClassVar[int | None] = None

    def fit(self, X, y, sample_weight=None):
        self.seen.append(get_config()["assume_finite"])
        return super().fit(X, y, sample_weight)

    def predict_proba(self, X):
        P = super().predict_proba(X)
        return np.full_like(P, np.nan) if self.spoilt is not None and len(self.seen) > self.spoilt else P


def test_rows_are_checked_once(gmm, monkeypatch):
    X, y, _ = gmm
    before = get_config()
    monkeypatch.setattr(Watched, "seen", [])
    LoopedClassifier(Watched(), n_loops=2, tol=0.0).fit(X, y)
    assert Watched.seen == [False, True, True]
    assert get_config() == before
    with pytest.raises(ValueError, match="var_smoothing"):
        LoopedClassifier(GaussianNB(var_smoothing=-1.0)).fit(X, y)


@pytest.mark.parametrize("loop", [0, 1])
def test_predictions_must_be_finite(gmm, monkeypatch, loop):
    X, y, _ = gmm
    monkeypatch.setattr(Watched, "seen", [])
    monkeypatch.setattr(Watched, "spoilt", loop)
    with pytest.raises(ValueError, match=rf"Watched .*not finite in loop {loop}"):
        LoopedClassifier(Watched(), n_loops=2, tol=0.0).fit(X, y)


def test_result(gmm):
    X, y, _ = gmm
    result = LoopedClassifier(GaussianNB(), tol=0.0).fit(X, y).loop_result_
    check_result(result)
    assert result.label_changes[0] == 0
    assert result.to_frame()["kept"].sum() == 1
    assert (result.entropy >= 0).all()


def test_loops_are_printed(gmm, capsys):
    X, y, _ = gmm
    LoopedClassifier(GaussianNB(), n_loops=2, tol=0.0, verbose=1).fit(X, y)
    assert capsys.readouterr().out.count("risk") == 3


def test_refusals(gmm):
    X, y, _ = gmm
    for name, error, options in [
        ("n_loops", ValueError, {"n_loops": -1}),
        ("n_loops", TypeError, {"n_loops": 1.5}),
        ("soft", ValueError, {"soft": "silk"}),
        ("selection", ValueError, {"selection": "best"}),
        ("pool_step", ValueError, {"pool_step": 0}),
        ("damping", ValueError, {"damping": 1.0}),
        ("label_noise", ValueError, {"label_noise": -1.0}),
        ("tol", ValueError, {"tol": -1.0}),
        ("balance", ValueError, {"balance": "even"}),
        ("unlabeled", TypeError, {"unlabeled": [1]}),
        ("unlabeled", ValueError, {"unlabeled": "?"}),
    ]:
        with pytest.raises(error, match=name):
            LoopedClassifier(GaussianNB(), **options).fit(X, y)
    for way, base in (
        ("weight", KNeighborsClassifier()),
        ("regress", GaussianNB()),
        ("soft", GaussianNB()),
        ("hard", Ridge()),
        ("weight", LinearSVC()),
        ("hard", StandardScaler()),
        ("auto", KMeans()),
    ):
        with pytest.raises(TypeError, match=type(base).__name__):
            choose_way(base, way)
    with pytest.raises(TypeError, match="estimator"):
        LoopedClassifier("GaussianNB").fit(X, y)
    with pytest.raises(ValueError, match="class"):
        LoopedClassifier(GaussianNB()).fit(X, np.full(len(y), -1))
    with pytest.raises(ValueError, match="class"):
        LoopedClassifier(GaussianNB(), unlabeled=0).fit(X, np.where(y == 1, 1, 0))
    with pytest.raises(ValueError, match="Unknown label type"):
        LoopedClassifier(GaussianNB()).fit(X, np.linspace(0, 1, len(y)))


@pytest.mark.parametrize("mark", ["zz", -1])
@pytest.mark.parametrize(
    "given",
    [np.array([None, "a", "b"] * 40, dtype=object), pd.Series([np.nan, 0.0, 1.0] * 40)],
    ids=["none", "nan"],
)
def test_missing_labels_under_another_mark_are_named(gmm, given, mark):
    with pytest.raises(ValueError, match=rf"y holds (None|nan) in row 0, but unlabeled='?{mark}"):
        LoopedClassifier(GaussianNB(), unlabeled=mark).fit(gmm[0], given)


@pytest.mark.parametrize("mark", [None, np.nan, pd.NA], ids=str)
@pytest.mark.parametrize(
    "model",
    [LoopedClassifier(GaussianNB()), GMMEMClassifier(covariance="diag"), SemiSupervisedPlugIn()],
    ids=str,
)
def test_labels_that_are_all_missing(gmm, model, mark):
    X = gmm[0]
    for given in ([mark] * len(X), pd.Series([mark] * len(X), dtype="Int64" if mark is pd.NA else None)):
        with pytest.raises(ValueError, match="at least two classes among the labelled rows"):
            clone(model).fit(X, given)
        with pytest.raises(ValueError, match="row 0 has none"):
            MiniPFNClassifier().fit(X, given)


@pytest.mark.parametrize(
    "model", [LoopedClassifier(GaussianNB()), GMMEMClassifier(), SupervisedPlugIn()], ids=str
)
@pytest.mark.parametrize("dtype", [object, "category", "string"])
def test_columns_of_words_are_named(gmm, model, dtype):
    X, y, _ = gmm
    frame = pd.DataFrame(X).add_prefix("x").assign(sex=pd.Series(["F", "M"] * 60, dtype=dtype))
    with pytest.raises(ValueError, match="X must be numeric; column 'sex' holds text"):
        clone(model).fit(frame, y)
