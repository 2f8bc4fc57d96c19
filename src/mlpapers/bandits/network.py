"""Network revenue management: prices of N products that use m resources of fixed capacity."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray

from mlpapers.bandits._fluid import FluidSolution, check_bound, solve_linear, solve_nonlinear
from mlpapers.bandits.env import BanditEnv
from mlpapers.bandits.oracle import ComparisonResult, Point, check_gamma, check_point

__all__ = ["FluidSolution", "NetworkRevenueEnv"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class _Network:
    dim: int
    A: Array
    c: Array
    low: Array
    high: Array
    demand: Callable[[Array], Array]
    fluid: FluidSolution
    x_star: Array
    f_star: float
    gamma: tuple[float, float]
    hints: dict[str, float]

    def price(self, x: Array) -> Array:
        """Return the prices of a point of the cube."""
        return self.low + x * (self.high - self.low)

    def rate(self, p: Array) -> Array:
        """Return the mean demand at prices p, never negative."""
        return np.maximum(self.demand(p), 0.0)


class NetworkRevenueEnv(BanditEnv):
    r"""Sell N products out of m resources for T periods; demand is Poisson(lambda(p)).

    The inventory begins at capacity * T; a product is closed as soon as a resource it needs is short.
    Regret is T V minus the realised revenue, with the fluid bound
    :math:`V = \max\{p^\top\lambda(p) : A\lambda(p) \le c, \lambda(p) \ge 0, lo \le p \le hi\}`.
    A comparison estimates the difference of the mean revenues; ``aux`` has the mean consumption at both
    points.

    Parameters
    ----------
    A : array of shape (m, N)
        Units of each resource that a product takes; non-negative.
    capacity : array of shape (m,)
        c, units of each resource per period; positive.
    price_lo, price_hi : array of shape (N,) or float
    a, B : arrays of shape (N,), (N, N)
        Linear demand lambda(p) = a - B p with B + B^T positive definite.
    demand : callable, optional
        Instead of `a`, `B`: maps prices (N,) to mean demand (N,).
    gamma : (float, float), optional
        Constants of the oracle, by default (0, 16 sum p_i^2 lambda_i) at the centre of the box.

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.bandits import NetworkRevenueEnv
    >>> env = NetworkRevenueEnv([[1, 1]], [2.0], price_lo=1.0, price_hi=4.0, a=[4.0, 4.0], B=np.eye(2))
    >>> fluid = env.fluid_benchmark()
    >>> round(fluid.value, 3), fluid.price.round(3).tolist(), fluid.dual.round(3).tolist()
    (6.0, [3.0, 3.0], [2.0])
    """

    _shared = frozenset({"capacity_left"})

    def __init__(
        self,
        A: ArrayLike,
        capacity: ArrayLike,
        price_lo: ArrayLike,
        price_hi: ArrayLike,
        *,
        a: ArrayLike | None = None,
        B: ArrayLike | None = None,
        demand: Callable[[Array], Array] | None = None,
        gamma: tuple[float, float] | None = None,
    ) -> None:
        self.A = A
        self.capacity = capacity
        self.price_lo = price_lo
        self.price_hi = price_hi
        self.a = a
        self.B = B
        self.demand = demand
        self.gamma = gamma

    @classmethod
    def example(cls, n_products: int = 2) -> Self:
        """Return a network of 2 products and 2 resources, or of 4 products and 3 resources."""
        if n_products == 2:
            return cls(
                A=[[1, 1], [0, 1]],
                capacity=[1.8, 1.2],
                price_lo=[0.5, 0.5],
                price_hi=[4.0, 4.0],
                a=[4.0, 5.0],
                B=[[1.2, -0.2], [-0.3, 1.5]],
            )
        if n_products == 4:
            return cls(
                A=[[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]],
                capacity=[7.6, 8.2, 9.2],
                price_lo=[0.5] * 4,
                price_hi=[4.5] * 4,
                a=[7.3, 8.0, 7.5, 8.2],
                B=(np.diag([1.2, 1.35, 1.1, 1.2]) - 0.1).tolist(),
            )
        raise ValueError(f"n_products must be 2 or 4; got {n_products!r}")

    @classmethod
    def __mlpapers_example__(cls) -> dict[str, Any]:
        return {
            "params": cls.example(2).get_params(deep=False),
            "method": "reset",
            "arguments": {"horizon": 100},
        }

    @property
    def dim(self) -> int:
        """Number of products."""
        return int(self.model.dim)

    @property
    def x_star(self) -> Point:
        """The fluid solution's point of the cube, shape (N,); for evaluation only."""
        return self.maximiser

    @property
    def capacity_left(self) -> Array:
        """Units of each resource that are left, shape (m,)."""
        self._require_reset()
        return np.array(self._inventory)

    def fluid_benchmark(self) -> FluidSolution:
        """Return the fluid bound V with its prices, consumption and dual prices."""
        fluid: FluidSolution = self.model.fluid
        return fluid

    def value(self, x: ArrayLike) -> Any:
        """Return the mean revenue per period at x, capacity aside: float for (N,), (m,) for (m, N)."""
        points = np.asarray(x, dtype=np.float64)
        if points.ndim == 2:
            return np.array([self.value(row) for row in points])
        p = self.model.price(check_point("x", x, self.model.dim))
        return float(p @ self.model.rate(p))

    def _build(self) -> _Network:
        A = _matrix("A", self.A, None)
        if (A < 0.0).any():
            raise ValueError(f"A must be non-negative; got {A.min()}")
        m, N = A.shape
        c = _vector("capacity", self.capacity, m)
        if not (c > 0.0).all():
            raise ValueError(f"capacity must be positive; got {c.tolist()}")
        low, high = _vector("price_lo", self.price_lo, N), _vector("price_hi", self.price_hi, N)
        if not (low >= 0.0).all():
            raise ValueError(f"price_lo must be non-negative; got {low.tolist()}")
        if not (low < high).all():
            raise ValueError(f"price_lo must be below price_hi; got {low.tolist()}, {high.tolist()}")
        hints: dict[str, float] = {}
        if self.demand is None:
            if self.a is None or self.B is None:
                raise ValueError("a and B of a linear demand must be given, or demand; got neither")
            a, B = _vector("a", self.a, N), _matrix("B", self.B, (N, N))
            curvature = np.linalg.eigvalsh((B + B.T) * np.outer(high - low, high - low))
            if curvature[0] <= 0.0:
                raise ValueError("B must have a positive definite symmetric part B + B^T")
            hints = {"sigma": float(curvature[0]), "smoothness": float(curvature[-1])}
            demand: Callable[[Array], Array] = _Linear(a, B)
            fluid = solve_linear(A, c, low, high, a, B)
            lowest = a - np.maximum(B * low, B * high).sum(axis=1)
            exact = bool((lowest >= 0.0).all() or np.count_nonzero(B - np.diag(np.diag(B))) == 0)
        else:
            if self.a is not None or self.B is not None:
                raise ValueError("demand must be given instead of a and B, not beside them")
            demand = _positive_demand(self.demand, N)
            fluid, exact = solve_nonlinear(A, c, low, high, demand), False
        if not exact:
            check_bound(fluid, A, c, low, high, demand)
        centre = 0.5 * (low + high)
        if self.gamma is None:
            gamma = (0.0, 16.0 * float(centre**2 @ np.maximum(demand(centre), 0.0)))
        else:
            gamma = check_gamma(self.gamma)
        x_star = ((fluid.price - low) / (high - low)).clip(0.0, 1.0)
        return _Network(N, A, c, low, high, demand, fluid, x_star, fluid.value, gamma, hints)

    def _start(self) -> None:
        self._inventory = self._state.c * float(self._horizon)

    def _query(self, x: Point, x_prime: Point, n: int) -> ComparisonResult:
        n_x, n_xp = n - n // 2, n // 2
        first, use = self._sell(x, n_x)
        second, use_prime = self._sell(x_prime, n_xp)
        gamma1, gamma2 = self._gamma
        return ComparisonResult(first - second, n, n_x, n_xp, gamma1, gamma2, (use, use_prime))

    def _play(self, x: Point, n: int) -> float:
        return self._sell(x, n)[0]

    def _sell(self, x: Point, n: int) -> tuple[float, Array]:
        """Play n periods at x; return the mean revenue and the mean consumption."""
        network: _Network = self._state
        p = network.price(x)
        sold = sell_batch(network.rate(p), n, network.A, self._inventory, self._rng)
        revenue = float(p @ sold)
        self._advance(n, n * network.f_star - revenue)
        return revenue / n, network.A @ sold / n


