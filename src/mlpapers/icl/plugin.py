"""Linear classifiers of the symmetric mixture: the supervised plug-in and those that use unlabelled rows."""

from __future__ import annotations

import functools
import warnings
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_consistent_length, validate_data

from mlpapers.core.validation import check_bool, check_int, check_real, check_rng
from mlpapers.icl._labels import auto_marked
from mlpapers.icl._linear_classifier import LinearClassifier, supervised_mean
from mlpapers.icl._simulate import gram_statistics

__all__ = ["SemiSupervisedPlugIn", "SupervisedPlugIn"]

Array = NDArray[np.float64]

_GRID = np.linspace(0.0, 1.0, 21)
_TUNING_TASKS = 400


class SupervisedPlugIn(LinearClassifier):
    r"""The supervised plug-in sgn(x' mu_s) with :math:`\mu_s = X_I' y_I / m` over the m labelled rows.

    The best predictor that one linear attention layer can express. Rows without a label (y = -1) do not
    enter. Without any label the coefficients are 0 and every prediction is ``classes_[0]``, with a warning.

    Attributes
    ----------
    coef_ : ndarray of shape (1, d)
    classes_ : ndarray of shape (2,)
    intercept_ : float
        0.
    n_features_in_ : int

    References
    ----------
    .. [1] Li et al., "When and How Unlabeled Data Provably Improve In-Context Learning", NeurIPS 2025,
       Theorem 1.

    Examples
    --------
    >>> from mlpapers.icl import make_semisupervised_gmm
    >>> X, y, y_true, mu = make_semisupervised_gmm(random_state=0)
    >>> SupervisedPlugIn().fit(X, y).coef_.shape
    (1, 10)
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Average the labelled rows, with their signs.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,)
            Two classes; -1, None or NaN where the label is missing.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            With other than two classes among the labelled rows.
        """
        if _has_no_label(y):
            X = validate_data(self, X, dtype=np.float64, order="C")
            check_consistent_length(X, y)
            warnings.warn("y has no labelled row: coef_ is 0 and predictions are classes_[0]", stacklevel=2)
            self.classes_, self.intercept_ = np.array([0, 1]), 0.0
            self._set(np.zeros(X.shape[1]))
            return self
        X, s = self._read(X, y)
        self._set(supervised_mean(X, s))
        return self


