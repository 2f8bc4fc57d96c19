"""The exact solver beside HiGHS and cvxpy, and the classifier beside fairlearn's reduction, on Adult.

``python benchmarks/fairness.py --peers`` prints ratios; ``pytest benchmarks/fairness.py`` times ours alone.
Peers: ``make peers``; Adult is in the wheel of requirements-data.txt.
"""

from __future__ import annotations

import copy
import functools
import importlib.util
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from mlpapers.datasets import load_adult
from mlpapers.fairness import (
    BayesFairClassifier,
    linear_constraints,
    make_gaussian_groups,
    make_groups,
    pareto_front,
    solve_fair_lp,
)
from mlpapers.fairness.claims._peers import linear_post

sys.path.insert(0, str(Path(__file__).parent))
from _harness import Case, PeerMissing, main, one_thread, peak_memory, timed
from _rows import Row

TOLERANCES = np.concatenate([[0.0], np.geomspace(0.002, 0.14, 14)])


@functools.cache
def program(n: int, constraint: str, reference: str = "overall", n_groups: int = 4) -> tuple[Any, Any]:
    """The linear program of the Gaussian problem."""
    X, _, _, truth = make_gaussian_groups(n, n_groups=n_groups, random_state=0)
    joint = truth.joint(X)
    rows = linear_constraints(
        joint, np.eye(n_groups), constraint=constraint, tolerance=0.05, reference=reference
    )
    return joint[:, :, 1].sum(axis=1) - 0.5, rows


def solve(
    n: int, constraint: str, reference: str = "overall", method: str = "auto", n_groups: int = 4
) -> float:
    score, rows = program(n, constraint, reference, n_groups)
    return solve_fair_lp(score, rows.A, rows.b, rows.C, method=method).primal


def products(n: int, constraint: str, reference: str) -> Callable[[], None]:
    """Forty passes B.T @ (B * d): what forty iterations cannot do without."""
    _, rows = program(n, constraint, reference)
    weights = np.random.default_rng(0).random((n, 1))

    def run() -> None:
        for _ in range(40):
            rows.A.T @ (rows.A * weights)

    return run


def with_cvxpy(n: int, constraint: str) -> Callable[[], float]:
    import cvxpy as cp

    score, rows = program(n, constraint)

    def run() -> float:
        f = cp.Variable(n, bounds=[0.0, 1.0])
        problem = cp.Problem(cp.Maximize(score @ f / n), [rows.A.T @ f / n <= rows.b])
        problem.solve(solver=cp.CLARABEL)
        return float(problem.value)

    return run


def with_linear_post(n: int) -> Callable[[], float]:
    """LinearPost's program for demographic parity, in cvxpy with HiGHS."""
    score, rows = program(n, "demographic_parity", "pairwise")
    rates = rows.A[:, (rows.labels["side"] == "second").to_numpy()]
    weights = np.full(n, 1.0 / n)
    return lambda: linear_post(score, rates, np.zeros(rates.shape[1]), 0.05, weights)[0]


