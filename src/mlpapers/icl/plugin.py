"""Linear classifiers of the symmetric mixture: the supervised plug-in and those that use unlabelled rows."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from mlpapers.core.validation import check_bool, check_choice, check_int, check_real, check_rng
from mlpapers.icl._labels import read_labels, validate_rows
from mlpapers.icl._simulate import gram_statistics

__all__ = ["PolynomialClassifier", "SemiSupervisedPlugIn", "SupervisedPlugIn"]

Array = NDArray[np.float64]

_GRID = np.linspace(0.0, 1.0, 21)
_TUNING_TASKS = 400


class _PlugIn(ClassifierMixin, BaseEstimator):
    """Binary linear classifier sgn(x' mu_hat) that reads -1 in y as "no label"."""

    def decision_function(self, X: Any) -> Array:
        """Return x' mu_hat for every row; positive means ``classes_[1]``.

        Parameters
        ----------
        X : array-like of shape (q, d)

        Returns
        -------
        scores : ndarray of shape (q,)
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, order="C", reset=False)
        scores: Array = X @ self.coef_[0] + self.intercept_
        return scores

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the class of every row; ``classes_[0]`` where the score is 0.

        Parameters
        ----------
        X : array-like of shape (q, d)

        Returns
        -------
        y : ndarray of shape (q,)
        """
        positive = self.decision_function(X) > 0.0
        return np.asarray(self.classes_[positive.astype(np.int64)])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def _read(self, X: Any, y: Any) -> tuple[Array, Array]:
        """Validate, set ``classes_``, and return X and labels in {-1, 0, +1}."""
        X, y = validate_rows(self, X, y)
        labels = read_labels(y, binary=type(self).__name__)
        self.classes_ = labels.classes
        self.intercept_ = 0.0
        return X, np.where(labels.labeled, 2.0 * labels.codes - 1.0, 0.0)

    def _set(self, direction: Array) -> None:
        self.coef_ = direction[None, :]


class SupervisedPlugIn(_PlugIn):
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
            Two classes; -1 where the label is missing.

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
            warnings.warn("y has no labelled row: coef_ is 0 and predictions are classes_[0]", stacklevel=2)
            self.classes_, self.intercept_ = np.array([0, 1]), 0.0
            self._set(np.zeros(X.shape[1]))
            return self
        X, s = self._read(X, y)
        self._set(supervised_mean(X, s))
        return self


class SemiSupervisedPlugIn(_PlugIn):
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
            Two classes; -1 where the label is missing.

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


class PolynomialClassifier(_PlugIn):
    r"""The linear classifier sgn(x' A(X'X/n) X'y) of a stack of linear attention layers.

    Parameters
    ----------
    coef : sequence of float, default=(1.0,)
        Coefficients of A, low order first.
    factors : (float, sequence of float), optional
        (c, c_l) for A(t) = c (1 + c_1 t) ... (1 + c_K t), in place of `coef`: the way to high degrees.
    scale : {"n", "none"}, default="n"
        A of X'X/n, or of X'X.

    Attributes
    ----------
    coef_ : ndarray of shape (1, d)
    classes_ : ndarray of shape (2,)
    intercept_ : float
        0.
    n_features_in_ : int

    Notes
    -----
    Every factor costs one product X'(Xv): O(K n d) time for degree K, and no Gram matrix.
    """

    def __init__(
        self,
        coef: Sequence[float] = (1.0,),
        *,
        factors: tuple[float, Sequence[float]] | None = None,
        scale: Literal["n", "none"] = "n",
    ) -> None:
        self.coef = coef
        self.factors = factors
        self.scale = scale

    def fit(self, X: Any, y: Any) -> Self:
        """Apply the polynomial to X'y.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,)
            Two classes; -1 where the label is missing.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For coefficients that are no finite sequence, or other than two classes.
        """
        check_choice("scale", self.scale, ("n", "none"))
        coef = _finite("coef", self.coef)
        factors = None if self.factors is None else _check_factors(self.factors)
        X, s = self._read(X, y)
        divisor = len(X) if self.scale == "n" else 1.0
        start = X.T @ s
        if factors is None:
            direction = coef[-1] * start
            for value in coef[-2::-1]:
                direction = X.T @ (X @ direction) / divisor + value * start
        else:
            direction = factors[0] * start
            for value in factors[1]:
                direction = direction + value / divisor * (X.T @ (X @ direction))
        self._set(direction)
        return self


def _check_factors(factors: Any) -> tuple[float, Array]:
    try:
        c, steps = factors
    except (TypeError, ValueError):
        raise ValueError(f"factors must be a pair (c, c_l); got {factors!r}") from None
    return float(_finite("factors", [c])[0]), _finite("factors", steps, empty=True)


def supervised_mean(X: Array, s: Array) -> Array:
    """Return X's/m for labels s in {-1, 0, +1}, m of them not 0."""
    mean: Array = X.T @ s / max(1, int(np.count_nonzero(s)))
    return mean


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
    try:
        labels = np.asarray(y)
    except ValueError:
        return False
    return labels.ndim == 1 and labels.size > 0 and labels.dtype.kind in "if" and bool((labels == -1).all())


def _finite(name: str, value: Any, *, empty: bool = False) -> Array:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be a sequence of finite numbers; got {value!r}") from error
    if array.ndim != 1 or not np.isfinite(array).all() or not (array.size or empty):
        raise ValueError(f"{name} must be a sequence of finite numbers; got {value!r}")
    return array
