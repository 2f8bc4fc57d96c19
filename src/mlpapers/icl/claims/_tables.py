"""Real tables with few labels: the eight sets, their splits, and one comparison on a split."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

from mlpapers.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from mlpapers.icl.looped import LoopedClassifier
from mlpapers.icl.minipfn import MiniPFNClassifier

Array = NDArray[np.float64]
Labels = NDArray[np.int64]

N_LOOPS = 5
_N_COMPONENTS = 16
SETS = (
    "breast_cancer", "wine 0 vs rest", "wine 1 vs rest", "iris 1 vs 2",
    "digits 3-8", "digits 4-9", "digits 1-7", "diabetes > median",
)  # fmt: skip
MULTICLASS = ("wine", "iris")


class Sizes(NamedTuple):
    """How many rows of a context have a label, and how many at most have none."""

    n_labeled: int = 10
    n_unlabeled: int = 100


USUAL = Sizes()
FEW_UNLABELED = Sizes(10, 40)
ALL_CLASSES = Sizes(15, 80)


class Split(NamedTuple):
    """Context rows, -1 where unlabelled, and test rows that nothing has seen."""

    X: Array
    y: Labels
    X_test: Array
    y_test: Labels


@functools.cache
def table(name: str) -> tuple[Array, Labels]:
    """Return features and classes of a set."""
    if name == "breast_cancer":
        X, y = load_breast_cancer(return_X_y=True)
    elif name.startswith("wine"):
        X, y = load_wine(return_X_y=True)
        if name != "wine":
            y = y == int(name.split()[1])
    elif name.startswith("iris"):
        X, y = load_iris(return_X_y=True)
        if name != "iris":
            X, y = X[y > 0], y[y > 0] == 2
    elif name.startswith("digits"):
        X, y = load_digits(return_X_y=True)
        low, high = map(int, name.split()[1].split("-"))
        chosen = (y == low) | (y == high)
        X, y = X[chosen], y[chosen] == high
    else:
        X, target = load_diabetes(return_X_y=True)
        y = target > np.median(target)
    return np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.int64)


def split(name: str, seed: int, sizes: Sizes = USUAL) -> Split:
    """Draw labelled rows in the classes' proportions, then unlabelled and at most 300 test rows.

    Digits are reduced to 16 principal components of the context rows.
    """
    X, y = table(name)
    n_labeled = sizes.n_labeled
    labeled, rest = train_test_split(np.arange(len(y)), train_size=n_labeled, stratify=y, random_state=seed)
    rest = np.random.default_rng(seed).permutation(rest)
    n_unlabeled = min(sizes.n_unlabeled, len(y) - 50)
    context = np.concatenate([labeled, rest[:n_unlabeled]])
    test = rest[n_unlabeled : n_unlabeled + 300]
    rows, new = X[context], X[test]
    if name.startswith("digits"):
        components = PCA(_N_COMPONENTS, random_state=0).fit(rows)
        rows, new = components.transform(rows), components.transform(new)
    known = y[context].copy()
    known[n_labeled:] = -1
    return Split(rows, known, new, y[test])


@functools.cache
def _looped_accuracies(name: str, seed: int, sizes: Sizes, guard: bool) -> dict[str, float]:
    return loops_of(MiniPFNClassifier(), name, seed, sizes, guard=guard)


def looped_accuracies(name: str, seed: int, sizes: Sizes = USUAL, *, guard: bool = False) -> dict[str, float]:
    """Return what :func:`loops_of` does for MiniPFN; a split is computed once."""
    return dict(_looped_accuracies(name, seed, sizes, guard))


def loops_of(
    estimator: Any, name: str, seed: int, sizes: Sizes = USUAL, *, guard: bool = False
) -> dict[str, float]:
    """Return test accuracies of every loop, of the smallest risk, and with `guard` of selection="cv"."""
    rows = split(name, seed, sizes)
    model = LoopedClassifier(estimator, n_loops=N_LOOPS, tol=0.0, random_state=seed)
    stages = list(model.fit(rows.X, rows.y).staged_predict(rows.X_test))
    scores = {f"Loop-{loop}": float((stage == rows.y_test).mean()) for loop, stage in enumerate(stages)}
    scores["risk"] = scores[f"Loop-{model.best_loop_}"]
    if guard:
        kept = model.set_params(selection="cv").fit(rows.X, rows.y).best_loop_
        scores["cv"] = scores[f"Loop-{kept}"]
    return scores


def peer_accuracies(name: str, seed: int, sizes: Sizes = USUAL) -> dict[str, float]:
    """Return test accuracies of scikit-learn's classifiers on standardised rows."""
    rows = split(name, seed, sizes)
    labeled = rows.y >= 0
    peers = {
        "LogReg": (LogisticRegression(), labeled),
        "SelfTraining": (SelfTrainingClassifier(LogisticRegression()), np.ones_like(labeled)),
        "LabelSpreading": (LabelSpreading(kernel="knn", n_neighbors=7), np.ones_like(labeled)),
    }
    scores = {}
    for peer, (model, used) in peers.items():
        fitted = make_pipeline(StandardScaler(), model).fit(rows.X[used], rows.y[used])
        scores[peer] = float(fitted.score(rows.X_test, rows.y_test))
    return scores


def gains(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return per set the accuracies in percent, the mean gain over Loop-0 and its standard error."""
    points = 100.0 * frame.assign(gain=frame[column] - frame["Loop-0"]).groupby("set", sort=False)[
        ["Loop-0", column, "gain"]
    ].agg(["mean", "sem"])
    return pd.DataFrame(
        {
            "Loop-0": points["Loop-0", "mean"],
            column: points[column, "mean"],
            "gain": points["gain", "mean"],
            "stderr": points["gain", "sem"],
        }
    )