def sell_batch(rate: Array, n: int, A: Array, inventory: Array, rng: np.random.Generator) -> Array:
    """Sell n periods of Poisson demand out of `inventory` (changed in place); return units sold, shape (N,).

    Exact, with O(log n) draws: the total of the batch is split in halves (binomially, which is what Poisson
    totals do) only where it runs into a capacity; a single period is sold unit by unit in random order.
    """
    demand = rng.poisson(rate * n).astype(np.int64)
    return _sell_total(demand, n, A, inventory, rng)


@njit(cache=True)
def _sell_total(demand, n, A, inventory, rng):  # type: ignore[no-untyped-def]
    m, N = A.shape
    sold = np.zeros(N)
    # Batches still to be sold, earliest last; halving bounds their number by log2 n + 2.
    depth = 1
    totals, lengths = np.zeros((80, N), dtype=np.int64), np.zeros(80, dtype=np.int64)
    totals[0], lengths[0] = demand, n
    while depth > 0:
        depth -= 1
        K, length = totals[depth].copy(), lengths[depth]
        # A product that is short once stays closed: inventories never grow.
        for i in range(N):
            for j in range(m):
                if A[j, i] > 0.0 and inventory[j] < A[j, i]:
                    K[i] = 0
        fits = True
        for j in range(m):
            use = 0.0
            for i in range(N):
                use += A[j, i] * K[i]
            if use > inventory[j]:
                fits = False
        if fits:
            for i in range(N):
                sold[i] += K[i]
                for j in range(m):
                    inventory[j] -= A[j, i] * K[i]
        elif length == 1:
            left = K.sum()
            while left > 0:
                pick = rng.integers(0, left)
                i = 0
                while pick >= K[i]:
                    pick -= K[i]
                    i += 1
                K[i] -= 1
                left -= 1
                enough = True
                for j in range(m):
                    if inventory[j] < A[j, i]:
                        enough = False
                if enough:
                    sold[i] += 1.0
                    for j in range(m):
                        inventory[j] -= A[j, i]
        else:
            half = length // 2
            for i in range(N):
                early = rng.binomial(K[i], half / length) if K[i] > 0 else 0
                totals[depth + 1, i] = early
                totals[depth, i] = K[i] - early
            lengths[depth + 1], lengths[depth] = half, length - half
            depth += 2
    return sold


