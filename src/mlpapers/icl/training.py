"""Train the torch modules on sampled prompts."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from mlpapers.core.validation import check_choice, check_int, check_real, check_rng
from mlpapers.icl.train_result import TrainResult

__all__ = ["train_icl"]

# A sampler draws prompts: sampler(batch_size, random_state) -> GMMPrompts or RegressionPrompts.
Sampler = Callable[[int, np.random.Generator], Any]


def train_icl(
    model: nn.Module,
    sampler: Sampler,
    *,
    loss: Literal["squared", "logistic"] = "squared",
    n_steps: int = 2000,
    batch_size: int = 512,
    lr: float = 3e-3,
    clip: float = 1.0,
    n_restarts: int = 1,
    random_state: Any = None,
    callback: Callable[[int, float], Any] | None = None,
    verbose: int = 0,
) -> TrainResult:
    """Train a module on fresh prompts: Adam, cosine decay to zero, gradients clipped by their norm.

    Parameters
    ----------
    model : torch module
        Called as ``model(X, y, x_query)``, or ``model(X, y, x_query, task)`` where the prompts have tasks. It
        ends with the parameters of the best run.
    sampler : callable
        ``sampler(batch_size, random_state)`` returns :class:`GMMPrompts` or :class:`RegressionPrompts`; its
        second argument is a numpy Generator.
    loss : {"squared", "logistic"}, default="squared"
        (f - y)^2, or log(1 + exp(-y f)) for labels -1 and +1.
    n_steps : int, default=2000
    batch_size : int, default=512
        Prompts per step.
    lr : float, default=3e-3
    clip : float, default=1.0
        Largest norm of a gradient.
    n_restarts : int, default=1
        Runs; all but the first begin with ``model.reset_parameters()``, and the best is kept.
    random_state : int, Generator, RandomState or None
        Of the prompts and of the restarts. The first run starts from the parameters that the model has.
    callback : callable, optional
        ``callback(step, loss)`` after every step.
    verbose : int, default=0
        Print the mean loss every `verbose` steps.

    Returns
    -------
    result : TrainResult
        ``best_loss`` is the mean over the last tenth of the steps.

    Raises
    ------
    ValueError, TypeError
        For an argument out of range; the message names it.
    FloatingPointError
        Where every run ends with a loss that is not finite.

    Examples
    --------
    >>> from mlpapers.icl import PolynomialAttention, sample_gmm_prompts, train_icl
    >>> def sampler(batch_size, random_state):
    ...     return sample_gmm_prompts(batch_size, 20, 3, random_state=random_state, as_torch=True)
    >>> model = PolynomialAttention(2).double()
    >>> result = train_icl(model, sampler, n_steps=50, batch_size=64, lr=0.05, random_state=0)
    >>> bool(result.best_loss < result.losses[0])
    True
    """
    check_choice("loss", loss, ("squared", "logistic"))
    n_steps = check_int("n_steps", n_steps, minimum=1)
    batch_size = check_int("batch_size", batch_size, minimum=1)
    lr = check_real("lr", lr, low=0.0, closed="neither")
    clip = check_real("clip", clip, low=0.0, closed="neither")
    n_restarts = check_int("n_restarts", n_restarts, minimum=1)
    check_int("verbose", verbose, minimum=0)
    if n_restarts > 1 and not hasattr(model, "reset_parameters"):
        raise TypeError(f"n_restarts > 1 needs a model with reset_parameters(); got {type(model).__name__}")
    rng = check_rng(random_state)
    begin = time.perf_counter()
    best_loss, best_losses, best_state = np.inf, np.empty(0), {}
    for run in range(n_restarts):
        if run:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(rng.integers(2**31)))
                model.reset_parameters()  # type: ignore[operator]
        losses = _run(model, sampler, loss, n_steps, batch_size, lr, clip, rng, callback, verbose)
        final = float(losses[-max(1, n_steps // 10) :].mean())
        if final < best_loss:
            best_loss, best_losses = final, losses
            best_state = copy.deepcopy({name: value.detach() for name, value in model.state_dict().items()})
    if not best_state:
        raise FloatingPointError("training diverged in every run; lower lr or the model's init_scale")
    model.load_state_dict(best_state)
    return TrainResult(
        losses=best_losses,
        model_state=best_state,
        best_loss=best_loss,
        n_steps=n_steps,
        seconds=time.perf_counter() - begin,
    )


def _run(
    model: nn.Module,
    sampler: Sampler,
    loss: str,
    n_steps: int,
    batch_size: int,
    lr: float,
    clip: float,
    rng: np.random.Generator,
    callback: Callable[[int, float], Any] | None,
    verbose: int,
) -> np.ndarray[Any, np.dtype[np.float64]]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    dtype = parameters[0].dtype
    optimiser = torch.optim.Adam(parameters, lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, n_steps)
    losses = np.empty(n_steps)
    for step in range(n_steps):
        prompts = sampler(batch_size, rng)
        X, y, x_query, target = (
            torch.as_tensor(part).to(dtype)
            for part in (prompts.X, prompts.y, prompts.x_query, prompts.y_query)
        )
        tasks = [torch.as_tensor(prompts.task)] if hasattr(prompts, "task") else []
        f = model(X, y, x_query, *tasks)
        value = (f - target).square().mean() if loss == "squared" else F.softplus(-target * f).mean()
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, clip)
        optimiser.step()
        schedule.step()
        losses[step] = float(value.detach())
        if callback is not None:
            callback(step + 1, float(losses[step]))
        if verbose and (step + 1) % verbose == 0:
            print(f"step {step + 1}: loss {losses[max(0, step + 1 - verbose) : step + 1].mean():.5f}")
    return losses
