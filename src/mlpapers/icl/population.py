"""Minimise the exact prompt loss: by its closed form, by L-BFGS, or by Adam, which stalls."""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlpapers.core.validation import check_choice, check_int, check_rng
from mlpapers.icl.mixture import TaskMixture
from mlpapers.icl.prompt_theory import optimal_weights, prompt_loss, quadratic, strategies
from mlpapers.icl.train_result import TrainResult

__all__ = ["fit_population"]

Array = NDArray[np.float64]

_METHODS = ("profile", "lbfgs", "adam")
_ADAM_LR = 1e-2
_START = 0.1


def fit_population(
    mixture: TaskMixture,
    n_context: int,
    strategy: str,
    *,
    method: Literal["profile", "lbfgs", "adam"] = "profile",
    max_iter: int = 500,
    random_state: Any = None,
) -> TrainResult:
    """Train weights, prompts and heads on the exact population loss.

    The loss is badly conditioned in (W, p) together: the best prompt is of the order of the means divided by
    W, and W is of the order of 1/n. "profile" removes prompts and heads by hand and solves for W; "lbfgs"
    (strong Wolfe line search, memory of 50) reaches the same loss; "adam" is what is usually done, and is
    still far above the optimum after thousands of steps.

    Parameters
    ----------
    mixture : TaskMixture
    n_context : int
    strategy : str
        One of :func:`strategies`. The fine-tuned ones take their W from the plain optimum and keep it.
    method : {"profile", "lbfgs", "adam"}, default="profile"
    max_iter : int, default=500
        Iterations of L-BFGS or steps of Adam; ``losses`` has one entry per evaluation.
    random_state : int, Generator, RandomState or None
        Of the start; "profile" has none.

    Returns
    -------
    result : TrainResult
        ``model_state`` has W (d, d), prompts (K, d) and heads (K, d).

    Raises
    ------
    ValueError, TypeError
        For an unknown strategy or method, which the message lists, or an argument out of range.
    """
    check_choice("strategy", strategy, strategies())
    check_choice("method", method, _METHODS)
    max_iter = check_int("max_iter", max_iter, minimum=1)
    rng = check_rng(random_state)
    start = time.perf_counter()
    if method == "profile":
        optimum = optimal_weights(mixture, n_context, strategy)
        state = {"W": optimum.W, "prompts": optimum.prompts, "heads": optimum.heads}
        losses, best = np.array([optimum.loss]), optimum.loss
    else:
        n = check_int("n_context", n_context, minimum=1)
        losses, state = _descend(mixture, n, strategy, method, max_iter, rng)
        best = float(losses.min())
    return TrainResult(
        losses=losses,
        model_state=_as_tensors(state),
        best_loss=float(best),
        n_steps=len(losses),
        seconds=time.perf_counter() - start,
    )


def _descend(
    mixture: TaskMixture, n: int, strategy: str, method: str, max_iter: int, rng: np.random.Generator
) -> tuple[Array, dict[str, Array]]:
    import torch

    K, d = mixture.means.shape

    def draw(*shape: int) -> Any:
        return torch.from_numpy(_START * rng.standard_normal(shape))

    tuned = strategy.startswith("finetune_")
    W = torch.from_numpy(quadratic(mixture, n, "plain").minimum()[0]) if tuned else draw(d, d)
    prompts = draw(K, d) if "prompt" in strategy else torch.zeros(K, d, dtype=torch.float64)
    heads = torch.zeros(K, d, dtype=torch.float64)
    if strategy == "shared_head":
        heads = draw(1, d)
    elif strategy == "head" or strategy.endswith("+head"):
        heads = draw(K, d)
    used = [W] if not tuned else []
    used += [prompts] if "prompt" in strategy else []
    used += [heads] if "head" in strategy else []
    for tensor in used:
        tensor.requires_grad_()

    def loss() -> Any:
        return prompt_loss(W, prompts, heads.expand(K, d), mixture, n)

    steps = _lbfgs(used, loss, max_iter) if method == "lbfgs" else _adam(used, loss, max_iter)
    best = {
        name: tensor.detach().expand(shape).numpy().copy()
        for name, tensor, shape in (("W", W, (d, d)), ("prompts", prompts, (K, d)), ("heads", heads, (K, d)))
    }
    return np.array(steps), best


def _lbfgs(used: list[Any], loss: Any, max_iter: int) -> list[float]:
    """Minimise in place and return the loss of every evaluation, the last one at the end point."""
    import torch

    optimiser = torch.optim.LBFGS(
        used,
        max_iter=max_iter,
        max_eval=2 * max_iter,
        history_size=50,
        tolerance_grad=1e-11,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )
    losses: list[float] = []

    def closure() -> Any:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        losses.append(float(value.detach()))
        return value

    optimiser.step(closure)
    losses.append(float(loss().detach()))
    return losses


def _adam(used: list[Any], loss: Any, max_iter: int) -> list[float]:
    import torch

    optimiser = torch.optim.Adam(used, lr=_ADAM_LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max_iter)
    losses: list[float] = []
    for _ in range(max_iter):
        optimiser.zero_grad()
        value = loss()
        value.backward()
        optimiser.step()
        schedule.step()
        losses.append(float(value.detach()))
    return losses


def _as_tensors(state: dict[str, Array]) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(np.array(value)) for name, value in state.items()}
