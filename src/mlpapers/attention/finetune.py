"""Training the temperatures of a language model, and measuring what it gained."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional

from mlpapers.attention._checks import check_floating_dtype, check_ids
from mlpapers.attention.conversion import ssa_parameters
from mlpapers.core._axes import new_axes
from mlpapers.core.parallel import chunk_slices
from mlpapers.core.result import Result, transient
from mlpapers.core.validation import check_choice, check_int, check_real, check_rng

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FineTuneResult", "finetune", "perplexity", "token_log_frequency"]

TRAINABLE = ("ssa", "all", "ssa+all")
_BETAS = (0.9, 0.95)
_CLIP = 1.0
# The learning rate falls along a cosine to this share.
_LAST_SHARE = 0.1


@dataclass(frozen=True, kw_only=True, eq=False)
class FineTuneResult(Result):
    """What fine-tuning did.

    Attributes
    ----------
    model : nn.Module or None
        The model, trained in place; None in a result that was loaded from a file.
    history : DataFrame with columns step, train_loss, eval_loss, eval_ppl, seconds
        One row per evaluation; step 0 is before training. Losses in nats per token; those of training are
        means since the row before.
    n_trainable : int
        Parameters trained.
    trainable : {"ssa", "all", "ssa+all"}
    """

    model: Any = transient()
    history: pd.DataFrame
    n_trainable: int
    trainable: str

    def to_frame(self) -> pd.DataFrame:
        """Return the history.

        Returns
        -------
        pandas.DataFrame
        """
        return self.history.copy()

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the losses against the steps.

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
        for column in ("train_loss", "eval_loss"):
            rows = self.history.dropna(subset=[column])
            ax.plot(
                rows["step"], rows[column], **{"label": column.replace("_", " "), "marker": ".", **options}
            )
        ax.set(xlabel="step", ylabel="nats per token")
        ax.legend()
        return ax


def finetune(
    model: nn.Module,
    token_ids: torch.Tensor,
    *,
    trainable: str = "ssa",
    n_steps: int = 100,
    batch_size: int = 4,
    seq_len: int = 512,
    lr: float = 1e-3,
    ssa_lr: float = 3e-3,
    warmup: int = 10,
    eval_ids: torch.Tensor | None = None,
    eval_every: int = 25,
    dtype: torch.dtype | None = None,
    device: Any = None,
    random_state: Any = None,
) -> FineTuneResult:
    """Train a converted model, or its temperatures alone, on random windows of a text.

    AdamW (betas 0.9 and 0.95, no weight decay), gradients clipped to norm 1, linear warm-up, then a cosine
    down to a tenth. Which parameters require gradients, and the training mode, are afterwards as they were.

    Parameters
    ----------
    model : nn.Module
        A causal language model of transformers, or :class:`SelectiveTransformerLM`; trained in place.
    token_ids : integer tensor of shape (n,)
        The text.
    trainable : {"ssa", "all", "ssa+all"}, default="ssa"
        The temperatures, everything else, or both.
    n_steps, batch_size, seq_len : int, default=100, 4, 512
    lr, ssa_lr : float, default=1e-3, 3e-3
        Learning rates of the model's own parameters and of the temperatures. Of a trained model's own
        parameters 3e-5 is more usual.
    warmup : int, default=10
        Steps.
    eval_ids : integer tensor of shape (m,), optional
        Held-out text.
    eval_every : int, default=25
        Steps between evaluations; there is one before the first step and one after the last besides.
    dtype : torch.dtype, optional
        Of autocast (torch.bfloat16, say). Default: none.
    device : torch.device, optional
        Default: the model's.
    random_state : int, RandomState, Generator or None, default=None
        Draws the windows.

    Returns
    -------
    FineTuneResult

    Raises
    ------
    ValueError
        If the text is shorter than a window, or there is nothing to train.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module; got {type(model).__name__}")
    check_choice("trainable", trainable, TRAINABLE)
    for name, value in (("batch_size", batch_size), ("eval_every", eval_every)):
        check_int(name, value, minimum=1)
    check_int("n_steps", n_steps, minimum=0)
    check_int("warmup", warmup, minimum=0)
    check_int("seq_len", seq_len, minimum=2)
    check_real("lr", lr, low=0.0, closed="neither")
    check_real("ssa_lr", ssa_lr, low=0.0, closed="neither")
    check_ids("token_ids", token_ids, ndim=1)
    if token_ids.shape[0] < seq_len:
        raise ValueError(f"token_ids must have at least seq_len={seq_len} tokens; got {token_ids.shape[0]}")
    if eval_ids is not None:
        _check_text("eval_ids", eval_ids)
    check_floating_dtype("dtype", dtype)
    rng = check_rng(random_state)
    if device is not None:
        model.to(device)
    groups = _groups(model, trainable, lr, ssa_lr)
    chosen = [parameter for group in groups for parameter in group["params"]]
    place = chosen[0].device
    optimizer = torch.optim.AdamW(groups, betas=_BETAS, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share(step, warmup, n_steps))
    started = time.perf_counter()
    history: list[dict[str, float]] = []
    losses: list[float] = []

    def evaluate(step: int) -> None:
        loss = math.nan
        if eval_ids is not None:
            with _autocast(place, dtype):
                loss = math.log(perplexity(model, eval_ids, seq_len=seq_len, batch_size=batch_size))
        history.append(
            {
                "step": step,
                "train_loss": float(np.mean(losses)) if losses else math.nan,
                "eval_loss": loss,
                "eval_ppl": math.exp(loss),
                "seconds": time.perf_counter() - started,
            }
        )
        losses.clear()

    with _training(model, chosen):
        evaluate(0)
        for step in range(n_steps):
            starts = rng.integers(0, token_ids.shape[0] - seq_len + 1, size=batch_size)
            ids = torch.stack([token_ids[start : start + seq_len] for start in starts.tolist()]).to(place)
            with _autocast(place, dtype):
                loss = window_losses(model, ids).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(chosen, _CLIP)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
            if (step + 1) % eval_every == 0 or step + 1 == n_steps:
                evaluate(step + 1)
    return FineTuneResult(
        model=model,
        history=pd.DataFrame(history),
        n_trainable=sum(parameter.numel() for parameter in chosen),
        trainable=trainable,
    )


