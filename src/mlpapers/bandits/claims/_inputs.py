"""What the claims share: horizons, environments, and how a slope becomes a row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.bandits import ConcaveFunctionEnv, regret_slope
from mlpapers.bandits.env import BanditEnv
from mlpapers.bandits.policy import BanditPolicy

DECADES = (10**4, 10**5, 10**6, 10**7)


def adversarial(bias: float, **params: Any) -> ConcaveFunctionEnv:
    """Return a concave environment whose bias shrinks or inverts every difference."""
    return ConcaveFunctionEnv(bias=bias, bias_mode="adversarial", **params)


def final_regrets(
    policy: BanditPolicy, env: BanditEnv, horizons: tuple[int, ...], R: int, seed: list[int]
) -> NDArray[np.float64]:
    """Return the final regrets of separate runs, shape (horizons, R)."""
    return np.stack(
        [
            policy.run(env, T, n_replications=R, random_state=np.random.SeedSequence([*seed, T])).final_regret
            for T in horizons
        ]
    )


def slope_row(horizons: tuple[int, ...], regret: NDArray[np.float64], **labels: Any) -> dict[str, Any]:
    """Return a table row: labels, the slope with its bootstrap interval, and the mean regrets."""
    slope, low, high = regret_slope(horizons, regret, random_state=0)
    means = regret.mean(axis=1)
    row = {**labels, "slope": slope, "low": low, "high": high}
    row |= {f"R({T:.0e})": float(mean) for T, mean in zip(horizons, means)}
    return row | {"R(T)/T at the end": float(means[-1] / horizons[-1])}
