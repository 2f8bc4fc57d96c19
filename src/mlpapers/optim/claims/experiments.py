"""The paper's kinds of experiment: sparse and robust classification, attacks, and a large problem."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.datasets import load_digits, load_mnist5k
from mlpapers.optim.attack import attack_sum
from mlpapers.optim.claims._inputs import (
    excess_after,
    reference,
    replications,
    robust_regression,
    sparse_logistic,
)
from mlpapers.optim.constraints import L1Ball, LInfBall
from mlpapers.optim.datasets import make_sparse_logistic
from mlpapers.optim.finite_sum import FiniteSum
from mlpapers.optim.linear import LinearFiniteSum
from mlpapers.optim.minimize import minimize_fw_zo
from mlpapers.optim.papers import ZO_FRANK_WOLFE as PAPER

Array = NDArray[np.float64]

STAR = {
    f"{step}, b={b}": {"method": "acc_szofw_star", "batch_size": b, "step": step}
    for step in ("open-loop", 0.02, 0.1)
    for b in (16, 64)
}
QUICK_STAR = {name: STAR[name] for name in ("open-loop, b=64", "0.1, b=64")}


def rivals(scale: Scale) -> dict[str, dict[str, Any]]:
    """Return name -> settings; of Acc-SZOFW* the whole grid at full scale."""
    star = STAR if scale == "full" else QUICK_STAR
    named: dict[str, dict[str, Any]] = {
        "dvr": {},
        "dvr, fixed": {"schedule": "fixed"},
        "auto": {"method": "auto"},
        "FD-FW": {"method": "fd"},
        "JAGUAR": {"method": "jaguar"},
        **{f"Acc-SZOFW* {name}": settings for name, settings in star.items()},
    }
    if scale == "full":
        named |= {
            "ZSCG": {"method": "zscg"},
            "SGFFW": {"method": "sgffw"},
            "Acc-SZOFW, UniGE": {"method": "acc_szofw", "options": {"variant": "unige"}},
            "Acc-SZOFW, CooGE": {"method": "acc_szofw"},
            "FZFW": {"method": "fzfw"},
        }
    return named


def star_best(middle: pd.Series) -> float:
    """Return the best of the Acc-SZOFW* settings."""
    return float(min(middle[name] for name in middle.index if name.startswith("Acc-SZOFW*")))


@PAPER.claim(
    "o9",
    "Sparse logistic regression: closer to the optimum than the rivals at equal queries.",
    source="abstract (superior); targets derived",
)
def logistic_regression(scale: Scale, seed: int) -> Evidence:
    n, d, passes = 1000, 30, 400
    rows: dict[str, list[float]] = {}
    for s in replications(scale, seed):
        total, ball, least = sparse_logistic(s)
        for name, settings in rivals(scale).items():
            # One function a step: SGFFW gets an eighth of the budget.
            budget = passes * n * d // (8 if name == "SGFFW" else 1)
            rows.setdefault(name, []).append(excess_after(total, ball, least, budget, s, **settings))
    middle = pd.Series({name: float(np.median(values)) for name, values in rows.items()})
    dvr = middle["dvr"]
    measurements = [
        Measurement("f - f* of dvr after 400 n d queries", dvr, "<=", 1e-5),
        Measurement("JAGUAR / dvr", middle["JAGUAR"] / dvr, ">=", 10.0, "times"),
        Measurement("best Acc-SZOFW* / dvr", star_best(middle) / dvr, ">=", 2.0, "times"),
        Measurement("FD-FW / dvr", middle["FD-FW"] / dvr, ">=", 1.3, "times"),
    ]
    if scale == "full":
        measurements += [
            Measurement("ZSCG / dvr", middle["ZSCG"] / dvr, ">=", 50.0, "times"),
            Measurement("SGFFW at an eighth of the budget / dvr", middle["SGFFW"] / dvr, ">=", 50.0, "times"),
        ]
    frame = middle.rename("f - f*").rename_axis("method").reset_index()
    notes = (
        f"The table is after {passes} n d queries; f* from projected gradient steps with a gap of at most "
        "1e-13. At low accuracy a well tuned Acc-SZOFW* can be as good, and on small n methods with full "
        "checkpoints are; "
        "method='auto' is ahead of all of them here."
    )
    return Evidence(measurements, table=frame, figure=bars(middle), notes=notes)


@PAPER.claim(
    "o10",
    "Robust regression with gross outliers: closer to the best point known than the rivals.",
    source="abstract (superior); targets derived",
)
def robust(scale: Scale, seed: int) -> Evidence:
    n, d, passes = 4000, 100, 16 if scale == "full" else 4
    rows: dict[str, list[float]] = {}
    for s in replications(scale, seed):
        total, ball, curvature = robust_regression(s)
        points = {
            name: np.asarray(
                minimize_fw_zo(
                    total, np.zeros(d), ball, max_queries=passes * n * d, random_state=s, **settings
                ).x
            )
            for name, settings in rivals(scale).items()
            if name != "SGFFW"
        }
        start = min(points.values(), key=total.mean)
        best = total.mean(reference(total, ball, start, curvature, 2000))
        for name, x in points.items():
            rows.setdefault(name, []).append(total.mean(x) - best)
    middle = pd.Series({name: float(np.median(values)) for name, values in rows.items()})
    dvr = middle["dvr"]
    far = dvr
    if scale == "quick":
        far = excess_after(total, ball, best, 16 * n * d, seed)
    measurements = [
        Measurement("f - best known of dvr after 16 n d queries", far, "<=", 6e-4),
        Measurement("FD-FW / dvr", middle["FD-FW"] / dvr, ">=", 20.0, "times"),
        Measurement("JAGUAR / dvr", middle["JAGUAR"] / dvr, ">=", 100.0, "times"),
        Measurement("dvr / best Acc-SZOFW*", dvr / star_best(middle), "<=", 5.0, "times"),
        Measurement("auto / best Acc-SZOFW*", middle["auto"] / star_best(middle), "<=", 1.5, "times"),
    ]
    if scale == "full":
        measurements += [
            Measurement("UniGE / dvr", middle["Acc-SZOFW, UniGE"] / dvr, ">=", 20.0, "times"),
            Measurement("FZFW / dvr", middle["FZFW"] / dvr, ">=", 5.0, "times"),
            Measurement("CooGE / dvr", middle["Acc-SZOFW, CooGE"] / dvr, ">=", 5.0, "times"),
            Measurement("ZSCG / dvr", middle["ZSCG"] / dvr, ">=", 3.0, "times"),
        ]
    frame = middle.rename("f - best").rename_axis("method").reset_index()
    return Evidence(measurements, table=frame, figure=bars(middle))


def bars(middle: pd.Series) -> Any:
    """Return a figure of one bar per method."""

    def draw(ax: Any) -> None:
        ordered = middle.sort_values()
        ax.barh(list(ordered.index), np.maximum(ordered.to_numpy(), 1e-16))
        ax.set(xscale="log", xlabel="f above the best")

    return draw


@functools.cache
def digits_attack(seed: int) -> tuple[FiniteSum, Any, NDArray[np.int64], Array]:
    """Return the margin objective on a trained network, the network, and labels and images it gets right."""
    import torch

    X, y = load_digits(return_X_y=True)
    X = X / 16.0
    order = np.random.default_rng([seed, 11]).permutation(len(y))
    train, test = np.split(order, [int(0.6 * len(y))])
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = torch.nn.Sequential(
            torch.nn.Linear(64, 64),
            torch.nn.ReLU(),
            torch.nn.Linear(64, 64),
            torch.nn.ReLU(),
            torch.nn.Linear(64, 10),
        )
    inputs, targets = torch.tensor(X[train], dtype=torch.float32), torch.tensor(y[train])
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(30):
        for rows in torch.randperm(len(train), generator=generator).split(64):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(net(inputs[rows]), targets[rows]).backward()
            optimiser.step()
    with torch.inference_mode():
        right = net(torch.tensor(X[test], dtype=torch.float32)).argmax(1).numpy() == y[test]
    images, labels = X[test][right], y[test][right]
    total = attack_sum(
        net, images, labels, space="pixel", clip=(0.0, 1.0), loss="margin", margin=0.0, targeted=None
    )[0]
    return total, net, labels, images


def white_box(net: Any, images: Array, labels: NDArray[np.int64], eps: float, steps: int = 500) -> float:
    """Return the loss of Frank-Wolfe with exact gradients."""
    import torch

    X, y = torch.tensor(images, dtype=torch.float32), torch.tensor(labels)
    delta = torch.zeros(X.shape[1:])

    def loss(d: Any) -> Any:
        z = net((X + d).clamp(0.0, 1.0))
        own = z.gather(1, y[:, None])[:, 0]
        others = z.scatter(1, y[:, None], -torch.inf).amax(1)
        return torch.nn.functional.softplus(own - others).mean()

    for t in range(steps):
        at = delta.clone().requires_grad_(True)
        g = torch.autograd.grad(loss(at), at)[0]
        s = torch.where(g > 0, -eps, eps)
        delta = delta + min(1.0, 2.0 / (t + 2.0)) * (s - delta)
    with torch.no_grad():
        return float(loss(delta))


def cma_es(function: Any, d: int, bound: float, evaluations: int, seed: int) -> float:
    """Return the best value of a plain CMA-ES in a box, points clipped to it (Hansen's default constants)."""
    rng = np.random.default_rng(seed)
    size = 4 + int(3 * np.log(d))
    mu = size // 2
    w = np.log(mu + 0.5) - np.log(np.arange(1, mu + 1))
    w /= w.sum()
    mueff = 1.0 / float(w @ w)
    cs = (mueff + 2) / (d + mueff + 5)
    ds = 1 + 2 * max(0.0, np.sqrt((mueff - 1) / (d + 1)) - 1) + cs
    cc = (4 + mueff / d) / (d + 4 + 2 * mueff / d)
    c1 = 2 / ((d + 1.3) ** 2 + mueff)
    cmu = min(1 - c1, 2 * (mueff - 2 + 1 / mueff) / ((d + 2) ** 2 + mueff))
    length = np.sqrt(d) * (1 - 1 / (4 * d) + 1 / (21 * d * d))
    mean, sigma, C = np.zeros(d), 0.5 * bound, np.eye(d)
    pc, ps, best = np.zeros(d), np.zeros(d), np.inf
    for generation in range(evaluations // size):
        values, basis = np.linalg.eigh(C)
        scale = np.sqrt(np.maximum(values, 1e-20))
        steps = (rng.normal(size=(size, d)) * scale) @ basis.T
        points = np.clip(mean + sigma * steps, -bound, bound)
        losses = np.array([function(x) for x in points])
        best = min(best, float(losses.min()))
        order = losses.argsort()[:mu]
        shift = w @ ((points[order] - mean) / sigma)
        mean = mean + sigma * shift
        ps = (1 - cs) * ps + np.sqrt(cs * (2 - cs) * mueff) * (basis @ ((basis.T @ shift) / scale))
        slow = (
            np.linalg.norm(ps) / np.sqrt(1 - (1 - cs) ** (2 * (generation + 1)))
            < (1.4 + 2 / (d + 1)) * length
        )
        pc = (1 - cc) * pc + slow * np.sqrt(cc * (2 - cc) * mueff) * shift
        chosen = (points[order] - mean) / sigma + shift
        C = (1 - c1 - cmu) * C + c1 * np.outer(pc, pc) + cmu * (chosen.T * w) @ chosen
        sigma *= float(np.exp(min(1.0, (cs / ds) * (np.linalg.norm(ps) / length - 1))))
    return best


@PAPER.claim(
    "o11",
    "One perturbation against a trained network: near a white-box attack, ahead of CMA-ES at a quarter of "
    "its queries.",
    source="abstract (black-box attack); targets derived",
)
def attack_on_digits(scale: Scale, seed: int) -> Evidence:
    eps, rows = 0.2, []
    total, net, labels, images = digits_attack(seed)
    n, d = total.n_functions, 64
    exact = white_box(net, images, labels, eps)
    budget = int(1.5 * n * d)
    named: dict[str, dict[str, Any]] = {
        "dvr": {"m0": 8},
        "auto": {"method": "auto", "m0": 8},
        "FD-FW": {"method": "fd"},
        "Acc-SZOFW*, b=16": {"method": "acc_szofw_star", "batch_size": 16},
    }
    for run in range(5):
        for name, settings in named.items():
            if run and name != "dvr" and scale == "quick":
                continue
            result = minimize_fw_zo(
                total, np.zeros(d), LInfBall(eps), max_queries=budget, random_state=5 * seed + run, **settings
            )
            rows.append({"method": name, "run": run, "loss": result.fun})
    evolution = [
        cma_es(total.mean, d, eps, 4 * budget // n, 5 * seed + run)
        for run in range(5 if scale == "full" else 1)
    ]
    frame = pd.DataFrame(rows)
    middle = frame.groupby("method")["loss"].median()
    dvr = float(middle["dvr"])
    measurements = [
        Measurement("loss / white-box loss", dvr / exact, "<=", 1.25),
        Measurement(
            "loss / that of CMA-ES with 4 times the queries", dvr / float(np.median(evolution)), "<=", 0.95
        ),
    ]
    table = middle.reset_index()
    table.loc[len(table)] = ["white box, 500 gradients", exact]
    table.loc[len(table)] = ["CMA-ES (own implementation), 4 times the queries", float(np.median(evolution))]
    return Evidence(measurements, table=table)


@PAPER.claim(
    "o11b",
    "The same against a convolutional network, in pixel and in tanh space.",
    source="abstract (attack on a deep network); targets derived",
    known_miss=(
        "in tanh space dvr's first steps decide the basin: loss / white-box loss is 1.48 at quick scale with "
        "seed 0, 1.07 with seed 1; pixel space holds, 0.95 and 1.05"
    ),
)
def attack_on_convolutions(scale: Scale, seed: int) -> Evidence:
    import torch

    full = scale == "full"
    X, y = load_mnist5k(return_X_y=True) if full else load_digits(return_X_y=True)
    side = 28 if full else 8
    images = (X / (255.0 if full else 16.0)).reshape(-1, 1, side, side).astype(np.float64)
    order = np.random.default_rng([seed, 12]).permutation(len(y))
    train, test = np.split(order, [int((0.5 if full else 0.6) * len(y))])
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = torch.nn.Sequential(
            torch.nn.Conv2d(1, 8, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Conv2d(8, 16, 3, padding=1),
            torch.nn.ReLU(),
            torch.nn.MaxPool2d(2),
            torch.nn.Flatten(),
            torch.nn.Linear(16 * (side // 4) ** 2, 10),
        )
    inputs, targets = torch.tensor(images[train], dtype=torch.float32), torch.tensor(y[train])
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(15):
        for rows in torch.randperm(len(train), generator=generator).split(64):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(net(inputs[rows]), targets[rows]).backward()
            optimiser.step()
    with torch.inference_mode():
        right = net(torch.tensor(images[test], dtype=torch.float32)).argmax(1).numpy() == y[test]
    shown, labels = images[test][right], y[test][right]
    if not full:
        shown, labels = shown[:400], labels[:400]
    measurements, rows = [], []
    for space, eps in (("pixel", 0.2), ("tanh", 1.0)):
        total, _, _, _ = attack_sum(
            net, shown, labels, space=space, clip=(0.0, 1.0), loss="margin", margin=0.0, targeted=None
        )
        d = int(np.prod(shown.shape[1:]))
        budget = len(labels) * d * (1 if full else 2)
        losses = [
            minimize_fw_zo(
                total, np.zeros(d), LInfBall(eps), max_queries=budget, m0=8, random_state=5 * seed + run
            ).fun
            for run in range(5 if full else 3)
        ]
        black = float(np.median([np.nan if value is None else value for value in losses]))
        white = white_box_any(net, shown, labels, space, eps, 500 if full else 200)
        rows.append({"space": space, "black box": black, "white box": white})
        measurements.append(Measurement(f"loss / white-box loss, {space}", black / white, "<=", 1.25))
    return Evidence(measurements, table=pd.DataFrame(rows))


def white_box_any(
    net: Any, images: Array, labels: NDArray[np.int64], space: str, eps: float, steps: int
) -> float:
    """Return the loss of Frank-Wolfe with exact gradients in either space."""
    import torch

    X, y = torch.tensor(images, dtype=torch.float32), torch.tensor(labels)
    before = torch.atanh((1.0 - 5e-7) * (2.0 * X - 1.0).clamp(-1.0, 1.0))

    def loss(d: Any) -> Any:
        shown = (X + d).clamp(0.0, 1.0) if space == "pixel" else 0.5 + 0.5 * torch.tanh(before + d)
        z = net(shown)
        own = z.gather(1, y[:, None])[:, 0]
        others = z.scatter(1, y[:, None], -torch.inf).amax(1)
        return torch.nn.functional.softplus(own - others).mean()

    delta = torch.zeros(X.shape[1:])
    for t in range(steps):
        at = delta.clone().requires_grad_(True)
        g = torch.autograd.grad(loss(at), at)[0]
        s = torch.where(g > 0, -eps, eps)
        delta = delta + min(1.0, 2.0 / (t + 2.0)) * (s - delta)
    with torch.no_grad():
        return float(loss(delta))


@PAPER.claim(
    "o13",
    "It scales: sparse data with many functions and coordinates, ahead of the rivals at equal queries.",
    source="abstract (large scale); targets derived",
    known_miss=(
        "dvr is ahead of full differences and behind Acc-SZOFW* with b=64: f = 0.629 against 0.660 and 0.555 "
        "(quick scale, seed 1); method='auto' is ahead of all, 0.554"
    ),
)
def large_sparse(scale: Scale, seed: int) -> Evidence:
    n, d, passes = (100_000, 10_000, 1.5) if scale == "full" else (4000, 200, 4.0)
    A, y, _ = make_sparse_logistic(n, d, random_state=seed)
    total, ball = LinearFiniteSum(A, y, "logistic"), L1Ball(20.0)
    named: dict[str, dict[str, Any]] = {
        "dvr": {},
        "auto": {"method": "auto"},
        "FD-FW": {"method": "fd"},
        "Acc-SZOFW*": {"method": "acc_szofw_star", "batch_size": 64},
    }
    values = {
        name: minimize_fw_zo(
            total, np.zeros(d), ball, max_queries=int(passes * n * d), random_state=seed, **settings
        ).fun
        for name, settings in named.items()
    }
    dvr = float(values["dvr"] or np.nan)
    measurements = [
        Measurement("f(dvr) - f(FD-FW)", dvr - float(values["FD-FW"] or np.nan), "<=", 0.0),
        Measurement("f(dvr) - f(Acc-SZOFW*)", dvr - float(values["Acc-SZOFW*"] or np.nan), "<=", 0.0),
    ]
    return Evidence(measurements, table=pd.Series(values, name="f").rename_axis("method").reset_index())
