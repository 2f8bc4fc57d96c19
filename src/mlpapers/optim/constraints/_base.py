"""ConstraintSet: what a feasible set must answer, and how arrays and tensors go in and come out."""

from __future__ import annotations

import inspect
import reprlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core._tensors import is_tensor
from mlpapers.core.validation import check_int, check_real, check_rng

__all__ = ["Array", "ConstraintSet", "as_floats", "positive"]

Array = NDArray[np.float64]

# Arrays with up to this many entries are written out in a text.
_SHOWN = 6


class ConstraintSet(ABC):
    r"""A compact convex set C, seen through its linear minimisation oracle.

    .. math:: \mathrm{lmo}(g) \in \arg\min_{s \in C} \langle g, s \rangle

    A set of one's own is a subclass. It gets float64 arrays that have been checked, with points as rows, and
    implements

    - ``_lmo(g)``: for costs (m, d), extreme points (m, d); a point of C also where the costs are 0;
    - ``_violation(x)``: for points (m, d), by how much each leaves C, in the units of x and 0 inside: (m,);
    - ``_diameter(d)``: the Euclidean diameter in d coordinates, or a bound on it;
    - ``_center(d)``: a point (d,) in the relative interior.

    It may also have ``dim`` (where d is fixed), ``is_polytope`` and

    - ``_inradius(d)``: the radius of a ball around ``_center(d)`` in C, for ``query_domain="feasible"``;
      0 where C is flat or the radius is not known, as by default;
    - ``_project(x)``: for points (m, d), the nearest ones of C, for ``method="zo_svrg"`` and ``project_x0``;
    - ``_gauge(x)``: for points (m, d), the least t >= 0 with x in t C: (m,);
    - ``_check_dim(d)``: raise a ValueError where the set does not exist in d coordinates.

    Points are vectors; a set of matrices also takes arrays of its ``shape``, and flattens them row by row.
    Methods take numpy arrays or torch tensors and return the same kind, dtype and device.

    Attributes
    ----------
    dim : int or None
        Number of coordinates; None where the set has no dimension of its own.
    shape : tuple or None
        Shape of one point where points are matrices.
    is_polytope : bool
        Whether C is the convex hull of finitely many points.

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.optim.constraints import Box, ConstraintSet, L1Ball
    >>> sets = [L1Ball(1.0), Box([0.0, 0.0], [1.0, 2.0])]
    >>> [C.lmo([3.0, -1.0]).tolist() for C in sets if isinstance(C, ConstraintSet)]
    [[-1.0, 0.0], [0.0, 2.0]]
    >>> [C.contains([0.5, 0.6]) for C in sets]
    [False, True]

    The ellipse with half-axes a:

    >>> class Ellipse(ConstraintSet):
    ...     def __init__(self, a):
    ...         self.a = np.array(a, dtype=float)
    ...         self.dim = len(self.a)
    ...
    ...     def _lmo(self, g):
    ...         w = self.a * g
    ...         length = np.linalg.norm(w, axis=1, keepdims=True)
    ...         return -self.a * w / np.where(length > 0.0, length, 1.0)
    ...
    ...     def _violation(self, x):
    ...         return self.a.max() * np.maximum(np.linalg.norm(x / self.a, axis=1) - 1.0, 0.0)
    ...
    ...     def _diameter(self, d):
    ...         return 2.0 * self.a.max()
    ...
    ...     def _center(self, d):
    ...         return np.zeros(d)
    >>> from mlpapers.optim import minimize_fw_zo
    >>> def fun(x):
    ...     return float((x[0] - 3.0) ** 2 + x[1] ** 2)
    >>> result = minimize_fw_zo(
    ...     fun, None, Ellipse([2.0, 1.0]), method="auto", max_queries=500, random_state=0
    ... )
    >>> bool(np.abs(result.x - [2.0, 0.0]).max() < 1e-3)
    True
    """

    dim: int | None = None
    shape: tuple[int, int] | None = None
    is_polytope: bool = False

    def __repr__(self) -> str:
        names = inspect.signature(type(self)).parameters
        shown = [f"{name}={_brief(getattr(self, name))}" for name in names if hasattr(self, name)]
        return f"{type(self).__name__}({', '.join(shown)})"

    def lmo(self, g: Any) -> Any:
        """Return a minimiser of <g, s> over s in C (an argmin, not an argmax).

        Parameters
        ----------
        g : array or tensor of shape (d,) or (m, d)
            Costs; a batch is answered row by row.

        Returns
        -------
        s : like `g`; an extreme point, also for g = 0

        Raises
        ------
        ValueError
            Where the number of coordinates is wrong or `g` is not finite.
        """
        rows, back = self._rows("g", g)
        return back(self._lmo(rows))

    def project(self, x: Any) -> Any:
        """Return the point of C that is nearest to `x` in the Euclidean norm.

        Parameters
        ----------
        x : array or tensor of shape (d,) or (m, d)

        Returns
        -------
        nearest : like `x`

        Raises
        ------
        NotImplementedError
            Where the set has no projection; the message names it.
        """
        rows, back = self._rows("x", x)
        return back(self._project(rows))

    def contains(self, x: Any, tol: float = 1e-8) -> bool:
        """Tell whether `x` (every row of a batch) is in C up to the relative tolerance `tol`.

        Parameters
        ----------
        x : array or tensor of shape (d,) or (m, d)
        tol : float
            Allowed violation, relative to the largest of 1 and the coordinates of `x`.

        Returns
        -------
        inside : bool
        """
        tol = check_real("tol", tol, low=0.0)
        rows, _ = self._rows("x", x)
        scale = np.maximum(1.0, np.abs(rows).max(axis=1))
        return bool((self._violation(rows) <= tol * scale).all())

    def gauge(self, x: Any) -> float:
        """Return the least t >= 0 with `x` in t C (sets that are balls only).

        Parameters
        ----------
        x : array or tensor of shape (d,)

        Returns
        -------
        t : float

        Raises
        ------
        NotImplementedError
            Where C is no ball around 0.
        """
        rows, _ = self._rows("x", x)
        if len(rows) != 1:
            raise ValueError(f"x must be one point; got {len(rows)}")
        return float(self._gauge(rows)[0])

    def diameter(self, dim: int | None = None) -> float:
        """Return the Euclidean diameter of C (an upper bound where the class says so).

        Parameters
        ----------
        dim : int, optional
            Number of coordinates, for sets that have none of their own.

        Returns
        -------
        D : float
        """
        return self._diameter(self._dimension(dim))

    def center(self, dim: int | None = None) -> Array:
        """Return a point in the relative interior of C.

        Parameters
        ----------
        dim : int, optional
            Number of coordinates, for sets that have none of their own.

        Returns
        -------
        x : ndarray of shape (d,)
        """
        return self._center(self._dimension(dim))

    def inradius(self, dim: int | None = None) -> float:
        """Return the radius of a ball around :meth:`center` in C; 0 where C is flat or none is known.

        Parameters
        ----------
        dim : int, optional
            Number of coordinates, for sets that have none of their own.

        Returns
        -------
        r : float
        """
        return self._inradius(self._dimension(dim))

    def sample(self, random_state: Any = None, dim: int | None = None) -> Array:
        """Return a random point of C: a random mixture of up to eight random extreme points and the center.

        Parameters
        ----------
        random_state : int, Generator, RandomState, SeedSequence or None
        dim : int, optional
            Number of coordinates, for sets that have none of their own.

        Returns
        -------
        x : ndarray of shape (d,)
        """
        rng, d = check_rng(random_state), self._dimension(dim)
        count = int(rng.integers(1, 9))
        corners = np.vstack([self._center(d), self._lmo(rng.normal(size=(count, d)))])
        return rng.dirichlet(np.ones(count + 1)) @ corners

    def tangent_basis(self, dim: int | None = None) -> tuple[Array, float]:
        """Return orthonormal directions along a flat C, and the radius of the ball around its center in them.

        Parameters
        ----------
        dim : int, optional
            Number of coordinates, for sets that have none of their own.

        Returns
        -------
        basis : ndarray of shape (d, d - codimension)
        radius : float

        Raises
        ------
        NotImplementedError
            Where C is not one of the flat sets.
        """
        raise self._missing(f"tangent directions (dim={dim})")

    def _vertex(self, g: Array) -> Array:
        """Return what `_lmo` does, for one row of shape (d,)."""
        return self._lmo(g[None])[0]

    @abstractmethod
    def _lmo(self, g: Array) -> Array:
        """Extreme points for the rows of `g`."""

    @abstractmethod
    def _violation(self, x: Array) -> Array:
        """By how much each row leaves C, 0 inside."""

    def _project(self, x: Array) -> Array:  # noqa: ARG002
        raise self._missing("projection")

    def _gauge(self, x: Array) -> Array:  # noqa: ARG002
        raise self._missing("gauge")

    @abstractmethod
    def _diameter(self, d: int) -> float:
        """Diameter in d coordinates."""

    @abstractmethod
    def _center(self, d: int) -> Array:
        """Return a relatively interior point."""

    def _inradius(self, d: int) -> float:  # noqa: ARG002
        """Radius of a ball around the center, 0 where none is known."""
        return 0.0

    def _missing(self, what: str) -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} has no {what}")

    def _dimension(self, dim: int | None) -> int:
        if dim is None:
            if self.dim is None:
                raise ValueError(f"dim must be given: {type(self).__name__} has no dimension of its own")
            return self.dim
        dim = check_int("dim", dim, minimum=1)
        if self.dim is not None and dim != self.dim:
            raise ValueError(f"dim must be {self.dim}, the dimension of the set; got {dim}")
        self._check_dim(dim)
        return dim

    def _check_dim(self, d: int) -> None:
        """Raise a ValueError where the set does not exist in d coordinates."""
        del d

    def _rows(self, name: str, value: Any) -> tuple[Array, Callable[[Array], Any]]:
        """Return `value` as float64 rows, and the function that gives rows back as what came."""
        array, wrap = _unwrap(name, value)
        form = array.shape
        if self.shape is not None and form == self.shape:
            rows = array.reshape(1, -1)
        elif array.ndim in (1, 2):
            rows = array.reshape(-1, form[-1]) if array.size else array.reshape(0, 0)
        else:
            raise ValueError(f"{name} must have one or two dimensions; got shape {form}")
        if rows.size == 0:
            raise ValueError(f"{name} must not be empty; got shape {form}")
        if self.dim is not None and rows.shape[1] != self.dim:
            raise ValueError(f"{name} must have {self.dim} coordinates; got shape {form}")
        if not _is_finite(rows):
            raise ValueError(f"{name} must be finite")
        self._check_dim(rows.shape[1])
        return np.ascontiguousarray(rows, dtype=np.float64), lambda out: wrap(out.reshape(form))


