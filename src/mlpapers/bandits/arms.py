"""Policies that play single points and trust the mean reward they observe."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.bandits.oracle import Point
from mlpapers.bandits.policy import BanditPolicy, Session
from mlpapers.core.validation import check_int, check_real

__all__ = ["GPUCB", "GridUCB"]

Array = NDArray[np.float64]


class GridUCB(BanditPolicy):
    r"""Upper confidence bounds on a grid of points.

    The index is the observed mean + exploration * s * sqrt(2 ln T / count), s = sqrt(gamma2)/4 the standard
    deviation of a period. With an oracle that has ``play_level`` (inventory) the arms are pairs of a price
    and an order-up-to level, the reward is what a seller sees, sales minus holding (lost sales are not in
    it, so it is biased), and s is its standard deviation within the arms so far.

    Parameters
    ----------
    n_arms : int, optional
        Points per axis, by default max(4, round(T^(1/4) / 1.5)).
    batch : int
        An arm is played max(batch, a quarter of its count) periods at a time.
    exploration : float >= 0
    """

    def __init__(self, n_arms: int | None = None, batch: int = 32, exploration: float = 1.0) -> None:
        self.n_arms = n_arms
        self.batch = batch
        self.exploration = exploration

    def _validate(self) -> None:
        if self.n_arms is not None:
            check_int("n_arms", self.n_arms, minimum=1)
        check_int("batch", self.batch, minimum=1)
        check_real("exploration", self.exploration, low=0.0)

    def _search(self, session: Session) -> Point:
        size = self.n_arms or max(4, round(session.horizon**0.25 / 1.5))
        axis = (np.arange(size) + 0.5) / size
        has_levels = getattr(session.oracle, "play_level", None) is not None
        arms = np.array(list(itertools.product(axis, repeat=session.dim + int(has_levels))))
        counts, sums = np.zeros(len(arms)), np.zeros(len(arms))
        spread, squares = math.sqrt(session.gamma2) / 4.0, 0.0
        width = self.exploration * math.sqrt(2.0 * math.log(max(session.horizon, 2)))
        while session.remaining > 0:
            unplayed = np.flatnonzero(counts == 0)
            if unplayed.size:
                arm = int(unplayed[0])
            else:
                arm = int(np.argmax(sums / counts + width * spread / np.sqrt(counts)))
            n = min(max(self.batch, int(counts[arm] // 4)), session.remaining)
            if has_levels:
                reward, variance = self._profit(session.oracle, arms[arm], n)
                squares += n * variance
                spread = math.sqrt(squares / (counts.sum() + n))
            else:
                reward = session.play(arms[arm], n) or 0.0
            sums[arm] += n * reward
            counts[arm] += n
        played = counts > 0
        best = np.flatnonzero(played)[np.argmax(sums[played] / counts[played])]
        return arms[best, : session.dim].copy()

    @staticmethod
    def _profit(oracle: Any, arm: Array, n: int) -> tuple[float, float]:
        """Play a price and a level; return mean and variance of the profit that is seen."""
        hints = oracle.hints
        levels, sales = oracle.play_level(arm[:1], float(arm[1] * hints["level_max"]), n)
        price = hints["price_low"] + arm[0] * (hints["price_high"] - hints["price_low"])
        profit = price * sales - hints["holding_cost"] * (levels - sales)
        return float(profit.mean()), float(profit.var())


class GPUCB(BanditPolicy):
    r"""Gaussian-process upper confidence bounds, with :math:`\beta_t = 2\ln(t^2\pi^2/0.6)`.

    A squared-exponential kernel of length 0.2 and scikit-learn's regressor; the points are played for equal
    numbers of periods, at most `max_evals` times.

    Parameters
    ----------
    max_evals : int
        Evaluations; each refits the process in O(t^3).

    Examples
    --------
    >>> from mlpapers.bandits import ConcaveFunctionEnv
    >>> env = ConcaveFunctionEnv()
    >>> result = GPUCB(max_evals=20).run(env, horizon=10_000, random_state=0)
    >>> bool(abs(result.x_final[0, 0] - env.maximiser[0]) < 0.1)
    True
    """

    def __init__(self, max_evals: int = 500) -> None:
        self.max_evals = max_evals

    @classmethod
    def __mlpapers_example__(cls) -> dict[str, Any]:
        return {**super().__mlpapers_example__(), "params": {"max_evals": 15}}

    def _validate(self) -> None:
        check_int("max_evals", self.max_evals, minimum=1)

    def _search(self, session: Session) -> Point:
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import RBF

        length = math.ceil(session.horizon / min(self.max_evals, session.horizon))
        if session.dim == 1:
            candidates = np.linspace(0.0, 1.0, 201)[:, None]
        else:
            candidates = session.rng.random((1000, session.dim))
        variance = session.gamma2 / 16.0 / length
        points, rewards = [np.full(session.dim, 0.5)], []
        while True:
            reward = session.play(points[-1], length)
            if reward is None:
                break
            rewards.append(reward)
            centred = np.array(rewards) - np.mean(rewards)
            scale = max(float(centred.std()), math.sqrt(variance), 1e-6)
            process = GaussianProcessRegressor(RBF(0.2), alpha=max(variance / scale**2, 1e-8), optimizer=None)
            process.fit(np.array(points), centred / scale)
            mean, deviation = process.predict(candidates, return_std=True)
            beta = 2.0 * math.log(len(rewards) ** 2 * math.pi**2 / 0.6)
            points.append(candidates[int(np.argmax(mean + math.sqrt(beta) * deviation))])
        return candidates[int(np.argmax(mean))].copy()
