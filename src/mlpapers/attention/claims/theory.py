"""Propositions and lemmas, by their closed forms."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from mlpapers.attention.functional import selective_attention
from mlpapers.attention.papers import SELECTIVE_ATTENTION as PAPER
from mlpapers.attention.theory import (
    dilution_bound,
    lemma2_sparsity,
    prop2_flat_loss,
    prop2_temperature,
    required_norm,
    specificity,
    specificity_norm_bound,
)
from mlpapers.attention.two_token_theory import prop1_lower_bound, prop1_min_norm, prop1_ssa_solution
from mlpapers.core.paper import Evidence, Measurement, Scale


@PAPER.claim(
    "a-uniform",
    "Attention without temperatures treats all queries alike: for a flat and a sharp query at once its "
    "weights "
    "must grow, where temperatures need not.",
    source="Lemma 1, Proposition 1",
)
def uniform(scale: Scale, seed: int) -> Evidence:
    rng = np.random.default_rng(seed)
    rows, gap = [], 0.0
    for _ in range(500 if scale == "quick" else 3000):
        tokens = _unit(rng, 2, int(rng.integers(2, 9)))
        e1, e2 = tokens
        gamma = rng.uniform(0.05, 0.95)
        eps = rng.uniform(0.01, 1.0) * min(gamma, 1.0 - gamma) / 2.0
        W, tau = prop1_ssa_solution(gamma, eps, *tokens)
        logits = tau[:, None] * (tokens @ W @ tokens.T)
        reached = 1.0 / (1.0 + np.exp(logits[:, 0] - logits[:, 1]))
        gap = max(gap, abs(reached[0] - gamma) - eps, 1.0 - eps - reached[1])
        rows.append(
            {
                "exact": prop1_min_norm(gamma, eps, e1, e2),
                "sharp": prop1_lower_bound(gamma, eps, e1, e2),
                "paper": prop1_lower_bound(gamma, eps, e1, e2, sharp=False),
                "ssa": float(np.linalg.norm(W, 2) * np.abs(tau).max()),
            }
        )
    table = pd.DataFrame(rows)
    lemma = 0
    for _ in range(2000):
        d = int(rng.integers(2, 12))
        W, (a, b) = rng.normal(size=(d, d)), rng.normal(size=(2, d))
        if specificity(W, a) < specificity(W, b):
            a, b = b, a
        bound = specificity_norm_bound(specificity(W, a) - specificity(W, b), a, b)
        lemma += int(bound > np.linalg.norm(W, 2) * (1.0 + 1e-12))
    angle = 0.3
    example = np.array([1.0, 0.0]), np.array([math.cos(angle), math.sin(angle)])
    W, tau = prop1_ssa_solution(0.4, 1e-3, *example)
    ssa, plain = float(np.linalg.norm(W, 2) * np.abs(tau).max()), prop1_min_norm(0.4, 1e-3, *example)
    slack = 1e-9
    return Evidence(
        measurements=[
            Measurement(
                "cases below the sharp bound", (table["exact"] < table["sharp"] - slack).sum(), "<=", 0
            ),
            Measurement(
                "cases below the paper's bound", (table["exact"] < table["paper"] - slack).sum(), "<=", 0
            ),
            Measurement(
                "cases where temperatures cost more", (table["ssa"] > table["exact"] + slack).sum(), "<=", 0
            ),
            Measurement("map missed by more than eps by", gap, "<=", 1e-9),
            Measurement("violations of Lemma 1 in 2000 draws", lemma, "<=", 0),
            Measurement("example: norm with temperatures", ssa, "<=", 23.12),
            Measurement("example: norm without / with", plain / ssa, ">=", 3.0, paper="3x smaller norm"),
        ],
        table=table,
        notes=f"example: {plain:.2f} without temperatures, {ssa:.2f} with them",
    )


@PAPER.claim(
    "a-bound",
    "With more keys the largest probability falls, unless the norm of the weights grows like half the "
    "logarithm "
    "of their number.",
    source="section 4.2",
)
def bound(scale: Scale, seed: int) -> Evidence:
    rng = np.random.default_rng(seed)
    violations = inverse = 0.0
    for _ in range(300 if scale == "quick" else 3000):
        length, d = int(rng.integers(2, 400)), int(rng.integers(2, 16))
        tokens = _unit(rng, length, d)
        W = rng.normal(size=(d, d)) * rng.uniform(0.1, 3.0)
        logits = tokens @ W.T @ tokens[0]
        p = np.exp(logits - logits.max())
        norm = float(np.linalg.norm(W, 2))
        violations += p.max() / p.sum() > dilution_bound(length, norm) * (1.0 + 1e-12)
        mass = rng.uniform(1.0 / length, 0.999)
        inverse = max(inverse, abs(dilution_bound(length, required_norm(length, mass)) - mass))
    growth = required_norm(10**8, 0.5) - required_norm(10**4, 0.5)
    return Evidence(
        measurements=[
            Measurement("violations of the bound", violations, "<=", 0),
            Measurement("error of the inverse", inverse, "<=", 1e-12),
            Measurement(
                "growth from 1e4 to 1e8 keys / (half log 1e4)",
                growth / (0.5 * math.log(1e4)),
                "in",
                (0.999, 1.001),
            ),
        ]
    )


@PAPER.claim(
    "a-prop2",
    "A temperature that grows with the logarithm of the relative number of keys solves the counting task "
    "exactly; "
    "no weights with one temperature do.",
    source="Proposition 2",
)
def prop2(scale: Scale, seed: int) -> Evidence:
    rng = np.random.default_rng(seed)
    rows = []
    for length in (400, 800) if scale == "quick" else (400, 800, 1600, 6400):
        flags = _minority(rng, length)
        rows.append(
            {
                "length": length,
                "loss with temperature": _counting_loss(flags),
                "best loss without": prop2_flat_loss(flags),
            }
        )
    table = pd.DataFrame(rows)
    return Evidence(
        measurements=[
            Measurement(
                "largest loss with the temperature",
                table["loss with temperature"].max(),
                "<=",
                1e-12,
                paper=0,
            ),
            Measurement(
                "least loss of one temperature",
                table["best loss without"].min(),
                ">",
                1 / 500,
                paper="> 1/500",
            ),
        ],
        table=table,
    )


@PAPER.claim(
    "a-lemma2",
    "Under power-law relevance a temperature 1 + a log n does what attention to the top keys alone does.",
    source="Lemma 2 (with the corrected formula)",
)
def lemma2(scale: Scale, seed: int) -> Evidence:
    del scale, seed
    rows = []
    for n, power, gamma, a in ((1000, 0.5, 1.0, 0.5), (4096, 0.7, 2.0, 0.3), (1e5, 0.3, 0.5, 0.4)):
        share = n**-power
        tau = 1.0 + a * math.log(n)
        hot = share / (share + (1.0 - share) * math.exp(-gamma * tau))
        kappa = lemma2_sparsity(n, power, gamma, a)
        printed = n ** (-a * gamma) / (1.0 - share) + share
        top, wrong = (share / (share + (k - share) * math.exp(-gamma)) for k in (kappa, printed))
        rows.append(
            {"n": n, "temperature": hot, "top keys": top, "difference": hot - top, "printed": hot - wrong}
        )
    table = pd.DataFrame(rows)
    return Evidence(
        measurements=[
            Measurement("largest difference", table["difference"].abs().max(), "<", 1e-12),
            Measurement("least difference of the printed formula", table["printed"].abs().min(), ">", 1e-7),
        ],
        table=table,
        notes="The paper prints n^(-a gamma)/(1 - n^-pow); the product is what its proof gives.",
    )


def _unit(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    tokens = rng.normal(size=(n, d))
    return tokens / np.linalg.norm(tokens, axis=1, keepdims=True)


def _counting_loss(flags: np.ndarray) -> float:
    """Return the loss of causal attention whose temperatures are those of Proposition 2.

    The task is to answer (a + b)/2 wherever both tokens have been seen.
    """
    import torch

    n_a = np.cumsum(flags)
    n_b = np.cumsum(~flags)
    both = (n_a > 0) & (n_b > 0)
    tau = np.zeros(len(flags))
    tau[both] = prop2_temperature(n_b[both] / n_a[both], 0.5)
    a, b = np.eye(2)
    tokens = np.where(flags[:, None], a, b)
    # For either token as the query, a has logit 1 and b logit 0.
    W = np.outer(a, a + b)
    query, key, temperature = (torch.tensor(array)[None, None] for array in (tokens @ W.T, tokens, tau))
    answers = selective_attention(query, key, key, q_temperature=temperature, is_causal=True, scale=1.0)
    return float(((answers[0, 0].numpy()[both] - (a + b) / 2) ** 2).sum(axis=1).mean())


def _minority(rng: np.random.Generator, length: int) -> np.ndarray:
    """Return where token a stands: a fixed share of the first half, and nowhere in the second.

    kappa stays within [1, 2] over n in [L/4, L/2] and then grows to at least 4 at n = L. (The paper's
    condition on the second half, kappa >= 4 from 3L/4 on, contradicts that on the first, for n_a cannot
    fall.)
    """
    ratio = rng.uniform(1.5, 1.9)
    flags = np.zeros(length, dtype=bool)
    n_a = 0
    for n in range(1, length // 2 + 1):
        if n_a * (1.0 + ratio) < n:
            flags[n - 1] = True
            n_a += 1
    return flags
