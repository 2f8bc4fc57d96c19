"""Temperatures in front of fused kernels beside plain attention, the explicit map and other packages.

``python benchmarks/attention.py --peers`` prints the memory of a forward pass over 32,768 tokens, the
overhead on a GPU where there is one (alone with ``-k gpu``), and ratios on one thread of the processor.
``pytest benchmarks/attention.py`` times ours alone. Ratios are of a forward and a backward pass.

The published code (umich-sota/selective_attention) is a fork of a training framework and cannot be imported;
its attention is written out here: a temperature of the query by position, and the whole map.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from mlpapers.attention import SelectiveSelfAttention, selective_attention
from mlpapers.attention.temperature import TemperatureModule

sys.path.insert(0, str(Path(__file__).parent))
from _harness import Case, PeerMissing, compared, main, one_thread, peak_memory
from _rows import Row

HEADS, WIDTH = 8, 64
GPU_LENGTHS = (2048, 4096, 8192)
FOLD_ON_A_GPU = "GPU, bfloat16: fold + attention"
BLOCK_ON_A_GPU = "GPU, bfloat16: transformer block"


class Inputs:
    """Queries, keys, values and temperatures of one size."""

    def __init__(
        self, length: int, *, heads: int = HEADS, width: int = WIDTH, batch: int = 1, **placed: Any
    ) -> None:
        torch.manual_seed(0)
        self.parts = [torch.randn(batch, heads, length, width, **placed).requires_grad_() for _ in range(3)]
        device = placed.get("device")
        self.q_temp, self.v_temp = (TemperatureModule(heads, width).to(device) for _ in range(2))
        with torch.no_grad():
            for parameter in (*self.q_temp.parameters(), *self.v_temp.parameters()):
                parameter.normal_(0.0, 0.1)
        self.n = torch.arange(1, length + 1, device=device)
        self.upstream = torch.randn(batch, heads, length, width, **placed)

    def run(self, attention: Callable[..., torch.Tensor]) -> torch.Tensor:
        """One forward and backward pass; returns the output."""
        for tensor in (*self.parts, *self.q_temp.parameters(), *self.v_temp.parameters()):
            tensor.grad = None
        y = attention(self)
        y.backward(self.upstream)
        return y.detach()


def folded(inputs: Inputs) -> torch.Tensor:
    q, k, v = inputs.parts
    q, v = inputs.q_temp.scale(q, inputs.n), inputs.v_temp.scale(v, inputs.n)
    return selective_attention(q, k, v, is_causal=True)


def plain(inputs: Inputs) -> torch.Tensor:
    return functional.scaled_dot_product_attention(*inputs.parts, is_causal=True)


def explicit(inputs: Inputs) -> torch.Tensor:
    """The same temperatures, and the whole map."""
    q, k, v = inputs.parts
    q, v = inputs.q_temp.scale(q, inputs.n), inputs.v_temp.scale(v, inputs.n)
    logits = (q @ k.mT) / math.sqrt(q.shape[-1])
    hidden = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).triu(1)
    return torch.softmax(logits.masked_fill(hidden, -math.inf), -1) @ v


def published(inputs: Inputs) -> torch.Tensor:
    """The authors' code: logits times 1 + exp(-exp(beta)) log n, and the whole map."""
    q, k, v = inputs.parts
    beta = inputs.q_temp.alpha.mean()
    tau = 1.0 + torch.exp(-torch.exp(beta)) * torch.log(inputs.n.to(q.dtype))
    logits = (q @ k.mT) / math.sqrt(q.shape[-1]) * tau[:, None]
    hidden = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).triu(1)
    return torch.softmax(logits.masked_fill(hidden, -math.inf), -1) @ v


def peer(attention: Callable[[Inputs], torch.Tensor], length: int) -> Callable[[], Callable[[], Any]]:
    def prepare() -> Callable[[], Any]:
        inputs = Inputs(length)
        return lambda: inputs.run(attention).numpy()

    return prepare


