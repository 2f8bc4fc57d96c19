"""Sizes as formulas: equal only where they are equal at every size."""

import sympy
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.kernels.graph.size import Sym, exact_ratio, floor_divide, make_size, product, text

N, M = (Sym(sympy.Symbol(name, integer=True, positive=True), 6) for name in ("n", "m"))


def test_equal_values_are_not_equal_sizes():
    assert N != M
    assert N != 6
    assert N + M == M + N
    assert N * 2 - N == N
    assert (N - N) == 0
    assert isinstance(N - N, int)


@given(a=st.integers(1, 20), b=st.integers(1, 20))
def test_exact_ratio(a, b):
    assert exact_ratio(N * a * b, N * a) == b
    assert exact_ratio(N * a, a) == N
    assert exact_ratio(N, N * (b + 1)) is None
    assert exact_ratio(a * b, b) == a


@given(value=st.integers(1, 60), divisor=st.integers(1, 9), at=st.integers(1, 60))
def test_formulas_compute_what_integers_do(value, divisor, at):
    size = floor_divide(N * value + 1, divisor)
    wanted = (at * value + 1) // divisor
    if isinstance(size, Sym):
        assert eval(text(size), {"n": at}) == wanted
        assert int(size) == (6 * value + 1) // divisor
    else:
        assert size == 6 * value + 1


def test_products_and_constants():
    assert product([]) == 1
    assert product([N, 2, M]) == N * M * 2
    assert make_size(sympy.Integer(4), 4) == 4
    assert eval(text(N * 3 + 1), {"n": 5}) == 16
