"""FiniteSum: f = (1/n) sum f_i, known through values of pairs (point, index)."""

from __future__ import annotations

import itertools
import reprlib
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core.validation import check_int
from mlpapers.optim._points import Point

if TYPE_CHECKING:
    from mlpapers.optim._lean import LeanSum, ScaledPoint

__all__ = ["FiniteSum", "as_finite_sum"]

Array = NDArray[np.float64]

# Points handed over at once are at most 64 MiB: larger arrays are slower, since each has to be mapped anew.
_NUMBERS = 2**23
_DOUBLE = np.dtype(np.float64)


class FiniteSum:
    r"""A finite sum that answers pairs.

    .. math:: f(x) = \frac{1}{n} \sum_{i=1}^{n} f_i(x), \qquad \mathrm{values}(X, i)_j = f_{i_j}(X_j)

    Parameters
    ----------
    values : callable
        ``values(X, idx)`` with X of shape (m, d) and idx of shape (m,), integers in [0, n): the m values, as
        an array or a tensor.
    n_functions : int
        n.
    dim : int or None
        d; None where the starting point tells it.
    dtype : numpy dtype, optional
        Precision of the values; by default the lowest that was seen among those asked for, float64 for whole
        numbers.
    grad : callable, optional
        ``grad(X, idx)`` of shape (m, d), for first-order references only.
    """

    #: Whether there is structure that can follow a point from step to step.
    _follows = False

    def __init__(
        self,
        values: Callable[[Array, NDArray[np.int64]], Any],
        n_functions: int,
        dim: int | None,
        *,
        dtype: Any = None,
        grad: Callable[[Array, NDArray[np.int64]], Any] | None = None,
    ) -> None:
        if not callable(values):
            raise TypeError(f"values must be callable; got {type(values).__name__}")
        if grad is not None and not callable(grad):
            raise TypeError(f"grad must be callable or None; got {type(grad).__name__}")
        self._values = values
        self.n_functions = check_int("n_functions", n_functions, minimum=1)
        self.dim = None if dim is None else check_int("dim", dim, minimum=1)
        self.dtype = None if dtype is None else np.dtype(dtype)
        self._follows_values = dtype is None
        if self.dtype is not None and self.dtype.kind != "f":
            raise ValueError(f"dtype must be a floating type; got {self.dtype}")
        self.grad = grad

    def values(self, X: Array, idx: NDArray[np.int64]) -> NDArray[Any]:
        """Return f_{idx_j}(X_j).

        Parameters
        ----------
        X : ndarray of shape (m, d)
        idx : ndarray of shape (m,)

        Returns
        -------
        values : ndarray of shape (m,)

        Raises
        ------
        ValueError
            Where the objective answers in another shape.
        """
        answer = self._values(X, idx)
        if hasattr(answer, "detach"):
            answer = answer.detach().cpu().numpy()
        answer = np.asarray(answer)
        if answer.shape != (len(idx),):
            raise ValueError(f"values must return shape (m,) = ({len(idx)},); got {answer.shape}")
        self._see(answer.dtype)
        return answer

    def _see(self, dtype: np.dtype[Any]) -> None:
        """Take in the precision of some values, unless one was given."""
        if dtype.kind != "f" or dtype.itemsize > _DOUBLE.itemsize:
            # Differences are formed in float64.
            dtype = _DOUBLE
        if self._follows_values and (self.dtype is None or dtype.itemsize < self.dtype.itemsize):
            self.dtype = dtype

    def mean(self, x: Array, chunk_size: int = 65536) -> float:
        """Return f(x) from all n values.

        Parameters
        ----------
        x : ndarray of shape (d,)
        chunk_size : int

        Returns
        -------
        value : float
        """
        x = np.asarray(x, dtype=np.float64)
        return float(np.mean(self._point(x, chunk_size).base(np.arange(self.n_functions))))

    def gradient(self, x: Array, chunk_size: int = 65536) -> Array:
        """Return the gradient of f at x, where ``grad`` is known.

        Parameters
        ----------
        x : ndarray of shape (d,)
        chunk_size : int

        Returns
        -------
        g : ndarray of shape (d,)

        Raises
        ------
        ValueError
            Where there is no ``grad``.
        """
        if self.grad is None:
            raise ValueError("grad must be given for gradients; this FiniteSum has values only")
        x = np.asarray(x, dtype=np.float64)
        total = np.zeros_like(x)
        for start in range(0, self.n_functions, chunk_size):
            idx = np.arange(start, min(start + chunk_size, self.n_functions))
            rows = self.grad(np.broadcast_to(x, (len(idx), len(x))), idx)
            rows = rows.detach().cpu().numpy() if hasattr(rows, "detach") else np.asarray(rows)
            total += rows.sum(axis=0, dtype=np.float64)
        return total / self.n_functions

    def _point(self, x: Array, chunk_size: int, n_jobs: int | None = None) -> Point:
        """Return what evaluates differences around x."""
        return Point(self, x, min(chunk_size, max(1, _NUMBERS // len(x))), n_jobs)

    def _lean(self, point: ScaledPoint) -> LeanSum:
        """Return what follows a scaled point (where ``_follows``)."""
        raise NotImplementedError

    @classmethod
    def from_sum(cls, f_batch: Callable[[Array, Any], Any], data: Any, dim: int | None = None) -> FiniteSum:
        """Make a FiniteSum of a function that knows one point and many data at a time.

        Pairs are grouped by point and answered in a Python loop: slow where points differ (said once).

        Parameters
        ----------
        f_batch : callable
            ``f_batch(x, batch)`` with x of shape (d,): one value per item of the batch.
        data : array of shape (n, ...)
        dim : int, optional
            d; by default that of the starting point.

        Returns
        -------
        fun : FiniteSum
        """
        if not callable(f_batch):
            raise TypeError(f"f_batch must be callable; got {type(f_batch).__name__}")
        items = np.asarray(data) if not hasattr(data, "shape") else data
        warned: list[bool] = []

        def values(X: Array, idx: NDArray[np.int64]) -> Array:
            changes = np.flatnonzero((X[1:] != X[:-1]).any(axis=1)) + 1
            ends = [0, *changes.tolist(), len(X)]
            if len(ends) > 16 and not warned:
                warned.append(True)
                warnings.warn(
                    "from_sum answers pairs in a Python loop; give values(X, idx) to FiniteSum for speed",
                    UserWarning,
                    stacklevel=2,
                )
            parts = [_flat(f_batch(X[a], items[idx[a:b]])) for a, b in itertools.pairwise(ends)]
            return np.concatenate(parts)

        return cls(values, len(items), dim)

    @classmethod
    def from_torch(
        cls,
        model: Any,
        inputs: Any,
        targets: Any,
        loss: Callable[[Any, Any], Any],
        perturb: Any = None,
        device: Any = None,
    ) -> FiniteSum:
        """Make f_i(x) = loss(model(perturb(inputs_i, x)), targets_i) of a torch model.

        Each chunk of pairs is one forward pass in inference mode, with the model in evaluation mode.

        Parameters
        ----------
        model : torch.nn.Module or callable
        inputs : tensor or array of shape (n, ...)
        targets : tensor or array of shape (n, ...)
        loss : callable
            ``loss(outputs, targets)`` of shape (m,).
        perturb : callable, "parameters" or None
            ``perturb(inputs, X)`` with X of shape (m, d); None adds X to the inputs; "parameters" makes x the
            model's parameters, flattened in the order of ``model.parameters()``.
        device : torch.device or str, optional
            Default: that of the inputs.

        Returns
        -------
        fun : FiniteSum
        """
        from mlpapers.optim._torch import torch_sum

        return torch_sum(cls, model, inputs, targets, loss, perturb, device)


class _PlainSum(FiniteSum):
    """One function of x alone."""

    def __init__(self, fun: Any, dim: int | None) -> None:
        batch = getattr(fun, "batch", None)

        def values(X: Array, idx: NDArray[np.int64]) -> Any:
            if callable(batch):
                return batch(X)
            answers = [fun(x.copy()) for x in X[: len(idx)]]
            for dtype in {getattr(answer, "dtype", _DOUBLE) for answer in answers}:
                self._see(_precision(dtype))
            return np.array([_one_number(answer) for answer in answers])

        super().__init__(values, 1, dim)


def as_finite_sum(fun: Any, dim: int | None = None) -> FiniteSum:
    """Return `fun` as a FiniteSum; a plain callable f(x) -> float has n = 1."""
    if isinstance(fun, FiniteSum):
        return fun
    if not callable(fun):
        raise TypeError(f"fun must be a FiniteSum or a callable; got {type(fun).__name__}")
    return _PlainSum(fun, dim)


def _precision(dtype: Any) -> np.dtype[Any]:
    """Return the dtype of an array, a scalar or a tensor as one of numpy."""
    name = str(dtype).removeprefix("torch.")
    if name == "bfloat16":
        raise TypeError("fun must return float16 or more digits for differences; got bfloat16")
    return np.dtype(name) if name in ("float16", "float32") else _DOUBLE


def _one_number(answer: Any) -> float:
    """Return a number, or an array of one, as a float."""
    try:
        return float(answer)
    except (TypeError, ValueError) as error:
        array = np.asarray(answer)
        if array.size == 1 and array.dtype.kind in "biuf":
            return float(array.ravel()[0])
        raise TypeError(f"fun must return one real number; got {reprlib.repr(answer)}") from error


def _flat(answer: Any) -> Array:
    if hasattr(answer, "detach"):
        answer = answer.detach().cpu().numpy()
    return np.atleast_1d(np.asarray(answer))
