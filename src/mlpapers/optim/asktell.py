"""FrankWolfeZO: the method hands out what it wants to know, and goes on when it is told."""

from __future__ import annotations

import queue
import threading
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mlpapers.core.validation import check_int
from mlpapers.optim.constraints._base import ConstraintSet
from mlpapers.optim.finite_sum import FiniteSum
from mlpapers.optim.minimize import minimize_fw_zo
from mlpapers.optim.result import FWResult

__all__ = ["FrankWolfeZO"]

Array = NDArray[np.float64]


class _Closed(Exception):
    """The owner has no more answers."""


class FrankWolfeZO:
    """Ask and tell: for laboratories, remote machines, and whatever does not fit into a function.

    The run is that of :func:`minimize_fw_zo` with the same arguments; it waits in a thread while values are
    being found.

    Parameters
    ----------
    constraint : ConstraintSet
    n : int
        Number of functions.
    d : int
        Dimension.
    x0 : array of shape (d,), optional
        Start; default the center of the set.
    **settings
        Other arguments of :func:`minimize_fw_zo`. `certificate` is "none" by default, so that no more than
        `max_queries` values are asked for; what another one asks comes on top.

    Attributes
    ----------
    result : FWResult or None
        Set when the run has ended; its ``fun`` is None without a certificate.

    Examples
    --------
    >>> import numpy as np
    >>> from mlpapers.optim import FrankWolfeZO, L2Ball
    >>> run = FrankWolfeZO(L2Ball(1.0), n=1, d=2, max_queries=300, random_state=0)
    >>> while not run.done:
    ...     X, idx = run.ask()
    ...     run.tell(((X - [0.3, 0.1]) ** 2).sum(axis=1))
    >>> bool(np.abs(run.result.x - [0.3, 0.1]).max() < 0.05)
    True
    """

    def __init__(self, constraint: ConstraintSet, n: int, d: int, *, x0: Any = None, **settings: Any) -> None:
        n, d = check_int("n", n, minimum=1), check_int("d", d, minimum=1)
        self.result: FWResult | None = None
        self._questions: queue.Queue[Any] = queue.Queue()
        self._answers: queue.Queue[Any] = queue.Queue()
        self._pending: tuple[Array, NDArray[np.int64]] | None = None
        self._error: BaseException | None = None
        total = FiniteSum(self._exchange, n, d, dtype=np.float64)
        settings = {"certificate": "none", **settings}
        self._thread = threading.Thread(target=self._run, args=(total, x0, constraint, settings), daemon=True)
        self._thread.start()
        self._receive()

    @property
    def done(self) -> bool:
        """Whether the run has ended."""
        return self._pending is None

    def ask(self) -> tuple[Array, NDArray[np.int64]]:
        """Return what is to be evaluated: points X of shape (m, d) and functions idx of shape (m,).

        Returns
        -------
        X : ndarray of shape (m, d)
        idx : ndarray of shape (m,)

        Raises
        ------
        RuntimeError
            Where the run has ended.
        """
        if self._pending is None:
            raise RuntimeError("the run has ended; its result is in .result")
        X, idx = self._pending
        return X.copy(), idx.copy()

    def tell(self, values: Any) -> None:
        """Give the values of the last question, in its order.

        Parameters
        ----------
        values : array of shape (m,)

        Raises
        ------
        ValueError
            For another number of values.
        RuntimeError
            Where the run has ended.
        """
        if self._pending is None:
            raise RuntimeError("the run has ended; its result is in .result")
        given = np.asarray(values, dtype=np.float64)
        if given.shape != (len(self._pending[1]),):
            raise ValueError(f"values must have shape ({len(self._pending[1])},); got {given.shape}")
        self._answers.put(given)
        self._receive()

    def close(self) -> None:
        """End the run without a result."""
        if self._pending is not None:
            self._pending = None
            self._answers.put(_Closed())
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _exchange(self, X: Array, idx: NDArray[np.int64]) -> Array:
        self._questions.put((np.array(X), np.array(idx)))
        answer = self._answers.get()
        if isinstance(answer, _Closed):
            raise answer
        return answer

    def _run(self, total: FiniteSum, x0: Any, constraint: ConstraintSet, settings: dict[str, Any]) -> None:
        try:
            self.result = minimize_fw_zo(total, x0, constraint, **settings)
        except _Closed:
            self.result = None
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._error = error
        self._questions.put(None)

    def _receive(self) -> None:
        self._pending = self._questions.get()
        if self._pending is None:
            self._thread.join()
            if self._error is not None:
                raise self._error
