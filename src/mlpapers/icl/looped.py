"""Looping: let a model label the unlabelled rows softly, fit it to its own labels, and repeat."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from mlpapers.core.validation import check_choice, check_int, check_real, check_rng
from mlpapers.icl._guard import MIN_LABELS, labeled_errors
from mlpapers.icl._labels import check_mark, read_rows
from mlpapers.icl._loop import LoopSettings, LoopTrace, run_loops
from mlpapers.icl._soft import (
    SOFT_WAYS,
    SoftModel,
    choose_way,
    fit_hard,
    predicts_probabilities,
    why_hard,
)
from mlpapers.icl.loop_result import LoopResult

__all__ = ["LoopedClassifier"]

Array = NDArray[np.float64]


def _has_probabilities(looped: LoopedClassifier) -> bool:
    if looped.estimator is not None and not predicts_probabilities(looped.estimator):
        raise AttributeError(f"estimator {type(looped.estimator).__name__} has no predict_proba")
    return True


class LoopedClassifier(ClassifierMixin, BaseEstimator):
    r"""Semi-supervised classifier that loops any classifier or regressor over its own soft pseudo-labels.

    Loop 0 fits the base to the labelled rows. Each further loop predicts class distributions of the
    unlabelled rows, and fits the base to the labelled rows (with their true labels) and to the unlabelled
    rows with these soft labels. The risk of a loop is the mean of :math:`2 (1 - \max_c P_{ic})` over
    unlabelled rows.

    Parameters
    ----------
    estimator : classifier or regressor, optional
        The base; it is cloned, never changed. By default :class:`MiniPFNClassifier`.
    n_loops : int, default=5
        Loops after loop 0.
    soft : {"auto", "soft", "regress", "weight", "hard"}, default="auto"
        How soft labels reach the base: "soft" calls ``fit_soft(X, P, classes)``; "regress" fits a regressor
        to 2P - 1 (one for two classes, else one per class) and clips what it predicts; "weight" repeats each
        row once per class with weight P_ic, which in a pipeline go to every step that takes weights (others
        see a row as often as it has likely classes); "hard" takes the most probable class, or what a
        classifier without ``predict_proba`` predicts. "auto" is the first that works, with a warning where
        that is "hard"; weights do not work for an SVC with ``probability=True``, whose internal folds part
        the copies of a row.
    selection : {"risk", "last", "cv"}, default="risk"
        The loop with the smallest risk (the first of equals), the last one, or "cv": the one with the
        smallest risk only if looping also predicts held-out labelled rows no worse than loop 0 does. With
        fewer than 5 labels in a class, "cv" acts as "risk". A classifier without ``predict_proba`` has no
        risk and needs "last".
    pool_step : int, optional
        Let the pool of unlabelled rows grow by that many per loop; by default all are used at once.
    damping : float, default=0.0
        Share of the last loop's pseudo-labels that is kept, in [0, 1).
    label_noise : float, default=0.0
        Standard deviation of normal noise on the pseudo-labels 2P - 1.
    tol : float, default=1e-4
        Stop when no pseudo-label moves by more.
    unlabeled : "auto" or a value, default="auto"
        What marks a row without label. "auto" takes None, NaN or NA where y has any, else -1 ("-1" in text),
        unless fewer than two classes would be left; then -1 is a class and a UserWarning says so.
    balance : {None, "prior"}, default=None
        "prior" rescales pseudo-labels so that their class shares are those of the labelled rows.
    random_state : int, RandomState or None
        Of pool order and noise; also given to the base wherever its own random_state is None.
    verbose : int, default=0
        Print the risk of every loop.

    Attributes
    ----------
    classes_ : ndarray of shape (C,)
    estimator_ : estimator, or list of estimators
        The selected base (one per class for a regressor and more than two classes).
    estimators_ : list
        The base of every loop.
    best_loop_, n_loops_ : int
        The selected loop, and the loops that were run after loop 0.
    risks_ : ndarray of shape (1 + number of loops,)
    label_distributions_ : ndarray of shape (n, C)
        Of the training rows, by the selected loop; one-hot where the label was given.
    transduction_ : ndarray of shape (n,)
        The most probable class of every training row; given labels are kept.
    soft_ : str
        The way that was taken.
    loop_result_ : LoopResult
    n_features_in_ : int

    Notes
    -----
    A discriminative base that is fitted to its own probabilities stays where it is: logistic regression gains
    nothing. Generative and in-context models gain, because unlabelled rows tell them about the features.
    The risk rewards confidence, right or wrong; it is no estimate of the error. Bases that are overconfident
    after few labels, such as naive Bayes, have their smallest risk at loop 0: take ``selection="last"``.

    References
    ----------
    .. [1] Li et al., "When and How Unlabeled Data Provably Improve In-Context Learning", NeurIPS 2025,
       Algorithm 1.

    Examples
    --------
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from mlpapers.icl import make_semisupervised_gmm
    >>> X, y, y_true, mu = make_semisupervised_gmm(400, n_labeled=20, random_state=1)
    >>> looped = LoopedClassifier(GaussianNB(), selection="last").fit(X, y)
    >>> bool((looped.transduction_ == y_true).mean() > 0.7)
    True
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        n_loops: int = 5,
        soft: Literal["auto", "soft", "regress", "weight", "hard"] = "auto",
        selection: Literal["risk", "last", "cv"] = "risk",
        pool_step: int | None = None,
        damping: float = 0.0,
        label_noise: float = 0.0,
        tol: float = 1e-4,
        unlabeled: Any = "auto",
        balance: Literal["prior"] | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.n_loops = n_loops
        self.soft = soft
        self.selection = selection
        self.pool_step = pool_step
        self.damping = damping
        self.label_noise = label_noise
        self.tol = tol
        self.unlabeled = unlabeled
        self.balance = balance
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the base and loop it.

        Parameters
        ----------
        X : array-like of shape (n, d)
        y : array-like of shape (n,)
            Labels; `unlabeled` marks rows without one.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            With fewer than two classes among the labelled rows or a parameter out of range.
        TypeError
            Where the base has not what `soft`, `selection` or `balance` needs; the message names it.

        Warns
        -----
        UserWarning
            Where ``soft="auto"`` has nothing better than hard labels, and where -1 is taken for a class.
        """
        rng = self._check_parameters()
        X, labels = read_rows(self, X, y, self.unlabeled)
        base = self._base(rng)
        settings = LoopSettings(
            way=choose_way(base, self.soft),
            n_loops=int(self.n_loops),
            pool_step=self.pool_step,
            damping=float(self.damping),
            label_noise=float(self.label_noise),
            tol=float(self.tol),
            balance=self.balance,
            verbose=int(self.verbose),
        )
        labeled = labels.labeled
        self.classes_, self.soft_ = labels.classes, settings.way
        known, codes, unknown = X[labeled], labels.codes[labeled], X[~labeled]
        errors = np.full(2, np.nan)
        if len(unknown) and settings.n_loops and not predicts_probabilities(base):
            for name, value, needed in (
                ("selection", self.selection, "last"),
                ("balance", self.balance, None),
            ):
                if value != needed:
                    raise TypeError(
                        f"{name}={value!r} needs class probabilities, which estimator {type(base).__name__} "
                        f"does not predict; pass {name}={needed!r}"
                    )
        if self.soft == "auto" and settings.way == "hard" and len(unknown) and settings.n_loops:
            warnings.warn(
                f"{why_hard(base)}: it is looped over hard labels, which keep what it got wrong; pass "
                "soft='hard' where that is wanted",
                UserWarning,
                stacklevel=2,
            )
        if len(unknown):
            trace = run_loops(base, known, codes, unknown, self.classes_, settings, rng)
            best = len(trace.models) - 1 if self.selection == "last" else trace.calmest
            if self.selection == "cv" and best > 0 and np.bincount(codes).min() >= MIN_LABELS:
                errors = labeled_errors(base, known, codes, unknown, self.classes_, settings, rng)
                best = best if errors[1] <= errors[0] else 0
        else:
            trace = LoopTrace(models=[fit_hard(base, known, codes, self.classes_, settings.way)])
            trace.distributions, trace.risks, best = [np.empty((0, len(self.classes_)))], [0.0], 0
        self._models = trace.models
        self.estimators_ = [_plain(model) for model in trace.models]
        self.estimator_, self.best_loop_ = self.estimators_[best], best
        self.n_loops_, self.risks_ = len(trace.models) - 1, np.array(trace.risks)
        self.label_distributions_ = np.empty((len(X), len(self.classes_)))
        self.label_distributions_[labeled] = np.eye(len(self.classes_))[codes]
        self.label_distributions_[~labeled] = trace.distributions[best]
        self.transduction_ = self.classes_[self.label_distributions_.argmax(axis=1)]
        self.loop_result_ = _summarise(trace, best, self.selection, errors)
        return self

    @available_if(_has_probabilities)
    def predict_proba(self, X: Any) -> Array:
        """Return class probabilities of the selected loop's model, for a base that has them.

        Parameters
        ----------
        X : array-like of shape (q, d)

        Returns
        -------
        probabilities : ndarray of shape (q, C)
        """
        X = self._rows(X)
        return self._models[self.best_loop_].predict_proba(X)

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of every row.

        Parameters
        ----------
        X : array-like of shape (q, d)

        Returns
        -------
        y : ndarray of shape (q,)
        """
        X = self._rows(X)
        probabilities = self._models[self.best_loop_].predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(axis=1)])

    @available_if(_has_probabilities)
    def staged_predict_proba(self, X: Any) -> Iterator[Array]:
        """Yield class probabilities of every loop's model, loop 0 first.

        Parameters
        ----------
        X : array-like of shape (q, d)

        Yields
        ------
        probabilities : ndarray of shape (q, C)
        """
        X = self._rows(X)
        for model in self._models:
            yield model.predict_proba(X)

    def staged_predict(self, X: Any) -> Iterator[NDArray[Any]]:
        """Yield the predictions of every loop's model, loop 0 first.

        Parameters
        ----------
        X : array-like of shape (q, d)

        Yields
        ------
        y : ndarray of shape (q,)
        """
        X = self._rows(X)
        for model in self._models:
            yield np.asarray(self.classes_[model.predict_proba(X).argmax(axis=1)])

    def _rows(self, X: Any) -> Array:
        check_is_fitted(self)
        rows: Array = validate_data(self, X, dtype=np.float64, order="C", reset=False)
        return rows

    def _check_parameters(self) -> np.random.Generator:
        check_int("n_loops", self.n_loops, minimum=0)
        check_choice("soft", self.soft, ("auto", *SOFT_WAYS))
        check_choice("selection", self.selection, ("risk", "last", "cv"))
        if self.pool_step is not None:
            check_int("pool_step", self.pool_step, minimum=1)
        check_real("damping", self.damping, low=0.0, high=1.0, closed="left")
        check_real("label_noise", self.label_noise, low=0.0)
        check_real("tol", self.tol, low=0.0)
        check_mark(self.unlabeled)
        check_choice("balance", self.balance, (None, "prior"))
        check_int("verbose", self.verbose, minimum=0)
        if self.estimator is not None and not isinstance(self.estimator, BaseEstimator | ClassifierMixin):
            missing = [name for name in ("fit", "predict", "get_params") if not hasattr(self.estimator, name)]
            if missing:
                raise TypeError(
                    f"estimator must be a classifier or a regressor; {self.estimator!r} lacks {missing}"
                )
        return check_rng(self.random_state)

    def _base(self, rng: np.random.Generator) -> Any:
        if self.estimator is None:
            from mlpapers.icl.minipfn import MiniPFNClassifier

            base: Any = MiniPFNClassifier()
        else:
            base = clone(self.estimator)
        # The same seed in every loop: what changes from loop to loop are the labels alone.
        seed = int(rng.integers(2**31))
        free = [
            name
            for name, value in base.get_params(deep=True).items()
            if value is None and name.rpartition("__")[2] == "random_state"
        ]
        return base.set_params(**dict.fromkeys(free, seed)) if free else base


def _plain(model: SoftModel) -> Any:
    return model.estimators[0] if len(model.estimators) == 1 else model.estimators


def _summarise(trace: LoopTrace, best: int, selection: str, errors: Array) -> LoopResult:
    P = np.stack(trace.distributions)  # (loops, unlabelled rows, classes)
    codes = P.argmax(axis=2)
    changes = np.zeros(len(P), dtype=np.int64)
    changes[1:] = (codes[1:] != codes[:-1]).sum(axis=1)
    return LoopResult(
        risks=np.array(trace.risks),
        entropy=(0.0 - P * np.log(np.where(P > 0.0, P, 1.0))).sum(axis=(1, 2)) / max(1, P.shape[1]),
        label_changes=changes,
        best_loop=best,
        selection=selection,
        labeled_errors=errors,
    )
