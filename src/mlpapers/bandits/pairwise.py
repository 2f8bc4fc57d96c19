"""The paper's policy: which of its two procedures runs follows from what is known of the function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike

from mlpapers.bandits.oracle import Point
from mlpapers.bandits.penalty import EstimatedKnapsack, LinearKnapsack
from mlpapers.bandits.policy import BanditPolicy, PolicyMismatchError, Session
from mlpapers.bandits.proximal import InexactProximalGradient, check_sigma
from mlpapers.bandits.tournament import TournamentLinUCB
from mlpapers.core.validation import check_choice, check_real

__all__ = ["PairwiseComparisonBandit"]

_MODES = ("auto", "smooth", "strongly_concave")


class PairwiseComparisonBandit(BanditPolicy):
    r"""Maximise an unknown function from batch pairwise comparisons.

    Smooth functions: :class:`TournamentLinUCB`, regret of order :math:`T^{(k+d)/(2k+d)}`. Strongly concave
    ones: :class:`InexactProximalGradient`, regret of order :math:`\sqrt T`.

    Parameters
    ----------
    mode : {"auto", "smooth", "strongly_concave"}
        "auto" is "strongly_concave" iff `sigma` and `M` are given or the oracle declares them in ``hints``,
        or `sigma` is "auto". A number for `sigma` without any M is refused.
    smoothness_order : int >= 1
        k of the smooth procedure.
    sigma : float or "auto", optional
        Strong concavity; "auto" estimates it, and M unless that is given.
    M : float, optional
        The bound on the derivatives. Given constants win over declared ones; the smooth procedure takes
        M = 1 where it is not known.
    width_scale : float
        See :class:`TournamentLinUCB`.
    n_init : int, optional
        Length of the first queries.
    random_state : int, Generator, RandomState or None
        Seed of :meth:`run` where that is given none.
    approx_scale, cells, cell_scale, grid_size, max_cells
        See :class:`TournamentLinUCB`.
    c_h, ratio, h_max, psi, screen, x0
        See :class:`InexactProximalGradient`. The smooth procedure has no penalty, and refuses `psi`.
    """

    def __init__(
        self,
        mode: str = "auto",
        smoothness_order: int = 2,
        sigma: float | str | None = None,
        M: float | None = None,
        width_scale: float = 0.25,
        n_init: int | None = None,
        random_state: Any = None,
        *,
        approx_scale: float = 0.25,
        cells: int | None = None,
        cell_scale: float = 1.0,
        grid_size: int | None = None,
        max_cells: int = 100_000,
        c_h: float = 0.6,
        ratio: float = 2.0,
        h_max: float = 0.25,
        psi: LinearKnapsack | EstimatedKnapsack | None = None,
        screen: bool = True,
        x0: ArrayLike | None = None,
    ) -> None:
        self.mode = mode
        self.smoothness_order = smoothness_order
        self.sigma = sigma
        self.M = M
        self.width_scale = width_scale
        self.n_init = n_init
        self.random_state = random_state
        self.approx_scale = approx_scale
        self.cells = cells
        self.cell_scale = cell_scale
        self.grid_size = grid_size
        self.max_cells = max_cells
        self.c_h = c_h
        self.ratio = ratio
        self.h_max = h_max
        self.psi = psi
        self.screen = screen
        self.x0 = x0

    def _validate(self) -> None:
        check_choice("mode", self.mode, _MODES)
        if self.M is not None:
            check_real("M", self.M, low=0.0, closed="neither")
        if self.sigma is not None:
            check_sigma(self.sigma, self.M)
        self._smooth(self.M or 1.0)._validate()
        self._concave(1.0, 1.0)._validate()

    def _search(self, session: Session) -> Point:
        hints = getattr(session.oracle, "hints", {})
        sigma, M = self._constants(hints)
        chosen: BanditPolicy
        if self.is_strongly_concave(hints):
            if sigma is None or (M is None and sigma != "auto"):
                raise PolicyMismatchError(
                    "sigma and M must be given for mode='strongly_concave': the oracle declares none"
                )
            chosen = self._concave(sigma, M)
        elif self.mode == "auto" and self.sigma is not None:
            raise PolicyMismatchError(
                f"M must be given with sigma={self.sigma!r}: the oracle declares none; sigma='auto' "
                "estimates both, and mode='smooth' needs neither"
            )
        elif self.psi is not None:
            raise PolicyMismatchError(
                f"psi must be None where the procedure for smooth functions runs, which has no penalty; got "
                f"{self.psi!r} (mode={self.mode!r}, sigma={sigma}, M={M})"
            )
        else:
            chosen = self._smooth(1.0 if M is None else M)
        chosen._validate()
        return chosen._search(session)

    def is_strongly_concave(self, hints: Mapping[str, float]) -> bool:
        """Return whether the strongly concave procedure runs on an oracle that declares `hints`."""
        if self.mode == "auto":
            return self.sigma == "auto" or None not in self._constants(hints)
        return self.mode == "strongly_concave"

    def _constants(self, hints: Mapping[str, float]) -> tuple[float | str | None, float | None]:
        """Return sigma and M: the given ones, else the declared ones."""
        if self.sigma == "auto":
            return self.sigma, self.M
        sigma = hints.get("sigma") if self.sigma is None else self.sigma
        M = hints.get("smoothness") if self.M is None else self.M
        return sigma, M

    def _smooth(self, M: float) -> TournamentLinUCB:
        return TournamentLinUCB(
            smoothness_order=self.smoothness_order,
            M=M,
            width_scale=self.width_scale,
            approx_scale=self.approx_scale,
            cells=self.cells,
            cell_scale=self.cell_scale,
            n_init=64 if self.n_init is None else self.n_init,
            grid_size=self.grid_size,
            max_cells=self.max_cells,
        )

    def _concave(self, sigma: float | str, M: float | None) -> InexactProximalGradient:
        return InexactProximalGradient(
            sigma,
            M,
            c_h=self.c_h,
            ratio=self.ratio,
            n_init=self.n_init,
            h_max=self.h_max,
            psi=self.psi,
            screen=self.screen,
            x0=self.x0,
        )
