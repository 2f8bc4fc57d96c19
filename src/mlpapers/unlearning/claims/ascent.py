"""Gradient ascent on a small network, with and without data values."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.datasets import load_digits
from mlpapers.unlearning.ascent import GradientAscentUnlearner
from mlpapers.unlearning.papers import DVWU as PAPER
from mlpapers.unlearning.values import knn_shapley_values

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]

N_CLASSES = 10
# Which values enter: of the forget rows, of the retain rows.
VARIANTS = {"uniform": (False, False), "forget": (True, False), "forget+retain": (True, True)}


@dataclass(frozen=True, eq=False)
class Setting:
    """A network trained on noisy digits, rows to forget, and the network retrained without them.

    `target` is the retrained network's mean loss of the forget rows.
    """

    forget: tuple[Any, Any]
    retain: tuple[Any, Any]
    test: tuple[Any, Any]
    forget_values: Array
    retain_values: Array
    trained: torch.nn.Sequential
    retrained: torch.nn.Sequential
    target: float
    seed: int

    def accuracy(self, model: torch.nn.Module) -> float:
        """Return the test accuracy of `model` in percent."""
        import torch

        X, y = self.test
        with torch.no_grad():
            return 100.0 * float((model(X).argmax(1) == y).double().mean())

    def unlearn(self, variant: str, *, with_retain: bool = True, **options: Any) -> dict[str, Any]:
        """Run gradient ascent up to the target loss; return accuracy, rounds and the gap to the target."""
        use_forget, use_retain = VARIANTS[variant]
        unlearner = GradientAscentUnlearner(
            self.trained, target_loss=self.target, random_state=self.seed, **options
        )
        result = unlearner.unlearn(
            self.forget,
            self.retain if with_retain else None,
            forget_values=self.forget_values if use_forget else None,
            retain_values=self.retain_values if use_retain else None,
        )
        return {
            "seed": self.seed,
            "variant": variant,
            "accuracy": self.accuracy(result.model),
            "rounds": result.n_steps,
            "gap": result.forget_loss_after - self.target,
        }


def settings(scale: Scale, noise: float, seed: int) -> tuple[Setting, ...]:
    """Return the settings of a run, trained once; those of different runs share no seed.

    Networks differ by more than the effects of weights, so that a few settings would show the luck of a draw.
    """
    return _settings(noise, 1000 * seed, 8 if scale == "quick" else 64)


@functools.cache
def _settings(noise: float, first: int, n_settings: int) -> tuple[Setting, ...]:
    import torch
    from torch.nn.functional import cross_entropy

    seeds = range(first, first + n_settings)
    parts = [noisy_digits(noise, seed) for seed in seeds]
    untrained = [new_network(seed) for seed in seeds]
    trained = train_together(untrained, [part["train"] for part in parts], seeds)
    retrained = train_together(untrained, [part["retain"] for part in parts], seeds)
    made = []
    for seed, part, network, reference in zip(seeds, parts, trained, retrained):
        X, y = part["forget"]
        with torch.no_grad():
            target = float(cross_entropy(reference(X), y))
        made.append(
            Setting(
                forget=part["forget"],
                retain=part["retain"],
                test=part["test"],
                forget_values=part["forget_values"],
                retain_values=part["retain_values"],
                trained=network,
                retrained=reference,
                target=target,
                seed=seed,
            )
        )
    return tuple(made)


def noisy_digits(noise: float, seed: int) -> dict[str, Any]:
    """Return 60 % training rows with flipped labels, 20 % test rows; values come from the clean 20 % left."""
    import torch

    X, y = load_digits(return_X_y=True)
    X, X_rest, y, y_rest = train_test_split(X / 16.0, y, train_size=0.6, stratify=y, random_state=seed)
    X_val, X_test, y_val, y_test = train_test_split(
        X_rest, y_rest, train_size=0.5, stratify=y_rest, random_state=seed
    )
    rng = np.random.default_rng(seed)
    n = len(y)
    wrong = (y + rng.integers(1, N_CLASSES, n)) % N_CLASSES
    y = np.where(rng.random(n) < noise, wrong, y)
    values = knn_shapley_values(X, y, X_val, y_val, n_neighbors=5)
    forget = np.zeros(n, dtype=bool)
    forget[rng.choice(n, round(0.1 * n), replace=False)] = True

    def rows(points: Array, labels: NDArray[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.tensor(points, dtype=torch.float32), torch.tensor(labels, dtype=torch.int64)

    return {
        "train": rows(X, y),
        "forget": rows(X[forget], y[forget]),
        "retain": rows(X[~forget], y[~forget]),
        "test": rows(X_test, y_test),
        "forget_values": values[forget],
        "retain_values": values[~forget],
    }


def new_network(seed: int) -> torch.nn.Sequential:
    """Return an untrained network 64-64-10."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, N_CLASSES))


