"""A needle among n keys: what becomes of its attention when n grows beyond what was seen in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mlpapers.attention.temperature import ALPHA_INIT, position_temperature
from mlpapers.core._axes import new_axes
from mlpapers.core.result import Result
from mlpapers.core.validation import check_choice, check_int, check_real, check_rng

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DilutionResult", "dilution"]

Array = NDArray[np.float64]

METHODS = ("vanilla", "linear", "sigmoid", "gompertz", "ssmax")
_DIM = 32
_START_NORM = 3.0
# Keys drawn at once in the evaluation: 32 MiB of float32.
_MAX_ENTRIES = 1 << 23


@dataclass(frozen=True, kw_only=True, eq=False)
class DilutionResult(Result):
    """Attention that a needle gets, by number of keys.

    Attributes
    ----------
    method : str
    lengths : ndarray of shape (k,)
    mass : ndarray of shape (k,)
        Mean probability of the needle.
    alpha : float
        Learned position parameter; NaN for "vanilla".
    norm : float
        Spectral norm of W.
    penalty : float
    """

    method: str
    lengths: NDArray[np.int64]
    mass: Array
    alpha: float
    norm: float
    penalty: float

    def to_frame(self) -> pd.DataFrame:
        """Return one row per number of keys.

        Returns
        -------
        pandas.DataFrame
        """
        return pd.DataFrame({"length": self.lengths, "mass": self.mass})

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the needle's probability against the number of keys.

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
        ax.plot(self.lengths, self.mass, **{"label": self.method, "marker": ".", **options})
        ax.set(xlabel="keys", ylabel="attention to the needle", xscale="log", ylim=(0, 1))
        ax.legend()
        return ax


def dilution(
    method: str = "linear",
    *,
    lengths: Sequence[int] = (16, 64, 256, 1024, 4096),
    n_steps: int = 400,
    batch_size: int = 64,
    lr: float = 1e-2,
    penalty: float = 1e-3,
    n_test: int = 256,
    random_state: Any = None,
) -> DilutionResult:
    r"""Train attention to find a needle among few keys, and look for it among many.

    Keys are n random unit vectors in 32 dimensions, one of them the needle; the query is the normalised
    :math:`0.8\,\text{needle} + 0.6\,\text{noise}`. Logits are :math:`\tau(n) X W q`. Training: n log-uniform
    in [2, 64], Adam on -log of the needle's probability plus `penalty` times :math:`\|W\|_F^2`, W = 3I at the
    start. The penalty is what keeps W from growing instead; compare at equal penalty.

    Parameters
    ----------
    method : {"linear", "sigmoid", "gompertz", "ssmax", "vanilla"}, default="linear"
        Kind of the position temperature; none for "vanilla".
    lengths : sequence of int
        Numbers of keys to evaluate at.
    n_steps, batch_size : int, default=400, 64
    lr : float, default=1e-2
    penalty : float, default=1e-3
    n_test : int, default=256
        Sequences for each of `lengths`.
    random_state : int, RandomState, Generator or None, default=None

    Returns
    -------
    DilutionResult

    References
    ----------
    [1] Zhang et al., "Selective Attention", NeurIPS 2024, section 4.2; the task is ours.
    """
    check_choice("method", method, METHODS)
    for name, value in (("n_steps", n_steps), ("batch_size", batch_size), ("n_test", n_test)):
        check_int(name, value, minimum=0 if name == "n_steps" else 1)
    check_real("lr", lr, low=0.0, closed="neither")
    check_real("penalty", penalty, low=0.0)
    sizes = [check_int("lengths", length, minimum=1) for length in lengths]
    if not sizes:
        raise ValueError("lengths must not be empty")
    rng = check_rng(random_state)
    kind = "none" if method == "vanilla" else method
    W = (_START_NORM * torch.eye(_DIM)).requires_grad_()
    alpha = torch.tensor(ALPHA_INIT.get(kind, 0.0), requires_grad=kind != "none")
    optimizer = torch.optim.Adam([W, alpha] if kind != "none" else [W], lr=lr)
    for _ in range(n_steps):
        n = round(float(np.exp(rng.uniform(np.log(2.0), np.log(64.0)))))
        loss = -_needle(rng, batch_size, n, W, alpha, kind).mean() + penalty * (W**2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        mass = [_mass(rng, n_test, n, W, alpha, kind) for n in sizes]
    return DilutionResult(
        method=method,
        lengths=np.array(sizes, dtype=np.int64),
        mass=np.array(mass),
        alpha=float("nan") if kind == "none" else float(alpha.detach()),
        norm=float(torch.linalg.matrix_norm(W.detach(), 2)),
        penalty=float(penalty),
    )


def _mass(
    rng: np.random.Generator, n_test: int, n: int, W: torch.Tensor, alpha: torch.Tensor, kind: str
) -> float:
    at_once = max(1, _MAX_ENTRIES // (n * _DIM))
    parts = [
        _needle(rng, min(at_once, n_test - start), n, W, alpha, kind).double().exp()
        for start in range(0, n_test, at_once)
    ]
    return float(torch.cat(parts).mean())


def _needle(
    rng: np.random.Generator, batch: int, n: int, W: torch.Tensor, alpha: torch.Tensor, kind: str
) -> torch.Tensor:
    """Return the needle's log-probability in each of `batch` fresh sequences of n keys."""
    keys = _unit(rng.standard_normal((batch, n, _DIM), dtype=np.float32))
    noise = _unit(rng.standard_normal((batch, _DIM), dtype=np.float32))
    query = _unit(0.8 * keys[:, 0] + 0.6 * noise)
    tau = position_temperature(torch.tensor([n]), alpha, kind)
    logits = tau * torch.einsum("bnd,de,be->bn", torch.from_numpy(keys), W, torch.from_numpy(query))
    return torch.log_softmax(logits, 1)[:, 0]


def _unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return scaled
