"""Prediction on noisy data, beside conventional unlearning, retraining, and plain use of the labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.unlearning import DVWUClassifier, knn_shapley_values
from mlpapers.unlearning.claims._inputs import Array, Setup, accuracy, random_rows, seeds_of, setup, unlearned
from mlpapers.unlearning.papers import DVWU as PAPER
from mlpapers.unlearning.values import gradient_alignment, influence

NOISE = 0.3
SHARE = 0.2


@PAPER.claim(
    "c4a",
    "Better prediction: on noisy data, after a random fifth of the rows is forgotten, value-weighted "
    "unlearning predicts better than conventional unlearning and than retraining.",
    source="abstract; targets derived",
    shares="setup",
    known_miss=(
        "On digits the gain is +0.2 points (64 splits, standard error 0.2; target 0.5); retraining with "
        "scikit-learn under the same weights gives the same. There the regularisation, not the flipped "
        "labels, limits both models: at a tenth of it the gain is +1.6. Synthetic data (+3.5) and "
        "breast_cancer (+1.3) hold."
    ),
)
def better_prediction(scale: Scale, seed: int) -> Evidence:
    floors = {"synth": 2.0, "digits": 0.5, "breast_cancer": 0.0}
    measurements, table = [], []
    # Effects here are small beside their spread over splits.
    seeds = seeds_of(scale, seed, 64, 256)
    for name, floor in floors.items():
        scores = pd.DataFrame([random_fifth(name, s) for s in seeds])
        gain = scores["value-weighted"] - scores["conventional"]
        row = {"data": name, "splits": len(seeds), **scores.mean()}
        table.append({**row, "gain": gain.mean(), "standard error": gain.sem()})
        measurements.append(
            Measurement(f"{name}: value-weighted - conventional", gain.mean(), ">=", floor, "points")
        )
        distance = abs(float((scores["retrained"] - scores["conventional"]).mean()))
        measurements.append(Measurement(f"{name}: |retrained - conventional|", distance, "<=", 0.3, "points"))
    table.append(weaker_regularisation(seeds))
    ablation = pd.concat(honest_ablation(name, seeds_of(scale, seed, 8, 64)) for name in ("synth", "digits"))

    def draw(ax: Any) -> None:
        names = list(ablation["method"].unique())
        for offset, (name, part) in zip((-0.2, 0.2), ablation.groupby("data", sort=False)):
            part = part.set_index("method").reindex(names)
            ax.barh(np.arange(len(names)) + offset, part["accuracy"], height=0.38, label=name)
        ax.set_yticks(np.arange(len(names)), names)
        ax.invert_yaxis()
        ax.set_xlim(70, 90)
        ax.set_xlabel("test accuracy (%) after forgetting a random fifth, label noise 0.3")
        ax.legend()

    return Evidence(
        measurements,
        table=pd.concat([pd.DataFrame(table), ablation]),
        figure=draw,
        notes=(
            "Value weights see a clean validation set that conventional unlearning does not. The figure is "
            "the ablation: adding the validation rows to retraining gives much of the gain, and with few "
            "validation rows it shrinks or vanishes."
        ),
    )


def weaker_regularisation(seeds: range) -> dict[str, Any]:
    """Return the row of digits at a tenth of the regularisation."""
    scores = []
    for seed in seeds:
        data = setup("digits", NOISE, seed)
        forget = random_rows(data, SHARE, seed)
        pair = (forgetting(data, forget, values, data.alpha / 10.0) for values in (None, data.values))
        scores.append(dict(zip(("conventional", "value-weighted"), pair)))
    table = pd.DataFrame(scores)
    gain = table["value-weighted"] - table["conventional"]
    row = {"data": "digits, alpha = n/10000", "splits": len(seeds), **table.mean()}
    return {**row, "gain": gain.mean(), "standard error": gain.sem()}


def random_fifth(name: str, seed: int) -> dict[str, float]:
    """Return the accuracies after forgetting a random fifth."""
    data = setup(name, NOISE, seed)
    forget = random_rows(data, SHARE, seed)
    conventional = unlearned(name, NOISE, seed, "conventional", forget)
    return {
        "conventional": accuracy(conventional, data),
        "retrained": accuracy(conventional.retrain(), data),
        "value-weighted": accuracy(unlearned(name, NOISE, seed, "value-weighted", forget), data),
    }


def honest_ablation(name: str, seeds: range) -> pd.DataFrame:
    """Return accuracies of what else could be done with the validation labels, and of fewer of them."""
    ways: dict[str, Callable[[Setup, Any], float]] = {
        "conventional": lambda data, forget: forgetting(data, forget, None),
        "retrained with the validation rows": lambda data, forget: retrained_with(
            data, forget, len(data.y_val)
        ),
        "KNN-Shapley weights": lambda data, forget: forgetting(data, forget, data.values),
        "influence weights": lambda data, forget: forgetting(data, forget, values_by(influence, data)),
        "gradient-alignment weights": lambda data, forget: forgetting(
            data, forget, values_by(gradient_alignment, data)
        ),
        "KNN-Shapley weights, 80 validation rows": lambda data, forget: forgetting(
            data, forget, values_by(knn_shapley_values, data, 80)
        ),
        "retrained with 80 validation rows": lambda data, forget: retrained_with(data, forget, 80),
        "KNN-Shapley weights, 40 validation rows": lambda data, forget: forgetting(
            data, forget, values_by(knn_shapley_values, data, 40)
        ),
        "retrained with 40 validation rows": lambda data, forget: retrained_with(data, forget, 40),
    }
    detection = {"KNN-Shapley weights": knn_shapley_values, "influence weights": influence}
    table = []
    for method, run in ways.items():
        scores, areas = [], []
        for seed in seeds:
            data = setup(name, NOISE, seed)
            scores.append(run(data, random_rows(data, SHARE, seed)))
            if method in detection:
                values = values_by(detection[method], data)
                areas.append(float(roc_auc_score(~data.flipped, values)))
        row = {"data": name, "method": method, "accuracy": float(np.mean(scores))}
        table.append({**row, "flip detection AUC": float(np.mean(areas))} if areas else row)
    return pd.DataFrame(table)


def values_by(function: Callable[..., Any], data: Setup, n_val: int | None = None) -> Array:
    """Return the values by a function, from the first `n_val` validation rows."""
    return np.asarray(function(data.X, data.y, data.X_val[:n_val], data.y_val[:n_val]))


def forgetting(data: Setup, forget: Any, values: Array | None, alpha: float | None = None) -> float:
    """Return the accuracy after unlearning under these values; None means uniform weights."""
    alpha = data.alpha if alpha is None else alpha
    model = DVWUClassifier(alpha=alpha, perturbation="none", fit_intercept=False)
    model.fit(data.X, data.y, data_values=values).unlearn(forget)
    return accuracy(model, data)


def retrained_with(data: Setup, forget: Any, n_val: int) -> float:
    """Return the accuracy of training on the retained rows and `n_val` validation rows together."""
    keep = np.setdiff1d(np.arange(len(data.y)), forget)
    X = np.concatenate([data.X[keep], data.X_val[:n_val]])
    y = np.concatenate([data.y[keep], data.y_val[:n_val]])
    model = DVWUClassifier(alpha=data.alpha, perturbation="none", fit_intercept=False).fit(X, y)
    return accuracy(model, data)
