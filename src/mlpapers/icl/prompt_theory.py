"""Exact losses and optima of linear attention with task-specific prompts and heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from mlpapers.core.validation import check_choice, check_int
from mlpapers.icl._arrays import is_tensor, like, namespace
from mlpapers.icl.mixture import TaskMixture

__all__ = ["PromptOptimum", "optimal_loss", "optimal_weights", "prompt_loss", "strategies"]

Array = NDArray[np.float64]

_CLOSED = ("plain", "prompt", "prompt+head", "finetune_prompt", "finetune_prompt+head")
_NUMERICAL = ("shared_head", "head")
# Relative size of the multiple of the identity that stands for an optimum that is only approached.
_EPS = 1e-7


@dataclass(frozen=True, eq=False)
class PromptOptimum:
    """Weights that reach the smallest loss of a strategy.

    Attributes
    ----------
    W : ndarray of shape (d, d)
    prompts, heads : ndarray of shape (K, d)
        Zeros where the strategy has none.
    loss : float
        The minimum, or the infimum where it is not attained.
    attained : bool
        False where a prompt would have to be infinite: W is then moved by a small multiple of the identity.
    strategy : str
    """

    W: Array
    prompts: Array
    heads: Array
    loss: float
    attained: bool
    strategy: str


class Quadratic(NamedTuple):
    """The loss after the best prompt: v2 + tr(S T) - 2n tr(S W S T) + n tr(S W G W')."""

    v2: float
    S: Array
    T: Array
    G: Array
    n: int

    def minimum(self) -> tuple[Array, float]:
        """Return W* = T' S G^-1 and the smallest value."""
        W = solve_symmetric(self.G, self.S @ self.T).T
        return W, self.v2 + float(np.trace(self.S @ self.T) - self.n * np.trace(self.S @ W @ self.S @ self.T))

    def value(self, W: Array) -> float:
        """Return the loss at W."""
        S, T = self.S, self.T
        cross = np.trace(S @ W @ S @ T)
        return self.v2 + float(
            np.trace(S @ T) - 2.0 * self.n * cross + self.n * np.trace(S @ W @ self.G @ W.T)
        )


def strategies() -> tuple[str, ...]:
    """Return the names of what is trained.

    ``plain`` (no prompts), ``prompt`` (weights and prompts together), ``prompt+head``, ``finetune_prompt``
    and ``finetune_prompt+head`` (prompts, or prompts and heads, on weights trained without them), and two
    without a closed form: ``shared_head`` (one head for all tasks) and ``head`` (one per task), no prompts.

    Returns
    -------
    names : tuple of str
    """
    return _CLOSED + _NUMERICAL


def prompt_loss(W: Any, prompts: Any, heads: Any, mixture: TaskMixture, n_context: int) -> Any:
    r"""Exact squared loss of f = x'W (X'(y + X h_k) + p_k) on a mixture of tasks.

    With :math:`M_k = C_k + \mu_k\mu_k'`, :math:`r_k = \mu_k + h_k`, :math:`N_k = C_k + r_k r_k'` and
    :math:`G_k = n (\mathrm{tr}(S N_k) + s_k^2) S + n(n+1) S N_k S`,

    .. math::

       L = \sum_k \pi_k \{ & s_k^2 + \mathrm{tr}(S M_k) - 2n\, \mathrm{tr}(S W S (M_k + h_k \mu_k'))
           - 2 p_k' W' S \mu_k \\
           & + \mathrm{tr}(S W G_k W') + 2n\, p_k' W' S W S r_k + p_k' W' S W p_k \}.

    Parameters
    ----------
    W : array or tensor of shape (d, d)
    prompts, heads : array or tensor of shape (K, d)
    mixture : TaskMixture
    n_context : int
        n.

    Returns
    -------
    loss : scalar array, or tensor that can be differentiated, of the dtype of W

    Raises
    ------
    ValueError, TypeError
        Where a shape does not fit the mixture or n_context < 1; the message names the argument.

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.icl import optimal_weights, paper_settings, prompt_loss
    >>> mixture, _ = paper_settings()["mean0_c11"]
    >>> for strategy in ("plain", "prompt", "prompt+head"):
    ...     best = optimal_weights(mixture, 20, strategy)
    ...     loss = prompt_loss(best.W, best.prompts, best.heads, mixture, 20)
    ...     print(strategy, round(float(loss), 3), bool(np.isclose(loss, best.loss)))
    plain 5.642 True
    prompt 5.013 True
    prompt+head 3.548 True
    """
    n = _check_call(mixture, n_context)
    K, d = mixture.means.shape
    reference = next((value for value in (W, prompts, heads) if is_tensor(value)), None)
    W = _check_shape("W", W, (d, d), reference)
    p = _check_shape("prompts", prompts, (K, d), reference)
    h = _check_shape("heads", heads, (K, d), reference)
    mu, C, S, pi, s2 = (
        like(value, reference)
        for value in (
            mixture.means,
            mixture.covariances,
            mixture.input_cov,
            mixture.weights,
            mixture.noise**2,
        )
    )
    einsum = namespace(W).einsum
    SWS, WSW = S @ W @ S, W.T @ S @ W
    r = mu + h
    # tr(SW G_k W') = n (tr(S N_k) + s_k^2) tr(W'SW S) + n (n+1) tr(W'SW S N_k S), N_k = C_k + r_k r_k'.
    inner = S @ WSW @ S
    trace_N = einsum("ij,kji->k", S, C) + einsum("ki,ij,kj->k", r, S, r)
    quadratic = n * (trace_N + s2) * (WSW * S).sum()
    quadratic = quadratic + n * (n + 1) * (einsum("ij,kji->k", inner, C) + einsum("ki,ij,kj->k", r, inner, r))
    trace_M = einsum("ij,kji->k", S, C) + einsum("ki,ij,kj->k", mu, S, mu)
    # tr(SWS (M_k + h_k mu_k')) = tr(SWS C_k) + mu_k' SWS r_k
    cross = einsum("ij,kji->k", SWS, C) + einsum("ki,ij,kj->k", mu, SWS, r)
    # Through u_k = W p_k: the products of a large prompt and a small W must not be squared apart.
    u = p @ W.T @ S
    with_prompt = ((p @ W.T - 2.0 * mu) * u).sum(1) + 2.0 * n * ((u @ W @ S) * r).sum(1)
    return (pi * (s2 + trace_M - 2.0 * n * cross + quadratic + with_prompt)).sum()


def optimal_loss(mixture: TaskMixture, n_context: int, strategy: str) -> float:
    """Smallest loss that a strategy can reach.

    Parameters
    ----------
    mixture : TaskMixture
    n_context : int
    strategy : str
        One of :func:`strategies`.

    Returns
    -------
    loss : float
        The infimum where no weights attain it.

    Raises
    ------
    ValueError, TypeError
        For an unknown strategy, which the message lists, or n_context < 1.
    """
    n = _check_call(mixture, n_context)
    strategy = check_choice("strategy", strategy, strategies())
    if strategy in _NUMERICAL:
        return optimal_weights(mixture, n, strategy).loss
    target = quadratic(mixture, n, strategy.removeprefix("finetune_"))
    if strategy.startswith("finetune_"):
        return target.value(quadratic(mixture, n, "plain").minimum()[0])
    return target.minimum()[1]


def optimal_weights(mixture: TaskMixture, n_context: int, strategy: str) -> PromptOptimum:
    """Weights, prompts and heads that reach the smallest loss of a strategy.

    After the best prompts and heads the loss is quadratic in W (:class:`Quadratic`), with

    - ``plain``: T = M, G = (tr(SM) + v2) S + (n+1) SMS;
    - ``prompt``: T = Cbar, G = (tr(SM) + v2) S + (n+1) S Cbar S + SBS and W p_k = (I - nWS) mu_k: a prompt
      takes the means out of what is to be explained, but not out of the noise that they make;
    - ``prompt+head``: T = Cbar, G = (tr(S Cbar) + v2) S + (n+1) S Cbar S, h_k = -mu_k, W p_k = mu_k: nothing
      is left of the means.

    Parameters
    ----------
    mixture : TaskMixture
    n_context : int
    strategy : str
        One of :func:`strategies`; "shared_head" and "head" have no closed form and need torch.

    Returns
    -------
    optimum : PromptOptimum

    Raises
    ------
    ValueError, TypeError
        For an unknown strategy, which the message lists, or n_context < 1.

    References
    ----------
    .. [1] Chang et al., "Provable Benefits of Task-Specific Prompts for In-context Learning", AISTATS 2025.
    """
    n = _check_call(mixture, n_context)
    strategy = check_choice("strategy", strategy, strategies())
    if strategy in _NUMERICAL:
        from mlpapers.icl._heads import best_heads

        W, heads, loss = best_heads(mixture, n, shared=strategy == "shared_head")
        return PromptOptimum(W, np.zeros_like(mixture.means), heads, loss, True, strategy)
    loss = optimal_loss(mixture, n, strategy)
    base = strategy.removeprefix("finetune_")
    start = "plain" if strategy != base else base
    W = quadratic(mixture, n, start).minimum()[0]
    mu, S = mixture.means, mixture.input_cov
    zeros = np.zeros_like(mu)
    if base == "plain":
        return PromptOptimum(W, zeros, zeros.copy(), loss, True, strategy)
    heads = -mu if base == "prompt+head" else zeros

    def needed(W: Array) -> Array:
        return mu if base == "prompt+head" else mu - n * mu @ S @ W.T

    # Only S W p enters the loss.
    seen, wanted = S @ W, S @ needed(W).T
    prompts = np.linalg.lstsq(seen, wanted, rcond=1e-12)[0].T
    attained = bool(np.abs(seen @ prompts.T - wanted).max() <= 1e-8 * max(1e-300, np.abs(S @ mu.T).max()))
    if not attained:
        scale = float(np.abs(W).max()) or 1.0 / (n * max(1e-300, float(np.trace(S))))
        W = W + _EPS * scale * np.eye(len(W))
        prompts = (np.linalg.pinv(S @ W, rcond=1e-14) @ S @ needed(W).T).T
    return PromptOptimum(W, prompts, heads, loss, attained, strategy)


def quadratic(mixture: TaskMixture, n: int, strategy: str) -> Quadratic:
    """Return the loss of "plain", "prompt" or "prompt+head" as a function of W alone."""
    S, M, Cbar = mixture.input_cov, mixture.M, mixture.Cbar
    if strategy == "plain":
        T, heard, extra = M, M, np.zeros_like(S)
    elif strategy == "prompt":
        T, heard, extra = Cbar, M, S @ mixture.B @ S
    else:
        T, heard, extra = Cbar, Cbar, np.zeros_like(S)
    G = (np.trace(S @ heard) + mixture.v2) * S + (n + 1) * S @ T @ S + extra
    return Quadratic(mixture.v2, S, T, (G + G.T) / 2.0, n)


def solve_symmetric(G: Array, right: Array) -> Array:
    """Return G^-1 right for a positive definite G, the pseudo-inverse's solution for a singular one."""
    try:
        factor = linalg.cho_factor(G)
    except linalg.LinAlgError:
        return np.linalg.pinv(G, hermitian=True) @ right
    solution: Array = linalg.cho_solve(factor, right)
    return solution


def _check_call(mixture: Any, n_context: Any) -> int:
    if not isinstance(mixture, TaskMixture):
        raise TypeError(f"mixture must be a TaskMixture; got {type(mixture).__name__}")
    return check_int("n_context", n_context, minimum=1)


def _check_shape(name: str, value: Any, shape: tuple[int, ...], reference: Any) -> Any:
    array = value if is_tensor(value) else like(value, reference)
    if tuple(array.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}; got {tuple(array.shape)}")
    return array
