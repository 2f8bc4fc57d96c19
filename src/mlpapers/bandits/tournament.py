"""Optimisation of smooth, possibly non-concave functions: cells, local polynomials, and a tournament."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mlpapers.bandits.oracle import Point
from mlpapers.bandits.policy import BanditPolicy, Session
from mlpapers.bandits.theory import default_cells, local_poly_features
from mlpapers.core.validation import check_bool, check_int, check_real

__all__ = ["TournamentLinUCB"]

Array = NDArray[np.float64]

_LEAST_RIDGE = 1e-6


@dataclass(frozen=True, eq=False)
class _Plan:
    """Constants of a run."""

    J: int
    U: Array
    features: Array
    origin: int
    rg: float
    Delta: float
    ridge: float
    shortest: int
    batched: bool

    def width(self, n: int) -> float:
        """Half width of a query of length n."""
        return self.rg / math.sqrt(n)


@dataclass(eq=False)
class _Cell:
    """Statistics of one active cell; its representative is the best candidate known."""

    index: int
    centre: Point
    Lam: Array
    bvec: Array
    best: int
    S: int = 0
    N: int = 0
    eps: float = 0.0
    inverse: Array = field(default_factory=lambda: np.empty((0, 0)))

    def point(self, plan: _Plan, candidate: int | None = None) -> Point:
        """Return the point of a candidate, by default of the representative."""
        chosen = self.best if candidate is None else candidate
        return (self.centre + plan.U[chosen] / plan.J).clip(0.0, 1.0)


class TournamentLinUCB(BanditPolicy):
    r"""Tournament successive elimination over cells, with interactive batched LinUCB inside each.

    The cube is cut into :math:`J^d` cells, :math:`J \approx T^{1/(2k+d)}`; in a cell f is a polynomial of
    degree k - 1 up to :math:`\Delta`. A phase of query length n improves every cell's representative by
    comparing the incumbent with an optimistic challenger, finds a champion by a knock-out tournament, and
    drops the cells that the champion beats, twice, by more than their slack. n doubles. The regret is of
    order :math:`T^{(k+d)/(2k+d)}`, up to logarithms.

    Parameters
    ----------
    smoothness_order : int >= 1
        k, the order up to which derivatives are bounded.
    M : float > 0
        The bound.
    width_scale : float > 0
        Factor c of the stochastic part of the width; 1 is the full theory. The bias part is never scaled.
    approx_scale : float >= 0
        Factor of the Taylor remainder.
    cells : int, optional
        J; by default :func:`default_cells`.
    cell_scale : float > 0
        Factor of the default J.
    n_init : int >= 2
        Query length of the first phase.
    grid_size : int, optional
        Odd number of candidates per axis where k >= 3; default 9, 5, 3 for d = 1, 2, more.
    batched : bool
        False: in-cell queries have length 2, which a biased oracle turns into linear regret.
    max_cells : int
        Largest J^d allowed.

    References
    ----------
    [1] Chang, Chen, Wang, Zeng, "Continuum-armed Bandit Optimization with Batch Pairwise Comparison Oracles",
    arXiv:2505.22361 (2025); the steps and constants are derived here.
    """

    def __init__(
        self,
        smoothness_order: int = 2,
        M: float = 1.0,
        width_scale: float = 0.25,
        approx_scale: float = 0.25,
        cells: int | None = None,
        cell_scale: float = 1.0,
        n_init: int = 64,
        grid_size: int | None = None,
        batched: bool = True,
        max_cells: int = 100_000,
    ) -> None:
        self.smoothness_order = smoothness_order
        self.M = M
        self.width_scale = width_scale
        self.approx_scale = approx_scale
        self.cells = cells
        self.cell_scale = cell_scale
        self.n_init = n_init
        self.grid_size = grid_size
        self.batched = batched
        self.max_cells = max_cells

    def _validate(self) -> None:
        check_int("smoothness_order", self.smoothness_order, minimum=1)
        check_real("M", self.M, low=0.0, closed="neither")
        check_real("width_scale", self.width_scale, low=0.0, closed="neither")
        check_real("approx_scale", self.approx_scale, low=0.0)
        check_real("cell_scale", self.cell_scale, low=0.0, closed="neither")
        check_int("n_init", self.n_init, minimum=2)
        check_bool("batched", self.batched)
        check_int("max_cells", self.max_cells, minimum=1)
        if self.cells is not None:
            check_int("cells", self.cells, minimum=1)
        if self.grid_size is not None and check_int("grid_size", self.grid_size, minimum=3) % 2 == 0:
            raise ValueError(f"grid_size must be odd, so that 0 is a candidate; got {self.grid_size}")

    def _plan(self, session: Session) -> _Plan:
        k, d, T = self.smoothness_order, session.dim, session.horizon
        J = default_cells(T, k, d, scale=self.cell_scale) if self.cells is None else self.cells
        if J**d > self.max_cells:
            raise ValueError(
                f"max_cells must be at least J^d = {J}^{d} = {J**d}; got {self.max_cells} "
                "(a larger smoothness_order needs fewer cells)"
            )
        axis = np.zeros(1)
        if k == 2:
            axis = np.array([-0.5, 0.0, 0.5])
        elif k >= 3:
            size = self.grid_size or {1: 9, 2: 5}.get(d, 3)
            axis = np.linspace(-0.5, 0.5, size)
            axis[size // 2] = 0.0
        U = np.array(list(itertools.product(axis, repeat=d)))
        rg = math.sqrt(session.gamma1) + self.width_scale * math.sqrt(session.gamma2 * math.log(max(T, 2)))
        Delta = self.approx_scale * self.M * d**k / math.factorial(k) * (0.5 / J) ** k
        features = local_poly_features(U, k)
        # What the ridge takes off a slope must stay small beside the noise.
        ridge = min(1.0, max(_LEAST_RIDGE, (10.0 * rg) ** 2))
        return _Plan(J, U, features, len(U) // 2, rg, Delta, ridge, max(2, self.n_init // 2), self.batched)

    def _search(self, session: Session) -> Point:
        plan = self._plan(session)
        nu = plan.features.shape[1]
        corners = np.array(list(itertools.product(range(plan.J), repeat=session.dim)), dtype=np.float64)
        active = [
            _Cell(
                i,
                (corner + 0.5) / plan.J,
                plan.ridge * np.eye(nu),
                np.zeros(nu),
                plan.origin,
                inverse=np.eye(nu) / plan.ridge,
            )
            for i, corner in enumerate(corners)
        ]
        path, phase, n = [], 0, self.n_init
        champion: _Cell | None = None
        while session.remaining > 0:
            if len(active) == 1 and nu == 0:
                session.play(active[0].point(plan), session.remaining)
                break
            for cell in active:
                _improve(cell, n, plan, session, phase, len(active))
            length = max(2, min(n, session.remaining // max(1, len(active) - 1)))
            if champion is not None and len(active) > 1 and 2 * length < n:
                # Shorter than the last tournament's, queries would only add their error to its outcome.
                session.play(champion.point(plan), session.remaining)
            else:
                champion = _tournament(active, length, plan, session, phase)
                active = _eliminate(active, champion, n, plan, session, phase)
            path.append((phase, session.t, n, len(active)))
            phase, n = phase + 1, 2 * n
        session.details["cells_path"] = np.array(path, dtype=np.float64).reshape(-1, 4)
        session.details["surviving_cells"] = np.array([cell.index for cell in active], dtype=np.float64)
        return (champion or active[0]).point(plan)


def _improve(cell: _Cell, m: int, plan: _Plan, session: Session, phase: int, n_cells: int) -> None:
    """Interactive batched LinUCB: spend m periods on comparing the incumbent with challengers."""
    left = m
    while left >= 2 and session.remaining > 0:
        theta = cell.inverse @ cell.bvec
        cell.best = plan.origin if cell.S == 0 else _argmax(plan.features @ theta, plan.origin)
        ucb, norms = _optimism(cell, theta, plan)
        challenger = int(np.argmax(ucb))
        if norms[challenger] == 0.0:
            challenger = _unexplored(cell, norms, plan)
        if norms[challenger] == 0.0:
            session.play(cell.point(plan), left)
            break
        q = 2
        if plan.batched:
            # A batch this long doubles det(Lam), so that only logarithmically many errors add up.
            q = min(left, max(plan.shortest, math.ceil(1.0 / norms[challenger] ** 2), 2))
        answer = session.compare(
            cell.point(plan, challenger), cell.point(plan), q, phase=phase, n_cells=n_cells
        )
        if answer is None:
            break
        z = plan.features[challenger] - plan.features[cell.best]
        cell.Lam += answer.n * np.outer(z, z)
        cell.bvec += answer.n * answer.diff * z
        cell.inverse = np.asarray(np.linalg.inv(cell.Lam), dtype=np.float64)
        cell.S += 1
        cell.N += answer.n
        left -= answer.n
    if cell.S:
        theta = cell.inverse @ cell.bvec
        cell.best = _argmax(plan.features @ theta, plan.origin)
        cell.eps = max(0.0, float(_optimism(cell, theta, plan)[0].max()))


def _optimism(cell: _Cell, theta: Array, plan: _Plan) -> tuple[Array, Array]:
    """Return upper bounds on the candidates' leads over the incumbent, and the norms of the differences."""
    z = plan.features - plan.features[cell.best]
    norms = np.sqrt(np.maximum(((z @ cell.inverse) * z).sum(axis=1), 0.0))
    omega = plan.rg * math.sqrt(max(1, cell.S)) + 2.0 * plan.Delta * math.sqrt(max(1, cell.N))
    return z @ theta + omega * norms, norms


