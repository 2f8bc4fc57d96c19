"""Checkpoints: the run of another problem is refused, by the name of what differs."""

import numpy as np
import pytest
import scipy.sparse

from mlpapers.optim import Box, FiniteSum, L1Ball, L2Ball, LinearFiniteSum, Product, minimize_fw_zo

A = np.random.default_rng(0).normal(size=(30, 5))
B = A[:, 0] + 0.1


def squared(X, idx):
    return 0.5 * (np.einsum("md,md->m", A[idx], X) - B[idx]) ** 2


def absolute(X, idx):
    return np.abs(np.einsum("md,md->m", A[idx], X) - B[idx] - 1.0)


PROBLEM = {"fun": FiniteSum(squared, 30, 5), "x0": np.zeros(5), "constraint": L1Ball(2.0), "random_state": 0}


def run(**change):
    given = {**PROBLEM, "certificate": "none", **change}
    return minimize_fw_zo(given.pop("fun"), given.pop("x0"), given.pop("constraint"), **given)


@pytest.fixture
def checkpoint(tmp_path):
    run(max_queries=1500, checkpoint=tmp_path / "state")
    return tmp_path / "state"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            {"constraint": L1Ball(0.5)},
            r"another constraint: L1Ball\(radius=2.0\), and here L1Ball\(radius=0.5\)",
        ),
        ({"constraint": L2Ball(2.0)}, "another constraint"),
        ({"x0": np.full(5, 0.1)}, "another x0"),
        ({"fun": FiniteSum(absolute, 30, 5)}, "objective fun; function"),
        ({"fun": LinearFiniteSum(A, B, "squared")}, "another fun: FiniteSum"),
        ({"fun": FiniteSum(squared, 29, 5)}, "another fun"),
        ({"m0": 3}, "another m0: 16, and here 3"),
        ({"method": "fd"}, "another method: 'dvr'"),
        ({"mu": 1e-3}, "another mu"),
        ({"fd": "central"}, "another fd"),
        ({"query_domain": "feasible"}, "another query_domain"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_checkpoints_of_another_run_are_refused_by_name(checkpoint, change, match):
    with pytest.raises(ValueError, match="resume must be a checkpoint of the same.*" + match):
        run(max_queries=3000, resume=checkpoint, **change)


@pytest.mark.parametrize("sparse", [False, True])
def test_the_data_of_linear_sums_are_known_again(tmp_path, sparse):
    def total(A):
        return LinearFiniteSum(scipy.sparse.csr_matrix(A) if sparse else A, B, "squared")

    other = A.copy()
    other[17, 3] += 1e-9
    run(fun=total(A), max_queries=1500, checkpoint=tmp_path / "state")
    with pytest.raises(ValueError, match="another fun: LinearFiniteSum"):
        run(fun=total(other), max_queries=3000, resume=tmp_path / "state")
    again = run(fun=total(A), max_queries=3000, resume=tmp_path / "state")
    np.testing.assert_array_equal(again.x, run(fun=total(A), max_queries=3000).x)


def test_the_sets_inside_a_set_are_compared(tmp_path):
    def both(upper):
        return Product([L1Ball(1.0), Box(np.zeros(3), upper)], [2, 3])

    x0, path = np.zeros(5), tmp_path / "state"
    run(x0=x0, constraint=both(np.ones(3)), max_queries=1500, checkpoint=path)
    with pytest.raises(ValueError, match="another constraint: Product"):
        run(x0=x0, constraint=both(np.array([1.0, 1.0, 2.0])), max_queries=3000, resume=path)
    run(x0=x0, constraint=both(np.ones(3)), max_queries=3000, resume=path)


def test_the_value_that_is_asked_again_is_counted_apart(checkpoint):
    rows = []

    def counted(X, idx):
        rows.append(len(idx))
        return squared(X, idx)

    spent = run(max_queries=1500).n_queries
    resumed = run(fun=FiniteSum(counted, 30, 5), max_queries=3000, resume=checkpoint)
    assert resumed.n_queries_final == 1
    # The checkpoint is from before the last steps, so no fewer than the rest is asked.
    assert 3000 >= sum(rows) - 1 >= resumed.n_queries - spent
    np.testing.assert_array_equal(resumed.x, run(max_queries=3000).x)
