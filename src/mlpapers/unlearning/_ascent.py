"""The rounds of gradient ascent."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlpapers.core.validation import check_rng
from mlpapers.unlearning._torch_model import (
    Snapshot,
    evaluate_losses,
    find_cap,
    find_row_loss,
    losses_of,
    seeded,
    trainable,
)
from mlpapers.unlearning._torch_rows import RandomBatches, TorchRows

if TYPE_CHECKING:
    import torch

    from mlpapers.unlearning.ascent import GradientAscentUnlearner

Array = NDArray[np.float64]
Callback = Callable[[dict[str, Any]], Any]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run left besides the model.

    Attributes
    ----------
    history : DataFrame
    stopped_by : str
    before, after : float
        Mean loss of the forget rows.
    """

    history: pd.DataFrame
    stopped_by: str
    before: float
    after: float


class AscentRun:
    """One run: the model, its optimizer, batches and caps.

    Parameters
    ----------
    options : GradientAscentUnlearner
        Checked.
    model : torch.nn.Module
        Is changed.
    forget, retain : TorchRows
    s, w : ndarray of shape (k,), (m,)
        Multipliers and retain weights.
    """

    def __init__(
        self,
        options: GradientAscentUnlearner,
        model: torch.nn.Module,
        forget: TorchRows,
        s: Array,
        retain: TorchRows | None,
        w: Array,
    ) -> None:
        self.options, self.model = options, model
        self.forget, self.retain, self.s, self.w = forget, retain, s, w
        self.row_loss = find_row_loss(options.loss)
        self.cap = find_cap(options.loss_cap, options.loss, model, forget)
        self.rng = check_rng(options.random_state)
        self.forget_batches = RandomBatches(len(forget), options.batch_size, self.rng)
        if retain is not None:
            self.retain_batches = RandomBatches(len(retain), options.retain_batch_size, self.rng)
        self.parameters = trainable(model)
        self.optimizer = self._make_optimizer()

    def until_stopped(self, callback: Callback | None) -> Outcome:
        """Take rounds until one of the reasons to stop holds."""
        losses = evaluate_losses(self.row_loss, self.model, self.forget)
        if not np.all(np.isfinite(losses)):
            row = int(np.flatnonzero(~np.isfinite(losses))[0])
            raise ValueError(f"forget must have finite losses under the model; row {row} has {losses[row]}")
        before = float(losses.mean())
        history: list[dict[str, Any]] = []
        stopped_by = self._reached(losses)
        snapshot = Snapshot(self.model)
        try:
            with seeded(self.rng, self.forget.device):
                while stopped_by is None:
                    self.model.train(self.options.train_mode)
                    record = {"step": len(history) + 1, "forget_loss": math.nan, **self._round()}
                    new = evaluate_losses(self.row_loss, self.model, self.forget)
                    if not (np.all(np.isfinite(new)) and _went_well(record) and snapshot.is_finite()):
                        snapshot.restore()
                        stopped_by = "nonfinite"
                        break
                    losses = new
                    record["forget_loss"] = float(losses.mean())
                    history.append(record)
                    snapshot.save()
                    self._tell(record)
                    stopped_by = self._reached(losses)
                    if callback is not None and callback({**record, "model": self.model}):
                        stopped_by = stopped_by or "callback"
                    if stopped_by is None and len(history) == self.options.n_steps:
                        stopped_by = "steps"
        except BaseException:
            snapshot.restore()
            raise
        return Outcome(_history_frame(history), stopped_by, before, float(losses.mean()))

    def _reached(self, losses: Array) -> str | None:
        target = self.options.target_loss
        if target is not None and losses.mean() >= target:
            return "target"
        return "cap" if np.all(losses >= self.cap) else None

    def _round(self) -> dict[str, float]:
        """Take one round; return its retain loss and the norm of its ascent gradient."""
        options = self.options
        if self.retain is None:
            return {"retain_loss": math.nan, "grad_norm": self._step(-self._forget_term())}
        if options.retain_mode == "joint":
            descent, mean = self._retain_term()
            norm = self._step(options.retain_weight * descent - self._forget_term())
            return {"retain_loss": mean, "grad_norm": norm}
        norm = self._step(-self._forget_term())
        means = []
        for _ in range(options.retain_steps):
            descent, mean = self._retain_term()
            means.append(mean)
            self._step(descent, measured=False)
        return {"retain_loss": float(np.mean(means)), "grad_norm": norm}

    def _forget_term(self) -> torch.Tensor:
        """Return A of the next batch."""
        losses, s = self._next_losses(self.forget, self.forget_batches, self.s)
        return (s * losses.clamp(max=self.cap)).mean()

    def _retain_term(self) -> tuple[torch.Tensor, float]:
        """Return D of the next batch, and its unweighted mean loss."""
        assert self.retain is not None
        losses, w = self._next_losses(self.retain, self.retain_batches, self.w)
        return (w * losses).mean(), float(losses.detach().mean())

    def _next_losses(self, rows: TorchRows, batches: RandomBatches, weights: Array) -> tuple[Any, Any]:
        """Return the losses of the next batch, with gradients, and its weights."""
        positions = batches.draw()
        losses = losses_of(self.row_loss, self.model, *rows.take(positions), batches.size)
        return losses, losses.new_tensor(weights[positions])

    def _step(self, objective: torch.Tensor, *, measured: bool = True) -> float:
        """Descend on `objective`; return the norm of its gradient, NaN where it is not to be measured."""
        import torch

        for parameter in self.parameters:
            parameter.grad = None
        objective.backward()
        norm = math.nan
        if measured or self.options.max_grad_norm is not None:
            total = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])
            if self.options.max_grad_norm is not None:
                torch.nn.utils.clip_grads_with_norm_(self.parameters, self.options.max_grad_norm, total)
            norm = float(total)
        self.optimizer.step()
        return norm

    def _make_optimizer(self) -> torch.optim.Optimizer:
        import torch

        name, lr = self.options.optimizer, self.options.lr
        if name == "sgd":
            return torch.optim.SGD(self.parameters, lr=lr, momentum=self.options.momentum)
        kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
        return kind(self.parameters, lr=lr)

    def _tell(self, record: dict[str, Any]) -> None:
        if self.options.verbose > 1:
            print(
                f"[GradientAscentUnlearner] round {record['step']}: forget loss {record['forget_loss']:.4g}, "
                f"retain loss {record['retain_loss']:.4g}"
            )


def _went_well(record: dict[str, Any]) -> bool:
    """Return whether a round's own numbers are finite; NaN stands for a round without retain rows."""
    return math.isfinite(record["grad_norm"]) and not math.isinf(record["retain_loss"])


def _history_frame(history: list[dict[str, Any]]) -> pd.DataFrame:
    types = {"step": "int64", "forget_loss": "float64", "retain_loss": "float64", "grad_norm": "float64"}
    return pd.DataFrame(history, columns=list(types)).astype(types)