def train_together(
    networks: Sequence[torch.nn.Sequential],
    rows: Sequence[tuple[torch.Tensor, torch.Tensor]],
    seeds: Sequence[int],
) -> list[torch.nn.Sequential]:
    """Return trained copies: Adam, 40 epochs, batches of 64, each network on its own rows of the same number.

    Their parameters are stacked: Adam works entry by entry, so each takes the steps it would take alone.
    """
    import torch
    from torch.nn.functional import cross_entropy

    copies = [copy.deepcopy(network) for network in networks]
    X, y = (torch.stack([pair[part] for pair in rows]) for part in (0, 1))
    stacked = [
        torch.stack([list(network.parameters())[i].detach() for network in copies]).requires_grad_()
        for i in range(4)
    ]
    W1, b1, W2, b2 = stacked
    optimizer = torch.optim.Adam(stacked, lr=3e-3, weight_decay=1e-4)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    which = torch.arange(len(copies))[:, None]
    for _ in range(40):
        order = torch.stack([torch.randperm(X.shape[1], generator=generator) for generator in generators])
        for batch in order.split(64, dim=1):
            hidden = torch.relu(torch.baddbmm(b1[:, None], X[which, batch], W1.transpose(1, 2)))
            logits = torch.baddbmm(b2[:, None], hidden, W2.transpose(1, 2))  # (networks, batch, classes)
            losses = cross_entropy(logits.flatten(0, 1), y[which, batch].flatten(), reduction="none")
            optimizer.zero_grad()
            (losses.sum() / batch.shape[1]).backward()
            optimizer.step()
    for i, network in enumerate(copies):
        for parameter, values in zip(network.parameters(), stacked):
            parameter.data.copy_(values.detach()[i])
    return copies


def run_all(chosen: Sequence[Setting], variants: Sequence[str], **options: Any) -> pd.DataFrame:
    """Return one row per setting and variant."""
    return pd.DataFrame([setting.unlearn(variant, **options) for setting in chosen for variant in variants])