@dataclass(frozen=True, eq=False)
class _Linear:
    a: Array
    B: Array

    def __call__(self, p: Array) -> Array:
        return self.a - self.B @ p


def _positive_demand(demand: Any, N: int) -> Callable[[Array], Array]:
    if not callable(demand):
        raise TypeError(f"demand must be callable: prices ({N},) -> mean demand ({N},); got {demand!r}")

    def checked(p: Array) -> Array:
        rate = np.asarray(demand(p), dtype=np.float64)
        if rate.shape != (N,) or not np.isfinite(rate).all():
            raise ValueError(f"demand must return {N} finite numbers; got {rate!r}")
        return rate

    return checked


def _vector(name: str, value: Any, size: int) -> Array:
    try:
        given = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be {size} numbers; got {value!r}") from error
    if given.shape not in ((), (size,)):
        raise ValueError(f"{name} must be {size} numbers; got {value!r}")
    vector = np.broadcast_to(given, (size,)).copy()
    if not np.isfinite(vector).all():
        raise ValueError(f"{name} must be finite; got {value!r}")
    return vector


def _matrix(name: str, value: Any, shape: tuple[int, int] | None) -> Array:
    try:
        matrix = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a matrix of numbers; got {value!r}") from error
    if matrix.ndim != 2 or (shape is not None and matrix.shape != shape) or not np.isfinite(matrix).all():
        raise ValueError(
            f"{name} must be a finite matrix{f' of shape {shape}' if shape else ''}; got {value!r}"
        )
    return matrix