def entmax15(length: int) -> Callable[[], Any]:
    """Sparse attention, exact: no fused kernel takes it, so the whole map."""
    try:
        from entmax import entmax15 as sparse
    except ImportError as error:
        raise PeerMissing("entmax is not installed") from error
    inputs = Inputs(length)

    def attention(inputs: Inputs) -> torch.Tensor:
        q, k, v = inputs.parts
        logits = (q @ k.mT) / math.sqrt(q.shape[-1])
        hidden = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).triu(1)
        return sparse(logits.masked_fill(hidden, -1e9), dim=-1) @ v

    return lambda: inputs.run(attention)


def x_transformers(length: int) -> Callable[[], Any]:
    """A layer that normalises queries and keys and learns one scale a head."""
    try:
        from x_transformers.x_transformers import Attention
    except ImportError as error:
        raise PeerMissing("x-transformers is not installed") from error
    torch.manual_seed(0)
    layer = Attention(HEADS * WIDTH, dim_head=WIDTH, heads=HEADS, causal=True, flash=True, qk_norm=True)
    return layer_pass(layer, layer, length)


def layer_pass(
    forward: Callable[[torch.Tensor], torch.Tensor], layer: nn.Module, length: int
) -> Callable[[], Any]:
    x = torch.randn(1, length, HEADS * WIDTH)

    def run() -> None:
        layer.zero_grad(set_to_none=True)
        forward(x).sum().backward()

    return run


def op_case(length: int) -> Case:
    ours = Inputs(length)
    targets = {"torch": 1 / 1.15} if length == 1024 else {}
    if length == 2048:
        targets["explicit map"] = 3.0
    peers = {
        "torch": peer(plain, length),
        "explicit map": peer(explicit, length),
        "published": peer(published, length),
    }
    if length <= 1024:
        peers["entmax"] = partial(entmax15, length)
    case = Case(
        f"fold + attention, {length} tokens", lambda: ours.run(folded).numpy(), peers, targets, repeats=9
    )
    # float32 sums of `length` terms.
    case.tolerances["explicit map"] = 1e-4
    return case


def layer_case(length: int) -> Case:
    torch.manual_seed(0)
    options: dict[str, Any] = {"rope": False}
    ours = SelectiveSelfAttention(HEADS * WIDTH, HEADS, **options)
    bare = SelectiveSelfAttention(HEADS * WIDTH, HEADS, temperatures=(), **options)
    return Case(
        f"layer, {length} tokens",
        layer_pass(ours, ours, length),
        {
            "no temperature": lambda: layer_pass(bare, bare, length),
            "x-transformers": partial(x_transformers, length),
        },
        repeats=9,
    )


def memory_of_a_long_input(_: bool) -> Iterator[Row]:
    """What a forward pass over 32,768 tokens takes; the map alone would be 32 GiB. It must run first."""
    before = peak_memory()
    with one_thread(), torch.no_grad():
        inputs = Inputs(32_768)
        folded(inputs)
    yield Row(
        what="32,768 tokens forward, 8 heads of 64, memory",
        unit="MiB",
        ours=peak_memory() - before,
        target=1024.0,
        relation="<=",
    )


class Block(nn.Module):
    """A transformer block with or without temperatures."""

    def __init__(self, dim: int, heads: int, temperatures: tuple[str, ...]) -> None:
        super().__init__()
        self.attention = SelectiveSelfAttention(dim, heads, temperatures=temperatures)
        self.norms = nn.ModuleList([nn.RMSNorm(dim), nn.RMSNorm(dim)])
        self.mlp = nn.Sequential(
            nn.Linear(dim, 4 * dim, bias=False), nn.GELU(), nn.Linear(4 * dim, dim, bias=False)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norms[0](x))
        return x + self.mlp(self.norms[1](x))


