"""MiniPFN: a small in-context classifier of tables whose weights come with the library."""

from __future__ import annotations

import functools
import os
import warnings
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from mlpapers.core.parallel import chunk_slices
from mlpapers.core.validation import check_int, check_path, check_probability_rows, check_rng
from mlpapers.icl._labels import missing_values

if TYPE_CHECKING:
    import torch

__all__ = ["MiniPFNClassifier"]

Array = NDArray[np.float64]

N_INPUTS = 16


class MiniPFNClassifier(ClassifierMixin, BaseEstimator):
    r"""In-context classifier: a transformer fitted once to random tables reads the training rows as a prompt.

    ``fit`` only stores the context. For two classes every ensemble member permutes the features (with more
    than 16 it takes a random 16 of them) and may swap the classes; logits are averaged and
    :math:`P(y = +1 \mid x) = 1 / (1 + e^{-\mathrm{logit}})`. Features are standardised by the context rows
    alone and clipped to +-5.

    More classes are one against the rest, renormalised; then the share of a query's two most probable classes
    a, b is divided anew, since a class that lies between two others is hard to tell from their union:

    .. math:: \log \frac{P_b}{P_a} = \frac12 \Bigl( \log \frac{P^{rest}_b}{P^{rest}_a} +
              \mathrm{logit}_{ab} \Bigr)

    with the logit of a context that holds the rows of a and b alone.

    Parameters
    ----------
    n_estimators : int, default=4
        Ensemble members.
    checkpoint : path, optional
        A file written by ``python -m mlpapers.icl.pretrain``; by default the one that the library ships.
    max_context : int, default=1024
        Most context rows; of more, a random part is used.
    chunk_size : int, default=256
        Queries evaluated at once.
    device : str, default="cpu"
        Where torch computes.
    random_state : int, RandomState or None
        Of the members and of the choice of context rows.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
    context_ : ndarray of shape (n, d)
        Context rows.
    label_distributions_ : ndarray of shape (n, C)
        Their label distributions.
    n_features_in_ : int

    Notes
    -----
    The prior has 2 to 16 features and 6 to 64 context rows; far outside, predictions deteriorate.

    With more than two classes, probabilities are not continuous where the second and the third class change
    places.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = MiniPFNClassifier(random_state=0).fit(X[:40], y[:40])
    >>> bool(model.score(X[40:], y[40:]) > 0.85)
    True
    """

    def __init__(
        self,
        *,
        n_estimators: int = 4,
        checkpoint: str | os.PathLike[str] | None = None,
        max_context: int = 1024,
        chunk_size: int = 256,
        device: str = "cpu",
        random_state: Any = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.checkpoint = checkpoint
        self.max_context = max_context
        self.chunk_size = chunk_size
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Store labelled rows as the context.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,)

        Returns
        -------
        self

        Raises
        ------
        ValueError
            With fewer than two classes, a missing label, or a parameter out of range.
        FileNotFoundError
            Where `checkpoint` does not exist.

        Warns
        -----
        UserWarning
            Where -1 stands beside two classes: here it is a class like them.
        """
        missing = missing_values(y)
        if missing is not None:
            raise ValueError(
                f"y must hold a label in every row; row {int(np.argmax(missing))} has none (LoopedClassifier "
                "takes unlabelled rows)"
            )
        X, y = validate_data(self, X, y, dtype=np.float64, order="C")
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(
                f"y must have at least two classes; got {len(classes)} class: {classes.tolist()}"
            )
        if len(classes) > 2 and str(classes[0]) == "-1":
            warnings.warn(
                "y holds -1, which is a class here; it marks rows without label for LoopedClassifier and the "
                "other semi-supervised classifiers",
                UserWarning,
                stacklevel=2,
            )
        return self._store(X, np.eye(len(classes))[codes], classes)

    def fit_soft(self, X: Any, P: Any, classes: Any) -> Self:
        """Store rows with label distributions as the context.

        Parameters
        ----------
        X : array-like of shape (n, d)
        P : array-like of shape (n, C)
            Each row a distribution over `classes`.
        classes : array-like of shape (C,)
            In increasing order.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Where a row of `P` is no distribution or shapes do not fit.
        """
        X = validate_data(self, X, dtype=np.float64, order="C")
        names = np.asarray(classes)
        distributions = check_probability_rows("P", np.asarray(P))
        if names.ndim != 1 or len(names) < 2 or distributions.shape != (len(X), len(names)):
            raise ValueError(
                f"P must have shape ({len(X)}, C) for C >= 2 classes; got {distributions.shape} for "
                f"{names.size} classes"
            )
        return self._store(X, distributions, names)

    def predict_proba(self, X: Any) -> Array:
        """Return class probabilities.

        Parameters
        ----------
        X : array-like of shape (q, d)

        Returns
        -------
        probabilities : ndarray of shape (q, C)
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, order="C", reset=False)
        L, rows = self.label_distributions_, self.context_
        if len(self.classes_) == 2:
            positive = expit(self._logits(X, rows, 2.0 * L[:, 1:] - 1.0))[:, 0]
            return np.column_stack([1.0 - positive, positive])
        one_vs_rest = log_expit(self._logits(X, rows, 2.0 * L - 1.0))
        P = np.exp(one_vs_rest)
        pairs = np.sort(np.argsort(-P, axis=1, kind="stable")[:, :2], axis=1)
        for a, b in np.unique(pairs, axis=0):
            share = L[:, a] + L[:, b]
            known = share > 0.5
            if not known.any():
                continue
            asked = np.flatnonzero((pairs == (a, b)).all(axis=1))
            s = (L[known, b] - L[known, a]) / share[known]
            direct = self._logits(X[asked], rows[known], s[:, None])[:, 0]
            part = expit(0.5 * (direct + one_vs_rest[asked, b] - one_vs_rest[asked, a]))
            both = P[asked, a] + P[asked, b]
            P[asked, a], P[asked, b] = both * (1.0 - part), both * part
        return np.asarray(P / P.sum(axis=1, keepdims=True))

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of every row.

        Parameters
        ----------
        X : array-like of shape (q, d)

        Returns
        -------
        y : ndarray of shape (q,)
        """
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    def _store(self, X: Array, P: Array, classes: NDArray[Any]) -> Self:
        n_estimators = check_int("n_estimators", self.n_estimators, minimum=1)
        max_context = check_int("max_context", self.max_context, minimum=1)
        check_int("chunk_size", self.chunk_size, minimum=1)
        _network(_checkpoint_key(self.checkpoint), _device(self.device))
        rng = check_rng(self.random_state)
        d = X.shape[1]
        members = [rng.permutation(d)[:N_INPUTS] for _ in range(n_estimators)]
        flips = np.where(np.arange(n_estimators) % 2 == 0, 1.0, -1.0)
        if len(X) > max_context:
            chosen = np.sort(rng.permutation(len(X))[:max_context])
            X, P = X[chosen], P[chosen]
        self.classes_ = classes
        self.context_ = X
        self.label_distributions_ = P
        self._members, self._flips = np.array(members), flips
        return self

    def _logits(self, X: Array, known: Array, s: Array) -> Array:
        """Return logits (q, targets), given known rows (n, d) and their labels s (n, targets) in [-1, 1]."""
        import torch

        from mlpapers.icl._network import pad_features

        device = _device(self.device)
        network = _network(_checkpoint_key(self.checkpoint), device)
        centre, spread = known.mean(axis=0), known.std(axis=0) + 1e-6

        def rows(X: Array) -> torch.Tensor:
            scores = np.clip((X - centre) / spread, -5.0, 5.0)
            members = scores[:, self._members].transpose(1, 0, 2)  # (members, rows, at most 16)
            return pad_features(torch.from_numpy(members.astype(np.float32)).to(device))

        flips = self._flips[:, None]
        logits = np.empty((len(X), s.shape[1]))
        with torch.inference_mode():
            context = rows(known)
            for target in range(s.shape[1]):
                labels = torch.from_numpy((flips * s[:, target]).astype(np.float32)).to(device)
                memory = network.read(context, labels)
                for part in chunk_slices(len(X), self.chunk_size):
                    answers = network.answer(rows(X[part]), memory).double().cpu().numpy()
                    logits[part, target] = (flips * answers).mean(axis=0)
        return logits


def _checkpoint_key(checkpoint: Any) -> str | None:
    path = check_path("checkpoint", checkpoint)
    return None if path is None else str(path)


def _device(device: Any) -> str:
    import torch

    try:
        return str(torch.device(device))
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"device must name a torch device; got {device!r}") from error


@functools.lru_cache(maxsize=4)
def _network(checkpoint: str | None, device: str) -> Any:
    import torch

    from mlpapers.icl._checkpoint import read_checkpoint
    from mlpapers.icl._network import MiniPFN

    weights, recipe = read_checkpoint(checkpoint)
    network = MiniPFN(**recipe.get("network", {}))
    try:
        network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    except RuntimeError as error:
        raise ValueError(f"checkpoint {checkpoint!r} does not fit the network: {error}") from error
    return network.eval().requires_grad_(False).to(device)
