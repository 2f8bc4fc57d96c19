"""What the three classifiers share: parameters, their checks, inputs, labels, sensitive columns."""

from __future__ import annotations

import copy
import numbers
import warnings
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import (
    _check_sample_weight,
    assert_all_finite,
    check_consistent_length,
    column_or_1d,
    validate_data,
)

from mlpapers.core.validation import accepts_nan, check_bool, check_choice, check_real, seed_sequence
from mlpapers.fairness._checks import FairnessWarning, as_floats, sensitive_table
from mlpapers.fairness._posteriors import JointTask
from mlpapers.fairness.constraints import ConstraintOptions, check_options
from mlpapers.fairness.groups import GROUPS, GroupEncoding, make_groups

__all__ = ["FairClassifier", "Sample", "default_estimator"]

Array = NDArray[np.float64]
Codes = NDArray[np.int64]


def default_estimator() -> Any:
    """Return the base classifier where none is given."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


class Sample(NamedTuple):
    """Checked training rows."""

    X: Any  # what the base models see, the cells excepted
    y: Codes  # 0 or 1
    weights: Array | None  # as given
    encoding: GroupEncoding
    random_states: tuple[int, ...]

    def take(self, rows: Codes) -> Sample:
        """Return some of the rows."""
        from sklearn.utils import _safe_indexing

        encoding = replace(self.encoding, codes=self.encoding.codes[rows])
        weights = None if self.weights is None else self.weights[rows]
        return Sample(_safe_indexing(self.X, rows), self.y[rows], weights, encoding, self.random_states)


class FairClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Base of the classifiers of this package.

    Subclasses store the parameters that :meth:`_check_shared` reads.
    """

    __metadata_request__fit: ClassVar[dict[str, bool]] = {"sensitive_features": True}
    __metadata_request__predict: ClassVar[dict[str, bool]] = {"sensitive_features": True}
    __metadata_request__score: ClassVar[dict[str, bool]] = {"sensitive_features": True}
    __metadata_request__decision_function: ClassVar[dict[str, bool]] = {"sensitive_features": True}

    estimator: Any
    group_estimator: Any
    constraint: Any
    measure: str
    tolerance: float
    reference: str
    ratio_form: str
    groups: str
    attribute_aware: bool
    cost: float
    joint: str
    eta: str
    multipliers: Any
    sensitive_columns: Any
    random_state: Any
    classes_: NDArray[Any]
    groups_: GroupEncoding
    n_features_in_: int

    def predict(self, X: Any, *, sensitive_features: Any = None) -> NDArray[Any]:
        """Return the predicted class of each row."""
        raise NotImplementedError

    def score(self, X: Any, y: Any, sample_weight: Any = None, *, sensitive_features: Any = None) -> float:
        """Return the accuracy of :meth:`predict`.

        Parameters
        ----------
        X : array or DataFrame of shape (n, d)
        y : array of shape (n,)
        sample_weight : array of shape (n,), optional
        sensitive_features : optional
            Passed to :meth:`predict`.

        Returns
        -------
        accuracy : float
        """
        from sklearn.metrics import accuracy_score

        predicted = self.predict(X, sensitive_features=sensitive_features)
        return float(accuracy_score(y, predicted, sample_weight=sample_weight))

    def get_metadata_routing(self) -> MetadataRouter:
        """Return the routing of sensitive features and sample weights.

        Returns
        -------
        routing : MetadataRouter
        """
        return (
            MetadataRouter(owner=self)
            .add_self_request(self)
            .add(
                estimator=self._estimator(),
                method_mapping=MethodMapping().add(caller="fit", callee="fit"),
            )
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.sparse = False
        tags.input_tags.allow_nan = accepts_nan(self._estimator())
        return tags

    def _estimator(self) -> Any:
        return default_estimator() if self.estimator is None else self.estimator

    def _check_shared(self) -> ConstraintOptions:
        """Check the parameters that all classifiers have; the error names the parameter."""
        for name, needs in (("estimator", "predict_proba"), ("group_estimator", "predict_proba")):
            value = getattr(self, name)
            models = value if name == "group_estimator" and isinstance(value, tuple) else (value,)
            for model in models:
                check_classifier(name, model, needs)
        check_choice("joint", self.joint, ("direct", "factorized", "group_first"))
        check_choice("eta", self.eta, ("joint", "separate"))
        check_bool("attribute_aware", self.attribute_aware)
        check_cost(self.cost)
        options = check_options(
            self.constraint, self.measure, self.tolerance, self.reference, self.ratio_form
        )
        check_choice("groups", self.groups, (*GROUPS, "independent"))
        columns = self.sensitive_columns
        if columns is not None and not isinstance(columns, str | int | list | tuple | np.ndarray | pd.Index):
            raise TypeError(f"sensitive_columns must be names or positions of columns of X; got {columns!r}")
        return options

    def _random_states(self, count: int) -> tuple[int, ...]:
        sequence = seed_sequence(copy.deepcopy(self.random_state))
        return tuple(int(state >> 1) for state in sequence.generate_state(count))

    def _check_fit_input(self, X: Any, y: Any, sample_weight: Any, sensitive_features: Any) -> Sample:
        """Check training data, learn classes_ and groups_, and warn where nothing is constrained."""
        if y is None:
            raise ValueError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None"
            )
        random_states = self._random_states(64)
        table = self._check_X(X, reset=True)
        labels = column_or_1d(y, warn=True)
        if labels.dtype.kind == "f":
            assert_all_finite(labels, input_name="y")
        check_consistent_length(table, labels)
        check_classification_targets(labels)
        kind = type_of_target(labels, input_name="y", raise_unknown=True)
        classes, codes = np.unique(labels, return_inverse=True)
        if kind != "binary":
            raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
        if len(classes) < 2:
            raise ValueError(f"y must have two classes; got only one class, {classes[0]!r}")
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, table, dtype=np.float64, ensure_non_negative=True)
            if not weights.sum() > 0:
                raise ValueError("sample_weight must not be zero for every sample")
            if len(np.unique(codes[weights > 0])) < 2:
                raise ValueError("y must have two classes among the samples with positive sample_weight")
        self.classes_ = classes
        self.groups_ = self._encode(table, sensitive_features)
        inputs = self._inputs(table)
        return Sample(inputs, codes.astype(np.int64), weights, self.groups_, random_states)

    def _check_X(self, X: Any, *, reset: bool) -> Any:
        """Return X as an array, or as a frame with a fresh index where its names or types may matter."""
        if isinstance(X, pd.DataFrame) and not (_is_numeric(X) and self._ignores_names()):
            validate_data(self, X, reset=reset, skip_check_array=True)
            if not len(X) or not X.shape[1]:
                raise ValueError(f"X must have rows and columns; found {len(X)} sample(s) of {X.shape[1]}")
            return X.reset_index(drop=True)
        finite = "allow-nan" if get_tags(self).input_tags.allow_nan else True
        return np.ascontiguousarray(validate_data(self, X, reset=reset, ensure_all_finite=finite))

    def _ignores_names(self) -> bool:
        """Whether no base model can tell a numeric frame from an array: all are plain scikit-learn."""
        if getattr(self, "prefit", False):
            return False
        bases = (self.estimator, self.group_estimator, getattr(self, "final_estimator", None))
        return all(_is_plain(base) for base in bases if base is not None)

    def _column_positions(self, width: int) -> list[int]:
        """Return the positions in X of sensitive_columns."""
        if self.sensitive_columns is None:
            return []
        given = self.sensitive_columns
        wanted = [given] if isinstance(given, str | numbers.Integral) else list(given)
        names = list(getattr(self, "feature_names_in_", ()))
        positions = []
        for column in wanted:
            if isinstance(column, str) and column in names:
                positions.append(names.index(column))
            elif isinstance(column, numbers.Integral) and -width <= int(column) < width:
                positions.append(int(column) % width)
            else:
                raise ValueError(f"sensitive_columns must name columns of X; got {column!r}")
        return positions

    def _inputs(self, table: Any) -> Any:
        """Return what the base models see of X."""
        hidden = self._column_positions(table.shape[1])
        default = self.estimator is None and getattr(self, "final_estimator", None) is None
        if self.attribute_aware:
            # The default model reads numbers only; it is told of words by the columns of the cells.
            hidden = [j for j in hidden if default and _has_words(table, j)]
        kept = [j for j in range(table.shape[1]) if j not in hidden]
        if not kept and not self.attribute_aware:
            raise ValueError(
                "sensitive_columns must leave a column of X that the models may see; got all "
                f"{table.shape[1]} (with attribute_aware=True they may see them)"
            )
        words = [table.columns[j] for j in kept if _has_words(table, j)] if default else []
        if words:
            raise ValueError(
                f"estimator must be given, one that encodes them, where X has columns of words: {words}"
            )
        if not hidden:
            return table
        return table.iloc[:, kept] if isinstance(table, pd.DataFrame) else table[:, kept]

    def _sensitive(self, table: Any, sensitive_features: Any) -> pd.DataFrame | None:
        """Return the sensitive columns, given or out of X; None where there are none."""
        if sensitive_features is not None:
            return sensitive_table(sensitive_features, len(table))
        positions = self._column_positions(table.shape[1])
        if not positions:
            return None
        if isinstance(table, pd.DataFrame):
            return sensitive_table(table.iloc[:, positions])
        names = getattr(self, "feature_names_in_", [f"x{j}" for j in range(table.shape[1])])
        return sensitive_table({str(names[j]): table[:, j] for j in positions})

    def _encode(self, table: Any, sensitive_features: Any) -> GroupEncoding:
        sensitive = self._sensitive(table, sensitive_features)
        if sensitive is None:
            warnings.warn(
                "without sensitive_features or sensitive_columns there is one group and nothing to constrain",
                FairnessWarning,
                stacklevel=4,
            )
            sensitive = pd.DataFrame({"everyone": np.full(len(table), "yes", dtype=object)})
            return make_groups(sensitive, self.groups)
        encoding = make_groups(sensitive, self.groups)
        if encoding.n_cells == 1:
            warnings.warn(
                f"all samples have {encoding.cell_names[0]}: there is one group and nothing to constrain",
                FairnessWarning,
                stacklevel=4,
            )
        return encoding

    def _cells(self, table: Any, sensitive_features: Any) -> Codes | None:
        """Return the cell of each new row, None if blind; ValueError where an aware model cannot know it."""
        if not self.attribute_aware:
            return None
        sensitive = self._sensitive(table, sensitive_features)
        if sensitive is None:
            if self.groups_.n_cells == 1:
                return np.zeros(len(table), dtype=np.int64)
            raise ValueError("sensitive_features must be given to predict with attribute_aware=True")
        codes = self.groups_.transform(sensitive)
        if (codes < 0).any():
            unseen = sensitive[codes < 0].drop_duplicates().to_dict("records")
            raise ValueError(f"sensitive_features has combinations that were not there in fit: {unseen}")
        return codes

    def _joint_task(self, encoding: GroupEncoding, random_states: tuple[int, ...]) -> JointTask:
        base = self._estimator()
        group_base = base if self.group_estimator is None else self.group_estimator
        return JointTask(
            base,
            group_base,
            self.joint,
            self.eta == "separate",
            self.attribute_aware,
            encoding.n_cells,
            random_states,
        )

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, sensitive_features: Any = None) -> Self:
        """Fit the classifier."""
        raise NotImplementedError


