"""Has it forgotten, and is it still good? An unlearned model beside the retrained one."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from mlpapers.core._axes import new_axes
from mlpapers.core.result import Result
from mlpapers.core.validation import check_int, check_real
from mlpapers.unlearning._predictors import Predictor, check_rows, make_predictor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "ModelScores",
    "UnlearningReport",
    "evaluate_unlearning",
    "membership_inference_auc",
    "relearn_steps",
]

Array = NDArray[np.float64]

_SMALLEST = 1e-12


@dataclass(frozen=True)
class ModelScores:
    """What is said about one model.

    Attributes
    ----------
    test_accuracy, retain_accuracy, forget_accuracy : float
        Share of right labels in [0, 1]; R^2 of a regressor.
    parameter_distance : float
        Euclidean distance to the retrained model's parameters; NaN where the two are not comparable.
    disagreement : float
        Share of test rows on which the labels differ from the retrained model's; for regressors the root mean
        square of the difference.
    kl_divergence : float
        Mean over test rows of KL(retrained || model) in nats, probabilities at least 1e-12; NaN without
        probabilities.
    mia_auc : float
        AUC of telling forget rows from test rows by their loss; 0.5 says that it cannot be done.
    relearn_steps : float
        Gradient steps on the forget rows until their mean loss is the report's target; inf where it was not
        reached, NaN for a model that cannot be trained on.
    """

    test_accuracy: float
    retain_accuracy: float
    forget_accuracy: float
    parameter_distance: float
    disagreement: float
    kl_divergence: float
    mia_auc: float
    relearn_steps: float


@dataclass(frozen=True, kw_only=True, eq=False)
class UnlearningReport(Result):
    """An unlearned model, beside the retrained and the original one.

    The unlearned model's scores are also attributes of the report: ``report.mia_auc``.

    Attributes
    ----------
    unlearned, retrained : ModelScores
    original : ModelScores or None
    target_loss : float
        Mean loss of the forget rows at which they count as relearned: that of the original model, or, without
        it, the retrained model's mean loss of the retain rows.
    """

    unlearned: ModelScores
    retrained: ModelScores
    original: ModelScores | None
    target_loss: float

    @property
    def test_accuracy(self) -> float:
        """Of the unlearned model."""
        return self.unlearned.test_accuracy

    @property
    def retain_accuracy(self) -> float:
        """Of the unlearned model."""
        return self.unlearned.retain_accuracy

    @property
    def forget_accuracy(self) -> float:
        """Of the unlearned model."""
        return self.unlearned.forget_accuracy

    @property
    def parameter_distance(self) -> float:
        """Of the unlearned model to the retrained one."""
        return self.unlearned.parameter_distance

    @property
    def disagreement(self) -> float:
        """Of the unlearned model with the retrained one."""
        return self.unlearned.disagreement

    @property
    def kl_divergence(self) -> float:
        """Of the unlearned model from the retrained one."""
        return self.unlearned.kl_divergence

    @property
    def mia_auc(self) -> float:
        """Of an attack on the unlearned model."""
        return self.unlearned.mia_auc

    @property
    def relearn_steps(self) -> float:
        """Of the unlearned model."""
        return self.unlearned.relearn_steps

    def summary(self) -> str:
        """Return the table of :meth:`to_frame` as text."""
        table = self.to_frame().set_index("model").T
        return f"{type(self).__name__}\n{table.to_string(float_format=lambda value: f'{value:.4g}')}"

    def to_frame(self) -> pd.DataFrame:
        """Return one row per model, with the column "model" and one column per score.

        Returns
        -------
        pandas.DataFrame
        """
        return pd.DataFrame(
            [{"model": name, **dataclasses.asdict(scores)} for name, scores in self._models()]
        )

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the three accuracies and the attack's AUC of every model as bars.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        **options
            Passed to ``Axes.bar``.

        Returns
        -------
        matplotlib Axes
        """
        ax = new_axes(ax)
        names = ("test_accuracy", "retain_accuracy", "forget_accuracy", "mia_auc")
        models = self._models()
        width = 0.8 / len(models)
        for position, (name, scores) in enumerate(models):
            left = np.arange(len(names)) + (position - (len(models) - 1) / 2) * width
            heights = [getattr(scores, score) for score in names]
            ax.bar(left, heights, **{"width": width, "label": name, **options})
        ax.set_xticks(range(len(names)), [name.replace("_", " ") for name in names])
        ax.axhline(0.5, color="0.5", linewidth=0.8)
        ax.legend()
        return ax

    def _models(self) -> list[tuple[str, ModelScores]]:
        models = [("unlearned", self.unlearned), ("retrained", self.retrained)]
        return models if self.original is None else [*models, ("original", self.original)]


