"""Training of small byte-level language models that differ in their attention alone."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mlpapers.attention.conversion import ssa_parameters
from mlpapers.attention.lm import SelectiveTransformerLM

Bytes = NDArray[np.uint8]

_BETAS = (0.9, 0.95)
_WEIGHT_DECAY = 0.1
_WARM_UP = 50
_LAST_SHARE = 0.1
_CLIP = 1.0


@dataclass(frozen=True)
class Setting:
    """Sizes of an experiment.

    Attributes
    ----------
    dim, num_layers, num_heads, context, batch_size, n_steps : int
    lr : float
    n_windows : int
        Held-out windows of each text.
    """

    dim: int
    num_layers: int
    num_heads: int
    context: int
    batch_size: int
    n_steps: int
    lr: float
    n_windows: int


@dataclass(frozen=True)
class TrainedLM:
    """A trained model and what it cost and gained.

    Attributes
    ----------
    model : SelectiveTransformerLM
    first_loss : float
        Training loss before the first step, nats per byte.
    losses : dict of str to float
        Held-out nats per byte by text.
    """

    model: SelectiveTransformerLM
    first_loss: float
    losses: dict[str, float]


def train_byte_lm(
    attention: str,
    setting: Setting,
    text: Bytes,
    held_out: dict[str, Bytes],
    seed: int,
    *,
    device: str = "cpu",
    **options: Any,
) -> TrainedLM:
    """Train one model; the seed alone decides initial weights and the order of the data.

    On a GPU the step is compiled, in bfloat16, and replayed as a CUDA graph.
    """
    model = SelectiveTransformerLM(
        256,
        dim=setting.dim,
        num_layers=setting.num_layers,
        num_heads=setting.num_heads,
        attention=attention,
        random_state=seed,
        **options,
    ).to(device)
    rng = np.random.default_rng([seed, 1])
    optimizer = _optimizer(model, setting.lr, device)
    batch = torch.empty(setting.batch_size, setting.context, dtype=torch.long, device=device)
    source = torch.from_numpy(text.copy()).to(device)
    offsets = torch.arange(setting.context, device=device)

    def next_batch() -> None:
        starts = rng.integers(0, len(text) - setting.context, size=setting.batch_size)
        batch.copy_(source[torch.from_numpy(starts).to(device)[:, None] + offsets])

    next_batch()
    with torch.no_grad(), _autocast(device):
        first = float(model(batch, batch)[1].float())
    step = (_graph_step if device == "cuda" else _plain_step)(model, optimizer, batch)
    for number in range(setting.n_steps):
        if number:
            next_batch()
        _set_rate(optimizer, setting.lr * _share(number, setting.n_steps))
        step()
    losses = {name: _evaluate(model, part, setting, device) for name, part in held_out.items()}
    return TrainedLM(model, first, losses)


def _optimizer(model: nn.Module, lr: float, device: str) -> torch.optim.Optimizer:
    known = {id(parameter) for parameter in ssa_parameters(model)}
    decayed = [p for p in model.parameters() if p.ndim >= 2 and id(p) not in known]
    others = [p for p in model.parameters() if p.ndim < 2 or id(p) in known]
    groups = [{"params": decayed, "weight_decay": _WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    if device != "cuda":
        return torch.optim.AdamW(groups, lr=lr, betas=_BETAS)
    # A graph reads the rate from memory.
    rate = torch.tensor(lr, device=device)
    return torch.optim.AdamW(groups, lr=rate, betas=_BETAS, capturable=True)


def _set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _plain_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: torch.Tensor, forward: Any = None
) -> Callable[[], None]:
    device = batch.device.type

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with _autocast(device):
            loss = (model if forward is None else forward)(batch, batch)[1]
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), _CLIP, foreach=True)
        optimizer.step()

    return step


def _graph_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: torch.Tensor
) -> Callable[[], None]:
    """Return a replay of one captured step; what the trial runs before the capture changed is put back."""
    step = _plain_step(model, optimizer, batch, torch.compile(model))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    optimizer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        step()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            value.copy_(before[name])
        for state in optimizer.state.values():
            for value in state.values():
                value.zero_()
    return graph.replay


def _share(step: int, n_steps: int) -> float:
    warm_up = min(_WARM_UP, n_steps)
    if step < warm_up:
        return (step + 1) / warm_up
    progress = (step - warm_up) / max(1, n_steps - warm_up)
    return _LAST_SHARE + (1.0 - _LAST_SHARE) * 0.5 * (1.0 + math.cos(math.pi * progress))


@torch.no_grad()
def _evaluate(model: nn.Module, text: Bytes, setting: Setting, device: str) -> float:
    model.eval()
    context = setting.context
    n = min(setting.n_windows, len(text) // context)
    windows = torch.from_numpy(text[: n * context].reshape(n, context).astype(np.int64))
    losses = []
    for rows in windows.split(setting.batch_size):
        rows = rows.to(device)
        with _autocast(device):
            losses.append(float(model(rows, rows)[1].float()) * len(rows))
    model.train()
    return sum(losses) / n


def _autocast(device: str) -> Any:
    if device != "cuda":
        return contextlib.nullcontext()
    # Casts that autocast keeps would be freed inside a captured step.
    return torch.autocast("cuda", dtype=torch.bfloat16, cache_enabled=False)
