"""Entries and mixtures of columns, dense and sparse."""

import numpy as np
import pytest
import scipy.sparse

from mlpapers.optim._columns import entries_of, few, product


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_entries_and_mixtures(sparse, density):
    rng = np.random.default_rng(0)
    A = rng.normal(size=(17, 9)) * (rng.random((17, 9)) < density)
    idx, k = rng.integers(0, 17, 200), rng.integers(0, 9, 200)
    rows = scipy.sparse.csr_array(A) if sparse else A
    columns = scipy.sparse.csc_array(A) if sparse else np.ascontiguousarray(A.T)
    # In order, a row is asked many times in succession.
    for some in (idx, np.sort(idx)):
        np.testing.assert_array_equal(entries_of(rows, some, k), A[some, k])
    some, weights = np.array([8, 0, 3]), np.array([2.0, -1.0, 0.5])
    np.testing.assert_allclose(product(columns, some, weights), A[:, some] @ weights, atol=1e-14)
    assert not product(columns, some[:0], weights[:0]).any()


def test_few_are_at_most_a_quarter():
    x = np.zeros(8)
    x[[1, 6]] = -1.0, 2.0
    assert few(x).tolist() == [1, 6]
    x[3] = 1.0
    assert few(x) is None
