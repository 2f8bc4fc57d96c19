"""Certificates, attacks, comparisons, estimators, ask and tell, generated data."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from scipy.sparse import csr_array
from sklearn.exceptions import ConvergenceWarning

from mlpapers.optim import (
    FrankWolfeZO,
    L1Ball,
    LinearFiniteSum,
    RobustClassifierFW,
    RobustRegressorFW,
    SparseLogisticRegressionFW,
    compare_solvers,
    gap_certificate,
    make_outlier_classification,
    make_sparse_logistic,
    minimize_fw_zo,
    universal_attack,
)
from mlpapers.optim.attack import attack_sum
from mlpapers.testing import check_result


@pytest.fixture(scope="module")
def problem():
    A, y, _ = make_outlier_classification(400, 6, random_state=0)
    return LinearFiniteSum(A, y, "huber"), L1Ball(2.0)


@pytest.mark.parametrize("loss", ["logistic", "smooth_hinge"])
def test_labels_that_are_no_signs_are_refused(loss):
    A = np.eye(3)
    with pytest.raises(ValueError, match=r"y must be -1 or 1 for loss=.*; got 0; y in \{0, 1\}"):
        LinearFiniteSum(A, [0, 1, 1], loss)
    with pytest.raises(ValueError, match=r"y must be -1 or 1 for loss=.*; got 2$"):
        LinearFiniteSum(A, [-1, 1, 2], loss)
    assert LinearFiniteSum(A, [-1, 1, 1], loss).mean(np.zeros(3)) > 0.0
    assert LinearFiniteSum(A, [0, 1, 2], "squared").mean(np.zeros(3)) == pytest.approx(2.5 / 3.0)


def true_gap(total, C, x):
    g = total.gradient(x)
    return float(g @ (x - C.lmo(g)))


def test_full_certificates_hold_the_gap(problem):
    total, C = problem
    x = np.full(6, 0.2)
    # Rows have norm 1 and the loss curvature 1: partial derivatives are 1-Lipschitz.
    certificate = gap_certificate(total, x, C, lipschitz=1.0)
    assert certificate.lower <= true_gap(total, C, x) <= certificate.upper
    assert certificate.upper - certificate.lower <= 1e-5
    assert certificate.n_queries == 400 * 7
    assert not certificate.heuristic
    assert gap_certificate(total, x, C).heuristic


def test_sampled_certificates_hold_as_often_as_they_say(problem):
    total, C = problem
    x = np.full(6, 0.2)
    truth = true_gap(total, C, x)
    held, cost = 0, 0
    for seed in range(40):
        certificate = gap_certificate(total, x, C, mode="sampled", n_functions=100, random_state=seed)
        held += certificate.lower <= truth <= certificate.upper
        cost = certificate.n_queries
    # The band bounds the whole error vector and is therefore wider than 95 % of the gap's own error.
    assert held >= 38
    assert cost < 400 * 7


def test_certificates_bound_the_suboptimality(problem):
    total, C = problem
    best = minimize_fw_zo(total, None, C, method="auto", max_queries=400_000, random_state=0).fun
    for seed in range(3):
        x = C.sample(seed, 6)
        assert total.mean(x) - best <= gap_certificate(total, x, C, lipschitz=1.0).upper


def test_certificates_refuse_what_they_cannot_do(problem):
    total, C = problem
    with pytest.raises(ValueError, match="mode"):
        gap_certificate(total, np.zeros(6), C, mode="no")
    with pytest.raises(ValueError, match="feasible"):
        gap_certificate(total, np.full(6, 9.0), C)
    with pytest.raises(ValueError, match="coordinates"):
        gap_certificate(total, np.zeros(5), C)
    with pytest.raises(TypeError, match="constraint must be"):
        gap_certificate(total, np.zeros(6), None)
    with pytest.raises(ValueError, match="n_functions must be"):
        gap_certificate(total, np.zeros(6), C, mode="sampled", n_functions=0)
    with pytest.raises(ValueError, match="x must be an array"):
        gap_certificate(total, "abc", C)


@pytest.fixture(scope="module")
def victim():
    rng = np.random.default_rng(0)
    centres = 0.5 + 0.25 * rng.choice([-1.0, 1.0], size=(3, 16))
    y = np.arange(120) % 3
    images = np.clip(centres[y] + 0.05 * rng.normal(size=(120, 16)), 0.0, 1.0).reshape(120, 4, 4)

    def logits(batch):
        flat = batch.reshape(len(batch), -1)
        return -8.0 * ((flat[:, None] - centres[None]) ** 2).sum(axis=2)

    return logits, images, y


@pytest.mark.parametrize("space", ["pixel", "tanh"])
@pytest.mark.parametrize("loss", ["margin", "ce", "cw"])
def test_attacks_fool_stay_in_budget_and_in_range(victim, space, loss):
    logits, images, y = victim
    asked = []

    def counted(batch):
        asked.append(len(batch))
        return logits(batch)

    eps = 0.3 if space == "pixel" else 1.0
    result = universal_attack(
        counted, images, y, eps=eps, space=space, loss=loss, max_queries=6000, random_state=0
    )
    assert sum(asked) == result.n_queries + result.n_queries_final
    assert result.n_queries <= 6000
    total, *_ = attack_sum(
        logits, images, y, space=space, clip=(0.0, 1.0), loss=loss, margin=0.0, targeted=None
    )
    assert result.clean_rate == 0.0
    assert result.fun < total.mean(np.zeros(16))
    assert result.fun == pytest.approx(total.mean(result.perturbation.ravel()))
    assert np.abs(result.perturbation).max() <= eps + 1e-12
    assert result.images.min() >= 0.0
    assert result.images.max() <= 1.0
    check_result(result)


@pytest.mark.parametrize(
    ("certificate", "fd"),
    [("estimate", "forward"), ("none", "forward"), ("full", "forward"), ("full", "central")],
)
def test_no_more_images_are_shown_than_allowed(victim, certificate, fd):
    logits, images, y = victim
    shown = []

    def counted(batch):
        shown.append(len(batch))
        return logits(batch)

    limit = 5001
    result = universal_attack(
        counted, images, y, eps=0.3, max_queries=limit, certificate=certificate, fd=fd, random_state=0
    )
    assert sum(shown) == result.n_queries + result.n_queries_final <= limit
    # What is kept back is shown: the method stops because its share is spent, short of one batch.
    assert sum(shown) > 0.9 * limit
    assert (result.fun is None) == (certificate == "none")
    assert (result.gap is None) == (certificate != "full")


def test_a_budget_for_the_report_alone_is_refused(victim):
    logits, images, y = victim
    with pytest.raises(ValueError, match="max_queries"):
        universal_attack(logits, images, y, eps=0.3, max_queries=2 * len(y))


def test_attacks_can_aim_and_use_other_balls(victim):
    logits, images, y = victim
    result = universal_attack(
        logits,
        images[y != 1],
        y[y != 1],
        norm="l2",
        eps=2.0,
        targeted=1,
        max_queries=9000,
        method="auto",
        random_state=0,
    )
    assert result.fooling_rate >= 0.5
    assert np.linalg.norm(result.perturbation) <= 2.0 + 1e-9
    one = universal_attack(logits, images[:1], y[:1], eps=0.5, max_queries=400, random_state=0)
    assert one.fooling_rate == 1.0
    assert one.plot(ax=Figure().subplots(), show="history").has_data()


def test_torch_models_are_attacked_in_their_precision(victim):
    _, images, y = victim
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    result = universal_attack(net, images, y, eps=0.3, max_queries=3000, random_state=0)
    assert result.fun is not None


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"eps": 0.0}, "eps"),
        ({"norm": "l3"}, "norm"),
        ({"space": "no"}, "space"),
        ({"loss": "no"}, "loss"),
        ({"clip": (1.0, 0.0)}, "clip"),
        ({"clip": (0.4, 0.6)}, "clip"),
        ({"max_queries": 3}, "max_queries"),
    ],
)
def test_bad_attacks_are_refused(victim, change, match):
    logits, images, y = victim
    with pytest.raises(ValueError, match=match):
        universal_attack(logits, images, y, **{"eps": 0.1, "max_queries": 1000, **change})
    with pytest.raises(ValueError, match="labels"):
        universal_attack(logits, images, y[:-1], eps=0.1, max_queries=1000)


@pytest.mark.parametrize(
    ("labels", "match"),
    [
        (lambda y: y - 1, "labels must be class numbers .* got -1"),
        (lambda y: y + 0.5, r"labels must be class numbers .* got 0\.5"),
        (lambda y: np.where(y == 1, np.nan, y), "labels must be class numbers .* got nan"),
        (lambda y: y.astype(str), "labels must be class numbers .* dtype <U"),
        (lambda y: y + 1, "labels must be below 3, the number of classes of model; got 3"),
    ],
    ids=["negative", "broken", "nan", "text", "too high"],
)
def test_labels_that_are_no_classes_of_the_model_are_refused(victim, labels, match):
    logits, images, y = victim
    with pytest.raises(ValueError, match=match):
        universal_attack(logits, images, labels(y), eps=0.1, max_queries=1000)


@pytest.mark.parametrize("clip", [None, (0.0, 0.5, 1.0)], ids=["none", "three"])
def test_ranges_that_are_no_pairs_are_refused(victim, clip):
    logits, images, y = victim
    with pytest.raises(ValueError, match="clip must be a pair"):
        universal_attack(logits, images, y, eps=0.1, max_queries=1000, clip=clip)


def test_images_targets_and_models_that_cannot_be_are_refused(victim):
    logits, images, y = victim
    with pytest.raises(ValueError, match="targeted must be below 3"):
        universal_attack(logits, images, y, eps=0.1, max_queries=1000, targeted=3)
    with pytest.raises(ValueError, match="images must be finite"):
        universal_attack(logits, np.where(images > 0.7, np.nan, images), y, eps=0.1, max_queries=1000)
    for model in (lambda x: logits(x)[:, 0], lambda x: logits(x)[:, :1], lambda x: logits(x)[:-1]):
        with pytest.raises(ValueError, match="model must return logits"):
            universal_attack(model, images, np.zeros_like(y), eps=0.1, max_queries=1000)


def test_comparisons_have_one_row_per_run_whatever_the_workers(problem):
    total, C = problem
    methods = {"dvr": {}, "slow": {"method": "fd"}}
    serial = compare_solvers(total, None, C, methods, 8000, [0, 1])
    parallel = compare_solvers(total, None, C, methods, 8000, [0, 1], n_jobs=2)
    np.testing.assert_array_equal(serial.fun, parallel.fun)
    assert serial.method == ("dvr", "dvr", "slow", "slow")
    assert (serial.n_queries <= 8000).all()
    assert serial.medians().index[0] in ("dvr", "slow")
    check_result(serial)
    with pytest.raises(ValueError, match="methods"):
        compare_solvers(total, None, C, [], 100, [0])
    with pytest.raises(ValueError, match="random_states"):
        compare_solvers(total, None, C, ["fd"], 100, [])
    with pytest.raises(TypeError, match="random_states must be a sequence of integers; got 3"):
        compare_solvers(total, None, C, ["fd"], 100, 3)
    with pytest.raises(TypeError, match="methods must be names of methods"):
        compare_solvers(total, None, C, None, 100, [0])


def test_sparse_logistic_regression_is_near_the_convex_optimum():
    import cvxpy as cp

    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 8))
    y = np.where(X @ np.array([2.0, -1.0, 0, 0, 0, 0, 0, 0]) + 0.5 + rng.logistic(size=300) > 0, "b", "a")
    model = SparseLogisticRegressionFW(radius=1.5, random_state=0).fit(X, y)
    w, c = cp.Variable(8), cp.Variable()
    signs = np.where(y == "b", 1.0, -1.0)
    value = cp.sum(cp.logistic(-cp.multiply(signs, X @ w + c))) / 300
    program = cp.Problem(cp.Minimize(value), [cp.norm1(w) <= 1.5])
    program.solve(solver=cp.CLARABEL)
    assert model.result_.fun <= program.value + 1e-4
    assert np.abs(model.coef_).sum() <= 1.5 + 1e-9
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1.0)
    assert model.score(X, y) > 0.8


def test_robust_models_resist_outliers():
    A, y, w = make_outlier_classification(800, 6, random_state=1)
    model = RobustRegressorFW(
        radius=float(np.abs(w).sum()), sigma=1.0, fit_intercept=False, random_state=0
    ).fit(A, y)
    assert np.linalg.norm(model.coef_ - w) <= 0.1 * np.linalg.norm(w)
    least_squares = np.linalg.lstsq(A, y, rcond=None)[0]
    assert np.linalg.norm(model.coef_ - w) < np.linalg.norm(least_squares - w)
    labels = np.where(A @ w > 0, 1, 0)
    assert RobustClassifierFW(radius=5.0, random_state=0).fit(A, labels).score(A, labels) > 0.95


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_wide_balls_do_not_send_the_robust_classifier_to_the_plateau(seed):
    A, _, w = make_outlier_classification(800, 6, random_state=seed)
    labels = np.where(A @ w > 0, 1, 0)
    model = RobustClassifierFW(radius=20.0, random_state=seed).fit(A, labels)
    # On the plateau of the loss, f = 1/2, a coin would do as well.
    assert model.score(A, labels) > 0.95
    assert model.result_.fun < 0.2


@pytest.mark.parametrize("kind", [SparseLogisticRegressionFW, RobustClassifierFW, RobustRegressorFW])
def test_weights_count_like_repeated_rows_in_any_order(kind):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), rng.integers(0, 2, 60)
    weight = rng.integers(0, 3, 60)
    common = {"radius": 1.0, "random_state": 0}
    weighted = kind(**common).fit(X, y, sample_weight=2.0 * weight)
    order = rng.permutation(weight.sum())
    repeated = kind(**common).fit(np.repeat(X, weight, axis=0)[order], np.repeat(y, weight)[order])
    np.testing.assert_array_equal(weighted.coef_, repeated.coef_)
    np.testing.assert_array_equal(weighted.intercept_, repeated.intercept_)


@pytest.mark.parametrize("kind", [SparseLogisticRegressionFW, RobustClassifierFW, RobustRegressorFW])
def test_sparse_rows_are_the_dense_ones(kind):
    rng = np.random.default_rng(0)
    X = np.where(rng.random((60, 4)) < 0.5, rng.normal(size=(60, 4)), 0.0)
    y = (X[:, 0] > 0.0).astype(int)
    dense = kind(random_state=0, max_queries=3000).fit(X, y)
    sparse = kind(random_state=0, max_queries=3000).fit(csr_array(X), y)
    np.testing.assert_array_equal(sparse.coef_, dense.coef_)
    np.testing.assert_allclose(sparse.predict(csr_array(X)), dense.predict(X), atol=1e-12)


@pytest.mark.parametrize("kind", [SparseLogisticRegressionFW, RobustClassifierFW, RobustRegressorFW])
def test_where_zero_is_does_not_matter(kind):
    rng = np.random.default_rng(0)
    # Multiples of 2^-20: shifting them by 1024 is exact, and so are the sums of 128 of them.
    X = np.round(rng.normal(size=(128, 3)) * 2.0**20) / 2.0**20
    y = X @ [1.0, -1.0, 0.5]
    shift = 1024.0
    if kind is not RobustRegressorFW:
        y, shift = np.where(y > 0.0, 1, 0), 0
    y = np.round(y * 2**20) / 2**20
    here = kind(radius=2.0, random_state=0).fit(X, y)
    there = kind(radius=2.0, random_state=0).fit(X + 1024.0, y + shift)
    np.testing.assert_array_equal(there.coef_, here.coef_)
    np.testing.assert_allclose(there.predict(X + 1024.0), here.predict(X) + shift, atol=1e-9)


def test_a_width_far_below_the_residuals_is_said():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = 500.0 + 100.0 * (X @ [1.0, -2.0, 0.5]) + rng.normal(size=200)
    with pytest.warns(ConvergenceWarning, match="raise sigma"):
        RobustRegressorFW(radius=10.0, random_state=0).fit(X, y)
    wide = RobustRegressorFW(radius=400.0, sigma=100.0, random_state=0).fit(X, y)
    assert wide.score(X, y) > 0.99


def test_asking_and_telling_is_the_same_run(problem):
    total, C = problem
    common = {"max_queries": 5000, "random_state": 3}
    direct = minimize_fw_zo(total, None, C, **common)
    run = FrankWolfeZO(C, 400, 6, **common)
    while not run.done:
        X, idx = run.ask()
        run.tell(total.values(X, idx))
    assert run.result.n_queries == direct.n_queries
    # Structured differences round differently from differences of values.
    np.testing.assert_allclose(run.result.x, direct.x, atol=1e-4)
    with pytest.raises(RuntimeError, match="ended"):
        run.ask()


def test_asking_ends_at_the_cap():
    run = FrankWolfeZO(L1Ball(1.0), 50, 2, max_queries=300, random_state=0)
    asked = 0
    while not run.done:
        X, idx = run.ask()
        asked += len(idx)
        run.tell(((X - 0.2) ** 2).sum(axis=1))
    assert asked == run.result.n_queries <= 300
    assert run.result.fun is None


def test_asking_can_be_closed_and_bad_answers_are_refused():
    with FrankWolfeZO(L1Ball(1.0), 3, 2, max_queries=100) as run, pytest.raises(ValueError, match="values"):
        run.tell(np.zeros(999))
    assert run.done
    assert run.result is None
    with pytest.raises(ValueError, match="method"):
        FrankWolfeZO(L1Ball(1.0), 3, 2, max_queries=100, method="no")


def test_generated_problems_are_deterministic_and_shaped():
    A, y, w = make_sparse_logistic(50, 40, random_state=0)
    B, z, _ = make_sparse_logistic(50, 40, random_state=0)
    assert (A != B).nnz == 0
    np.testing.assert_array_equal(y, z)
    assert (np.diff(A.indptr) == 14).all()
    np.testing.assert_allclose(np.sqrt(A.multiply(A).sum(axis=1)), 1.0)
    assert np.count_nonzero(w) == 5
    A, y, w = make_outlier_classification(2000, 20, outliers=0.2, random_state=0)
    far = np.abs(y - A @ w) > 0.5
    # A fifth are outliers, of which |N(0, 5)| exceeds 0.5 in 92 %.
    assert 0.15 <= far.mean() <= 0.22


@pytest.mark.parametrize(
    "make", [make_sparse_logistic, make_outlier_classification], ids=["sparse", "outlier"]
)
def test_truths_of_more_coordinates_than_there_are_are_refused(make):
    assert np.count_nonzero(make(20, 6, k=6, random_state=0)[2]) == 6
    with pytest.raises(ValueError, match="k must be"):
        make(20, 6, k=7)