def _unexplored(cell: _Cell, norms: Array, plan: _Plan) -> int:
    """Return a candidate of whose lead the data say less than the ridge; the incumbent where there is none.

    The widths bound noise and remainder. A slope that is large beside both would be taken for 0 in a
    direction that was never tried, however little noise there is.
    """
    lengths = np.sqrt(((plan.features - plan.features[cell.best]) ** 2).sum(axis=1) / plan.ridge)
    share = np.divide(norms, lengths, out=np.zeros_like(norms), where=lengths > 0.0)
    most = int(np.argmax(share * norms))
    return most if share[most] ** 2 > 0.5 else cell.best


def _argmax(values: Array, preferred: int) -> int:
    """Return the argmax; `preferred` where it attains the maximum."""
    best = int(np.argmax(values))
    return preferred if values[preferred] >= values[best] else best


def _tournament(active: list[_Cell], n: int, plan: _Plan, session: Session, phase: int) -> _Cell:
    """Return the winner of knock-out rounds in which the odd one out gets a bye."""
    contenders = list(active)
    while len(contenders) > 1:
        winners = []
        for first, second in zip(contenders[::2], contenders[1::2]):
            answer = session.compare(
                first.point(plan), second.point(plan), n, phase=phase, n_cells=len(active)
            )
            winners.append(first if answer is None or answer.diff >= 0.0 else second)
        contenders = winners + contenders[len(contenders) - len(contenders) % 2 :]
    return contenders[0]


def _eliminate(
    active: list[_Cell], champion: _Cell, n: int, plan: _Plan, session: Session, phase: int
) -> list[_Cell]:
    """Drop the cells that the champion beats clearly: by slack and remainder and two widths, or one twice.

    A width of ``width_scale`` 1/4 is two standard deviations of an answer without bias: over all phases, a
    single look would drop the optimum's cell in some of a hundred runs. The second one costs few queries,
    since a cell is dropped but once.
    """
    return [
        cell
        for cell in active
        if cell is champion or not _is_beaten(cell, champion, n, plan, session, phase, len(active))
    ]


def _is_beaten(
    cell: _Cell, champion: _Cell, n: int, plan: _Plan, session: Session, phase: int, n_cells: int
) -> bool:
    """Compare a cell's representative with the champion's, a second time where the first is a close thing."""
    best, x = champion.point(plan), cell.point(plan)
    for _ in range(2):
        answer = session.compare(best, x, n, phase=phase, n_cells=n_cells)
        if answer is None:
            return False
        lead = answer.diff - cell.eps - 2.0 * plan.Delta
        if not lead > plan.width(answer.n):
            return False
        if lead > 2.0 * plan.width(answer.n):
            return True
    return True
