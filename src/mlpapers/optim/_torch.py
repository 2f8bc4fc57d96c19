"""Finite sums over torch models: one forward pass per chunk of pairs, nothing in a Python loop."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mlpapers.optim.finite_sum import FiniteSum

__all__ = ["torch_sum"]


@contextlib.contextmanager
def _evaluation(model: Any) -> Iterator[None]:
    """Put the model into evaluation mode for a while: dropout would make another function of every call."""
    training = isinstance(model, torch.nn.Module) and model.training
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()


def torch_sum(
    kind: type[FiniteSum],
    model: Any,
    inputs: Any,
    targets: Any,
    loss: Callable[[Any, Any], Any],
    perturb: Any,
    device: Any,
) -> FiniteSum:
    """Return the FiniteSum of ``FiniteSum.from_torch``."""
    if not callable(model) or not callable(loss):
        raise TypeError("model and loss must be callable")
    if perturb is not None and perturb != "parameters" and not callable(perturb):
        raise ValueError(f"perturb must be None, 'parameters' or a callable; got {perturb!r}")
    inputs, targets = torch.as_tensor(inputs, device=device), torch.as_tensor(targets, device=device)
    if len(inputs) != len(targets):
        raise ValueError(f"targets must have {len(inputs)} entries, one per input; got {len(targets)}")
    dtype = inputs.dtype if inputs.dtype.is_floating_point else torch.get_default_dtype()
    dim: int | None
    if perturb == "parameters":
        outputs, dim = _parameter_outputs(model)
    else:
        add = _add if perturb is None else perturb
        dim = inputs[0].numel() if perturb is None else None

        def outputs(some: torch.Tensor, X: torch.Tensor) -> torch.Tensor:
            return model(add(some, X))

    def answer(X: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return loss(outputs(inputs[rows], X), targets[rows])

    def values(X: NDArray[np.float64], idx: NDArray[np.int64]) -> NDArray[Any]:
        with torch.inference_mode(), _evaluation(model):
            points = torch.tensor(X, dtype=dtype, device=inputs.device)
            return answer(points, torch.as_tensor(idx, device=inputs.device)).cpu().numpy()

    def grad(X: NDArray[np.float64], idx: NDArray[np.int64]) -> NDArray[Any]:
        with _evaluation(model):
            points = torch.tensor(X, dtype=dtype, device=inputs.device, requires_grad=True)
            total = answer(points, torch.as_tensor(idx, device=inputs.device)).sum()
            return torch.autograd.grad(total, points)[0].cpu().numpy()

    return kind(values, len(inputs), dim, grad=grad)


def _add(inputs: torch.Tensor, X: torch.Tensor) -> torch.Tensor:
    return inputs + X.reshape(inputs.shape)


def _parameter_outputs(model: Any) -> tuple[Callable[[torch.Tensor, torch.Tensor], torch.Tensor], int]:
    """Return the outputs as a function of (inputs, flattened parameters), row by row, by vmap."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(
            f"model must be a torch.nn.Module for perturb='parameters'; got {type(model).__name__}"
        )
    named = dict(model.named_parameters())
    sizes = [parameter.numel() for parameter in named.values()]

    def one(row: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        parts = torch.split(x, sizes)
        chosen = {name: part.view(old.shape) for (name, old), part in zip(named.items(), parts)}
        return torch.func.functional_call(model, chosen, (row[None],))[0]

    return torch.func.vmap(one), sum(sizes)
