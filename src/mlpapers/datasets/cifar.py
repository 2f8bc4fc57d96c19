"""CIFAR-10, through torchvision."""

from __future__ import annotations

import importlib
import os
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from mlpapers.core.validation import check_choice
from mlpapers.datasets import _sources
from mlpapers.datasets._frames import check_flags

_WHAT = "CIFAR-10"
_REMEDY = "pip install torchvision, then load_cifar10(download=True)"


def load_cifar10(
    *,
    subset: str = "train",
    as_frame: bool = False,
    return_X_y: bool = False,
    data_home: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> Any:
    """Load CIFAR-10 (classification, 10 classes, colour images of 32 x 32 pixels) through torchvision.

    Parameters
    ----------
    subset : {"train", "test"}, default="train"
        50000 or 10000 images.
    as_frame : bool, default=False
        Return a DataFrame and a Series instead of arrays.
    return_X_y : bool, default=False
        Return the pair (data, target) instead of a Bunch.
    data_home : path, default=None
        Folder with torchvision's ``cifar-10-batches-py``; None stands for the environment variable
        MLPAPERS_DATA, otherwise the ``mlpapers`` folder in scikit-learn's data home.
    download : bool, default=False
        Let torchvision download the set into that folder where it is missing.

    Returns
    -------
    Bunch with

    data : ndarray of shape (n, 3072), uint8, row by row with the three colours of a pixel together (DataFrame
        if `as_frame`)
    target : ndarray of shape (n,), int64
    images : ndarray of shape (n, 32, 32, 3), uint8; the same pixels
    frame : DataFrame of data and target, or None
    feature_names, target_names : list of str
    source : str, the folder
    DESCR : str

    Raises
    ------
    DataUnavailableError
        Where torchvision or the files are missing (a FileNotFoundError).
    ValueError
        For an unknown subset.

    References
    ----------
    [1] Krizhevsky, "Learning multiple layers of features from tiny images", University of Toronto, 2009.

    Examples
    --------
    >>> from mlpapers.datasets import load_cifar10
    >>> cifar = load_cifar10(subset="test", download=True)  # doctest: +SKIP
    >>> cifar.images.shape  # doctest: +SKIP
    (10000, 32, 32, 3)
    """
    import pandas as pd

    check_choice("subset", subset, ("train", "test"))
    check_flags(as_frame=as_frame, return_X_y=return_X_y, download=download)
    try:
        torchvision = importlib.import_module("torchvision.datasets")
    except ImportError as error:
        raise _sources.unavailable(
            _WHAT, remedy=_REMEDY, data_home=data_home, tried="the package torchvision is missing"
        ) from error
    root = _sources.download_folder(data_home)
    try:
        dataset = torchvision.CIFAR10(root=str(root), train=subset == "train", download=download)
    # torchvision raises RuntimeError for files that are missing or damaged, OSError for the network.
    except (RuntimeError, OSError) as error:
        raise _sources.unavailable(
            _WHAT, remedy=_REMEDY, data_home=data_home, tried=f"torchvision says: {error}"
        ) from error
    images = np.ascontiguousarray(dataset.data)
    data: Any = images.reshape(len(images), -1)
    target: Any = np.asarray(dataset.targets, dtype=np.int64)
    names = [f"pixel_{row}_{col}_{colour}" for row in range(32) for col in range(32) for colour in "rgb"]
    frame = None
    if as_frame:
        data = pd.DataFrame(data, columns=names)
        target = pd.Series(target, name="target")
        frame = pd.concat([data, target], axis=1)
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        images=images,
        frame=frame,
        feature_names=names,
        target_names=list(dataset.classes),
        source=str(root),
        DESCR=f"CIFAR-10 (A. Krizhevsky, 2009), {subset} part: {len(images)} colour images in 10 classes.\n",
    )