def evaluate_unlearning(
    unlearned: Any, retrained: Any, *, forget: Any, retain: Any, test: Any, original: Any = None
) -> UnlearningReport:
    """Compare an unlearned model with one that was retrained without the forgotten rows.

    Parameters
    ----------
    unlearned, retrained : fitted scikit-learn classifier or regressor, or torch.nn.Module
        A module with integer targets is a classifier (outputs are logits, one or one per class), any other a
        regressor; it is evaluated in evaluation mode, and left as it was.
    forget, retain, test : (X, y), or torch Dataset of (x, y) for modules
        Rows that were forgotten, rows that were kept, and rows that no model has seen.
    original : as `unlearned`, optional
        The model before unlearning.

    Returns
    -------
    report : UnlearningReport

    Raises
    ------
    TypeError, ValueError
        If a model or the rows are not as described.

    Notes
    -----
    The loss of a row is its log loss (of scores as logits where there are no probabilities), or half the
    squared error. A row whose label the model does not know has probability 1e-12.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(90, 2))
    >>> y = (X[:, 0] + rng.normal(size=90) > 0).astype(int)
    >>> original = LogisticRegression().fit(X[:60], y[:60])
    >>> retrained = LogisticRegression().fit(X[10:60], y[10:60])
    >>> rows = {"forget": (X[:10], y[:10]), "retain": (X[10:60], y[10:60]), "test": (X[60:], y[60:])}
    >>> evaluate_unlearning(retrained, retrained, **rows, original=original).parameter_distance
    0.0
    """
    given = {"unlearned": unlearned, "retrained": retrained}
    if original is not None:
        given["original"] = original
    models = {name: make_predictor(name, model) for name, model in given.items()}
    rows = {"forget": forget, "retain": retain, "test": test}
    for name, part in rows.items():
        check_rows(name, part)
    reference = models["retrained"]
    target = (
        models["original"].relearn_loss(forget) if original is not None else reference.relearn_loss(retain)
    )
    scores = {name: _score(model, reference, rows, target) for name, model in models.items()}
    return UnlearningReport(
        unlearned=scores["unlearned"],
        retrained=scores["retrained"],
        original=scores.get("original"),
        target_loss=target,
    )


def membership_inference_auc(loss_members: ArrayLike, loss_nonmembers: ArrayLike) -> float:
    r"""AUC of the attack that takes rows with a small loss for members of the training data.

    .. math:: \mathrm{AUC} = P(\ell_{member} < \ell_{nonmember}) + \tfrac12 P(\ell_{member} =
              \ell_{nonmember})

    Parameters
    ----------
    loss_members : array-like of shape (k,)
        Losses of rows that the model was trained on (or should have forgotten).
    loss_nonmembers : array-like of shape (m,)
        Losses of rows that it has never seen.

    Returns
    -------
    auc : float in [0, 1]
        0.5 where the losses do not tell.

    Raises
    ------
    ValueError
        If an argument is not a vector, is empty, or holds NaN.

    References
    ----------
    .. [1] Yeom et al., "Privacy risk in machine learning: analyzing the connection to overfitting", CSF 2018.

    Examples
    --------
    >>> membership_inference_auc([0.1, 0.2], [0.2, 0.9])
    0.875
    """
    members = _check_losses("loss_members", loss_members)
    others = _check_losses("loss_nonmembers", loss_nonmembers)
    ranks = rankdata(np.concatenate([members, others]))
    k, m = len(members), len(others)
    # The Mann-Whitney count of pairs in which the nonmember's loss is larger, ties as one half.
    larger = ranks[k:].sum() - m * (m + 1) / 2
    return float(larger / (k * m))


