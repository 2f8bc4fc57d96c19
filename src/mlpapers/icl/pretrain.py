"""Train MiniPFN on its prior: ``python -m mlpapers.icl.pretrain --steps 8000 --seed 0 --out FILE``."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["main", "pretrain", "recipe_hash"]

# Everything that decides the weights beside the code of the prior and the network.
RECIPE: dict[str, Any] = {
    "network": {"width": 64, "n_layers": 4, "n_heads": 4},
    "prior": "mixtures and causal models 1",
    "batch_size": 32,
    "lr": 1e-3,
    "weight_decay": 1e-3,
    "warm_up": 200,
    "clip": 1.0,
}


def recipe_hash(recipe: dict[str, Any]) -> str:
    """Return the SHA-256 of a recipe without its own hash and without the versions it was run with."""
    core = {name: value for name, value in recipe.items() if name not in ("hash", "torch", "loss")}
    return hashlib.sha256(json.dumps(core, sort_keys=True).encode()).hexdigest()


def pretrain(
    n_steps: int = 8000, random_state: int = 0, *, verbose: int = 0
) -> tuple[dict[str, np.ndarray[Any, np.dtype[np.float32]]], dict[str, Any]]:
    """Train MiniPFN on fully labelled contexts drawn from its prior.

    Adam with decoupled weight decay, linear warm-up, cosine to zero, gradients clipped to norm 1, binary
    cross-entropy of the queries' labels. On one thread the same arguments and the same version of torch give
    the same weights.

    Parameters
    ----------
    n_steps : int, default=8000
    random_state : int, default=0
    verbose : int, default=0
        Print the loss every `verbose` steps; 0 prints nothing.

    Returns
    -------
    weights : dict of str to ndarray
        The state of the network.
    recipe : dict
        What :func:`write_checkpoint` stores beside the weights.
    """
    import torch
    from torch.nn import functional as F

    from mlpapers.icl._network import MiniPFN, pad_features
    from mlpapers.icl._prior import sample_tables

    rng = np.random.default_rng(random_state)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_state)
        network = MiniPFN(**RECIPE["network"])
    optimiser = torch.optim.AdamW(network.parameters(), lr=RECIPE["lr"], weight_decay=RECIPE["weight_decay"])
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: _learning_rate(step, n_steps, RECIPE["warm_up"])
    )
    recent: list[float] = []
    start = time.perf_counter()
    for step in range(1, n_steps + 1):
        tables = sample_tables(rng, RECIPE["batch_size"])
        x, s, x_query, target = (torch.from_numpy(part.astype(np.float32)) for part in tables)
        logits = network(pad_features(x), s, pad_features(x_query))
        loss = F.binary_cross_entropy_with_logits(logits, (target + 1.0) / 2.0)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), RECIPE["clip"])
        optimiser.step()
        schedule.step()
        recent = [*recent[-499:], float(loss.detach())]
        if verbose and step % verbose == 0:
            seconds = time.perf_counter() - start
            print(f"step {step}: loss {np.mean(recent):.4f}, {seconds:.0f} s", file=sys.stderr, flush=True)
    weights = {name: value.numpy().copy() for name, value in network.state_dict().items()}
    recipe = {**RECIPE, "n_steps": n_steps, "random_state": random_state}
    loss_at_end = round(float(np.mean(recent)), 4) if recent else None
    return weights, {**recipe, "hash": recipe_hash(recipe), "torch": torch.__version__, "loss": loss_at_end}


def _learning_rate(step: int, n_steps: int, warm_up: int) -> float:
    """Return the factor of the learning rate: linear warm-up, then half a cosine."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm_up) / max(1, n_steps - warm_up)))


def main(argv: Sequence[str] | None = None) -> int:
    """Train and write a checkpoint."""
    import torch

    from mlpapers.icl._checkpoint import write_checkpoint

    parser = argparse.ArgumentParser(prog="python -m mlpapers.icl.pretrain", description=__doc__)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        weights, recipe = pretrain(options.steps, options.seed, verbose=250)
    finally:
        torch.set_num_threads(threads)
    print(write_checkpoint(options.out, weights, recipe))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
