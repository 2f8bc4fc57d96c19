"""Network revenue management: the fluid bound, and selling out exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.bandits import NetworkRevenueEnv
from mlpapers.bandits.network import sell_batch


def test_fluid_bound_of_two_products_against_a_price_grid():
    env = NetworkRevenueEnv.example(2)
    fluid = env.fluid_benchmark()
    assert fluid.value == pytest.approx(5.890935, abs=1e-6)
    np.testing.assert_allclose(fluid.price, [3.26933, 3.27508], atol=1e-5)
    np.testing.assert_allclose(fluid.dual, [2.4543, 0.0], atol=1e-4)
    p1, p2 = np.meshgrid(np.linspace(0.5, 4.0, 1201), np.linspace(0.5, 4.0, 1201), indexing="ij")
    lam1, lam2 = 4.0 - 1.2 * p1 + 0.2 * p2, 5.0 + 0.3 * p1 - 1.5 * p2
    feasible = (lam1 >= 0) & (lam2 >= 0) & (lam1 + lam2 <= 1.8) & (lam2 <= 1.2)
    best = np.where(feasible, p1 * lam1 + p2 * lam2, -np.inf).max()
    assert best <= fluid.value <= best + 0.02
    assert env.hints["sigma"] == pytest.approx(25.93, abs=0.01)
    assert env.hints["smoothness"] == pytest.approx(40.22, abs=0.01)


def test_fluid_bound_of_four_products_holds_three_prices_at_their_bound():
    fluid = NetworkRevenueEnv.example(4).fluid_benchmark()
    assert fluid.value == pytest.approx(73.7325, abs=1e-4)
    np.testing.assert_allclose(fluid.price, [4.5, 4.3913, 4.5, 4.5], atol=1e-4)
    np.testing.assert_allclose(fluid.dual, [0.0, 0.242, 0.0], atol=1e-3)


def test_a_callable_demand_gives_the_bound_of_the_same_linear_one():
    linear = NetworkRevenueEnv.example(2)
    a, B = np.array(linear.a), np.array(linear.B)
    general = NetworkRevenueEnv(
        linear.A, linear.capacity, linear.price_lo, linear.price_hi, demand=lambda p: a - B @ p
    )
    exact, found = linear.fluid_benchmark(), general.fluid_benchmark()
    assert found.value == pytest.approx(exact.value, abs=1e-6)
    np.testing.assert_allclose(found.price, exact.price, atol=1e-4)
    np.testing.assert_allclose(found.dual, exact.dual, atol=1e-3)


def test_clipped_demand_that_beats_the_bound_is_refused():
    # Pricing product 1 out of its market would double the demand for product 2 beyond what the fluid knows.
    with pytest.raises(ValueError, match="more than the fluid bound"):
        NetworkRevenueEnv([[1.0, 1.0]], [50.0], 0.0, 6.0, a=[2.0, 2.0], B=[[1.0, 0.0], [-0.9, 1.0]]).reset(10)


def sell_period_by_period(rate, n, A, inventory, rng):
    """The definition: Poisson demand every period, sold unit by unit in random order."""
    sold = np.zeros(rate.size)
    for _ in range(n):
        units = np.repeat(np.arange(rate.size), rng.poisson(rate))
        for i in rng.permutation(units):
            if (inventory >= A[:, i]).all():
                inventory -= A[:, i]
                sold[i] += 1
    return sold


@pytest.mark.parametrize("capacity", [[30.0, 12.0], [8.0, 40.0], [500.0, 500.0]])
def test_batches_sell_what_single_periods_sell(capacity):
    A, rate, p = np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([0.9, 0.5]), np.array([2.0, 5.0])
    rng, R, n = np.random.default_rng(1), 3000, 20
    fast = np.array([sell_batch(rate, n, A, np.array(capacity), rng) for _ in range(R)])
    slow = np.array([sell_period_by_period(rate, n, A, np.array(capacity), rng) for _ in range(R)])
    for values, reference in ((fast, slow), (fast @ p, slow @ p), (fast**2, slow**2)):
        error = np.sqrt((np.var(values, axis=0) + np.var(reference, axis=0)) / R)
        assert (np.abs(values.mean(axis=0) - reference.mean(axis=0)) <= 4.5 * error + 1e-12).all()


@given(st.integers(1, 5000), st.floats(1, 400), st.floats(1, 400), st.integers(0, 100))
def test_what_is_sold_and_what_is_left_add_up(n, first, second, seed):
    A, start = np.array([[1.0, 1.0, 0.0], [0.0, 2.0, 1.0]]), np.array([first, second])
    inventory = start.copy()
    sold = sell_batch(np.array([0.3, 0.2, 0.6]), n, A, inventory, np.random.default_rng(seed))
    np.testing.assert_allclose(A @ sold + inventory, start, rtol=1e-12)
    assert (inventory >= 0.0).all()
    assert (sold >= 0.0).all()


def test_answers_have_revenue_difference_and_consumption():
    env = NetworkRevenueEnv.example(2).reset(10**6, 0)
    answer = env.compare([0.9, 0.8], [0.7, 0.9], 10**5)
    difference = env.value([0.9, 0.8]) - env.value([0.7, 0.9])
    assert answer.diff == pytest.approx(difference, abs=4 * np.sqrt(4 * 25.0 / 10**5))
    spent = 50_000 * (answer.aux[0] + answer.aux[1])
    np.testing.assert_allclose(env.capacity_left, np.array([1.8, 1.2]) * 10**6 - spent, rtol=1e-9)


def test_capacity_that_never_binds_leaves_demand_alone():
    env = NetworkRevenueEnv([[1.0]], [100.0], 0.0, 2.0, a=[2.0], B=[[1.0]])
    assert env.f_star == pytest.approx(1.0, abs=1e-7)
    assert env.x_star == pytest.approx([0.5], abs=1e-4)
    env.reset(10_000, 0).play([0.5], 10_000)
    assert abs(env.regret_) <= 4 * np.sqrt(10_000)


def test_no_demand_earns_nothing():
    env = NetworkRevenueEnv([[1.0]], [1.0], 1.0, 2.0, a=[1.0], B=[[1.0]]).reset(100, 0)
    assert env.play([0.0], 100) == 0.0


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"A": [[1, -1], [0, 1]]}, "A must be non-negative"),
        ({"A": [1, 2]}, "A must be a finite matrix"),
        ({"capacity": [0.0, 1.0]}, "capacity must be positive"),
        ({"capacity": [1.0, 1.0, 1.0]}, "capacity must be 2 numbers"),
        ({"capacity": [1.0]}, "capacity must be 2 numbers"),
        ({"price_lo": 4.0}, "price_lo must be below"),
        ({"price_lo": -1.0}, "price_lo must be non-negative"),
        ({"a": None}, "a and B of a linear demand must be given"),
        ({"B": [[1.0, 3.0], [3.0, 1.0]]}, "positive definite"),
        ({"demand": abs}, "demand must be given instead"),
        ({"capacity": [1e-3, 1e-3], "price_hi": 1.0}, "admit no prices"),
    ],
)
def test_impossible_parameters_are_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        NetworkRevenueEnv.example(2).set_params(**changes).reset(10)


def test_only_two_examples_exist():
    with pytest.raises(ValueError, match="n_products"):
        NetworkRevenueEnv.example(3)
