"""Any policy without a known horizon: guess one, and double it."""

from __future__ import annotations

from typing import Any

from sklearn.base import clone

from mlpapers.bandits.oracle import Point
from mlpapers.bandits.policy import BanditPolicy, Session
from mlpapers.core.validation import check_int

__all__ = ["HorizonDoubling"]


class HorizonDoubling(BanditPolicy):
    r"""Run a policy for a guessed horizon, then for twice that, and so on: what it does never depends on T.

    A regret of order :math:`T^\alpha` keeps its order; the constant grows by at most
    :math:`2^\alpha/(2^\alpha-1)` (Besson and Kaufmann 2018). A policy with a starting point `x0` starts where
    the last run ended.

    Parameters
    ----------
    policy : BanditPolicy
        Cloned for every run.
    first_horizon : int >= 2
        The first guess.

    References
    ----------
    [1] Besson and Kaufmann, "What doubling tricks can and can't do for multi-armed bandits",
    arXiv:1803.06971 (2018).
    """

    def __init__(self, policy: BanditPolicy, first_horizon: int = 1024) -> None:
        self.policy = policy
        self.first_horizon = first_horizon

    @classmethod
    def __mlpapers_example__(cls) -> dict[str, Any]:
        from mlpapers.bandits.pairwise import PairwiseComparisonBandit

        return {**super().__mlpapers_example__(), "params": {"policy": PairwiseComparisonBandit()}}

    def _validate(self) -> None:
        check_int("first_horizon", self.first_horizon, minimum=2)
        if not isinstance(self.policy, BanditPolicy):
            raise TypeError(f"policy must be a BanditPolicy; got {type(self.policy).__name__}")
        self.policy._validate()

    def _search(self, session: Session) -> Point:
        policy, horizon = clone(self.policy), int(self.first_horizon)
        while True:
            episode = _Episode(session, horizon)
            x = policy._search(episode)
            session.details.update(episode.details)
            if session.remaining == 0:
                return x
            if "x0" in policy.get_params(deep=False):
                policy.set_params(x0=x)
            horizon *= 2


class _Episode(Session):
    """A run within a run: it plans for its own horizon, and ends with the outer one's periods."""

    def __init__(self, outer: Session, horizon: int) -> None:
        super().__init__(outer.oracle, horizon, outer.rng)
        self.outer = outer
        self.rows = outer.rows
        self._begun = outer.t

    @property
    def remaining(self) -> int:
        """Periods that are left of the planned horizon and of the outer run."""
        return max(min(self.horizon - self.t, self.outer.remaining), 0)

    @property
    def t(self) -> int:
        """Periods played in this run."""
        return self.outer.t - self._begun

    @property
    def clock(self) -> int:
        """Periods played in all."""
        return self.outer.t