def relearn_steps(
    model: Any, forget: Any, target_loss: float, *, lr: float | None = None, n_steps: int = 1000
) -> float:
    """Count the gradient steps on the forget rows until their mean loss is down to a target.

    A model that had really forgotten takes as long as one that was never trained on these rows.

    Parameters
    ----------
    model : torch.nn.Module, or fitted linear scikit-learn model
        A copy is trained, in evaluation mode, by plain gradient descent on all rows at once. Linear
        classifiers descend on the log loss of their scores as logits, regressors and modules with floating
        targets on half the squared error.
    forget : (X, y), or torch Dataset of (x, y) for modules
    target_loss : float
    lr : float, optional
        Step size. Default: 0.05 for modules, 1 over the smoothness of the loss for linear models, with which
        it never rises.
    n_steps : int, default=1000
        Most steps.

    Returns
    -------
    steps : int, or inf where `n_steps` steps do not reach the target
        0 where the loss is there already.

    Raises
    ------
    TypeError
        If the model is neither, or does not know a class of `forget`.
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> from sklearn.linear_model import LinearRegression
    >>> model = LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0])
    >>> relearn_steps(model, ([[2.0]], [2.0]), 1e-6)
    0
    """
    check_real("target_loss", target_loss)
    if lr is not None:
        check_real("lr", lr, low=0.0, closed="neither")
    check_int("n_steps", n_steps, minimum=1)
    check_rows("forget", forget)
    return make_predictor("model", model).relearn(forget, float(target_loss), lr, n_steps)


def _score(model: Predictor, reference: Predictor, rows: dict[str, Any], target_loss: float) -> ModelScores:
    test, forget = rows["test"], rows["forget"]
    relearnable = math.isfinite(target_loss) and math.isfinite(model.relearn_loss(forget))
    return ModelScores(
        test_accuracy=model.score(test),
        retain_accuracy=model.score(rows["retain"]),
        forget_accuracy=model.score(forget),
        parameter_distance=_distance(model.parameters(), reference.parameters()),
        disagreement=_disagreement(model, reference, test),
        kl_divergence=_divergence(model, reference, test),
        mia_auc=membership_inference_auc(model.losses(forget), model.losses(test)),
        relearn_steps=float(model.relearn(forget, target_loss, None, 1000)) if relearnable else math.nan,
    )


def _distance(parameters: Array | None, reference: Array | None) -> float:
    if parameters is None or reference is None or parameters.shape != reference.shape:
        return math.nan
    return float(np.linalg.norm(parameters - reference))


def _disagreement(model: Predictor, reference: Predictor, rows: Any) -> float:
    predictions, _ = model.predict(rows)
    others, _ = reference.predict(rows)
    if model.classes is None:
        return float(np.sqrt(np.mean((predictions - others) ** 2)))
    return float(np.mean(predictions != others))


def _divergence(model: Predictor, reference: Predictor, rows: Any) -> float:
    """Return the mean of KL(reference || model) over rows; columns are matched by class."""
    Q, P = model.probabilities(rows), reference.probabilities(rows)
    if P is None or Q is None or model.classes is None or reference.classes is None:
        return math.nan
    classes = np.union1d(model.classes, reference.classes)
    Q, P = (
        np.maximum(_spread(R, own, classes), _SMALLEST)
        for R, own in ((Q, model.classes), (P, reference.classes))
    )
    return max(0.0, float(np.mean(np.sum(P * (np.log(P) - np.log(Q)), axis=1))))


def _spread(probabilities: Array, own: NDArray[Any], classes: NDArray[Any]) -> Array:
    """Return the columns at the places of their classes, zeros elsewhere."""
    table = np.zeros((len(probabilities), len(classes)))
    table[:, np.searchsorted(classes, own)] = probabilities
    return table


def _check_losses(name: str, losses: ArrayLike) -> Array:
    array = np.asarray(losses, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} must have shape (n,) with n >= 1; got {array.shape}")
    if np.isnan(array).any():
        raise ValueError(f"{name} must not hold NaN; entry {int(np.flatnonzero(np.isnan(array))[0])} does")
    return array
