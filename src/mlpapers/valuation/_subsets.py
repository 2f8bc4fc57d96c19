"""Random subsets of the sample: plain ones, and families that share one point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core.parallel import chunk_slices, spawn_seeds
from mlpapers.valuation._ustatistic import draw_tuples

# Rows drawn from one seed.
_BLOCK = 256


@dataclass(frozen=True, eq=False)
class Subsets:
    """Ordered tuples of s + 1 distinct training points, whose first s are a uniform subset.

    Parameters
    ----------
    tuples : ndarray of shape (B, s + 1) of int
        The last entry is the spare that stands in where the target itself is in the subset.
    sizes : ndarray of shape (B,) of int, or None
        k uniform in 0..s: the marginal contribution to the first k is taken instead of the Shapley value.
    anchors, alternates : ndarray of shape (B,) of int, or None
        The point that the subsets of one family share, and the one they share where that point is the target.
    """

    tuples: NDArray[np.int64]
    sizes: NDArray[np.int64] | None = None
    anchors: NDArray[np.int64] | None = None
    alternates: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.tuples)

    @property
    def has_anchors(self) -> bool:
        """Whether the subsets come in families."""
        return self.anchors is not None

    def anchored_at(self, target: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the rows whose anchor is `target`, and the subsets (R, s) that it has there instead.

        Exchanging the anchor and its alternate keeps the law of a family: both are uniform, and so are the
        rest.
        """
        if self.anchors is None or self.alternates is None:
            return np.zeros(0, dtype=np.int64), self.tuples[:0, :-1]
        rows = np.flatnonzero(self.anchors == target)
        old, alternate = self.tuples[rows], self.alternates[rows, None]
        exchanged = np.where(old == target, alternate, np.where(old == alternate, target, old))
        return rows, without(exchanged, target)


def without(tuples: NDArray[np.int64], target: int) -> NDArray[np.int64]:
    """Return subsets (B, s) of the sample less `target`: the spare stands in for it."""
    return np.where(tuples[:, :-1] == target, tuples[:, -1:], tuples[:, :-1])


def draw_subsets(n: int, size: int, n_subsets: int, with_sizes: bool, random_state: Any) -> Subsets:
    """Draw `n_subsets` independent subsets of `size` of n points."""
    blocks = chunk_slices(n_subsets, _BLOCK)
    tuples = np.empty((n_subsets, size + 1), dtype=np.int64)
    sizes = np.zeros(n_subsets, dtype=np.int64)
    for block, seed in zip(blocks, spawn_seeds(random_state, len(blocks))):
        rng = np.random.default_rng(seed)
        rows = block.stop - block.start
        tuples[block] = draw_tuples(rng.random((rows, size + 1)), n)
        sizes[block] = rng.integers(0, size, rows, endpoint=True)
    return Subsets(tuples, sizes if with_sizes else None)


def draw_families(
    n: int, size: int, n_families: int, n_members: int, with_sizes: bool, random_state: Any
) -> Subsets:
    """Draw `n_families` families of `n_members` subsets; those of one family share a uniform point only.

    Rows of one family follow each other.
    """
    n_rows = n_families * n_members
    families = chunk_slices(n_families, max(1, _BLOCK // n_members))
    tuples = np.empty((n_rows, size + 1), dtype=np.int64)
    sizes, anchors, alternates = (np.zeros(n_rows, dtype=np.int64) for _ in range(3))
    for family, seed in zip(families, spawn_seeds(random_state, len(families))):
        rng = np.random.default_rng(seed)
        pairs = draw_tuples(rng.random((family.stop - family.start, 2)), n).repeat(n_members, axis=0)
        block = slice(family.start * n_members, family.stop * n_members)
        rows = np.arange(len(pairs))
        others = draw_tuples(rng.random((len(pairs), size)), n - 1)
        others += others >= pairs[:, :1]
        place = rng.integers(0, size, len(pairs))
        rest = np.ones((len(pairs), size + 1), dtype=bool)
        rest[rows, place] = False
        family_tuples = tuples[block]
        family_tuples[rest] = others.ravel()
        family_tuples[rows, place] = pairs[:, 0]
        sizes[block] = rng.integers(0, size, len(pairs), endpoint=True)
        anchors[block], alternates[block] = pairs[:, 0], pairs[:, 1]
    return Subsets(tuples, sizes if with_sizes else None, anchors, alternates)
