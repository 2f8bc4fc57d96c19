"""Associative recall: the value that stood beside a key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from mlpapers.attention.lm import ATTENTIONS, SelectiveTransformerLM
from mlpapers.core._axes import new_axes
from mlpapers.core.result import Result
from mlpapers.core.validation import check_choice, check_int, check_real, check_rng

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RecallResult", "associative_recall"]

_EVALUATE_EVERY = 50


@dataclass(frozen=True, kw_only=True, eq=False)
class RecallResult(Result):
    """How well a small model recalls.

    Attributes
    ----------
    method : str
    n_pairs : int
    accuracy : float
        Share of values recalled, over the test sequences.
    history : DataFrame with columns step, loss
        Training loss of the values asked for, in nats.
    """

    method: str
    n_pairs: int
    accuracy: float
    history: pd.DataFrame

    def to_frame(self) -> pd.DataFrame:
        """Return the history.

        Returns
        -------
        pandas.DataFrame
        """
        return self.history.copy()

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the training loss.

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
        label = f"{self.method}: {100 * self.accuracy:.1f} %"
        ax.plot(self.history["step"], self.history["loss"], **{"label": label, "marker": ".", **options})
        ax.set(xlabel="step", ylabel="nats per value")
        ax.legend()
        return ax


def associative_recall(
    method: str = "ssa",
    *,
    n_pairs: int = 8,
    vocab_size: int = 64,
    dim: int = 64,
    num_layers: int = 2,
    num_heads: int = 2,
    n_steps: int = 1000,
    batch_size: int = 64,
    n_test: int = 512,
    lr: float = 1e-3,
    device: Any = None,
    random_state: Any = None,
) -> RecallResult:
    """Train a small language model to recall values by their keys (multi-query associative recall).

    A sequence holds `n_pairs` distinct keys, each with a random value behind it, and then the same pairs in
    another order; what is trained and tested are the values of the second half.

    Parameters
    ----------
    method : {"ssa", "vanilla", "ssmax", "qknorm"}, default="ssa"
        Attention of :class:`SelectiveTransformerLM`; initial weights and data are the same for all.
    n_pairs : int, default=8
    vocab_size : int, default=64
        Half are keys, half values.
    dim, num_layers, num_heads : int, default=64, 2, 2
    n_steps, batch_size, n_test : int, default=1000, 64, 512
    lr : float, default=1e-3
        Of Adam, for all parameters.
    device : torch.device, optional
    random_state : int, RandomState, Generator or None, default=None

    Returns
    -------
    RecallResult

    References
    ----------
    [1] Arora et al., "Zoology: Measuring and Improving Recall in Efficient Language Models", ICLR 2024.

    Examples
    --------
    >>> from mlpapers.attention import associative_recall
    >>> result = associative_recall("ssa", n_pairs=2, vocab_size=8, dim=8, n_steps=2, random_state=0)
    >>> 0.0 <= result.accuracy <= 1.0
    True
    """
    check_choice("method", method, ATTENTIONS)
    check_int("vocab_size", vocab_size, minimum=4)
    check_int("n_pairs", n_pairs, minimum=1, maximum=vocab_size // 2)
    for name, value in (("n_steps", n_steps), ("batch_size", batch_size), ("n_test", n_test)):
        check_int(name, value, minimum=0 if name == "n_steps" else 1)
    check_real("lr", lr, low=0.0, closed="neither")
    rng = check_rng(random_state)
    model = SelectiveTransformerLM(
        vocab_size,
        dim=dim,
        num_layers=num_layers,
        num_heads=num_heads,
        attention=method,
        random_state=rng,
    ).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    history = []
    for step in range(n_steps):
        ids, labels = (part.to(device) for part in _pairs(rng, batch_size, n_pairs, vocab_size))
        loss = model(ids, labels)[1]
        assert loss is not None
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % _EVALUATE_EVERY == 0 or step == n_steps - 1:
            history.append({"step": step, "loss": float(loss.detach())})
    model.eval()
    with torch.no_grad():
        ids, labels = (part.to(device) for part in _pairs(rng, n_test, n_pairs, vocab_size))
        predicted = model(ids)[0][:, :-1].argmax(-1)
    asked = labels[:, 1:] >= 0
    right = (predicted == labels[:, 1:])[asked]
    return RecallResult(
        method=method,
        n_pairs=n_pairs,
        accuracy=float(right.double().mean()),
        history=pd.DataFrame(history, columns=["step", "loss"]),
    )


def _pairs(
    rng: np.random.Generator, n: int, n_pairs: int, vocab_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids (n, 4 n_pairs) and labels, -100 but at the values asked for."""
    n_keys = vocab_size // 2
    keys = rng.random((n, n_keys)).argsort(1)[:, :n_pairs]
    values = rng.integers(n_keys, vocab_size, size=(n, n_pairs))
    order = rng.random((n, n_pairs)).argsort(1)
    first = np.stack([keys, values], 2).reshape(n, -1)
    asked = np.take_along_axis(values, order, 1)
    second = np.stack([np.take_along_axis(keys, order, 1), asked], 2).reshape(n, -1)
    labels = np.full((n, 4 * n_pairs), -100)
    labels[:, 2 * n_pairs + 1 :: 2] = asked
    return torch.from_numpy(np.concatenate([first, second], 1)), torch.from_numpy(labels)
