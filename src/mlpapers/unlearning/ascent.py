"""Value-weighted gradient ascent: forgetting rows of any torch model, without a certificate."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from mlpapers.core._axes import new_axes
from mlpapers.core.result import Result, transient
from mlpapers.core.validation import check_bool, check_choice, check_int, check_real, check_workers
from mlpapers.unlearning._ascent import AscentRun, Callback
from mlpapers.unlearning._torch_model import (
    RowLoss,
    check_module,
    find_row_loss,
    gradients_kept,
    trainable,
    training_flags_kept,
)
from mlpapers.unlearning._torch_rows import TorchRows
from mlpapers.unlearning.weights import STRATEGIES, Strategy, check_values, weights_of

if TYPE_CHECKING:
    import torch
    from matplotlib.axes import Axes

__all__ = ["GradientAscentResult", "GradientAscentUnlearner"]

Array = NDArray[np.float64]

_RETAIN_FLOOR = 0.1
_OPTIMIZERS = ("sgd", "adam", "adamw")


@dataclass(frozen=True, kw_only=True, eq=False)
class GradientAscentResult(Result):
    """What a run of gradient ascent did.

    Attributes
    ----------
    model : torch.nn.Module or None
        The model after the run; None in a result that was loaded from a file.
    n_steps : int
        Rounds that stand.
    stopped_by : {"target", "steps", "cap", "callback", "nonfinite"}
        Why the run ended: the target loss was reached, the rounds were used up, every forget row was at the
        cap, the callback asked for it, or a number ceased to be finite (the model is then that of the last
        finite round).
    history : DataFrame with columns step, forget_loss, retain_loss, grad_norm
        One row per round: mean loss of all forget rows after it, mean loss of the retain batches in it (NaN
        without), norm of the gradient of its ascent step before clipping.
    forget_loss_before, forget_loss_after : float
        Unweighted mean loss of the forget rows.
    weights : ndarray of shape (k,)
        Multipliers s of the forget rows, mean 1.
    certified : bool
        Always False: nothing is proved about gradient ascent.
    """

    model: Any = transient()
    n_steps: int
    stopped_by: str
    history: pd.DataFrame
    forget_loss_before: float
    forget_loss_after: float
    weights: Array
    certified: bool = False

    def to_frame(self) -> pd.DataFrame:
        """Return the history, one row per round.

        Returns
        -------
        pandas.DataFrame
        """
        return self.history.copy()

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the losses of forget and retain rows against the rounds.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Where to draw; a new figure by default.
        **options
            Passed to ``Axes.plot``.

        Returns
        -------
        matplotlib Axes
        """
        ax = new_axes(ax)
        history = self.history
        steps = np.concatenate([[0], history["step"]])
        forget = np.concatenate([[self.forget_loss_before], history["forget_loss"]])
        ax.plot(steps, forget, **{"label": "forget rows", "marker": ".", **options})
        if history["retain_loss"].notna().any():
            ax.plot(history["step"], history["retain_loss"], **{"label": "retain batches", **options})
        ax.set_xlabel("round")
        ax.set_ylabel("mean loss")
        ax.legend()
        return ax


