"""Directions of differences: coordinates, orthonormal frames, and random vectors, in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["Block", "CoordinateBlock", "Directions", "FrameBlock", "VectorBlock"]

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

# Up to this dimension a random orthogonal matrix is held as such.
_DENSE = 2048


class Block(Protocol):
    """Some directions u_1..u_m."""

    def __len__(self) -> int:
        """M."""

    def take(self, chosen: Any) -> Block:
        """Return some of the directions."""

    def shift(self, X: Array, step: float) -> None:
        """Add step * u_j to row j of X."""

    def dots(self, v: Array) -> Array:
        """Return <u_j, v>, shape (m,)."""

    def add(self, v: Array, weights: Array) -> None:
        """Add sum_j weights_j u_j to v."""


class CoordinateBlock:
    """Unit vectors e_k."""

    def __init__(self, k: Ints) -> None:
        self.k = k

    def __len__(self) -> int:
        return len(self.k)

    def take(self, chosen: Any) -> CoordinateBlock:
        return CoordinateBlock(self.k[chosen])

    def shift(self, X: Array, step: float) -> None:
        X[np.arange(len(self.k)), self.k] += step

    def dots(self, v: Array) -> Array:
        return v[self.k]

    def add(self, v: Array, weights: Array) -> None:
        if 4 * len(self.k) < len(v):
            _add_each(v, self.k, weights)
        else:
            v += np.bincount(self.k, weights, minlength=len(v))


@njit(cache=True)
def _add_each(v: Array, k: Ints, weights: Array) -> None:
    for j in range(len(k)):
        v[k[j]] += weights[j]


class VectorBlock:
    """Dense directions, one a row."""

    def __init__(self, U: Array) -> None:
        self.U = U

    def __len__(self) -> int:
        return len(self.U)

    def take(self, chosen: Any) -> VectorBlock:
        return VectorBlock(self.U[chosen])

    def shift(self, X: Array, step: float) -> None:
        X += step * self.U

    def dots(self, v: Array) -> Array:
        return self.U @ v

    def add(self, v: Array, weights: Array) -> None:
        v += weights @ self.U


class FrameBlock(VectorBlock):
    """Columns `k` of an orthonormal frame, as rows."""

    def __init__(self, U: Array, k: Ints) -> None:
        super().__init__(U)
        self.k = k

    def take(self, chosen: Any) -> FrameBlock:
        return FrameBlock(self.U[chosen], self.k[chosen])


class _HadamardFrame:
    """Orthonormal columns in O(d) each, without a d x d matrix.

    The permuted coordinates are cut into blocks whose sizes are powers of two; each block has its Sylvester
    Hadamard matrix with random signs. Blocks instead of padding keep the columns exactly orthonormal.
    """

    def __init__(self, d: int, rng: np.random.Generator) -> None:
        self.d = d
        self.order, self.signs = rng.permutation(d), rng.choice([-1.0, 1.0], size=d)
        sizes = [1 << bit for bit in range(d.bit_length() - 1, -1, -1) if d >> bit & 1]
        self.ends = np.cumsum(sizes)
        self.starts = self.ends - np.array(sizes)

    def columns(self, k: Ints) -> Array:
        """Return columns `k` as rows."""
        U = np.zeros((len(k), self.d))
        for row, column in enumerate(k):
            block = int(np.searchsorted(self.ends, column, side="right"))
            start, end = int(self.starts[block]), int(self.ends[block])
            shared = np.arange(end - start) & (int(column) - start)
            parity = np.bitwise_count(shared) & 1
            where = self.order[start:end]
            U[row, where] = self.signs[start:end] * np.where(parity, -1.0, 1.0) / np.sqrt(end - start)
        return U


class _DenseFrame:
    """The columns of a matrix with orthonormal columns."""

    def __init__(self, basis: Array) -> None:
        self.rows = np.ascontiguousarray(basis.T)

    def columns(self, k: Ints) -> Array:
        """Return columns `k` as rows."""
        return self.rows[k]


class Directions:
    """A stream of directions with a permuted sweep that never repeats one inside a block.

    Parameters
    ----------
    kind : {"coordinate", "orthogonal", "sphere", "gaussian", "tangent"}
    d : int
    rng : Generator
    basis : ndarray of shape (d, r), optional
        Orthonormal tangent directions, for "tangent".

    Attributes
    ----------
    span : int
        Directions of a sweep: d, or the dimension of the tangent space.
    scale : float
        Factor that makes the mean of <g, u> u equal to g: `span` for unit directions, 1 for Gaussian ones.
    """

    def __init__(self, kind: str, d: int, rng: np.random.Generator, basis: Array | None = None) -> None:
        self.kind, self.d, self.rng = kind, d, rng
        self.span = d if basis is None else basis.shape[1]
        self.scale = 1.0 if kind == "gaussian" else float(self.span)
        self.frame: _DenseFrame | _HadamardFrame | None = None
        if basis is not None:
            self.frame = _DenseFrame(basis)
        elif kind == "orthogonal" and d <= _DENSE:
            Q, R = np.linalg.qr(rng.normal(size=(d, d)))
            self.frame = _DenseFrame(Q * np.where(np.diag(R) < 0.0, -1.0, 1.0))
        elif kind == "orthogonal":
            self.frame = _HadamardFrame(d, rng)
        self.sweep = np.arange(0)
        self.position = 0

    def smoothing(self, m: int, *, bounded: bool) -> tuple[Block, float]:
        """Return `m` Gaussian vectors and 1; where they must be `bounded`, unit vectors and :attr:`span`.

        The factor makes the mean of <g, u> u the part of g that a sweep sees.
        """
        if self.kind != "tangent":
            U = self.rng.normal(size=(m, self.d))
        else:
            assert isinstance(self.frame, _DenseFrame)
            U = self.rng.normal(size=(m, self.span)) @ self.frame.rows
        if not bounded:
            return VectorBlock(U), 1.0
        return VectorBlock(U / np.linalg.norm(U, axis=1, keepdims=True)), float(self.span)

    @property
    def is_random(self) -> bool:
        """Whether directions are independent draws, not members of an orthonormal system."""
        return self.kind in ("sphere", "gaussian")

    def block(self, k: Ints) -> Block:
        """Return members `k` of the orthonormal system (coordinates for random kinds)."""
        return CoordinateBlock(k) if self.frame is None else FrameBlock(self.frame.columns(k), k)

    def everything(self) -> Block:
        """Return the whole orthonormal system."""
        return self.block(np.arange(self.span))

    def draw(self, m: int) -> Block:
        """Return `m` random vectors (kinds "sphere" and "gaussian")."""
        U = self.rng.normal(size=(m, self.d))
        if self.kind == "sphere":
            U /= np.linalg.norm(U, axis=1, keepdims=True)
        return VectorBlock(U)

    def pairs(self, m: int) -> Block:
        """Return `m` stratified directions: fresh permutations of the system one after another, cut at m."""
        return next(self.stream(m, m))

    def stream(self, m: int, size: int) -> Iterator[Block]:
        """Yield what :meth:`pairs` returns in blocks of `size`, drawn one by one."""
        if self.is_random:
            for start in range(0, m, size):
                yield self.draw(min(size, m - start))
            return
        whole, rest = divmod(m, self.span)
        left: list[Ints] = []
        held = 0
        while m:
            wanted = min(size, m)
            if held < wanted and whole:
                count = min(-(-(wanted - held) // self.span), whole)
                left.append(self._permutations(count))
                whole, held = whole - count, held + count * self.span
            if held < wanted:
                left.append(self.rng.choice(self.span, size=rest, replace=False))
                held += rest
            k = np.concatenate(left) if len(left) > 1 else left[0]
            left, held, m = [k[wanted:]], held - wanted, m - wanted
            yield self.block(k[:wanted])

    def _permutations(self, count: int) -> Ints:
        if count == 1:
            return self.rng.permutation(self.span)
        rows = np.broadcast_to(np.arange(self.span), (count, self.span))
        return self.rng.permuted(rows, axis=1).ravel()

    def refresh(self, l: int) -> Block:
        """Return the next `l` directions of the sweep, all different."""
        if self.is_random:
            return self.draw(l)
        left = self.sweep[self.position : self.position + l]
        self.position += len(left)
        if len(left) < l:
            order = self.rng.permutation(self.span)
            fresh = order[~np.isin(order, left)][: l - len(left)]
            self.sweep = np.concatenate([fresh, order[~np.isin(order, fresh)]])
            self.position = len(fresh)
            left = np.concatenate([left, fresh])
        return self.block(left)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"sweep": self.sweep, "position": self.position}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        self.sweep, self.position = np.asarray(state["sweep"], dtype=np.int64), int(state["position"])
