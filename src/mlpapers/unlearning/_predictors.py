"""One face for scikit-learn estimators and torch modules: what an evaluation asks of a model."""

from __future__ import annotations

import copy
import math
import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax
from sklearn.base import is_classifier, is_regressor
from sklearn.utils.validation import check_is_fitted

from mlpapers.unlearning._torch_model import (
    RowLoss,
    check_module,
    evaluate_losses,
    evaluate_outputs,
    evaluation_mode,
    find_row_loss,
    gradients_kept,
    losses_of,
    trainable,
)
from mlpapers.unlearning._torch_rows import TorchRows
from mlpapers.unlearning._unlearning import Unlearning
from mlpapers.unlearning.losses import Loss, make_loss

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]

# Probabilities are not taken to be smaller than this: a loss stays finite.
_SMALLEST = 1e-12
_TORCH_LR = 0.05


class Predictor(ABC):
    """A fitted model.

    Rows are given as the pair (X, y), or, to a torch module, also as a Dataset.

    Attributes
    ----------
    classes : ndarray of shape (K,) or None
        Labels of the columns of `probabilities`; None for a regressor.
    """

    classes: NDArray[Any] | None

    @abstractmethod
    def predict(self, rows: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return predictions and targets, of the same shape."""

    @abstractmethod
    def probabilities(self, rows: Any) -> Array | None:
        """Return class probabilities (n, K), or None where the model has none."""

    @abstractmethod
    def losses(self, rows: Any) -> Array:
        """Return the loss of each row (n,)."""

    @abstractmethod
    def parameters(self) -> Array | None:
        """Return all parameters as one vector, or None where they are not known."""

    @abstractmethod
    def relearn_loss(self, rows: Any) -> float:
        """Return the mean loss that relearning descends on; NaN for a model that cannot be trained on."""

    @abstractmethod
    def relearn(self, rows: Any, target_loss: float, lr: float | None, n_steps: int) -> float:
        """Return how many gradient steps bring that loss down to the target; inf where `n_steps` do not.

        TypeError for a model that cannot be trained on.
        """

    def score(self, rows: Any) -> float:
        """Return the share of right labels, or R^2 of a regressor."""
        predictions, y = self.predict(rows)
        if self.classes is not None:
            return float(np.mean(predictions == y))
        spread = float(np.sum((y - y.mean(axis=0)) ** 2))
        return 1.0 - float(np.sum((y - predictions) ** 2)) / spread if spread > 0.0 else math.nan


def make_predictor(name: str, model: Any) -> Predictor:
    """Return `model` as a Predictor; TypeError where it is neither an estimator nor a torch module."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        return TorchPredictor(name, model)
    if not hasattr(model, "predict") or not (is_classifier(model) or is_regressor(model)):
        raise TypeError(
            f"{name} must be a fitted scikit-learn classifier or regressor, or a torch.nn.Module; "
            f"got {type(model).__name__}"
        )
    check_is_fitted(model)
    return SklearnPredictor(model)


class SklearnPredictor(Predictor):
    """A classifier or regressor with scikit-learn's methods."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.classes = np.asarray(model.classes_) if is_classifier(model) else None

    def predict(self, rows: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return predictions and targets."""
        X, y = _pair(rows)
        return np.asarray(self.model.predict(X)), y

    def probabilities(self, rows: Any) -> Array | None:
        """Return ``predict_proba``, or None without it."""
        if self.classes is None or not hasattr(self.model, "predict_proba"):
            return None
        return np.asarray(self.model.predict_proba(_pair(rows)[0]), dtype=np.float64)

    def losses(self, rows: Any) -> Array:
        """Return log losses; of scores as logits without probabilities; half squared errors; else errors."""
        X, y = _pair(rows)
        if self.classes is None:
            return 0.5 * (np.asarray(self.model.predict(X), dtype=np.float64) - y) ** 2
        probabilities = self.probabilities(rows)
        if probabilities is not None:
            logarithms = np.log(np.maximum(probabilities, _SMALLEST))
        elif hasattr(self.model, "decision_function"):
            scores = np.asarray(self.model.decision_function(X), dtype=np.float64)
            both = np.column_stack([np.zeros(len(scores)), scores]) if scores.ndim == 1 else scores
            logarithms = np.maximum(log_softmax(both, axis=1), math.log(_SMALLEST))
        else:
            return (np.asarray(self.model.predict(X)) != y).astype(np.float64)
        codes = codes_of(y, self.classes)
        own = np.take_along_axis(logarithms, np.maximum(codes, 0)[:, None], axis=1)[:, 0]
        # A class the model does not know is one it gives no probability.
        return -np.where(codes >= 0, own, math.log(_SMALLEST))

    def parameters(self) -> Array | None:
        """Return coefficients and intercepts of a linear model."""
        if not hasattr(self.model, "coef_"):
            return None
        intercept = np.ravel(getattr(self.model, "intercept_", np.empty(0)))
        return np.concatenate([np.ravel(self.model.coef_), intercept]).astype(np.float64)

    def relearn_loss(self, rows: Any) -> float:
        """Return the mean loss of the linear scores, NaN for another model or an unknown class."""
        problem = self._linear_problem(rows)
        if problem is None:
            return math.nan
        loss, design, targets, theta = problem
        return float(loss.value(loss.scores(design, theta), targets).mean())

    def relearn(self, rows: Any, target_loss: float, lr: float | None, n_steps: int) -> float:
        """Descend on the mean loss of a linear model; the default step is 1 over its smoothness."""
        problem = self._linear_problem(rows)
        if problem is None:
            raise TypeError(
                f"model must be a torch.nn.Module or a linear model with coef_ that knows all classes of "
                f"forget; got {type(self.model).__name__}"
            )
        loss, design, targets, theta = problem
        if lr is None:
            largest = float(np.linalg.eigvalsh(design.T @ design / len(design))[-1])
            lr = 1.0 / (loss.constants.L2 * largest) if largest > 0.0 else 1.0
        for step in range(n_steps + 1):
            Z = loss.scores(design, theta)
            if loss.value(Z, targets).mean() <= target_loss:
                return step
            theta = theta - lr * loss.pull(design, loss.slope(Z, targets)) / len(design)
        return math.inf

    def _linear_problem(self, rows: Any) -> tuple[Loss, Array, NDArray[Any], Array] | None:
        """Return loss, rows with the constant column, targets and parameters; None if there are none."""
        model = self.model
        if not hasattr(model, "coef_"):
            return None
        X, y = _pair(rows)
        design = np.asarray(X, dtype=np.float64)
        if isinstance(model, Unlearning) and model.norm_bound is not None:
            design = design * model._row_scale(design)[:, None]
        table = np.atleast_2d(np.asarray(model.coef_, dtype=np.float64))
        if getattr(model, "fit_intercept", True):
            design = np.column_stack([design, np.ones(len(design))])
            table = np.column_stack([table, np.broadcast_to(model.intercept_, len(table))])
        if self.classes is None:
            return make_loss("squared"), design, y.astype(np.float64), table.ravel()
        codes = codes_of(y, self.classes)
        if (codes < 0).any():
            return None
        if len(table) == 1:
            return make_loss("log_loss"), design, 2.0 * codes - 1.0, table.ravel()
        return make_loss("softmax", n_classes=len(table)), design, codes, table.ravel()


class TorchPredictor(Predictor):
    """A torch module: a classifier where targets are integers (one logit or one per class), else a regressor.

    What it is shows in the first rows it is given.
    """

    def __init__(self, name: str, model: torch.nn.Module) -> None:
        check_module(name, model)
        self.model = model
        parameter = next(iter(model.parameters()))
        self._device = parameter.device
        self._dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), parameter.dtype)
        self._loss: str | None = None
        self.classes = None

    def predict(self, rows: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return labels or predictions, and targets."""
        outputs, y = self._outputs(rows)
        if self._loss == "cross_entropy":
            predictions = outputs.argmax(1)
        elif self._loss == "binary_cross_entropy":
            predictions = (outputs > 0).long()
        else:
            predictions = outputs
        return predictions.reshape(y.shape).numpy(), y.numpy()

    def probabilities(self, rows: Any) -> Array | None:
        """Return softmax of the outputs (rows of longer targets one below another), or None."""
        import torch

        outputs, _ = self._outputs(rows)
        if self._loss == "squared":
            return None
        if self._loss == "binary_cross_entropy":
            logit = outputs.reshape(-1)
            return torch.stack([torch.sigmoid(-logit), torch.sigmoid(logit)], 1).numpy()
        return outputs.softmax(1).movedim(1, -1).reshape(-1, outputs.shape[1]).numpy()

    def losses(self, rows: Any) -> Array:
        """Return the loss of each row."""
        return evaluate_losses(self._row_loss(rows), self.model, self._rows(rows))

    def parameters(self) -> Array | None:
        """Return all parameters of the module."""
        parts = [p.detach().double().cpu().numpy().ravel() for p in self.model.parameters()]
        return np.concatenate(parts)

    def relearn_loss(self, rows: Any) -> float:
        """Return the mean loss."""
        return float(self.losses(rows).mean())

    def relearn(self, rows: Any, target_loss: float, lr: float | None, n_steps: int) -> float:
        """Descend on the mean loss of all rows at once, on a copy."""
        import torch

        row_loss, source = self._row_loss(rows), self._rows(rows)
        model = copy.deepcopy(self.model)
        with evaluation_mode(model), gradients_kept(model):
            optimizer = torch.optim.SGD(trainable(model), lr=_TORCH_LR if lr is None else lr)
            everything = slice(0, len(source))
            for step in range(n_steps + 1):
                loss = losses_of(row_loss, model, *source.take(everything), len(source)).mean()
                if float(loss.detach()) <= target_loss:
                    return step
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
        return math.inf

    def _row_loss(self, rows: Any) -> RowLoss:
        if self._loss is None:
            self._outputs(rows)
        assert self._loss is not None
        return find_row_loss(self._loss)

    def _rows(self, rows: Any) -> TorchRows:
        return TorchRows("rows", rows, self._device, self._dtype)

    def _outputs(self, rows: Any) -> tuple[Any, Any]:
        outputs, y = evaluate_outputs(self.model, self._rows(rows))
        if self._loss is None:
            if y.is_floating_point():
                self._loss = "squared"
            elif outputs.ndim > 1 and outputs.shape[1] > 1:
                self._loss, self.classes = "cross_entropy", np.arange(outputs.shape[1])
            else:
                self._loss, self.classes = "binary_cross_entropy", np.arange(2)
        return outputs, y


def codes_of(y: NDArray[Any], classes: NDArray[Any]) -> NDArray[np.int64]:
    """Return the position of each label in `classes`, -1 for one that is not there."""
    code_of = {label: code for code, label in enumerate(classes.tolist())}
    return np.array([code_of.get(label, -1) for label in y.tolist()], dtype=np.int64)


def check_rows(name: str, rows: Any) -> None:
    """Raise unless `rows` is a pair (X, y) with one target per row, at least one, or a torch Dataset."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(rows, torch.utils.data.Dataset):
        return
    if not isinstance(rows, tuple | list) or len(rows) != 2:
        raise TypeError(f"{name} must be a pair (X, y) or a torch Dataset; got {type(rows).__name__}")
    lengths = [np.shape(part)[0] if np.ndim(part) else 0 for part in rows]
    if lengths[0] != lengths[1] or lengths[0] == 0:
        raise ValueError(
            f"{name} must be a pair (X, y) with one target per row, at least one; got lengths {lengths}"
        )


def _pair(rows: Any) -> tuple[Any, NDArray[Any]]:
    if not isinstance(rows, tuple | list):
        raise TypeError(f"a scikit-learn model needs rows as a pair (X, y); got {type(rows).__name__}")
    X, y = rows
    targets = np.asarray(y)
    if targets.ndim != 1:
        raise ValueError(f"a scikit-learn model needs targets of shape (n,); got {targets.shape}")
    return X, targets