class SemiSupervisedPlugIn(LinearClassifier):
    r"""Plug-in that mixes the supervised mean with its image under powers of the centred Gram matrix.

    With :math:`G = X'X/n - \sigma^2 I`, :math:`v = G^k \mu_s`, or for :math:`k = \infty` the top eigenvector
    of X'X with the sign of its product with :math:`\mu_s`,

    .. math:: \hat\mu = \alpha \frac{\mu_s}{|\mu_s|} + (1 - \alpha) \frac{v}{|v|}.

    Parameters
    ----------
    k : int or inf, default=inf
    mixing : float, optional
        alpha in [0, 1]. By default the value on a grid of step 0.05 that is best on 400 simulated tasks with
        the same numbers of rows, labels and features and the same noise; it is remembered.
    sigma : float, optional
        Standard deviation of the noise; by default the root of the mean of the d - 1 smallest eigenvalues of
        X'X/n, for which d must be 2 or more.
    normalize : bool, default=True
        False mixes mu_s and G^k mu_s as they are, for finite k.
    center : bool, default=False
        Subtract column means first, for classes that are not symmetric around 0.
    random_state : int, RandomState or None
        Of the simulated tasks.

    Attributes
    ----------
    mixing_, sigma_ : float
    coef_ : ndarray of shape (1, d)
    intercept_ : float
    classes_ : ndarray of shape (2,)
    n_features_in_ : int

    References
    ----------
    .. [1] Li et al., "When and How Unlabeled Data Provably Improve In-Context Learning", NeurIPS 2025.

    Examples
    --------
    >>> from mlpapers.icl import make_semisupervised_gmm
    >>> X, y, y_true, mu = make_semisupervised_gmm(400, random_state=0)
    >>> float(SemiSupervisedPlugIn(sigma=1.0, random_state=0).fit(X, y).coef_[0] @ mu) > 0.8
    True
    """

    def __init__(
        self,
        k: float = np.inf,
        *,
        mixing: float | None = None,
        sigma: float | None = None,
        normalize: bool = True,
        center: bool = False,
        random_state: Any = None,
    ) -> None:
        self.k = k
        self.mixing = mixing
        self.sigma = sigma
        self.normalize = normalize
        self.center = center
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Estimate the direction from all rows.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,)
            Two classes; -1, None or NaN where the label is missing.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            For a parameter out of range, other than two classes, or one feature without `sigma`.
        """
        k = self._check_parameters()
        X, s = self._read(X, y)
        shift = X.mean(axis=0) if self.center else np.zeros(X.shape[1])
        X = X - shift
        n, d = X.shape
        values, vectors = np.linalg.eigh(X.T @ X / n)
        if self.sigma is None and d == 1:
            raise ValueError("sigma must be given where X has n_features = 1; there is no other eigenvalue")
        self.sigma_ = (
            float(np.sqrt(values[:-1].mean().clip(0.0))) if self.sigma is None else float(self.sigma)
        )
        mu_s = supervised_mean(X, s)
        if self.mixing is None:
            # Rounding the noise lets fits on similar data share one tuning.
            noise = float(f"{self.sigma_:.3g}") or 1e-3
            labels = int(np.count_nonzero(s))
            seed = _seed(self.random_state)
            self.mixing_ = _tuned_mixing(n, labels, d, noise, k, bool(self.normalize), seed)
        else:
            self.mixing_ = float(self.mixing)
        projected = vectors.T @ mu_s
        direction = mix(values, projected, self.mixing_, self.sigma_, k, self.normalize)
        self._set(vectors @ direction)
        self.intercept_ = float(-shift @ self.coef_[0])
        return self

    def _check_parameters(self) -> float:
        k = self.k
        if k != np.inf:
            k = check_int("k", k, minimum=0)
        if self.mixing is not None:
            check_real("mixing", self.mixing, low=0.0, high=1.0)
        if self.sigma is not None:
            check_real("sigma", self.sigma, low=0.0, closed="neither")
        check_bool("center", self.center)
        if not check_bool("normalize", self.normalize) and k == np.inf:
            raise ValueError(
                "normalize must be True for k=inf: an eigenvector has no length to keep; got False"
            )
        _seed(self.random_state)
        return float(k)


def mix(values: Array, projected: Array, mixing: float, sigma: float, k: float, normalize: bool) -> Array:
    """Return mu_hat in the eigenbasis of X'X/n (values in increasing order), for one task or a batch.

    Parameters
    ----------
    values, projected : ndarray of shape (..., d)
        Eigenvalues, and mu_s in the eigenbasis.
    """
    if k == np.inf:
        image = np.zeros_like(projected)
        top = projected[..., -1]
        image[..., -1] = np.sign(top)
        # Orthogonal to mu_s, the eigenvector has no sign: nothing but mu_s is left.
        image = np.where(top[..., None] == 0.0, projected, image)
    else:
        image = (values - sigma**2) ** int(k) * projected
    if normalize:
        projected, image = _unit(projected), _unit(image)
    mixed: Array = mixing * projected + (1.0 - mixing) * image
    return mixed


@functools.lru_cache(maxsize=1024)
def _tuned_mixing(n: int, m: int, d: int, sigma: float, k: float, normalize: bool, seed: int) -> float:
    """Return the mixing that has the largest mean cosine with the true mean on simulated tasks."""
    rng = np.random.default_rng(seed)
    tasks = gram_statistics(n, m, d, sigma, _TUNING_TASKS, rng)
    values, vectors = np.linalg.eigh(tasks.gram)
    truth = np.einsum("tij,ti->tj", vectors, tasks.mu)
    projected = np.einsum("tij,ti->tj", vectors, tasks.mu_s)
    cosines = [
        (truth * _unit(mix(values, projected, mixing, sigma, k, normalize))).sum(axis=1).mean()
        for mixing in _GRID
    ]
    return float(_GRID[int(np.argmax(cosines))])


def _unit(v: Array) -> Array:
    length = np.linalg.norm(v, axis=-1, keepdims=True)
    unit: Array = v / np.where(length > 0.0, length, 1.0)
    return unit


def _seed(random_state: Any) -> int:
    # None gives the same tuning everywhere: the tasks are a numerical tool, and a fit stays deterministic.
    if random_state is None:
        return 0
    if (
        isinstance(random_state, int | np.integer)
        and not isinstance(random_state, bool)
        and random_state >= 0
    ):
        return int(random_state)
    return int(check_rng(random_state).integers(2**31))


def _has_no_label(y: Any) -> bool:
    """Whether every entry of y is -1 ("-1" in text), or every one None, NaN or NA in an array of objects.

    Numbers that are all NaN are refused, as scikit-learn asks of classifiers.
    """
    try:
        labels = np.asarray(y)
    except ValueError:
        return False
    if labels.ndim != 1 or labels.size == 0:
        return False
    if labels.dtype.kind != "O":
        return bool(auto_marked(labels).all())
    import pandas as pd

    missing = pd.isna(labels)
    return bool(missing.all() or (not missing.any() and auto_marked(labels).all()))
