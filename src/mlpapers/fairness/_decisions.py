"""What a fitted randomised rule does with new rows: probabilities, decisions, margins, explanations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from mlpapers.core.validation import check_rng
from mlpapers.fairness._base import FairClassifier
from mlpapers.fairness._fair_rule import FairRule
from mlpapers.fairness._hashing import row_uniforms
from mlpapers.fairness._posteriors import JointModel

__all__ = ["RandomisedDecisions"]

Array = NDArray[np.float64]
Codes = NDArray[np.int64]
_TINY = 1e-12


class RandomisedDecisions(FairClassifier):
    """Base of a classifier that predicts 1 with a probability: its subclass finds the rule and the models."""

    randomize: str
    estimator_: JointModel
    _found: FairRule
    _salt: int

    def predict_joint(self, X: Any, *, sensitive_features: Any = None) -> Array:
        """Return the posteriors P(S = m, Y = y | x).

        Parameters
        ----------
        X : array or DataFrame of shape (n, d)
        sensitive_features : optional
            Needed if `attribute_aware`; the posterior is then 0 outside the row's own cell.

        Returns
        -------
        joint : ndarray of shape (n, M, 2)
        """
        return self._at(X, sensitive_features)[1]

    def selection_proba(self, X: Any, *, sensitive_features: Any = None) -> Array:
        """Return the probability with which the rule predicts the positive class.

        Parameters
        ----------
        X : array or DataFrame of shape (n, d)
        sensitive_features : optional
            Needed if `attribute_aware`.

        Returns
        -------
        f : ndarray of shape (n,), in [0, 1]
        """
        _, joint, eta, codes = self._at(X, sensitive_features)
        return self._found.rule.probabilities(joint, eta, codes)

    def predict(self, X: Any, *, sensitive_features: Any = None) -> NDArray[Any]:
        """Return the decision for each row: 1{u(x) < selection probability}.

        Parameters
        ----------
        X : array or DataFrame of shape (n, d)
        sensitive_features : optional
            Needed if `attribute_aware`, ignored otherwise.

        Returns
        -------
        y_pred : ndarray of shape (n,)
        """
        table, joint, eta, codes = self._at(X, sensitive_features)
        decided = self._decide(table, self._found.rule.probabilities(joint, eta, codes), codes)
        return self.classes_[decided.astype(np.int64)]

    def decision_function(self, X: Any, *, sensitive_features: Any = None) -> Array:
        """Return the margin eta - c - Q, whose sign agrees with :meth:`predict`.

        Where the rule is randomised, or decides against the sign of the margin, it is a tiny number of the
        decision's sign. (With randomize="independent" every call draws anew.)

        Parameters
        ----------
        X : array or DataFrame of shape (n, d)
        sensitive_features : optional
            Needed if `attribute_aware`.

        Returns
        -------
        margin : ndarray of shape (n,)
        """
        table, joint, eta, codes = self._at(X, sensitive_features)
        f = self._found.rule.probabilities(joint, eta, codes)
        decided = self._decide(table, f, codes)
        margin = self._found.margin(joint, eta, self.cost)
        plain = ((f == 0.0) | (f == 1.0)) & ((margin > 0) == decided) & (np.abs(margin) > _TINY)
        return np.where(plain, margin, np.where(decided, _TINY, -_TINY))

    def explain(self, X: Any, *, sensitive_features: Any = None) -> pd.DataFrame:
        """Say for each row how its threshold comes about.

        Parameters
        ----------
        X : array or DataFrame of shape (n, d)
        sensitive_features : optional
            Needed if `attribute_aware`.

        Returns
        -------
        table : DataFrame of n rows
            eta, threshold = c + Q, and one column per constrained group (and notion, where there are
            several) with its contribution to Q; the contributions sum to threshold - c. Its index is that
            of a DataFrame `X`.
        """
        _, joint, eta, _ = self._at(X, sensitive_features)
        columns = {"eta": eta, "threshold": eta}
        total = np.zeros(len(eta))
        several = len(self._found.system.options.blocks) > 1
        for (block, group), W in self._found.group_functionals():
            contribution = np.tensordot(joint, W, axes=2)
            columns[f"{block}: {group}" if several else str(group)] = contribution
            total = total + contribution
        columns["threshold"] = self.cost + total
        return pd.DataFrame(columns).set_axis(X.index if isinstance(X, pd.DataFrame) else range(len(eta)))

    def _at(self, X: Any, sensitive_features: Any) -> tuple[Any, Array, Array, Codes | None]:
        check_is_fitted(self)
        table = self._check_X(X, reset=False)
        codes = self._cells(table, sensitive_features)
        inputs = self._inputs(table)
        joint = self.estimator_.joint(inputs, codes)
        return table, joint, self.estimator_.eta(inputs, joint), codes

    def _decide(self, table: Any, f: Array, codes: Codes | None) -> NDArray[np.bool_]:
        if self.randomize == "none":
            return f >= 0.5
        if self.randomize == "independent":
            return np.asarray(check_rng(self.random_state).random(len(f)) < f)
        return row_uniforms(table, codes, self._salt) < f
