"""Semi-supervised Gaussian mixtures: whole prompts for in-context learners, and single data sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core.validation import check_bool, check_int, check_real, check_rng
from mlpapers.icl._arrays import is_tensor, namespace

__all__ = ["GMMPrompts", "make_semisupervised_gmm", "sample_gmm_prompts"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GMMPrompts:
    """A batch of B tasks of the symmetric two-component mixture x = y mu + sigma xi.

    Attributes
    ----------
    X : array of shape (B, n, d)
        Context rows.
    y : array of shape (B, n)
        Labels -1 and +1 where revealed, 0 where missing.
    y_true : array of shape (B, n)
        All labels.
    x_query : array of shape (B, d)
    y_query : array of shape (B,)
    mu : array of shape (B, d)
        Task means, of norm 1.
    """

    X: Any
    y: Any
    y_true: Any
    x_query: Any
    y_query: Any
    mu: Any

    def tokens(self) -> Any:
        """Return the prompt matrices (B, n + 1, d + 1): rows (x_i, y_i), at last (x, 0).

        Returns
        -------
        array or tensor
        """
        context = namespace(self.X).concatenate([self.X, self.y[..., None]], axis=2)
        query = namespace(self.X).zeros_like(context[:, :1])
        query[:, 0, :-1] = self.x_query
        return namespace(self.X).concatenate([context, query], axis=1)


def sample_gmm_prompts(
    n_tasks: int,
    n_context: int,
    n_features: int,
    *,
    p: float = 0.5,
    sigma: float = 1.0,
    n_labeled: int | None = None,
    random_state: Any = None,
    as_torch: bool = False,
) -> GMMPrompts:
    r"""Draw tasks with mean :math:`\mu \sim \mathrm{Unif}(S^{d-1})` and rows :math:`x = y \mu + \sigma \xi`.

    Parameters
    ----------
    n_tasks, n_context, n_features : int
        B, n and d.
    p : float, default=0.5
        Probability that a label is revealed, independently of all else.
    sigma : float, default=1.0
        Standard deviation of the noise; 0 is allowed.
    n_labeled : int, optional
        Exactly that many revealed labels per task, in place of `p`.
    random_state : int, Generator, RandomState or None
    as_torch : bool, default=False
        Give float64 tensors.

    Returns
    -------
    prompts : GMMPrompts

    Raises
    ------
    ValueError, TypeError
        For an argument out of range; the message names it.

    Examples
    --------
    >>> prompts = sample_gmm_prompts(3, 5, 2, n_labeled=2, random_state=0)
    >>> prompts.tokens().shape, np.abs(prompts.y).sum(axis=1).tolist()
    ((3, 6, 3), [2.0, 2.0, 2.0])
    """
    B = check_int("n_tasks", n_tasks, minimum=1)
    n = check_int("n_context", n_context, minimum=1)
    d = check_int("n_features", n_features, minimum=1)
    p = check_real("p", p, low=0.0, high=1.0)
    sigma = check_real("sigma", sigma, low=0.0)
    check_bool("as_torch", as_torch)
    rng = check_rng(random_state)
    mu = rng.standard_normal((B, d))
    mu /= np.linalg.norm(mu, axis=1, keepdims=True)
    y_true = 2.0 * rng.integers(0, 2, size=(B, n)) - 1.0
    y_query = 2.0 * rng.integers(0, 2, size=B) - 1.0
    X = y_true[..., None] * mu[:, None, :] + sigma * rng.standard_normal((B, n, d))
    x_query = y_query[:, None] * mu + sigma * rng.standard_normal((B, d))
    if n_labeled is None:
        revealed = rng.random((B, n)) < p
    else:
        # Rows are exchangeable, so the first rows are as good as any others.
        m = check_int("n_labeled", n_labeled, minimum=0, maximum=n)
        revealed = np.broadcast_to(np.arange(n) < m, (B, n))
    arrays: tuple[Any, ...] = (X, np.where(revealed, y_true, 0.0), y_true, x_query, y_query, mu)
    if as_torch:
        import torch

        arrays = tuple(torch.from_numpy(array) for array in arrays)
    return GMMPrompts(*arrays)


def make_semisupervised_gmm(
    n_samples: int = 200,
    n_features: int = 10,
    *,
    n_labeled: int = 10,
    sigma: float = 1.0,
    random_state: Any = None,
) -> tuple[Array, NDArray[np.int64], NDArray[np.int64], Array]:
    """Draw one data set of the symmetric mixture with few labels.

    Parameters
    ----------
    n_samples, n_features : int
    n_labeled : int, default=10
        Rows that keep their label; with two or more, both classes have one.
    sigma : float, default=1.0
        Standard deviation of the noise around the means -mu and +mu, which have norm 1.
    random_state : int, Generator, RandomState or None

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,), int
        0 and 1, or -1 where the label is missing.
    y_true : ndarray of shape (n_samples,), int
    mu : ndarray of shape (n_features,)
        Mean of class 1.

    Raises
    ------
    ValueError, TypeError
        For an argument out of range; the message names it.
    """
    n = check_int("n_samples", n_samples, minimum=2)
    d = check_int("n_features", n_features, minimum=1)
    m = check_int("n_labeled", n_labeled, minimum=0, maximum=n)
    sigma = check_real("sigma", sigma, low=0.0)
    rng = check_rng(random_state)
    mu = rng.standard_normal(d)
    mu /= np.linalg.norm(mu)
    y_true = rng.integers(0, 2, size=n)
    if m >= 2 and np.ptp(y_true[:m]) == 0:
        y_true[rng.integers(0, m)] ^= 1
    X = (2.0 * y_true[:, None] - 1.0) * mu + sigma * rng.standard_normal((n, d))
    order = rng.permutation(n)
    y = np.where(np.arange(n) < m, y_true, -1)
    return X[order], y[order], y_true[order], mu


def as_arrays(prompts: GMMPrompts) -> GMMPrompts:
    """Return the prompts as numpy arrays."""
    if not is_tensor(prompts.X):
        return prompts
    return GMMPrompts(*(value.numpy() for value in vars(prompts).values()))
