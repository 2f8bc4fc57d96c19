"""Sparse binary classification sets of the LIBSVM collection."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.utils import Bunch

from mlpapers.core.validation import check_choice
from mlpapers.datasets import _sources
from mlpapers.datasets._frames import check_flags

_COLLECTION = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/binary"


@dataclass(frozen=True)
class LibsvmSet:
    """What identifies one set: its file, its name on OpenML, its shape and its two class sizes."""

    file: str
    openml: str
    shape: tuple[int, int]
    class_sizes: tuple[int, int]
    about: str

    @property
    def url(self) -> str:
        """Address of the file in the LIBSVM collection."""
        return f"{_COLLECTION}/{self.file}"


SETS = {
    "a9a": LibsvmSet(
        "a9a",
        "a9a",
        (32561, 123),
        (7841, 24720),
        "Adult (training part) in 123 binary features; +1: above 50K.",
    ),
    "w8a": LibsvmSet(
        "w8a",
        "w8a",
        (49749, 300),
        (1479, 48270),
        "Web pages in 300 binary key-word features; +1: in the category.",
    ),
    "covtype.binary": LibsvmSet(
        "covtype.libsvm.binary.bz2",
        "covertype",
        (581012, 54),
        (283301, 297711),
        "Forest cover in 54 features, lodgepole pine against the rest; +1: the file's class 2.",
    ),
    "phishing": LibsvmSet(
        "phishing",
        "phishing",
        (11055, 68),
        (4898, 6157),
        "Web sites in 68 binary features; +1: the file's class 1.",
    ),
}


def load_libsvm(
    name: str,
    *,
    as_frame: bool = False,
    return_X_y: bool = False,
    data_home: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> Any:
    """Load a binary classification set of the LIBSVM collection (sparse).

    Parameters
    ----------
    name : {"a9a", "w8a", "covtype.binary", "phishing"}
        The set: 32561 x 123, 49749 x 300, 581012 x 54, 11055 x 68.
    as_frame : bool, default=False
        Return a DataFrame with sparse columns and a Series instead of a CSR matrix and an array.
    return_X_y : bool, default=False
        Return the pair (data, target) instead of a Bunch.
    data_home : path, default=None
        Folder with the collection's file (a9a, w8a, covtype.libsvm.binary.bz2, phishing), directly or in a
        subfolder ``libsvm``; None stands for the environment variable MLPAPERS_DATA.
    download : bool, default=False
        Where no file is found, allow OpenML, whose copy is taken only if its shape and class sizes are those
        of the collection, and then the collection itself, whose file is kept in `data_home`, otherwise in
        scikit-learn's data home.

    Returns
    -------
    Bunch with

    data : CSR matrix of shape (n, d), float64 (DataFrame if `as_frame`); values as in the file
    target : ndarray of shape (n,), int64; -1 or +1, +1 for the larger of the file's two labels
    frame : DataFrame of data and target, or None
    feature_names, target_names : list of str
    source : str, the file or address the data came from
    DESCR : str

    Raises
    ------
    DataUnavailableError
        Where no source has the data (a FileNotFoundError); the message has the command that fetches it.
    ValueError
        For an unknown name, or a file that is not this set's.

    References
    ----------
    [1] Chang and Lin, "LIBSVM: a library for support vector machines", ACM TIST 2(3), 2011.

    Examples
    --------
    >>> from mlpapers.datasets import load_libsvm
    >>> X, y = load_libsvm("a9a", return_X_y=True, download=True)  # doctest: +SKIP
    >>> X.shape  # doctest: +SKIP
    (32561, 123)
    """
    check_choice("name", name, tuple(SETS))
    check_flags(as_frame=as_frame, return_X_y=return_X_y, download=download)
    chosen = SETS[name]
    paths = _sources.find_files("libsvm", [chosen.file], data_home=data_home)
    if paths is not None:
        X, y, source = *_read_file(name, paths[0]), str(paths[0])
    elif download:
        X, y, source = _download(name, data_home)
    else:
        raise _sources.unavailable(
            f"The LIBSVM set {name!r}", data_home=data_home, downloadable=True, **_ways(name)
        )
    return _answer(name, X, y, source, as_frame=as_frame, return_X_y=return_X_y)


def _read_file(name: str, path: Path) -> tuple[scipy.sparse.csr_matrix, NDArray[np.int64]]:
    from sklearn.datasets import load_svmlight_file

    try:
        X, labels = load_svmlight_file(str(path), n_features=SETS[name].shape[1])
        y = _signs(labels)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path} is not the LIBSVM set {name!r}: {error}") from error
    problem = _problem(name, X, y)
    if problem:
        raise ValueError(f"{path} is not the LIBSVM set {name!r}: {problem}")
    return X, y


def _download(
    name: str, data_home: str | os.PathLike[str] | None
) -> tuple[scipy.sparse.csr_matrix, NDArray[np.int64], str]:
    chosen = SETS[name]
    what, ways = f"The LIBSVM set {name!r}", _ways(name)
    try:
        answer = _sources.fetch_openml(what, data_home=data_home, name=chosen.openml, as_frame=False)
        X = scipy.sparse.csr_matrix(answer.data, dtype=np.float64)
        y = _signs(np.asarray(answer.target))
        problem = _problem(name, X, y)
        if problem is None:
            return X, y, f"openml:{chosen.openml}"
    # A copy with words in it, or with another number of labels, is another selection too.
    except (_sources.DataUnavailableError, ValueError, TypeError) as error:
        problem = _sources.describe(error.__cause__ or error)
    target = _sources.download_folder(data_home) / "libsvm" / chosen.file
    try:
        _sources.download_file(what, chosen.url, target)
    except _sources.DataUnavailableError as error:
        cause = error.__cause__ or error
        tried = (
            f"OpenML did not give it ({problem}) and {chosen.url} could not be read "
            f"({_sources.describe(cause)})"
        )
        raise _sources.unavailable(what, tried=tried, **ways) from cause
    return *_read_file(name, target), chosen.url


def _ways(name: str) -> _sources.Ways:
    return {"files": [SETS[name].file], "remedy": f"curl -O {SETS[name].url}"}


def _signs(labels: NDArray[Any]) -> NDArray[np.int64]:
    """-1 and +1 for the smaller and the larger of two labels (numbers, or numbers as text)."""
    values = np.unique(labels.astype(np.float64))
    if values.size != 2:
        raise ValueError(f"expected two labels; got {values.tolist()[:5]}")
    return np.where(labels.astype(np.float64) == values[1], 1, -1).astype(np.int64)


def _problem(name: str, X: Any, y: NDArray[np.int64]) -> str | None:
    expected = SETS[name]
    sizes = tuple(sorted((int((y > 0).sum()), int((y < 0).sum()))))
    if X.shape == expected.shape and sizes == expected.class_sizes:
        return None
    return (
        f"expected shape {expected.shape} and class sizes {expected.class_sizes}; got {X.shape} and {sizes}"
    )


def _sparse_frame(X: scipy.sparse.csr_matrix, names: list[str]) -> Any:
    import pandas as pd

    # The stubs of pandas know the accessor of an instance only.
    return pd.DataFrame.sparse.from_spmatrix(X, columns=names)  # type: ignore[attr-defined]


def _answer(
    name: str,
    X: scipy.sparse.csr_matrix,
    y: NDArray[np.int64],
    source: str,
    *,
    as_frame: bool,
    return_X_y: bool,
) -> Any:
    names = [f"feature_{column + 1}" for column in range(X.shape[1])]
    data: Any = X
    target: Any = y
    frame = None
    if as_frame:
        import pandas as pd

        data = _sparse_frame(X, names)
        target = pd.Series(y, name="target")
        frame = pd.concat([data, target], axis=1)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        frame=frame,
        feature_names=names,
        target_names=["-1", "+1"],
        source=source,
        DESCR=f"{name} of the LIBSVM collection (C.-C. Chang and C.-J. Lin). {SETS[name].about}\n",
    )