def _is_numeric(X: pd.DataFrame) -> bool:
    return all(_holds_numbers(dtype) for dtype in X.dtypes)


def _holds_numbers(dtype: Any) -> bool:
    return isinstance(dtype, np.dtype) and dtype.kind in "biuf"


def _has_words(table: Any, position: int) -> bool:
    """Whether a column of a frame holds anything that is no number."""
    if not isinstance(table, pd.DataFrame):
        return False
    column = table.iloc[:, position]
    return not _holds_numbers(column.dtype) and as_floats(column[column.notna()].to_numpy()) is None


def _is_plain(base: Any) -> bool:
    """Whether an estimator and all within it are scikit-learn's, and none refers to columns."""
    params = base.get_params(deep=True) if isinstance(base, BaseEstimator) else {}
    parts = [base, *(value for value in params.values() if hasattr(value, "fit"))]
    if not all(type(part).__module__.startswith("sklearn.") for part in parts):
        return False
    named = ("transformers", "categorical_features", "monotonic_cst", "interaction_cst", "func")
    return not any(
        name.split("__")[-1] in named and value is not None and value != "from_dtype"
        for name, value in params.items()
    )


def check_classifier(name: str, model: Any, needs: str | None) -> None:
    """Raise TypeError unless `model` is None or a classifier with fit and the method `needs`."""
    if model is None:
        return
    if not hasattr(model, "fit") or (needs is not None and not hasattr(model, needs)):
        wanted = "fit" if needs is None else f"fit and {needs}"
        raise TypeError(f"{name} must be a classifier with {wanted}; got {model!r}")


def check_cost(cost: Any) -> float:
    """Return the cost as a float in (0, 1); ValueError or TypeError otherwise."""
    return check_real("cost", cost, low=0.0, high=1.0, closed="neither")
