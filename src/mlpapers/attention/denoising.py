"""A token hidden among noise: what a temperature of the values is good for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch.nn import functional

from mlpapers.core._axes import new_axes
from mlpapers.core.result import Result
from mlpapers.core.validation import check_choice, check_int, check_real, check_rng

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DenoisingResult", "denoising"]

METHODS = ("naive", "bayes", "vanilla", "gate", "learned")
_DIM = 8
_SIGNAL_RATE = 0.25
_EVALUATE_EVERY = 50


@dataclass(frozen=True, kw_only=True, eq=False)
class DenoisingResult(Result):
    """How well a signal is recovered.

    Attributes
    ----------
    method : str
    length : int
    sigma : float
    mse : float
        Mean of ||e_q - y/||y||||^2 over the test sequences.
    history : DataFrame with columns step, loss
        Training loss; empty for methods that learn nothing.
    """

    method: str
    length: int
    sigma: float
    mse: float
    history: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """Return the history.

        Returns
        -------
        pandas.DataFrame
        """
        return self.history.copy()

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the training loss, and the test error as a line.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **options
            Passed to ``Axes.plot``.

        Returns
        -------
        matplotlib Axes
        """
        ax = new_axes(ax)
        ax.axhline(self.mse, color="0.5", label="test error")
        ax.plot(self.history["step"], self.history["loss"], **{"label": self.method, **options})
        ax.set(xlabel="step", ylabel="squared error")
        ax.legend()
        return ax


def denoising(
    method: str = "learned",
    length: int = 32,
    sigma: float = 0.2,
    *,
    n_steps: int = 600,
    batch_size: int = 256,
    n_test: int = 4000,
    lr: float = 1e-2,
    random_state: Any = None,
) -> DenoisingResult:
    r"""Recover a one-hot signal from tokens of which only a quarter carry it.

    A token is :math:`e_q + z` with probability 1/4 and z otherwise, :math:`z \sim N(0, \sigma^2 I_8)`, q
    uniform; the last always carries the signal and is the query. Prediction is the normalised attention
    output.

    Parameters
    ----------
    method : {"naive", "bayes", "vanilla", "gate", "learned"}, default="learned"
        Mean of all tokens; mean of the tokens that carry the signal (known to nobody); attention with trained
        W and W_v; the same with values times 1{max_j x_ij >= 1/2}, the paper's proxy of a value temperature;
        the same with values times :math:`1 + \tanh(\langle w, \mathrm{GELU}(v) \rangle + b)`, w and b
        trained.
    length : int, default=32
    sigma : float, default=0.2
    n_steps, batch_size, n_test : int, default=600, 256, 4000
    lr : float, default=1e-2
    random_state : int, RandomState, Generator or None, default=None

    Returns
    -------
    DenoisingResult

    References
    ----------
    [1] Zhang et al., "Selective Attention", NeurIPS 2024, section 4.3 and Table 2.

    Examples
    --------
    >>> from mlpapers.attention import denoising
    >>> for method in ("naive", "bayes"):
    ...     print(method, round(denoising(method, random_state=0).mse, 2))
    naive 0.14
    bayes 0.03
    """
    check_choice("method", method, METHODS)
    check_int("length", length, minimum=1)
    check_real("sigma", sigma, low=0.0, closed="neither")
    for name, value in (("n_steps", n_steps), ("batch_size", batch_size), ("n_test", n_test)):
        check_int(name, value, minimum=0 if name == "n_steps" else 1)
    check_real("lr", lr, low=0.0, closed="neither")
    rng = check_rng(random_state)
    model = _Model(method, rng)
    history = []
    if method not in ("naive", "bayes"):
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        for step in range(n_steps):
            loss = _error(model, *_sample(rng, batch_size, length, sigma))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % _EVALUATE_EVERY == 0 or step == n_steps - 1:
                history.append({"step": step, "loss": float(loss.detach())})
    with torch.no_grad():
        mse = float(_error(model, *_sample(rng, n_test, length, sigma)))
    frame = pd.DataFrame(history, columns=["step", "loss"])
    return DenoisingResult(method=method, length=length, sigma=float(sigma), mse=mse, history=frame)


class _Model(torch.nn.Module):
    def __init__(self, method: str, rng: np.random.Generator) -> None:
        super().__init__()
        self.method = method
        start = np.eye(_DIM) + 0.01 * rng.normal(size=(2, _DIM, _DIM))
        self.W = torch.nn.Parameter(torch.tensor(start[0], dtype=torch.float32))
        self.W_v = torch.nn.Parameter(torch.tensor(start[1], dtype=torch.float32))
        self.w = torch.nn.Parameter(torch.zeros(_DIM))
        self.b = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor, carries: torch.Tensor) -> torch.Tensor:
        if self.method == "naive":
            return x.mean(1)
        if self.method == "bayes":
            share = carries.float()
            return (x * share.unsqueeze(-1)).sum(1) / share.sum(1, keepdim=True)
        logits = torch.einsum("bd,de,ble->bl", x[:, -1], self.W, x)
        value = x @ self.W_v
        if self.method == "gate":
            value = value * (x.amax(-1, keepdim=True) >= 0.5)
        elif self.method == "learned":
            tau = 1.0 + torch.tanh(functional.gelu(value) @ self.w + self.b)
            value = value * tau.unsqueeze(-1)
        return torch.einsum("bl,bld->bd", torch.softmax(logits, 1), value)


def _sample(
    rng: np.random.Generator, n: int, length: int, sigma: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return tokens (n, length, 8), which of them carry the signal, and the signals (n, 8)."""
    signal = np.eye(_DIM, dtype=np.float32)[rng.integers(_DIM, size=n)]
    carries = rng.random((n, length)) < _SIGNAL_RATE
    carries[:, -1] = True
    noise = rng.standard_normal((n, length, _DIM), dtype=np.float32)
    x = carries[..., None] * signal[:, None, :] + np.float32(sigma) * noise
    return torch.from_numpy(x), torch.from_numpy(carries), torch.from_numpy(signal)


def _error(
    model: Callable[..., torch.Tensor], x: torch.Tensor, carries: torch.Tensor, signal: torch.Tensor
) -> torch.Tensor:
    y = functional.normalize(model(x, carries), dim=-1)
    return ((signal - y) ** 2).sum(-1).mean()
