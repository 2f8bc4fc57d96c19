"""The one place that calls joblib: ordered results, seeds per task, lost workers survived.

``joblib.parallel_config(backend="dask")`` (or "ray", "threading", "loky") around any call of the library
spreads the same work elsewhere: a task's seed is its own, so results do not depend on where and when it ran.
"""

from __future__ import annotations

import contextlib
import pickle
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
from joblib import Parallel, delayed, effective_n_jobs, parallel_config, wrap_non_picklable_objects

from mlpapers.core.validation import seed_sequence

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")

# How often the tasks of workers that died are handed out again before the loss is raised.
_MAX_ATTEMPTS = 4

# Raised by loky and distributed when a worker, or data that only it held, is gone. Matched by name, so that
# distributed need not be imported.
_LOST_WORKER_ERRORS = frozenset(
    {
        "BrokenProcessPool",
        "CancelledError",
        "CommClosedError",
        "FutureCancelledError",
        "KilledWorker",
        "TerminatedWorkerError",
    }
)


def parallel_map(
    function: Callable[..., Outcome],
    tasks: Iterable[Task],
    *,
    n_jobs: int | None = None,
    shared: Sequence[Any] = (),
    prefer: Literal["threads", "processes"] | None = None,
    verbose: int = 0,
    on_result: Callable[[int, Outcome], None] | None = None,
) -> list[Outcome]:
    """Return ``[function(*shared, task) for task in tasks]``, computed by joblib's current backend.

    Parameters
    ----------
    function : callable
        Called as ``function(*shared, task)``; must be picklable for process and cluster backends.
    tasks : iterable
        The items; their order is the order of the result, whatever order they end in.
    n_jobs : int or None
        As in joblib: None means 1, or what an enclosing ``joblib.parallel_config`` says.
    shared : sequence
        Large read-only objects sent to each worker once (memory-mapped by loky, scattered by dask).
    prefer : {"threads", "processes"} or None
        A hint for joblib's choice of backend; an enclosing ``parallel_config`` wins.
    verbose : int
        joblib's progress messages.
    on_result : callable, optional
        ``on_result(index, result)`` is called in this process as soon as a task ends.

    Returns
    -------
    results : list, in the order of `tasks`

    Notes
    -----
    Tasks lost with a worker (killed, out of memory, disconnected) are handed out again, at most three times;
    an exception raised by `function` is raised at once.

    Examples
    --------
    >>> from math import comb
    >>> from mlpapers.core import parallel_map
    >>> parallel_map(abs, [-3, 1, -2])
    [3, 1, 2]
    >>> parallel_map(comb, [2, 3], shared=[5], n_jobs=2, prefer="threads")
    [10, 10]
    """
    items = list(tasks)
    results: dict[int, Outcome] = {}
    for attempt in range(_MAX_ATTEMPTS):
        pending = [index for index in range(len(items)) if index not in results]
        calls = (delayed(_call)(function, index, items[index], *shared) for index in pending)
        workers = Parallel(n_jobs=n_jobs, prefer=prefer, verbose=verbose, return_as="generator_unordered")
        outcomes = workers(calls)
        try:
            for index, outcome in outcomes:
                results[index] = outcome
                if on_result is not None:
                    on_result(index, outcome)
            break
        except BaseException as error:
            _abandon(outcomes)
            if not _worker_was_lost(error) or attempt == _MAX_ATTEMPTS - 1:
                raise
    return [results[index] for index in range(len(items))]


def spawn_seeds(random_state: Any, n: int) -> list[np.random.SeedSequence]:
    """Return `n` independent seeds, one per task, from `random_state` (int, Generator, RandomState, None).

    Examples
    --------
    >>> [int(np.random.default_rng(s).integers(100)) for s in spawn_seeds(0, 3)]
    [80, 66, 65]
    """
    return seed_sequence(random_state).spawn(n)


def pickled(value: Any) -> bytes:
    """Return a pickle that another process can read with ``pickle.loads``.

    Classes and functions that no other process can import, those of a script, a notebook or another
    function, are part of it; all others are named by their module.

    Parameters
    ----------
    value : object

    Returns
    -------
    data : bytes

    Raises
    ------
    pickle.PicklingError, TypeError
        If something in `value` cannot be sent, a lock or an open file, say.

    Examples
    --------
    >>> import pickle
    >>> from mlpapers.core.parallel import pickled
    >>> pickle.loads(pickled(lambda x: x + 1))(1)
    2
    """
    return pickle.dumps(wrap_non_picklable_objects(value, keep_wrapper=False))


def count_workers(n_jobs: int | None) -> int:
    """Return how many tasks run at the same time for `n_jobs` under joblib's current backend."""
    return int(effective_n_jobs(n_jobs))


@contextlib.contextmanager
def cluster(address: str, *, timeout: float = 10.0) -> Iterator[None]:
    """Run the library's parallel loops on the dask cluster at `address` while the context lasts.

    Parameters
    ----------
    address : str
        Of the scheduler, for example ``"tcp://10.0.0.1:8786"``.
    timeout : float
        Seconds to wait for the scheduler, and for a first worker.

    Raises
    ------
    ImportError
        Where dask's distributed is not installed.
    ConnectionError
        Where no scheduler answers at `address`, or it has no worker.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ImportError("a dask cluster needs distributed: pip install 'mlpapers[cluster]'") from error
    try:
        client = Client(address, timeout=timeout, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"address must be that of a running dask scheduler; got {address!r}: {error}"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=timeout)
        except TimeoutError as error:
            raise ConnectionError(
                f"the dask cluster at {address} has no worker after {timeout:g} s"
            ) from error
        with parallel_config(backend="dask", client=client):
            yield


def chunk_slices(n: int, chunk_size: int) -> list[slice]:
    """Return consecutive slices of at most `chunk_size` that cover ``range(n)``.

    Examples
    --------
    >>> chunk_slices(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    return [slice(start, min(start + chunk_size, n)) for start in range(0, n, chunk_size)]


def _call(function: Callable[..., Outcome], index: int, task: Any, *shared: Any) -> tuple[int, Outcome]:
    return index, function(*shared, task)


def _abandon(outcomes: Generator[Any, None, None]) -> None:
    """Cancel the tasks that still run; that their results go unused is meant, and no reason for a warning."""
    report = threading.excepthook

    def ignore_lost_task(failure: threading.ExceptHookArgs) -> None:
        # A task that loky hands out in the very moment of its shutdown is looked up after it was cancelled.
        # The thread would have ended next in any case.
        thread = failure.thread
        if not (failure.exc_type is KeyError and thread and thread.name == "ExecutorManagerThread"):
            report(failure)

    threading.excepthook = ignore_lost_task
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            outcomes.close()
    finally:
        threading.excepthook = report


def _worker_was_lost(error: BaseException) -> bool:
    return any(base.__name__ in _LOST_WORKER_ERRORS for base in type(error).__mro__)