@PAPER.claim(
    "c5a",
    "Data values help gradient ascent: with noisy labels, weighting forget and retain rows gives a better "
    "model than uniform ascent at the same loss of the forgotten rows, and one as good as retraining.",
    source="Abstract (extension to gradient ascent); experiment of this library",
    shares="dvwu-networks",
)
def alternating_ascent(scale: Scale, seed: int) -> Evidence:
    """Alternate ascent and descent until the forget rows have the retrained network's loss."""
    quick = scale == "quick"
    n_settings = 8 if quick else 32
    noisy = settings(scale, 0.3, seed)[:n_settings]
    options = {"lr": 0.05, "retain_steps": 4, "n_steps": 300}
    frames = {0.3: run_all(noisy, ["uniform", "forget+retain"] if quick else list(VARIANTS), **options)}
    accuracy = frames[0.3].groupby("variant")["accuracy"].mean()
    retrained = float(np.mean([setting.accuracy(setting.retrained) for setting in noisy]))
    points = "points"
    measurements = [
        Measurement(
            "noise 0.3: forget and retain weights - uniform",
            accuracy["forget+retain"] - accuracy["uniform"],
            ">=",
            2.0,
            points,
        ),
        Measurement(
            "noise 0.3: forget and retain weights - retrained",
            accuracy["forget+retain"] - retrained,
            ">=",
            -1.0,
            points,
        ),
    ]
    if scale == "full":
        frames[0.0] = run_all(
            settings(scale, 0.0, seed)[:n_settings], ["uniform", "forget+retain"], **options
        )
        clean = frames[0.0].groupby("variant")[["accuracy", "rounds"]].mean()
        fewer = clean.loc["uniform", "rounds"] - clean.loc["forget+retain", "rounds"]
        measurements += [
            Measurement(
                "noise 0.3: forget weights - uniform",
                accuracy["forget"] - accuracy["uniform"],
                ">=",
                0.3,
                points,
            ),
            Measurement(
                "noise 0: forget and retain weights - uniform",
                clean.loc["forget+retain", "accuracy"] - clean.loc["uniform", "accuracy"],
                ">=",
                -2.5,
                points,
            ),
            Measurement("noise 0: rounds saved by the weights", fewer, ">", 0.0),
        ]
    measurements += [
        Measurement(
            f"noise {noise:g}: mean distance of forget losses to the target",
            frame["gap"].abs().mean(),
            "<=",
            0.05,
            "nats",
        )
        for noise, frame in frames.items()
    ]
    return Evidence(
        measurements,
        table=pd.concat(frames, names=["noise"]).reset_index("noise"),
        figure=functools.partial(_draw, frames[0.3], retrained),
        notes=(
            "Every variant stops at the forget loss of the retrained network, or after 300 rounds. The gain "
            "of forget weights alone is about one point, which is also its spread between networks: it is "
            "measured at full scale."
        ),
    )


@PAPER.claim(
    "c5b",
    "The advantage of value weights does not rest on strong regularisation by retain rows: it shows in joint "
    "steps and in pure ascent, and costs little on clean labels.",
    source="Abstract (extension to gradient ascent); experiment of this library",
    shares="dvwu-networks",
)
def joint_and_pure_ascent(scale: Scale, seed: int) -> Evidence:
    """One step a round on retain loss minus forget loss, or on the forget loss alone."""
    targets = {0.3: 2.0} if scale == "quick" else {0.3: 2.0, 0.2: 0.5, 0.0: -1.0}
    variants = ["uniform", "forget"]
    frames, measurements = {}, []
    for noise, target in targets.items():
        frame = run_all(settings(scale, noise, seed), variants, retain_mode="joint", lr=0.05, n_steps=400)
        measurements.append(_gain(f"joint, noise {noise:g}", frame, target))
        frames["joint", noise] = frame
    if scale == "full":
        chosen = settings(scale, 0.3, seed)
        pure = run_all(chosen, variants, with_retain=False, lr=0.01, n_steps=400)
        measurements.append(_gain("pure ascent, noise 0.3", pure, 1.0))
        frames["pure", 0.3] = pure
    table = pd.concat(frames, names=["retain_mode", "noise"]).reset_index(["retain_mode", "noise"])
    return Evidence(
        measurements,
        table=table,
        figure=functools.partial(_draw, frames["joint", 0.3], None),
        notes=(
            "At quick scale joint steps at noise 0.3 only: pure ascent spreads so much between networks that "
            "its gain shows over dozens of them."
        ),
    )


def _gain(name: str, frame: pd.DataFrame, target: float) -> Measurement:
    accuracy = frame.groupby("variant")["accuracy"].mean()
    gain = accuracy["forget"] - accuracy["uniform"]
    return Measurement(f"{name}: forget weights - uniform", gain, ">=", target, "points")


def _draw(frame: pd.DataFrame, retrained: float | None, ax: Any) -> None:
    for position, (variant, rows) in enumerate(frame.groupby("variant", sort=False)):
        ax.plot(np.full(len(rows), position), rows["accuracy"], "o", label=variant)
    names = list(frame["variant"].unique())
    ax.set_xticks(range(len(names)), names)
    if retrained is not None:
        ax.axhline(retrained, color="0.5", linewidth=0.8, label="retrained (mean)")
    ax.set_ylabel("test accuracy (%)")
    ax.legend()
