"""Mixtures of linear-regression tasks, and the ones that the paper's figures use."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core.validation import check_int, check_rng

__all__ = ["RegressionPrompts", "TaskMixture", "paper_settings"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RegressionPrompts:
    """A batch of B regression prompts.

    Attributes
    ----------
    X : ndarray of shape (B, n, d)
    y : ndarray of shape (B, n)
    x_query : ndarray of shape (B, d)
    y_query : ndarray of shape (B,)
    beta : ndarray of shape (B, d)
        The coefficients that context and query share.
    task : ndarray of shape (B,), int
    """

    X: Array
    y: Array
    x_query: Array
    y_query: Array
    beta: Array
    task: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TaskMixture:
    r"""K families of regressions: :math:`\beta \mid k \sim N(\mu_k, C_k)`, x ~ N(0, S), y = x'beta + noise.

    Parameters
    ----------
    means : array-like of shape (K, d)
        :math:`\mu_k`.
    covariances : array-like of shape (K, d, d)
        :math:`C_k`, symmetric and positive semidefinite.
    weights : array-like of shape (K,), optional
        Probabilities :math:`\pi_k` of the tasks; equal by default.
    noise : float or array-like of shape (K,), default=0.0
        Standard deviations :math:`s_k` of the noise.
    input_cov : array-like of shape (d, d), optional
        S; the identity by default.

    Raises
    ------
    ValueError
        Where shapes do not fit, weights are no distribution, a covariance is not symmetric and positive
        semidefinite or noise is negative; the message names the parameter.
    """

    means: Any
    covariances: Any
    weights: Any = field(default=None, kw_only=True)
    noise: Any = field(default=0.0, kw_only=True)
    input_cov: Any = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        means = _floats("means", self.means)
        if means.ndim != 2 or means.size == 0:
            raise ValueError(f"means must have shape (K, d), not empty; got {means.shape}")
        K, d = means.shape
        covariances = _floats("covariances", self.covariances)
        if covariances.shape != (K, d, d):
            raise ValueError(f"covariances must have shape ({K}, {d}, {d}); got {covariances.shape}")
        for C in covariances:
            _check_covariance("covariances", C)
        weights = np.full(K, 1.0 / K) if self.weights is None else _floats("weights", self.weights)
        if weights.shape != (K,) or (weights < 0).any() or abs(weights.sum() - 1.0) > 1e-9:
            raise ValueError(f"weights must be {K} probabilities that sum to 1; got {self.weights!r}")
        noise = _floats("noise", self.noise)
        if noise.shape not in ((), (K,)) or (noise < 0).any():
            raise ValueError(f"noise must be a number >= 0 or {K} of them; got {self.noise!r}")
        input_cov = np.eye(d) if self.input_cov is None else _floats("input_cov", self.input_cov)
        if input_cov.shape != (d, d):
            raise ValueError(f"input_cov must have shape ({d}, {d}); got {input_cov.shape}")
        _check_covariance("input_cov", input_cov)
        checked = {
            "means": means,
            "covariances": covariances,
            "weights": weights,
            "noise": np.broadcast_to(noise, K).copy(),
            "input_cov": input_cov,
        }
        for name, value in checked.items():
            value.setflags(write=False)
            object.__setattr__(self, name, value)

    @property
    def n_tasks(self) -> int:
        """K."""
        return len(self.means)

    @property
    def n_features(self) -> int:
        """D."""
        return int(self.means.shape[1])

    @property
    def Cbar(self) -> Array:
        """Mean covariance sum_k pi_k C_k, shape (d, d): the unbiased one."""
        return np.einsum("k,kij->ij", self.weights, self.covariances)

    @property
    def B(self) -> Array:
        """Second moment of the means, sum_k pi_k mu_k mu_k', shape (d, d)."""
        return np.einsum("k,ki,kj->ij", self.weights, self.means, self.means)

    @property
    def M(self) -> Array:
        """Second moment of beta, Cbar + B, shape (d, d): the biased one."""
        return self.Cbar + self.B

    @property
    def v2(self) -> float:
        """Mean noise variance sum_k pi_k s_k^2, the floor of every loss."""
        return float(self.weights @ self.noise**2)

    def sample(
        self, n_tasks: int, n_context: int, *, task: int | None = None, random_state: Any = None
    ) -> RegressionPrompts:
        """Draw prompts.

        Parameters
        ----------
        n_tasks : int
            Number of prompts B.
        n_context : int
            Context rows of each.
        task : int, optional
            Only prompts of that task; by default tasks are drawn by `weights`.
        random_state : int, Generator, RandomState or None

        Returns
        -------
        prompts : RegressionPrompts

        Raises
        ------
        ValueError, TypeError
            For an argument out of range; the message names it.
        """
        B = check_int("n_tasks", n_tasks, minimum=1)
        n = check_int("n_context", n_context, minimum=1)
        rng = check_rng(random_state)
        if task is None:
            chosen = rng.choice(self.n_tasks, size=B, p=self.weights)
        else:
            chosen = np.full(B, check_int("task", task, minimum=0, maximum=self.n_tasks - 1))
        roots = np.stack([_root(C) for C in self.covariances])
        d = self.n_features
        beta = self.means[chosen] + np.einsum("bij,bj->bi", roots[chosen], rng.standard_normal((B, d)))
        rows = rng.standard_normal((B, n + 1, d)) @ _root(self.input_cov).T
        y = np.einsum("bnd,bd->bn", rows, beta)
        y += self.noise[chosen, None] * rng.standard_normal((B, n + 1))
        return RegressionPrompts(rows[:, :n], y[:, :n], rows[:, n], y[:, n], beta, chosen.astype(np.int64))


