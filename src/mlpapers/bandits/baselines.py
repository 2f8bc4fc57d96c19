"""Policies made of comparisons that the paper's are measured against."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mlpapers.bandits.oracle import Point
from mlpapers.bandits.policy import BanditPolicy, OneDimensionalPolicy, Session, start_point
from mlpapers.core.validation import check_real

__all__ = ["ConvexBandit1D", "KieferWolfowitz", "TrisectionSearch"]

_FIRST_LENGTH = 16


class KieferWolfowitz(BanditPolicy):
    r"""Stochastic approximation with comparisons of two periods.

    Step k: :math:`x \leftarrow x + a_k g`, :math:`a_k = \min(1/M, 1/(\sigma k))`, with differences over
    :math:`c_k = \min(1/4, c\,k^{-1/4})`. Its regret is of order :math:`\sqrt T` if the oracle is unbiased,
    and linear if it is biased: many short queries do not average a bias away. A query has two periods however
    long the horizon is, so that the time of a run grows with it: hours for 10^9 periods.

    Parameters
    ----------
    sigma, M : float
        Strong concavity and smoothness; 0 < sigma <= M.
    c : float > 0
    x0 : float or array of shape (d,), optional
        Starting point, the centre by default.
    """

    def __init__(self, sigma: float, M: float, c: float = 0.2, x0: ArrayLike | None = None) -> None:
        self.sigma = sigma
        self.M = M
        self.c = c
        self.x0 = x0

    @classmethod
    def __mlpapers_example__(cls) -> dict[str, Any]:
        return {**super().__mlpapers_example__(), "params": {"sigma": 4.0, "M": 4.0}}

    def _validate(self) -> None:
        M = check_real("M", self.M, low=0.0, closed="neither")
        check_real("sigma", self.sigma, low=0.0, high=M, closed="right")
        check_real("c", self.c, low=0.0, closed="neither")
        if self.x0 is not None:
            start_point(self.x0, np.size(self.x0))

    def _search(self, session: Session) -> Point:
        x = start_point(self.x0, session.dim)
        k = 0
        while session.remaining > 0:
            k += 1
            step = min(0.25, self.c * k**-0.25)
            rate = min(1.0 / self.M, 1.0 / (self.sigma * k))
            g = np.zeros(session.dim)
            for i in range(session.dim):
                upper, lower = x.copy(), x.copy()
                upper[i], lower[i] = min(1.0, x[i] + step), max(0.0, x[i] - step)
                answer = session.compare(upper, lower, 2, phase=k)
                if answer is None:
                    return x
                g[i] = answer.diff / (upper[i] - lower[i])
            x = (x + rate * g).clip(0.0, 1.0)
        return x


class TrisectionSearch(OneDimensionalPolicy):
    r"""Compare the points that cut an interval in thirds until one wins; drop the other's third.

    The length of the queries doubles from 16 until :math:`|y| > c\sqrt{(\gamma_1+\gamma_2\ln T)/n}`. A plain
    baseline, not the trisection of Chen, Wang and Zhou (2024): it stalls where the optimum lies midway.

    Parameters
    ----------
    c : float > 0

    Examples
    --------
    >>> from mlpapers.bandits import ConcaveFunctionEnv
    >>> env = ConcaveFunctionEnv()
    >>> result = TrisectionSearch().run(env, horizon=10_000, n_replications=4, random_state=0)
    >>> bool(abs(result.x_final.mean() - env.maximiser[0]) < 0.1)
    True
    """

    def __init__(self, c: float = 0.5) -> None:
        self.c = c

    def _validate(self) -> None:
        check_real("c", self.c, low=0.0, closed="neither")

    def _search(self, session: Session) -> Point:
        self._require_interval(session, type(self).__name__)
        joint = session.gamma1 + session.gamma2 * math.log(max(session.horizon, 2))
        low, high, n, phase = 0.0, 1.0, _FIRST_LENGTH, 0
        while session.remaining > 0:
            a, b = low + (high - low) / 3.0, high - (high - low) / 3.0
            answer = session.compare(np.array([a]), np.array([b]), n, phase=phase)
            if answer is None:
                break
            if abs(answer.diff) > self.c * math.sqrt(joint / answer.n):
                low, high = (low, b) if answer.diff > 0.0 else (a, high)
                n, phase = _FIRST_LENGTH, phase + 1
            else:
                n *= 2
        return np.array([0.5 * (low + high)])


class ConvexBandit1D(OneDimensionalPolicy):
    r"""Compare the middle of an interval with both quartiles until one comparison is decided.

    The middle beats a quartile: the quarter beyond it is dropped. A quartile beats the middle: the half on
    the other side is dropped. Width :math:`(\sqrt{\gamma_1} + c\sqrt{\gamma_2 \ln T})/\sqrt n`, n doubling
    from 16.

    Parameters
    ----------
    c : float > 0

    References
    ----------
    [1] Agarwal et al., "Stochastic convex optimization with bandit feedback", NeurIPS 2011, in one dimension.

    Examples
    --------
    >>> from mlpapers.bandits import ConcaveFunctionEnv
    >>> env = ConcaveFunctionEnv()
    >>> result = ConvexBandit1D().run(env, horizon=10_000, n_replications=4, random_state=0)
    >>> bool(abs(result.x_final.mean() - env.maximiser[0]) < 0.1)
    True
    """

    def __init__(self, c: float = 0.35) -> None:
        self.c = c

    def _validate(self) -> None:
        check_real("c", self.c, low=0.0, closed="neither")

    def _search(self, session: Session) -> Point:
        self._require_interval(session, type(self).__name__)
        log_T = math.log(max(session.horizon, 2))
        rg = math.sqrt(session.gamma1) + self.c * math.sqrt(session.gamma2 * log_T)
        low, high, n, phase = 0.0, 1.0, _FIRST_LENGTH, 0
        while session.remaining > 0:
            a, m, b = (low + share * (high - low) for share in (0.25, 0.5, 0.75))
            left = session.compare(np.array([m]), np.array([a]), n, phase=phase)
            right = session.compare(np.array([m]), np.array([b]), n, phase=phase)
            interval = (low, high)
            if left is not None and abs(left.diff) > rg / math.sqrt(left.n):
                low, high = (a, high) if left.diff > 0.0 else (low, m)
            if right is not None and abs(right.diff) > rg / math.sqrt(right.n):
                # Noise may make both quartiles win; the first answer then stands.
                shrunk = (low, min(high, b)) if right.diff > 0.0 else (max(low, m), high)
                low, high = shrunk if shrunk[0] < shrunk[1] else (low, high)
            n, phase = (2 * n, phase) if (low, high) == interval else (_FIRST_LENGTH, phase + 1)
        return np.array([0.5 * (low + high)])
