"""Simulated mixture tasks in the eigenbasis of X'X/n, and exact errors on them."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from mlpapers.icl._simulate import gram_statistics
from mlpapers.icl.plugin import mix

Array = NDArray[np.float64]


class EigenTasks(NamedTuple):
    """T tasks: eigenvalues of X'X/n, and the true and the supervised mean in the eigenbasis, all (T, d)."""

    values: Array
    mu: Array
    mu_s: Array


@functools.cache
def eigen_tasks(n: int, p: float, m: int | None, d: int, sigma: float, n_tasks: int, seed: int) -> EigenTasks:
    """Draw tasks with m labels, or with every label revealed with probability p."""
    rng = np.random.default_rng(seed)
    counts = np.full(n_tasks, m) if m is not None else rng.binomial(n, p, size=n_tasks)
    parts = []
    for count, size in zip(*np.unique(counts, return_counts=True)):
        drawn = gram_statistics(n, int(count), d, sigma, int(size), rng)
        values, vectors = np.linalg.eigh(drawn.gram)
        parts.append(
            [values, np.einsum("tij,ti->tj", vectors, drawn.mu), np.einsum("tij,ti->tj", vectors, drawn.mu_s)]
        )
    return EigenTasks(*(np.concatenate(columns) for columns in zip(*parts)))


def errors(tasks: EigenTasks, direction: Array, sigma: float) -> Array:
    """Return the exact test errors Q(mu'v / (sigma |v|)) of directions v (T, d) in the eigenbasis."""
    length = np.linalg.norm(direction, axis=1)
    cosine = (tasks.mu * direction).sum(axis=1) / np.where(length > 0.0, length, 1.0)
    return np.asarray(special.ndtr(-cosine / sigma))


def plugin_error(tasks: EigenTasks, sigma: float, k: float, mixing: float | None = None) -> float:
    """Return the mean error of SSPI-k; with `mixing` None the best one on a grid."""
    candidates = np.linspace(0.0, 1.0, 21) if mixing is None else [mixing]
    directions = (mix(tasks.values, tasks.mu_s, alpha, sigma, k, True) for alpha in candidates)
    return min(float(errors(tasks, direction, sigma).mean()) for direction in directions)
