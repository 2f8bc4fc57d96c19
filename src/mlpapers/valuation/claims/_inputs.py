"""Inputs that claims share: random games, data splits, augmented images."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.preprocessing import StandardScaler

from mlpapers.datasets import load_breast_cancer, load_digits, load_mnist5k

Array = NDArray[np.float64]
Labels = NDArray[np.int64]
Game = Callable[[NDArray[np.int64]], float]


class Split(NamedTuple):
    """Training and validation rows of one data set."""

    X: Array
    y: Labels
    X_val: Array
    y_val: Labels


def random_game(rng: np.random.Generator, n_players: int) -> Game:
    """Return a game whose 2^n coalition values are independent N(0, 1)."""
    values = rng.standard_normal(2**n_players)
    return lambda coalition: float(values[(1 << coalition).sum()])


def random_groups(rng: np.random.Generator, n_players: int, n_groups: int) -> Labels:
    """Return group labels (n_players,), some groups possibly empty."""
    return rng.integers(0, n_groups, size=n_players)


@functools.cache
def digits() -> tuple[Array, Labels]:
    """Return the 1797 digits, pixels 0..16."""
    X, y = load_digits(return_X_y=True)
    return X, y.astype(np.int64)


@functools.cache
def mnist() -> tuple[Array, Labels]:
    """Return 5000 MNIST images with pixels in [0, 1], 500 per class."""
    X, y = load_mnist5k(return_X_y=True)
    return X / 255.0, y.astype(np.int64)


def digits_split(seed: int, n: int, n_val: int) -> Split:
    """Return the first `n` and the next `n_val` rows of the digits, shuffled by `seed`."""
    return shuffled_split(*digits(), seed, n, n_val)


def standardised_split(name: str, seed: int) -> Split:
    """Return a 60/40 split of "digits" or "breast_cancer", standardised by the training rows."""
    if name == "digits":
        X, y = digits()
    else:
        X, y = load_breast_cancer(return_X_y=True)
    n = round(0.6 * len(y))
    split = shuffled_split(X, y.astype(np.int64), seed, n, len(y) - n)
    scaler = StandardScaler().fit(split.X)
    return split._replace(X=scaler.transform(split.X), X_val=scaler.transform(split.X_val))


def shuffled_split(X: Array, y: Labels, seed: int, n: int, n_val: int) -> Split:
    """Return the first `n` and the next `n_val` rows in the order ``default_rng(seed).permutation``."""
    order = np.random.default_rng(seed).permutation(len(y))
    train, val = order[:n], order[n : n + n_val]
    return Split(X[train], y[train], X[val], y[val])


def balanced_split(X: Array, y: Labels, seed: int, n_per_class: int, n_val_per_class: int) -> Split:
    """Return `n_per_class` training and `n_val_per_class` validation rows of every class."""
    rng = np.random.default_rng(seed)
    train, val = [], []
    for label in np.unique(y):
        rows = rng.permutation(np.flatnonzero(y == label))
        train.append(rows[:n_per_class])
        val.append(rows[n_per_class : n_per_class + n_val_per_class])
    chosen, held_out = np.concatenate(train), np.concatenate(val)
    return Split(X[chosen], y[chosen], X[held_out], y[held_out])


def augmented_images(X: Array, side: int, rng: np.random.Generator) -> Array:
    """Return one distorted copy of each image (n, side * side).

    Rotation within +-45 degrees, shift within +-1/16 of the side, scale in [0.9, 1.1], all uniform; bilinear
    interpolation, zero outside the picture.
    """
    return np.stack([_distort(image.reshape(side, side), rng).ravel() for image in X])


def _distort(image: Array, rng: np.random.Generator) -> Array:
    angle = np.deg2rad(rng.uniform(-45.0, 45.0))
    scale = rng.uniform(0.9, 1.1)
    shift = rng.uniform(-0.0625, 0.0625, size=2) * image.shape[0]
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / scale
    centre = (np.array(image.shape) - 1) / 2
    # affine_transform maps output to input coordinates: rotate about the centre, then shift.
    return ndimage.affine_transform(image, rotation, offset=centre - rotation @ (centre + shift), order=1)


def seeds_from(seed: int, n: int) -> Iterator[int]:
    """Return `n` consecutive seeds for repeated experiments."""
    return iter(range(seed, seed + n))