@torch.no_grad()
def perplexity(
    model: nn.Module,
    token_ids: torch.Tensor,
    *,
    seq_len: int = 512,
    stride: int | None = None,
    batch_size: int = 4,
) -> float:
    r"""Perplexity of a text: :math:`\exp` of the mean negative log-likelihood of the tokens predicted.

    The text is cut into windows of `seq_len` that begin every `stride` tokens. In each only what no window
    before predicted counts; the first token of the text is never predicted, nor, without overlap, that of a
    window.

    Parameters
    ----------
    model : nn.Module
    token_ids : integer tensor of shape (n,)
    seq_len : int, default=512
    stride : int, optional
        At most `seq_len`, which is the default. A smaller one gives every token more context.
    batch_size : int, default=4

    Returns
    -------
    perplexity : float
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module; got {type(model).__name__}")
    _check_text("token_ids", token_ids)
    check_int("seq_len", seq_len, minimum=2)
    stride = seq_len if stride is None else check_int("stride", stride, minimum=1, maximum=seq_len)
    check_int("batch_size", batch_size, minimum=1)
    n = token_ids.shape[0]
    place = next(model.parameters()).device
    windows = []
    for start in range(0, n - 1, stride):
        stop = min(start + seq_len, n)
        # What the window before has predicted already.
        skip = 0 if start == 0 else max(seq_len - stride - 1, 0)
        windows.append((start, stop, skip))
        if stop == n:
            break
    total, count = 0.0, 0
    training = model.training
    model.eval()
    try:
        full = [window for window in windows if window[1] - window[0] == seq_len]
        batches = [full[block] for block in chunk_slices(len(full), batch_size)]
        for batch in [*batches, *([window] for window in windows if window[1] - window[0] < seq_len)]:
            ids = torch.stack([token_ids[start:stop] for start, stop, _ in batch]).to(place)
            for (_, _, skip), row in zip(batch, window_losses(model, ids)):
                total += float(row[skip:].double().sum())
                count += row[skip:].numel()
    finally:
        model.train(training)
    return math.exp(total / count)


def _check_text(name: str, ids: Any) -> None:
    check_ids(name, ids, ndim=1)
    if ids.shape[0] < 2:
        raise ValueError(f"{name} must have at least 2 tokens; got {ids.shape[0]}")


def window_losses(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Return the negative log-likelihood (B, T - 1) of every token but the first of each row, in nats."""
    output = model(ids)
    logits = output[0] if isinstance(output, tuple) else output.logits
    targets = ids[:, 1:]
    flat = logits[:, :-1].reshape(-1, logits.shape[-1]).float()
    return functional.cross_entropy(flat, targets.reshape(-1), reduction="none").view(targets.shape)