def paper_settings() -> dict[str, tuple[TaskMixture, tuple[int, ...]]]:
    """Return the eleven published settings: name -> (mixture, context lengths).

    Ten features, two tasks of weight 0.3 and 0.7 with means a_k (1, ..., 1). In a name, "mean0" and
    "mean-0.4" give the mean of a_k over tasks, "far" the wider pair, "c12" the covariances c_1 I and c_2 I,
    "diag" the decaying covariance diag(1, 1/2, ..., 2^-9), and "noise0.3" the noise.

    Returns
    -------
    settings : dict of str to (TaskMixture, tuple of int)

    References
    ----------
    .. [1] Chang et al., "Provable Benefits of Task-Specific Prompts for In-context Learning", AISTATS 2025,
       figures and the authors' code.

    Examples
    --------
    >>> from mlpapers.icl import paper_settings
    >>> mixture, lengths = paper_settings()["mean0_diag"]
    >>> mixture.means.shape, len(paper_settings())
    ((2, 10), 11)
    """
    long, short = (1, 10, 20, 30, 40, 50), (1, 3, 5, 7, 10, 15, 20)
    pairs = {"mean0": (1.4, -0.6), "mean-0.4": (1.0, -1.0)}
    far = {"mean0": (2.1, -0.9), "mean-0.4": (1.7, -1.3)}
    scales = {"c11": (1.0, 1.0), "c22": (2.0, 2.0), "c12": (1.0, 2.0)}
    settings: dict[str, tuple[TaskMixture, tuple[int, ...]]] = {}
    for mean, pair in pairs.items():
        for name, scale in scales.items():
            settings[f"{mean}_{name}"] = (_paper_mixture(pair, scale), long)
        settings[f"{mean}far_c11"] = (_paper_mixture(far[mean], (1.0, 1.0)), long)
    decaying = np.diag(0.5 ** np.arange(10.0))
    means = np.outer(pairs["mean0"], np.ones(10))
    settings["mean0_diag"] = (TaskMixture(means, [decaying, decaying], weights=(0.3, 0.7)), short)
    for mean, pair in pairs.items():
        settings[f"{mean}_c11_noise0.3"] = (_paper_mixture(pair, (1.0, 1.0), noise=0.3), short)
    return settings


def _paper_mixture(pair: tuple[float, float], scale: tuple[float, float], noise: float = 0.0) -> TaskMixture:
    means = np.outer(pair, np.ones(10))
    return TaskMixture(means, np.multiply.outer(scale, np.eye(10)), weights=(0.3, 0.7), noise=noise)


def _floats(name: str, value: Any) -> Array:
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of numbers; got {value!r}") from error
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite; got {value!r}")
    return array


def _check_covariance(name: str, C: Array) -> None:
    scale = max(1.0, float(np.abs(C).max()))
    if np.abs(C - C.T).max() > 1e-10 * scale:
        raise ValueError(f"{name} must be symmetric; got {C.tolist()}")
    if np.linalg.eigvalsh(C)[0] < -1e-10 * scale:
        raise ValueError(f"{name} must be positive semidefinite; got {C.tolist()}")


def _root(C: Array) -> Array:
    """Return R with R R' = C for a positive semidefinite C."""
    values, vectors = np.linalg.eigh(C)
    return vectors * np.sqrt(np.clip(values, 0.0, None))