@functools.cache
def adult() -> tuple[Any, ...]:
    """A half of Adult, standardised, with the cells of sex and race."""
    bunch = load_adult()
    rows = np.random.default_rng(0).permutation(len(bunch.target))[: len(bunch.target) // 2]
    encoding = make_groups(bunch.sensitive_features)
    cells = np.array(encoding.cell_names, dtype=object)[encoding.codes[rows]]
    return StandardScaler().fit_transform(bunch.data[rows]), bunch.target[rows], cells


def classifier(posteriors: str) -> BayesFairClassifier:
    """ "direct" is the default; "cheap" a logistic regression of the label and a discriminant of the cell."""
    options: dict[str, Any] = {}
    if posteriors == "cheap":
        options = {"joint": "factorized", "group_estimator": LinearDiscriminantAnalysis(solver="lsqr")}
    elif posteriors == "aware":
        options = {"attribute_aware": True}
    return BayesFairClassifier(LogisticRegression(max_iter=200), random_state=0, **options)


def quietly(function: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return function()


def fit(posteriors: str) -> None:
    X, y, cells = adult()
    quietly(lambda: classifier(posteriors).fit(X, y, sensitive_features=cells))


def front(posteriors: str) -> None:
    X, y, cells = adult()
    quietly(
        lambda: pareto_front(classifier(posteriors), X, y, sensitive_features=cells, tolerances=TOLERANCES)
    )


@functools.cache
def fitted() -> tuple[BayesFairClassifier, Any]:
    """A fitted classifier, and tolerances without end."""
    X, y, cells = adult()
    model = quietly(lambda: classifier("cheap").fit(X, y, sensitive_features=cells))
    return model, itertools.cycle([0.02, 0.03, 0.04, 0.06, 0.08])


def further_tolerance() -> None:
    model, tolerances = fitted()
    copy.copy(model).resolve(tolerance=next(tolerances))


def exponentiated_gradient(times: int = 1) -> Callable[[], None]:
    """fairlearn's reduction with the same base learner; `times` fits."""
    if importlib.util.find_spec("fairlearn") is None:
        raise PeerMissing("fairlearn is not installed")
    from fairlearn.reductions import DemographicParity, ExponentiatedGradient

    X, y, cells = adult()

    def run() -> None:
        for tolerance in [0.05] if times == 1 else TOLERANCES[:times]:
            reduction = ExponentiatedGradient(
                LogisticRegression(max_iter=200),
                DemographicParity(difference_bound=tolerance),
                eps=max(tolerance, 1e-3),
            )
            quietly(lambda reduction=reduction: reduction.fit(X, y, sensitive_features=cells))

    return run


def against_general_solvers(
    constraint: str, n: int, n_cvxpy: int, repeats: int
) -> tuple[Callable[[], Case], ...]:
    def highs() -> Case:
        return Case(
            f"{constraint} n={n}",
            partial(solve, n, constraint),
            {"scipy HiGHS": lambda: partial(solve, n, constraint, method="highs")},
            {"scipy HiGHS": 4.0},
            {"scipy HiGHS": 1e-8},
            repeats,
        )

    def cvxpy() -> Case:
        return Case(
            f"{constraint} n={n_cvxpy}",
            partial(solve, n_cvxpy, constraint),
            {"cvxpy": partial(with_cvxpy, n_cvxpy, constraint)},
            {"cvxpy": 5.0},
            {"cvxpy": 2e-7},
            repeats,
        )

    def floor(reference: str) -> Case:
        name = "40 products"
        return Case(
            f"{constraint} {reference} n=50000",
            partial(solve, 50_000, constraint, reference),
            {name: partial(products, 50_000, constraint, reference)},
            {name: 1.0},
            repeats=3 * repeats,
        )

    return highs, cvxpy, partial(floor, "overall"), partial(floor, "pairwise")


def against_linear_post(n: int) -> Case:
    name = "LinearPost"
    return Case(
        f"demographic_parity pairwise n={n}",
        partial(solve, n, "demographic_parity", "pairwise"),
        {name: partial(with_linear_post, n)},
        {name: 3.0},
        {name: 1e-8},
        repeats=3,
    )


def against_reduction(posteriors: str, repeats: int) -> Case:
    name = "fairlearn EG"
    return Case(
        f"Adult, one tolerance, {posteriors}",
        partial(fit, posteriors),
        {name: exponentiated_gradient},
        {name: 1.0},
        repeats=repeats,
    )


def frontier_against_reduction(posteriors: str) -> Case:
    name = "fairlearn EG, 15 fits"
    return Case(
        f"Adult, 15 tolerances, {posteriors}",
        partial(front, posteriors),
        {name: partial(exponentiated_gradient, 15)},
        {name: 4.0},
        repeats=1,
    )


def tolerance_against_reduction() -> Case:
    name = "fairlearn EG"
    return Case(
        "Adult, a further tolerance",
        further_tolerance,
        {name: exponentiated_gradient},
        {name: 30.0},
        repeats=3,
    )


def frontier_against_one_solve() -> Case:
    """Fifteen tolerances of a fitted classifier, and what one of them takes without the others."""
    name = "one, cold"

    def all_of_them() -> None:
        model, _ = fitted()
        for tolerance in TOLERANCES:
            model = copy.copy(model).resolve(tolerance=float(tolerance))

    def cold() -> Callable[[], None]:
        model, _ = fitted()
        X, _, _ = adult()
        joint = model.oof_joint_

        def run() -> None:
            rows = linear_constraints(joint, np.eye(joint.shape[1]), tolerance=0.05)
            solve_fair_lp(joint[:, :, 1].sum(axis=1) - 0.5, rows.A, rows.b, rows.C)
            model.selection_proba(X)

        return run

    return Case("Adult, 15 tolerances, fitted", all_of_them, {name: cold}, {name: 1 / 3}, repeats=5)


def growth(small: int, large: int) -> Case:
    """The large problem against so many small ones as a growth of n to the power 1.1 allows."""
    times = round((large / small) ** 1.1)
    name = f"{times} x n={small}"

    def many() -> Callable[[], None]:
        program(small, "demographic_parity")

        def run() -> None:
            for _ in range(times):
                solve(small, "demographic_parity")

        return run

    return Case(
        f"demographic_parity n={large}",
        partial(solve, large, "demographic_parity"),
        {name: many},
        {name: 1.0},
        repeats=3,
    )


def peak_of_eight_groups(_: bool) -> Iterator[Row]:
    """Memory of a large problem, above that of the process before; it must run first."""
    n = 1_000_000
    program(n, "demographic_parity", n_groups=8)
    before = peak_memory()
    with one_thread():
        seconds, _ = timed(partial(solve, n, "demographic_parity", n_groups=8))
    what = f"demographic_parity 8 groups n={n}"
    yield Row(what=what, ours=seconds, turns=1, note="first call of the process")
    yield Row(
        what=what, unit="MiB", ours=peak_memory() - before, note=f"above {before:.0f} MiB with the problem"
    )
    program.cache_clear()


CASES: tuple[Callable[[], Case], ...] = (
    *itertools.chain.from_iterable(
        against_general_solvers(constraint, 45_000, 11_787, 3)
        for constraint in (
            "demographic_parity",
            "equal_opportunity",
            "predictive_equality",
            "accuracy_parity",
            "equalized_odds",
        )
    ),
    partial(against_linear_post, 24_421),
    partial(growth, 20_000, 1_000_000),
    tolerance_against_reduction,
    partial(against_reduction, "direct", 3),
    partial(against_reduction, "cheap", 3),
    partial(against_reduction, "aware", 3),
    frontier_against_one_solve,
    partial(frontier_against_reduction, "direct"),
    partial(frontier_against_reduction, "cheap"),
    partial(frontier_against_reduction, "aware"),
)


@pytest.mark.parametrize("constraint", ["demographic_parity", "equalized_odds"])
@pytest.mark.parametrize("n", [45_000, 1_000_000])
def test_solver(benchmark: Any, n: int, constraint: str) -> None:
    program(n, constraint)
    with one_thread():
        value = benchmark(solve, n, constraint)
    assert np.isfinite(value)


if __name__ == "__main__":
    sys.exit(main(CASES, figures=[peak_of_eight_groups]))
