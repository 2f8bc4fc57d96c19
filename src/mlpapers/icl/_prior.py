"""The prior that MiniPFN is fitted to: random binary tables, half Gaussian mixtures, half causal models."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["TableBatch", "sample_tables"]

Array = NDArray[np.float64]

N_QUERIES = 32
_MAX_LATENTS, _N_HIDDEN = 5, 32


class TableBatch(NamedTuple):
    """Tables that share their size.

    Attributes
    ----------
    x : ndarray of shape (tables, n, d)
        Context rows, standardised by themselves.
    y : ndarray of shape (tables, n), -1 or +1
    x_query : ndarray of shape (tables, 32, d)
        Standardised by the context rows.
    y_query : ndarray of shape (tables, 32), -1 or +1
    """

    x: Array
    y: Array
    x_query: Array
    y_query: Array


def sample_tables(rng: np.random.Generator, n_tables: int) -> TableBatch:
    """Draw tables with a common d in 2..16 and n in 6..64, half of them from each part of the prior."""
    d = int(rng.integers(2, 17))
    n = int(rng.integers(6, 65))
    half = n_tables // 2
    parts = (
        _mixture_tables(rng, half, n + N_QUERIES, d),
        _causal_tables(rng, n_tables - half, n + N_QUERIES, d),
    )
    x = np.concatenate([part[0] for part in parts])
    y = np.concatenate([part[1] for part in parts])
    x = standardise(x, x[:, :n])
    return TableBatch(x[:, :n], y[:, :n], x[:, n:], y[:, n:])


def standardise(x: Array, reference: Array) -> Array:
    """Return z-scores of rows (..., t, d) by the statistics of `reference` (..., n, d), clipped to +-5."""
    centre = reference.mean(axis=-2, keepdims=True)
    spread = reference.std(axis=-2, keepdims=True) + 1e-6
    scores: Array = np.clip((x - centre) / spread, -5.0, 5.0)
    return scores


def _mixture_tables(rng: np.random.Generator, tables: int, rows: int, d: int) -> tuple[Array, Array]:
    """Draw two Gaussian clusters x = z A + y mu, some with heavy tails, some with skewed columns."""
    share = rng.uniform(0.2, 0.8, size=(tables, 1))
    y = np.where(rng.random((tables, rows)) < share, 1.0, -1.0)
    scales = np.exp(2.0 * rng.random((tables, 1, d))) / 3.0
    A = rng.standard_normal((tables, d, d)) * scales / np.sqrt(d) + 0.3 * np.eye(d)
    mu = rng.standard_normal((tables, d))
    rms = np.sqrt(np.square(A).sum(axis=(1, 2)) / d)
    mu *= (rng.uniform(0.5, 3.0, size=tables) * rms / np.linalg.norm(mu, axis=1))[:, None]
    z = rng.standard_normal((tables, rows, d))
    heavy = rng.random((tables, 1, 1)) < 0.3
    z = np.where(heavy, z / (0.3 + rng.random((tables, rows, 1))), z)
    x = z @ A + y[..., None] * mu[:, None, :]
    skewed = (rng.random((tables, 1, 1)) < 0.5) & (rng.random((tables, 1, d)) < 0.4)
    slope = 0.3 * np.abs(rng.standard_normal((tables, 1, d)))
    return np.where(skewed, np.expm1(np.clip(slope * x, -5.0, 5.0)), x), y


def _causal_tables(rng: np.random.Generator, tables: int, rows: int, d: int) -> tuple[Array, Array]:
    """Draw features and label as outputs of one random network on a few latent normals."""
    n_latents = rng.integers(1, _MAX_LATENTS + 1, size=tables)
    active = np.arange(_MAX_LATENTS) < n_latents[:, None]
    z = rng.standard_normal((tables, rows, _MAX_LATENTS)) * active[:, None, :]
    hidden = _activate(rng, z @ rng.standard_normal((tables, _MAX_LATENTS, _N_HIDDEN)))
    hidden = hidden + 0.1 * rng.standard_normal(hidden.shape)
    weights = rng.standard_normal((tables, _N_HIDDEN, d + 1)) / np.sqrt(_N_HIDDEN)
    out = hidden @ weights
    out = np.where(rng.random((tables, 1, 1)) < 0.5, _activate(rng, out), out)
    noise = 0.2 * rng.random((tables, 1, 1))
    x = out[..., :d] + noise * rng.standard_normal((tables, rows, d))
    target = out[..., d]
    target = target + 0.05 * target.std(axis=1, keepdims=True) * rng.standard_normal(target.shape)
    cut = np.array([np.quantile(row, q) for row, q in zip(target, rng.uniform(0.2, 0.8, size=tables))])
    return x, np.where(target > cut[:, None], 1.0, -1.0)


def _activate(rng: np.random.Generator, values: Array) -> Array:
    """Apply tanh, relu, identity or sine to each table."""
    which = rng.integers(0, 4, size=(len(values), 1, 1))
    return np.select(
        [which == 0, which == 1, which == 2],
        [np.tanh(values), np.maximum(values, 0.0), values],
        np.sin(values),
    )
