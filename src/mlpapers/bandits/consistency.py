"""Is an oracle as consistent as it says? Its constants, estimated from repeated comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import nnls

from mlpapers.bandits.env import BanditEnv
from mlpapers.bandits.oracle import ComparisonOracle, check_gamma, check_periods, check_point
from mlpapers.core.validation import check_int, check_real

__all__ = ["check_consistency"]


def check_consistency(
    oracle: ComparisonOracle,
    pairs: Sequence[tuple[ArrayLike, ArrayLike]],
    ns: Sequence[int],
    delta: float | Sequence[float],
    *,
    n_replications: int = 200,
    differences: ArrayLike | None = None,
) -> pd.DataFrame:
    r"""Estimate (gamma1, gamma2) of an oracle and compare them with what it declares.

    The bound says that :math:`n\,(y - (f(x) - f(x')))^2 \le \gamma_1 + \gamma_2 \ln(1/\delta)` with
    probability :math:`1 - \delta`; the (1 - delta) quantiles of the left side are regressed on
    :math:`\ln(1/\delta)`.

    Parameters
    ----------
    oracle : ComparisonOracle
        Its periods are spent: n_replications * sum(ns) for every pair.
    pairs : sequence of (x, x_prime)
    ns : sequence of int
        Query lengths.
    delta : float or sequence of float
        Probabilities; two or more tell gamma1 from gamma2.
    n_replications : int
        Queries per pair and length; 1/delta of them at least are needed to see the quantile.
    differences : array of shape (len(pairs),), optional
        True f(x) - f(x'); by default the mean answer at the largest n, which hides a bias of that length.

    Returns
    -------
    DataFrame
        One row per pair, n and delta: pair, n, delta, bias (mean error), quantile (of n error^2), bound
        (declared), holds, and gamma1, gamma2 (estimated from all rows, the same in each).

    Raises
    ------
    ValueError, TypeError
        For an impossible argument, or where the oracle has too few periods left.

    Examples
    --------
    >>> from mlpapers.bandits import ConcaveFunctionEnv
    >>> oracle = ConcaveFunctionEnv().reset(horizon=100_000, random_state=0).as_oracle()
    >>> frame = check_consistency(oracle, [([0.2], [0.8])], [100], [0.1, 0.02], n_replications=400)
    >>> frame["holds"].tolist()
    [True, True]
    """
    if isinstance(oracle, BanditEnv):
        oracle = oracle.as_oracle()
    if not isinstance(oracle, ComparisonOracle):
        raise TypeError(f"oracle must have dim, gamma, remaining, compare and play; got {oracle!r}")
    if not isinstance(ns, Sequence | np.ndarray):
        raise TypeError(f"ns must be a sequence of query lengths; got {ns!r}")
    if not isinstance(pairs, Sequence | np.ndarray):
        raise TypeError(f"pairs must be a sequence of pairs (x, x_prime); got {pairs!r}")
    if not all(_is_pair(pair) for pair in pairs):
        raise ValueError(f"pairs must hold pairs (x, x_prime) of points; got {pairs!r}")
    points = [
        (check_point("pairs", x, oracle.dim), check_point("pairs", x_prime, oracle.dim))
        for x, x_prime in pairs
    ]
    lengths = [check_periods(n, minimum=2) for n in ns]
    deltas = [
        check_real("delta", value, low=0.0, high=1.0, closed="neither")
        for value in ([delta] if np.ndim(delta) == 0 else delta)  # type: ignore[union-attr]
    ]
    R = check_int("n_replications", n_replications, minimum=2)
    if not points or not lengths or not deltas:
        raise ValueError("pairs, ns and delta must not be empty")
    needed = R * sum(lengths) * len(points)
    if oracle.remaining < needed:
        raise ValueError(f"oracle must have {needed} periods left; got {oracle.remaining}")
    gamma1, gamma2 = check_gamma(tuple(oracle.gamma))
    truth = None if differences is None else np.asarray(differences, dtype=np.float64)
    if truth is not None and truth.shape != (len(points),):
        raise ValueError(f"differences must have shape ({len(points)},); got {truth.shape}")
    rows: list[dict[str, Any]] = []
    for index, (x, x_prime) in enumerate(points):
        answers = {n: np.array([_ask(oracle, x, x_prime, n) for _ in range(R)]) for n in lengths}
        centre = answers[max(lengths)].mean() if truth is None else truth[index]
        for n in lengths:
            errors = answers[n] - centre
            for level in deltas:
                quantile = float(np.quantile(n * errors**2, 1.0 - level, method="higher"))
                bound = gamma1 + gamma2 * np.log(1.0 / level)
                rows.append(
                    {
                        "pair": index,
                        "n": n,
                        "delta": level,
                        "bias": float(errors.mean()),
                        "quantile": quantile,
                    }
                    | {"bound": bound, "holds": quantile <= bound}
                )
    frame = pd.DataFrame(rows)
    design = np.column_stack([np.ones(len(frame)), np.log(1.0 / frame["delta"])])
    frame["gamma1"], frame["gamma2"] = nnls(design, frame["quantile"].to_numpy())[0]
    return frame


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, Sequence | np.ndarray) and len(pair) == 2 and all(map(_is_point, pair))


def _is_point(x: Any) -> bool:
    return isinstance(x, Sequence | np.ndarray) and not isinstance(x, str)


def _ask(oracle: ComparisonOracle, x: Any, x_prime: Any, n: int) -> float:
    answer = oracle.compare(x, x_prime, n)
    if answer is None:
        raise ValueError("oracle returned None although periods were left")
    return answer.diff