def as_floats(name: str, value: Any) -> Array:
    """Return a float64 copy of `value`."""
    try:
        return np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of real numbers; got {value!r}") from error


def positive(name: str, value: Any) -> float:
    """Return `value` if it is a finite number above 0."""
    return check_real(name, value, low=0.0, closed="neither")


def _is_finite(rows: NDArray[Any]) -> bool:
    # A finite sum has finite terms; only where it overflows the terms are looked at one by one.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(rows.sum()) or np.isfinite(rows).all())


def _unwrap(name: str, value: Any) -> tuple[NDArray[Any], Callable[[Array], Any]]:
    if is_tensor(value):
        torch = sys.modules["torch"]
        array = value.detach().cpu().numpy()
        return array, lambda out: torch.as_tensor(out.copy(), dtype=value.dtype, device=value.device)
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{name} must hold real numbers; got dtype {array.dtype}")
    dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)
    return array, lambda out: out.astype(dtype, copy=False)


def _brief(value: Any) -> str:
    """Return a parameter as text: an array as a list if it is short, else by its shape."""
    if isinstance(value, np.ndarray):
        return repr(value.tolist()) if value.size <= _SHOWN else f"array of shape {value.shape}"
    if isinstance(value, list) and any(isinstance(item, np.ndarray) for item in value):
        return reprlib.repr([np.asarray(item).tolist() for item in value])
    return repr(value)
