"""Optimisation of strongly concave functions by proximal gradient steps with inexact gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mlpapers.bandits._curvature import Curvature, three_points
from mlpapers.bandits.oracle import ComparisonResult, Point
from mlpapers.bandits.penalty import EstimatedKnapsack, LinearKnapsack, knapsack_prox
from mlpapers.bandits.policy import BanditPolicy, PolicyMismatchError, Session, start_point
from mlpapers.core.validation import check_bool, check_int, check_real

__all__ = ["InexactProximalGradient", "check_sigma"]

Array = NDArray[np.float64]

# Step of the queries that re-check a gradient which points out of the cube.
_SCREEN_STEP = 0.2
_ON_BOUND = 1e-9
# A noiseless oracle would ask for h = 0; this is where rounding of f begins to matter.
_SMALLEST_STEP = 1e-6


class InexactProximalGradient(BanditPolicy):
    r"""Proximal gradient ascent with finite differences from long comparisons.

    .. math:: g_i = \frac{y(x + h e_i,\, x - h e_i,\, n)}{2h}, \qquad
              h = \min\bigl(h_{max},\ c_h \sqrt2\, (\gamma/n)^{1/4} / \sqrt M\bigr), \qquad
              x \leftarrow \mathrm{prox}_{\psi/M}(x + g/M)

    with :math:`\gamma = (\gamma_1+\gamma_2)/4`. The step h balances curvature against the oracle's error; n
    doubles from epoch to epoch, and the regret is of order :math:`d^{3/2} \sqrt T`.

    Parameters
    ----------
    sigma : float or "auto"
        Strong concavity in the coordinates of the unit cube; 0 < sigma <= M. "auto" estimates it, and M where
        that is None, from three-point comparisons: every gradient then takes two queries a coordinate
        instead of one, and a first few tell the order of magnitude.
    M : float, optional
        Smoothness; needed unless sigma is "auto".
    c_h : float > 0
    ratio : float > 1
        Growth of n between epochs.
    n_init : int >= 2, optional
        First n, by default max(8, ceil(gamma)).
    h_max : float in (0, 0.5]
    psi : LinearKnapsack, EstimatedKnapsack or None
        Penalty on the average action.
    screen : bool
        Rarely query coordinates that are held at a bound by their gradient: exploring them costs h to first
        order.
    x0 : float or array of shape (d,), optional
        Starting point, the centre by default.

    References
    ----------
    [1] Chang, Chen, Wang, Zeng, "Continuum-armed Bandit Optimization with Batch Pairwise Comparison Oracles",
    arXiv:2505.22361 (2025); the step rules and screening are derived here.
    """

    def __init__(
        self,
        sigma: float | str,
        M: float | None = None,
        c_h: float = 0.6,
        ratio: float = 2.0,
        n_init: int | None = None,
        h_max: float = 0.25,
        psi: LinearKnapsack | EstimatedKnapsack | None = None,
        screen: bool = True,
        x0: ArrayLike | None = None,
    ) -> None:
        self.sigma = sigma
        self.M = M
        self.c_h = c_h
        self.ratio = ratio
        self.n_init = n_init
        self.h_max = h_max
        self.psi = psi
        self.screen = screen
        self.x0 = x0

    @classmethod
    def __mlpapers_example__(cls) -> dict[str, Any]:
        return {**super().__mlpapers_example__(), "params": {"sigma": 4.0, "M": 4.0}}

    def _validate(self) -> None:
        if self.M is None and not isinstance(self.sigma, str):
            raise ValueError("M must be given unless sigma='auto'; got None")
        M = None if self.M is None else check_real("M", self.M, low=0.0, closed="neither")
        check_sigma(self.sigma, M)
        check_real("c_h", self.c_h, low=0.0, closed="neither")
        check_real("ratio", self.ratio, low=1.0, closed="neither")
        check_real("h_max", self.h_max, low=0.0, high=0.5, closed="right")
        check_bool("screen", self.screen)
        if self.n_init is not None:
            check_int("n_init", self.n_init, minimum=2)
        if self.psi is not None and not isinstance(self.psi, LinearKnapsack | EstimatedKnapsack):
            raise TypeError(f"psi must be a LinearKnapsack, an EstimatedKnapsack or None; got {self.psi!r}")
        if self.x0 is not None:
            start_point(self.x0, np.size(self.x0))

    def _search(self, session: Session) -> Point:
        return _Ascent(self, session).run()


def check_sigma(sigma: Any, M: float | None) -> None:
    """Raise unless sigma is "auto", or positive and at most M where that is given."""
    if not isinstance(sigma, str):
        check_real("sigma", sigma, low=0.0, high=M, closed="right" if M else "neither")
    elif sigma != "auto":
        raise ValueError(f"sigma must be a number or 'auto'; got {sigma!r}")


class _Ascent:
    """The state of one run."""

    def __init__(self, policy: InexactProximalGradient, session: Session) -> None:
        self.policy = policy
        self.session = session
        d = session.dim
        self.x = start_point(policy.x0, d)
        self.gam = (session.gamma1 + session.gamma2) / 4.0
        self.g = np.zeros(d)
        self.reduced = np.zeros(d)
        self.checked = np.zeros(d)
        if isinstance(policy.psi, LinearKnapsack) and policy.psi.A.shape[1] != d:
            raise PolicyMismatchError(
                f"psi={policy.psi!r} is about {policy.psi.A.shape[1]} coordinates, the oracle has {d}"
            )
        self.estimated = isinstance(policy.psi, EstimatedKnapsack)
        self.n_longest = session.horizon
        self.capacity: Array | None = None
        self.late = np.zeros(d)
        self.late_periods = 0
        if self.estimated:
            capacity = getattr(session.oracle, "capacity_left", None)
            if capacity is None:
                raise PolicyMismatchError("psi=EstimatedKnapsack needs an oracle with capacity_left")
            # Short queries even late, so that the capacity is re-solved often in the second half.
            self.n_longest = max(8, session.horizon // (16 * d))
            self.J = np.zeros((np.size(capacity), d))
            self.use = np.zeros(np.size(capacity))
        self.n_init = int(policy.n_init or max(8, math.ceil(self.gam)))
        self.curvature = (
            None if policy.sigma != "auto" else Curvature(session, self.x, policy.h_max, self.n_init)
        )
        self._choose_constants()

    def run(self) -> Point:
        """Play all periods and return the last iterate; with an estimated knapsack, the late ones' average.

        What is left of the capacity in the last periods is mostly noise, and so are the last iterates.
        """
        n = float(self.n_init)
        epoch = 0
        while True:
            length = int(min(n, self.n_longest))
            for _ in range(self.n_steps):
                begun, x = self.session.t, self.x
                goes_on = self._step(length, epoch)
                periods = max(self.session.t - max(begun, self.session.horizon // 2), 0)
                self.late, self.late_periods = self.late + periods * x, self.late_periods + periods
                if not goes_on:
                    return self.late / self.late_periods if self.late_periods and self.estimated else self.x
            self._choose_constants()
            epoch, n = epoch + 1, n * self.policy.ratio

    def _choose_constants(self) -> None:
        """Set the curvature that decides h, the step eta, and the steps of an epoch."""
        sigma, M = self.policy.sigma, self.policy.M
        if self.curvature is None:
            assert M is not None
            self.M, self.eta = M, 1.0 / M
        else:
            H = self.curvature.values
            self.M = float(H.max()) if M is None else M
            # Curvatures along the axes bound the largest one in any direction only through their sum.
            self.eta = 1.0 / (float(H.sum()) if M is None else M)
            sigma = min(float(H.min()), self.M)
        contraction = -math.log(max(1e-3, 1.0 - self.eta * float(sigma)))
        self.n_steps = max(1, math.ceil(0.25 * math.log(self.policy.ratio) / contraction))

    def _step(self, n: int, epoch: int) -> bool:
        """Estimate the gradient and move; False where the periods have run out.

        The last queries share what is left. Where that makes them shorter than those of the epoch before,
        a step would only add their error to x, and x is played instead.
        """
        n_queries = self.x.size * (1 if self.curvature is None else 2)
        if n * n_queries > self.session.remaining:
            least, n = n / self.policy.ratio, self.session.remaining // n_queries
            if n < max(least, 2.0):
                self.session.play(self.x, self.session.remaining)
                return False
        h = self._spacing(n)
        asked, uses = False, []
        for i in range(self.x.size):
            length, step = self._how_to_query(i, n, h)
            if length == 0:
                continue
            use = (
                self._pair(i, length, step, epoch)
                if self.curvature is None
                else self._triple(i, length, step, epoch)
            )
            if use is None:
                return False
            asked = True
            self.checked[i] = self.session.t
            uses.append(use)
        if not asked and self.session.play(self.x, n) is None:
            return False
        if uses and self.estimated:
            self.use = np.mean(uses, axis=0)
        self._move()
        return self.session.remaining > 0

    def _spacing(self, n: int) -> float:
        """Return h for queries of n periods."""
        p = self.policy
        h = p.c_h * math.sqrt(2.0) * (self.gam / n) ** 0.25 / math.sqrt(self.M)
        return max(min(p.h_max, h), _SMALLEST_STEP)

    def _pair(self, i: int, n: int, h: float, epoch: int) -> Array | None:
        """Estimate coordinate i's derivative from one query; return the consumption at x, None at the end."""
        upper, lower = self.x.copy(), self.x.copy()
        upper[i], lower[i] = min(1.0, self.x[i] + h), max(0.0, self.x[i] - h)
        answer = self.session.compare(upper, lower, n, phase=epoch)
        if answer is None:
            return None
        gap = upper[i] - lower[i]
        self.g[i] = answer.diff / gap
        if not self.estimated:
            return np.empty(0)
        above, below = _consumption(answer)
        self.J[:, i] = (above - below) / gap
        return 0.5 * (above + below) - self.J[:, i] * (0.5 * (upper[i] + lower[i]) - self.x[i])

    def _triple(self, i: int, n: int, h: float, epoch: int) -> Array | None:
        """Do the same with two queries around a middle that leaves room for h, which show curvature, too."""
        assert self.curvature is not None
        answers = three_points(self.session, self.x, i, n, h, epoch)
        if answers is None:
            return None
        middle, up, down = answers
        H = self.curvature.add(i, (down.diff - up.diff) / h**2, n * h**4)
        aside = self.x[i] - middle
        self.g[i] = 0.5 * (up.diff + down.diff) / h - H * aside
        if not self.estimated:
            return np.empty(0)
        (above, first), (second, below) = _consumption(up), _consumption(down)
        self.J[:, i] = 0.5 * (above - below) / h
        return 0.5 * (first + second) + self.J[:, i] * aside

    def _how_to_query(self, i: int, n: int, h: float) -> tuple[int, float]:
        """Return length and step of coordinate i's query; length 0 means that it can be skipped."""
        x, r = self.x[i], self.reduced[i]
        outwards = (x >= 1.0 - _ON_BOUND and r > 0.0) or (x <= _ON_BOUND and r < 0.0)
        if not (self.policy.screen and outwards):
            return n, h
        n_screen = max(8, math.ceil(min(16.0 * self.gam / (_SCREEN_STEP * r) ** 2, 1e18)))
        if n_screen >= n:
            return n, h
        return (0, h) if self.session.t < 2 * self.checked[i] else (n_screen, _SCREEN_STEP)

    def _move(self) -> None:
        psi = self.policy.psi
        if isinstance(psi, LinearKnapsack):
            z, mu = psi.prox(self.x, self.g, self.eta)
            self.reduced = self.g - psi.A.T @ mu
        elif isinstance(psi, EstimatedKnapsack):
            z, mu = self._knapsack_step(psi)
            self.reduced = self.g - self.J.T @ mu
            self.use = self.use + self.J @ (z - self.x)
        else:
            z = (self.x + self.eta * self.g).clip(0.0, 1.0)
            self.reduced = self.g.copy()
        self.x = z

    def _knapsack_step(self, psi: EstimatedKnapsack) -> tuple[Point, Array]:
        if self.capacity is None or psi.resolve:
            oracle: Any = self.session.oracle
            self.capacity = np.asarray(oracle.capacity_left) / max(self.session.remaining, 1)
        bound = self.capacity - self.use + self.J @ self.x
        return knapsack_prox(self.x, self.g, self.eta, self.J, bound, psi.rho)


def _consumption(answer: ComparisonResult) -> tuple[Array, Array]:
    if answer.aux is None:
        raise PolicyMismatchError("psi=EstimatedKnapsack needs an oracle whose answers have aux")
    return answer.aux