class GradientAscentUnlearner(BaseEstimator):
    r"""Gradient ascent on the rows to forget, weighted by their data values.

    With multipliers :math:`s_j` that decrease in value and have mean 1 over the forget rows U, and weights
    :math:`w_i` of the retain rows R,

    .. math:: A(\theta) = \operatorname{mean}_{j \in U}\, s_j \min(\ell_j(\theta), \text{cap}), \qquad
              D(\theta) = \operatorname{mean}_{i \in \text{batch of } R}\, w_i \ell_i(\theta).

    A round is one ascent step on A followed by `retain_steps` descent steps on D ("alternate"), or one
    descent step on `retain_weight` D - A ("joint"); without retain rows it is the ascent step alone. Equal
    multipliers give conventional gradient ascent. Nothing is certified: compare what is left with a retrained
    model (:func:`evaluate_unlearning`), and compare variants at equal forget loss, never at equal length.

    Parameters
    ----------
    model : torch.nn.Module
    loss : {"cross_entropy", "binary_cross_entropy", "squared"} or callable, default="cross_entropy"
        Names take the model's outputs as logits of K classes, as one logit, or as predictions (half the
        squared error). A callable ``loss(model, x, y)`` returns one loss per row, a tensor of shape (B,).
    lr : float, default=0.05
    n_steps : int, default=400
        Most rounds.
    batch_size : int, optional
        Forget rows per ascent step. Default: all.
    retain_mode : {"alternate", "joint"}, default="alternate"
    retain_steps : int, default=4
        Descent steps a round ("alternate").
    retain_weight : float, default=1.0
        Weight of D ("joint").
    retain_batch_size : int, default=128
    loss_cap : float, "log_k" or None, default="log_k"
        A forget row whose loss is above the cap has no gradient; "log_k" is log K, the loss of a guess among
        K classes (K output columns).
    target_loss : float, optional
        The run ends once the mean loss of the forget rows is this high: that of rows the model has never
        seen, say.
    weighting : str or callable, default="rank"
        Strategy of :func:`value_weights` for the multipliers and for the retain weights (whose floor is 0.1).
    weight_floor : float in [0, 1], default=0.0
        Floor of the multipliers.
    optimizer : {"sgd", "adam", "adamw"}, default="sgd"
        One optimizer takes both kinds of steps.
    momentum : float in [0, 1), default=0.0
        For "sgd".
    max_grad_norm : float, optional
        Gradients are scaled down to this norm.
    train_mode : bool, default=False
        Run in training mode: dropout is active and batch normalisation learns. Losses are evaluated in
        evaluation mode all the same.
    inplace : bool, default=False
        Change `model` itself. Otherwise a copy is changed.
    random_state : int, RandomState, Generator or None, default=None
    verbose : int, default=0
        1 prints a line at the end, 2 a line per round.

    See Also
    --------
    DVWUClassifier : certified removal for linear models.

    Examples
    --------
    >>> import torch
    >>> from torch.nn.functional import cross_entropy
    >>> generator = torch.Generator().manual_seed(0)
    >>> X = torch.randn(100, 3, generator=generator)
    >>> y = (X[:, 0] > 0).long()
    >>> model = torch.nn.Linear(3, 2)
    >>> unlearner = GradientAscentUnlearner(model, target_loss=0.65, random_state=0)
    >>> result = unlearner.unlearn((X[:10], y[:10]), (X[10:], y[10:]), forget_values=range(10))
    >>> result.certified
    False
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        loss: str | RowLoss = "cross_entropy",
        lr: float = 0.05,
        n_steps: int = 400,
        batch_size: int | None = None,
        retain_mode: str = "alternate",
        retain_steps: int = 4,
        retain_weight: float = 1.0,
        retain_batch_size: int = 128,
        loss_cap: float | str | None = "log_k",
        target_loss: float | None = None,
        weighting: Strategy = "rank",
        weight_floor: float = 0.0,
        optimizer: str = "sgd",
        momentum: float = 0.0,
        max_grad_norm: float | None = None,
        train_mode: bool = False,
        inplace: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.model = model
        self.loss = loss
        self.lr = lr
        self.n_steps = n_steps
        self.batch_size = batch_size
        self.retain_mode = retain_mode
        self.retain_steps = retain_steps
        self.retain_weight = retain_weight
        self.retain_batch_size = retain_batch_size
        self.loss_cap = loss_cap
        self.target_loss = target_loss
        self.weighting = weighting
        self.weight_floor = weight_floor
        self.optimizer = optimizer
        self.momentum = momentum
        self.max_grad_norm = max_grad_norm
        self.train_mode = train_mode
        self.inplace = inplace
        self.random_state = random_state
        self.verbose = verbose

    def unlearn(
        self,
        forget: Any,
        retain: Any = None,
        *,
        forget_values: Any = None,
        retain_values: Any = None,
        callback: Callback | None = None,
    ) -> GradientAscentResult:
        """Run the rounds.

        Parameters
        ----------
        forget : (X, y) of tensors or arrays, or torch Dataset of (x, y)
            Rows to forget.
        retain : as `forget`, optional
            Rows, or a sample of them, that the model should still fit.
        forget_values : array-like of shape (k,) or a valuer, or its result, optional
            Data values of the forget rows. Default: equal multipliers.
        retain_values : array-like of shape (m,) or a valuer, or its result, optional
            Data values of the retain rows. Default: equal weights.
        callback : callable, optional
            ``callback(record)`` after each round, with a dict of that round's history and "model"; a true
            answer ends the run.

        Returns
        -------
        result : GradientAscentResult

        Raises
        ------
        ValueError, TypeError
            If a parameter is out of range, rows and values do not match, the loss is not one number per row,
            or a forget row has no finite loss to begin with.

        Notes
        -----
        Parameters that require no gradient stay as they are, to the bit; so do buffers unless `train_mode`.
        Training flags, gradients and torch's random state are given back. After an exception the model is
        that of the last round.
        """
        self._check_parameters()
        model = self.model if self.inplace else copy.deepcopy(self.model)
        parameter = next(iter(model.parameters()))
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), parameter.dtype)
        forget_rows = TorchRows("forget", forget, parameter.device, dtype)
        retain_rows = None if retain is None else TorchRows("retain", retain, parameter.device, dtype)
        if retain_rows is None and retain_values is not None:
            raise ValueError("retain_values need retain, the rows that they belong to; got retain=None")
        s = self._weights("forget_values", forget_values, len(forget_rows), self.weight_floor, "decreasing")
        m = 0 if retain_rows is None else len(retain_rows)
        w = self._weights("retain_values", retain_values, m, _RETAIN_FLOOR, "increasing")
        with training_flags_kept(model), gradients_kept(model):
            outcome = AscentRun(self, model, forget_rows, s, retain_rows, w).until_stopped(callback)
        if self.verbose:
            print(
                f"[GradientAscentUnlearner] {len(outcome.history)} rounds, "
                f"forget loss {outcome.before:.4g} -> {outcome.after:.4g}, stopped by {outcome.stopped_by}"
            )
        return GradientAscentResult(
            model=model,
            n_steps=len(outcome.history),
            stopped_by=outcome.stopped_by,
            history=outcome.history,
            forget_loss_before=outcome.before,
            forget_loss_after=outcome.after,
            weights=s,
        )

    def _weights(self, name: str, values: Any, n: int, floor: float, direction: str) -> Array:
        if values is None:
            return np.ones(n)
        return weights_of(
            check_values(name, values, n),
            self.weighting,
            floor=floor,
            direction=direction,
            name="weighting",
        )

    def _check_parameters(self) -> None:
        check_module("model", self.model)
        if not trainable(self.model):
            raise ValueError("model must have parameters that require gradients; all of its are frozen")
        find_row_loss(self.loss)
        check_real("lr", self.lr, low=0.0, closed="neither")
        check_int("n_steps", self.n_steps, minimum=1)
        for name in ("batch_size", "retain_steps", "retain_batch_size"):
            if getattr(self, name) is not None or name != "batch_size":
                check_int(name, getattr(self, name), minimum=1)
        check_choice("retain_mode", self.retain_mode, ("alternate", "joint"))
        check_real("retain_weight", self.retain_weight, low=0.0)
        if self.target_loss is not None:
            check_real("target_loss", self.target_loss)
        if not callable(self.weighting):
            check_choice("weighting", self.weighting, STRATEGIES)
        check_real("weight_floor", self.weight_floor, low=0.0, high=1.0)
        check_choice("optimizer", self.optimizer, _OPTIMIZERS)
        check_real("momentum", self.momentum, low=0.0, high=1.0, closed="left")
        if self.momentum > 0.0 and self.optimizer != "sgd":
            raise ValueError(f"momentum needs optimizer='sgd'; got optimizer={self.optimizer!r}")
        if self.max_grad_norm is not None:
            check_real("max_grad_norm", self.max_grad_norm, low=0.0, closed="neither")
        check_bool("train_mode", self.train_mode)
        check_bool("inplace", self.inplace)
        check_workers(None, self.verbose)

    @classmethod
    def __mlpapers_example__(cls) -> dict[str, Any]:
        import torch

        rng = np.random.default_rng(0)
        X, y = rng.normal(size=(40, 3)), np.arange(40) % 2
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            model = torch.nn.Linear(3, 2)
        arguments = {
            "forget": (X[:10], y[:10]),
            "retain": (X[10:], y[10:]),
            "forget_values": np.arange(10.0),
        }
        return {
            "params": {"model": model, "n_steps": 5, "retain_batch_size": 8},
            "arguments": arguments,
            "method": "unlearn",
        }