def interleaved(functions: dict[str, Callable[[], Any]], turns: int = 7) -> dict[str, list[float]]:
    """Return the seconds of turns that all functions take together, on a GPU."""
    from triton.testing import do_bench

    for function in functions.values():
        for _ in range(3):
            function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(turns):
        for name, function in functions.items():
            times[name].append(1e-3 * do_bench(function, warmup=20, rep=80, return_mode="median"))
    return times


def op_rows(length: int, batch: int, heads: int, width: int) -> Iterator[Row]:
    inputs = Inputs(length, heads=heads, width=width, batch=batch, device="cuda", dtype=torch.bfloat16)
    compiled = torch.compile(folded, dynamic=False)
    attempts = {
        "plain": lambda: inputs.run(plain),
        "eager": lambda: inputs.run(folded),
        "compiled": lambda: inputs.run(compiled),
    }
    if length <= 4096:
        attempts["explicit map"] = lambda: inputs.run(explicit)
    times = interleaved(attempts)
    for name in ("compiled", "eager"):
        what = f"{FOLD_ON_A_GPU}, {name}, {length} tokens"
        target = 1 / 1.15 if name == "compiled" and length == 8192 else None
        yield compared(what, "torch", times[name], times["plain"], target=target)
    if "explicit map" in times:
        what = f"{FOLD_ON_A_GPU}, compiled, {length} tokens"
        yield compared(what, "explicit map", times["compiled"], times["explicit map"])


def block_rows(length: int, batch: int, heads: int, width: int) -> Iterator[Row]:
    placed: dict[str, Any] = {"device": "cuda", "dtype": torch.bfloat16}
    x = torch.randn(batch, length, heads * width, **placed).requires_grad_()
    upstream = torch.randn_like(x)
    blocks = {
        name: Block(heads * width, heads, roles).to(**placed)
        for name, roles in {"plain": (), "temperatures": ("q", "v")}.items()
    }

    def step(forward: Callable[[torch.Tensor], torch.Tensor], block: nn.Module) -> None:
        block.zero_grad(set_to_none=True)
        x.grad = None
        forward(x).backward(upstream)

    for kind in ("compiled", "eager"):
        times = interleaved(
            {
                name: partial(
                    step, torch.compile(block, dynamic=False) if kind == "compiled" else block, block
                )
                for name, block in blocks.items()
            }
        )
        what = f"{BLOCK_ON_A_GPU}, {kind}, {length} tokens"
        target = 1 / 1.05 if kind == "compiled" else None
        yield compared(what, "no temperature", times["temperatures"], times["plain"], target=target)


def overhead_on_a_gpu(_: bool) -> Iterator[Row]:
    """bfloat16, forward and backward, 16,384 tokens in all."""
    if not torch.cuda.is_available():
        missing = "torch finds no CUDA device"
        yield Row(
            what=f"{FOLD_ON_A_GPU}, compiled, 8192 tokens", peer="torch", target=1 / 1.15, skipped=missing
        )
        for length in GPU_LENGTHS:
            what = f"{BLOCK_ON_A_GPU}, compiled, {length} tokens"
            yield Row(what=what, peer="no temperature", target=1 / 1.05, skipped=missing)
        return
    heads, width, tokens = 16, 128, 16_384
    for length in GPU_LENGTHS:
        torch._dynamo.reset()
        yield from op_rows(length, tokens // length, heads, width)
        yield from block_rows(length, tokens // length, heads, width)
        torch.cuda.empty_cache()


CASES = [*(partial(op_case, length) for length in (512, 1024, 2048)), partial(layer_case, 1024)]


@pytest.mark.parametrize("length", [512, 1024])
def test_fold(benchmark, length):
    inputs = Inputs(length)
    with one_thread():
        benchmark.pedantic(lambda: inputs.run(folded), rounds=10, warmup_rounds=1)


if __name__ == "__main__":
    sys.exit(main(CASES, figures=[memory_of_a_long_input, overhead_on_a_gpu]))