def token_log_frequency(token_ids: torch.Tensor, vocab_size: int) -> torch.Tensor:
    r"""Standardised log frequency of every token, the feature of ``token="feature"``.

    .. math:: \phi_i = \frac{\ell_i - \bar\ell}{\mathrm{sd}(\ell)}, \qquad \ell_i = \log(1 + \text{count}_i)

    Parameters
    ----------
    token_ids : integer tensor of shape (n,)
        A text to count in.
    vocab_size : int

    Returns
    -------
    table : tensor of shape (vocab_size,), float32, mean 0 and standard deviation 1 (0 where all counts are
    equal)

    Examples
    --------
    >>> import torch
    >>> from mlpapers.attention import token_log_frequency
    >>> token_log_frequency(torch.tensor([0, 0, 0, 0, 1, 1, 2]), vocab_size=4).round(decimals=2)
    tensor([ 1.2900,  0.4200, -0.2700, -1.4400])
    """
    check_ids("token_ids", token_ids, ndim=1)
    check_int("vocab_size", vocab_size, minimum=1)
    if token_ids.numel() and not 0 <= int(token_ids.min()) <= int(token_ids.max()) < vocab_size:
        raise ValueError(
            f"token_ids must lie in [0, {vocab_size}); got {int(token_ids.min())}..{int(token_ids.max())}"
        )
    logs = torch.log1p(torch.bincount(token_ids, minlength=vocab_size).double())
    spread = logs.std(correction=0)
    centred = logs - logs.mean()
    return (centred / spread if spread > 0 else centred).float()


def _groups(model: nn.Module, trainable: str, lr: float, ssa_lr: float) -> list[dict[str, Any]]:
    ssa = ssa_parameters(model)
    known = {id(parameter) for parameter in ssa}
    base = [parameter for parameter in model.parameters() if id(parameter) not in known]
    if trainable != "all" and not ssa:
        raise ValueError(
            f"model has no temperatures for trainable={trainable!r}; convert_to_ssa(model) first"
        )
    groups = []
    if trainable != "all":
        groups.append({"params": ssa, "lr": ssa_lr})
    if trainable != "ssa":
        groups.append({"params": base, "lr": lr})
    return groups


def _share(step: int, warmup: int, n_steps: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, n_steps - warmup)
    return _LAST_SHARE + (1.0 - _LAST_SHARE) * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))


@contextlib.contextmanager
def _training(model: nn.Module, chosen: list[nn.Parameter]) -> Iterator[None]:
    """Training mode, gradients for the chosen parameters only; both as before at the end."""
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    was_training = model.training
    wanted = {id(parameter) for parameter in chosen}
    try:
        for parameter, _ in flags:
            parameter.requires_grad_(id(parameter) in wanted)
        model.train()
        yield
    finally:
        for parameter, flag in flags:
            parameter.grad = None
            parameter.requires_grad_(flag)
        model.train(was_training)


def _autocast(device: torch.device, dtype: torch.dtype | None) -> Any:
    return contextlib.nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
