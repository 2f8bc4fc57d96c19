"""Federated averaging as an update of a model: train at each client, average the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from mlpapers.core._tensors import call_model, check_class_numbers, plain_array
from mlpapers.core.validation import check_int, check_real

if TYPE_CHECKING:
    import torch

__all__ = ["FedAvgUpdate"]


class FedAvgUpdate:
    r"""One round of federated averaging, for :class:`~mlpapers.valuation.SequentialShapley`.

    Each client trains once a round from the current parameters; a coalition's model is the mean of its
    members' parameters with equal weights,

    .. math:: A(S) = \frac1{|S|} \sum_{i \in S} \theta_i,

    so that its utility costs an average and an evaluation, but no training.

    Parameters
    ----------
    module : torch.nn.Module
        Architecture and loss shape: cross-entropy where labels are integers, mean squared error otherwise. It
        is copied; the caller's parameters are not changed.
    local_epochs : int, default=50
        Passes over a client's data.
    lr : float, default=0.01
        Learning rate of plain gradient descent.
    batch_size : int or None, default=None
        Rows per step, taken in their order (there is no shuffling, so results are reproducible); None = all.
    device : str, default="cpu"

    Notes
    -----
    A state is a ``state_dict``; a source is a pair (X, y) of arrays or tensors. Buffers that are not floating
    (the step count of a batch norm) are those of the first member.

    Examples
    --------
    >>> import torch
    >>> module = torch.nn.Linear(1, 1)
    >>> update = FedAvgUpdate(module, local_epochs=1)
    >>> clients = [([[0.0], [1.0]], [0.0, 1.0]), ([[1.0]], [3.0])]
    >>> payloads = update.prepare(module.state_dict(), clients)
    >>> mean = update(module.state_dict(), payloads)["bias"]
    >>> bool(torch.allclose(mean, (payloads[0]["bias"] + payloads[1]["bias"]) / 2))
    True
    """

    def __init__(
        self,
        module: torch.nn.Module,
        *,
        local_epochs: int = 50,
        lr: float = 0.01,
        batch_size: int | None = None,
        device: str = "cpu",
    ) -> None:
        import copy

        self.local_epochs = check_int("local_epochs", local_epochs, minimum=1)
        self.lr = check_real("lr", lr, low=0.0, closed="neither")
        self.batch_size = None if batch_size is None else check_int("batch_size", batch_size, minimum=1)
        self.device = device
        self.module = copy.deepcopy(module).to(device)

    def prepare(
        self, state: dict[str, torch.Tensor], sources: Sequence[tuple[Any, Any]]
    ) -> list[dict[str, torch.Tensor]]:
        """Train once at each client from `state`.

        Parameters
        ----------
        state : state_dict
        sources : sequence of (X, y)

        Returns
        -------
        list of state_dict, one per client

        Raises
        ------
        ValueError
            If a client has no rows, X and y differ in length, y holds integers that are no class numbers, or
            X does not fit the module.
        TypeError
            If X or y does not hold numbers.
        """
        return [self._train(state, X, y) for X, y in sources]

    def __call__(
        self,
        state: dict[str, torch.Tensor],  # noqa: ARG002 - the mean replaces the state it was trained from
        payloads: Sequence[dict[str, torch.Tensor]],
    ) -> dict[str, torch.Tensor]:
        """Return the equal-weight mean of locally trained parameters; ValueError where there are none."""
        import torch

        if not payloads:
            raise ValueError("payloads must hold at least one trained model; got none")
        return {
            name: torch.stack([payload[name] for payload in payloads]).mean(dim=0)
            if first.is_floating_point()
            else first.clone()
            for name, first in payloads[0].items()
        }

    def _train(self, state: dict[str, torch.Tensor], X: Any, y: Any) -> dict[str, torch.Tensor]:
        import torch

        dtype = next(self.module.parameters()).dtype
        rows = torch.tensor(_numbers("X", X), device=self.device).to(dtype)
        targets = torch.tensor(_numbers("y", y), device=self.device)
        if rows.ndim == 0 or targets.ndim == 0 or len(rows) == 0 or len(rows) != len(targets):
            raise ValueError(
                "a source must be (X, y) of equal, positive length; "
                f"got shapes {tuple(rows.shape)} and {tuple(targets.shape)}"
            )
        classes = not targets.is_floating_point()
        targets = targets.long() if classes else targets.to(dtype)
        self.module.load_state_dict(state)
        self.module.train()
        parameters: list[torch.Tensor] = [p for p in self.module.parameters() if p.requires_grad]
        size = len(rows) if self.batch_size is None else self.batch_size
        for _ in range(self.local_epochs):
            for batch, truth in zip(torch.split(rows, size), torch.split(targets, size)):
                output = call_model(self.module, batch)
                if classes:
                    check_class_numbers(output, truth)
                    loss = torch.nn.functional.cross_entropy(output, truth)
                else:
                    if output.numel() != truth.numel():
                        raise ValueError(
                            f"y must have one entry per output of the module, {tuple(output.shape)}; "
                            f"got {tuple(truth.shape)}"
                        )
                    loss = torch.nn.functional.mse_loss(output.reshape(truth.shape), truth)
                gradients = torch.autograd.grad(loss, parameters)
                with torch.no_grad():
                    torch._foreach_add_(parameters, gradients, alpha=-self.lr)
        return {name: value.detach().clone() for name, value in self.module.state_dict().items()}


def _numbers(name: str, values: Any) -> NDArray[Any]:
    """Return an array of numbers; TypeError that names it otherwise."""
    array = plain_array(values.detach().cpu() if hasattr(values, "detach") else values)
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"{name} of a source must hold numbers (labels: class numbers from 0); got {array.dtype}"
        )
    return array
