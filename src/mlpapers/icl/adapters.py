"""TabPFN and TabICL as bases of :class:`LoopedClassifier`."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from mlpapers.datasets import DataUnavailableError

__all__ = ["tabicl_adapter", "tabpfn_adapter"]

# What a failed download of weights raises: network and file errors, and the packages' own wrappers of them.
_DOWNLOAD_ERRORS = (OSError, RuntimeError, ValueError)


def tabpfn_adapter(**options: Any) -> Any:
    """Return a ``TabPFNRegressor`` whose weights are at hand, to be looped on labels -1 and +1.

    Parameters
    ----------
    **options
        Passed to the class, e.g. ``model_path``, ``device``, ``random_state``.

    Returns
    -------
    regressor : tabpfn.TabPFNRegressor

    Raises
    ------
    ImportError
        Where tabpfn is not installed.
    DataUnavailableError
        Where its weights can neither be found nor downloaded.

    Notes
    -----
    The paper used tabpfn 2.0.9.

    Examples
    --------
    >>> from mlpapers.icl import LoopedClassifier, tabpfn_adapter
    >>> looped = LoopedClassifier(tabpfn_adapter(random_state=0), n_loops=5)  # doctest: +SKIP
    """
    return _ready("tabpfn", "TabPFNRegressor", options)


def tabicl_adapter(**options: Any) -> Any:
    """Return a ``TabICLClassifier`` whose weights are at hand; pseudo-labels reach it as hard labels.

    Parameters
    ----------
    **options
        Passed to the class, e.g. ``model_path``, ``device``, ``random_state``.

    Returns
    -------
    classifier : tabicl.TabICLClassifier

    Raises
    ------
    ImportError
        Where tabicl is not installed.
    DataUnavailableError
        Where its weights can neither be found nor downloaded.

    Examples
    --------
    >>> from mlpapers.icl import LoopedClassifier, tabicl_adapter
    >>> looped = LoopedClassifier(tabicl_adapter(random_state=0), soft="hard")  # doctest: +SKIP
    """
    return _ready("tabicl", "TabICLClassifier", options)


def _ready(package: str, name: str, options: dict[str, Any]) -> Any:
    """Make the model and fit it once to four rows, which loads the weights."""
    try:
        kind = getattr(importlib.import_module(package), name)
    except ImportError as error:
        raise ImportError(f"{package}_adapter needs the package {package}: pip install {package}") from error
    probe = kind(**options)
    X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    y = np.array([-1.0, -1.0, 1.0, 1.0])
    try:
        probe.fit(X, y if name.endswith("Regressor") else y.astype(np.int64))
    except _DOWNLOAD_ERRORS as error:
        raise DataUnavailableError(
            f"{package} weights not available offline; pass model_path=... ({type(error).__name__}: {error})"
        ) from error
    return kind(**options)
