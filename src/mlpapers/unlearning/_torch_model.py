"""What is asked of a torch model: losses by row, evaluation without traces, and a way back."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core._tensors import call_model, check_class_numbers
from mlpapers.core.parallel import chunk_slices
from mlpapers.core.validation import check_choice, check_real

if TYPE_CHECKING:
    import torch

    from mlpapers.unlearning._torch_rows import TorchRows

RowLoss = Callable[[Any, Any, Any], Any]

LOSSES = ("cross_entropy", "binary_cross_entropy", "squared")
_CHUNK_SIZE = 1024


def check_module(name: str, model: Any) -> None:
    """Raise TypeError unless `model` is a torch module, ValueError if it has no parameters."""
    import torch

    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"{name} must be a torch.nn.Module; got {type(model).__name__}")
    if next(model.parameters(), None) is None:
        raise ValueError(f"{name} must have parameters; {type(model).__name__} has none")


def trainable(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Return the parameters that gradients may move."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def find_row_loss(loss: str | RowLoss) -> RowLoss:
    """Return ``row_loss(model, x, y)`` -> losses (B,) for a name or a callable."""
    if callable(loss):
        return loss
    check_choice("loss", loss, LOSSES)
    return {
        "cross_entropy": _cross_entropy,
        "binary_cross_entropy": _binary_cross_entropy,
        "squared": _squared,
    }[loss]


def losses_of(row_loss: RowLoss, model: torch.nn.Module, x: Any, y: Any, n: int) -> torch.Tensor:
    """Return the losses (n,) of a batch; ValueError where `row_loss` gives anything else."""
    import torch

    losses = row_loss(model, x, y)
    if not isinstance(losses, torch.Tensor) or losses.shape != (n,):
        got = f"shape {tuple(losses.shape)}" if isinstance(losses, torch.Tensor) else type(losses).__name__
        raise ValueError(f"loss must return one value per row, a tensor of shape ({n},); got {got}")
    return losses


def evaluate_losses(row_loss: RowLoss, model: torch.nn.Module, rows: TorchRows) -> NDArray[np.float64]:
    """Return the loss of every row (n,), in evaluation mode and without gradients."""
    import torch

    parts = []
    with evaluation_mode(model), torch.no_grad():
        for block in chunk_slices(len(rows), _CHUNK_SIZE):
            losses = losses_of(row_loss, model, *rows.take(block), block.stop - block.start)
            parts.append(losses.double().cpu().numpy())
    return np.concatenate(parts)


def evaluate_outputs(model: torch.nn.Module, rows: TorchRows) -> tuple[torch.Tensor, torch.Tensor]:
    """Return outputs and targets of all rows on the CPU, in evaluation mode and without gradients."""
    import torch

    outputs, targets = [], []
    with evaluation_mode(model), torch.no_grad():
        for block in chunk_slices(len(rows), _CHUNK_SIZE):
            x, y = rows.take(block)
            outputs.append(call_model(model, x).double().cpu())
            targets.append(y.cpu())
    return torch.cat(outputs), torch.cat(targets)


def find_cap(loss_cap: Any, loss: str | RowLoss, model: torch.nn.Module, rows: TorchRows) -> float:
    """Return the cap of the forget losses: a number, infinity for None, log K for "log_k".

    K is the number of output columns; 2 for "binary_cross_entropy".
    """
    import torch

    if loss_cap is None:
        return math.inf
    if not isinstance(loss_cap, str):
        return check_real("loss_cap", loss_cap, low=0.0, closed="neither")
    check_choice("loss_cap", loss_cap, ("log_k",))
    if loss == "binary_cross_entropy":
        return math.log(2.0)
    message = (
        "loss_cap='log_k' needs a classifier with one output column per class; "
        "give a number, or None for no cap"
    )
    if loss == "squared":
        raise ValueError(message)
    with evaluation_mode(model), torch.no_grad():
        try:
            outputs = call_model(model, rows.take(slice(0, 1))[0])
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            if loss == "cross_entropy":
                raise
            # Only a loss of the caller's own knows how its model is called.
            raise ValueError(message) from error
    if not isinstance(outputs, torch.Tensor) or outputs.ndim < 2 or outputs.shape[1] < 2:
        raise ValueError(message)
    return math.log(outputs.shape[1])


@contextlib.contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Put every module into evaluation mode; each module's own flag comes back at the end."""
    with training_flags_kept(model):
        model.eval()
        yield


@contextlib.contextmanager
def training_flags_kept(model: torch.nn.Module) -> Iterator[None]:
    """Give every module its own training flag back at the end."""
    flags = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextlib.contextmanager
def gradients_kept(model: torch.nn.Module) -> Iterator[None]:
    """Take the gradients that parameters hold away, and give them back at the end."""
    held = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in held:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in held:
            parameter.grad = gradient


@contextlib.contextmanager
def seeded(rng: np.random.Generator, device: torch.device) -> Iterator[None]:
    """Seed torch's generators from `rng` (dropout draws from them); their states come back at the end."""
    import torch

    seed = int(rng.integers(2**63))
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield


class Snapshot:
    """A copy of all that training changes: trainable parameters and buffers."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._parameters = [parameter.data for parameter in trainable(model)]
        self._live = self._parameters + list(model.buffers())
        self._saved = [tensor.clone() for tensor in self._live]

    def save(self) -> None:
        """Copy the present state."""
        for saved, live in zip(self._saved, self._live):
            saved.copy_(live)

    def restore(self) -> None:
        """Put the copied state back."""
        for saved, live in zip(self._saved, self._live):
            live.copy_(saved)

    def is_finite(self) -> bool:
        """Return whether the present parameters are finite (a buffer may be infinite by design)."""
        import torch

        return all(bool(torch.isfinite(parameter).all()) for parameter in self._parameters)


def _cross_entropy(model: Any, x: Any, y: Any) -> torch.Tensor:
    from torch.nn import functional

    outputs = call_model(model, x)
    targets = y if y.is_floating_point() else y.long()
    if not y.is_floating_point():
        check_class_numbers(outputs, targets)
    losses = functional.cross_entropy(outputs, targets, reduction="none")
    return losses.flatten(1).mean(1) if losses.ndim > 1 else losses


def _binary_cross_entropy(model: Any, x: Any, y: Any) -> torch.Tensor:
    from torch.nn import functional

    outputs = call_model(model, x)
    targets = _like_outputs(y, outputs)
    outside = (targets < 0.0) | (targets > 1.0)
    if bool(outside.any()):
        raise ValueError(
            "y must hold 0 and 1, or probabilities, for loss='binary_cross_entropy'; "
            f"got {float(targets[outside][0]):g}"
        )
    losses = functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none")
    return losses.flatten(1).mean(1) if losses.ndim > 1 else losses


def _squared(model: Any, x: Any, y: Any) -> torch.Tensor:
    outputs = call_model(model, x)
    losses = 0.5 * (outputs - _like_outputs(y, outputs)) ** 2
    return losses.flatten(1).mean(1) if losses.ndim > 1 else losses


def _like_outputs(y: Any, outputs: torch.Tensor) -> torch.Tensor:
    if y.numel() != outputs.numel():
        raise ValueError(
            f"y must have one entry per output of the model, of shape {tuple(outputs.shape)}; "
            f"got {tuple(y.shape)}"
        )
    targets: torch.Tensor = y.to(outputs.dtype).reshape(outputs.shape)
    return targets
