"""Asymmetric data Shapley on real data: copies, batches, noisy labels, augmentation."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.valuation import KNNShapley
from mlpapers.valuation.claims._inputs import (
    Labels,
    Split,
    augmented_images,
    balanced_split,
    digits_split,
    mnist,
    standardised_split,
)
from mlpapers.valuation.papers import ASYMMETRIC_SHAPLEY as PAPER

EXACT = 1e-12


def repeated(split: Split, times: int) -> tuple[Split, Labels]:
    """Return the training rows `times` over, and the group (0, 1, ...) of each copy."""
    X, y = np.tile(split.X, (times, 1)), np.tile(split.y, times)
    return split._replace(X=X, y=y), np.repeat(np.arange(times), len(split.y))


def replication(split: Split) -> pd.DataFrame:
    """Value a market with no, one and two copies of everything on sale, without and with groups."""
    alone = KNNShapley(5).fit(*split)
    rows = []
    for times in (1, 2, 3):
        market, groups = repeated(split, times)
        symmetric = KNNShapley(5).fit(*market)
        grouped = KNNShapley(5).fit(*market, groups=groups)
        gain = grouped.total_utility_ - grouped.empty_utility_
        originals = groups == 0
        rows.append(
            {
                "copies": times - 1,
                "utility": grouped.total_utility_,
                "DS share of originals": symmetric.values_[originals].sum() / gain,
                "ADS share of originals": grouped.values_[originals].sum() / gain,
                "ADS total of copies": grouped.values_[~originals].sum(),
                "originals moved by": np.abs(grouped.values_[originals] - alone.values_).max(),
            }
        )
    return pd.DataFrame(rows)


@PAPER.claim(
    "p1-3",
    "Selling copies moves value to the broker under data Shapley; under asymmetric data Shapley the "
    "originals keep their values and the copies earn a small positive amount.",
    source="Section 6, replication market",
)
def replication_market(scale: Scale, seed: int) -> Evidence:
    frame = replication(digits_split(seed, 500, 500))
    one, two = frame.iloc[1], frame.iloc[2]
    measurements = [
        Measurement(
            "DS share of the originals, one copy", one["DS share of originals"], "in", (0.499, 0.501)
        ),
        Measurement(
            "DS share of the originals, two copies",
            two["DS share of originals"],
            "in",
            (1 / 3 - 1e-3, 1 / 3 + 1e-3),
        ),
        Measurement("ADS share of the originals, one copy", one["ADS share of originals"], ">=", 0.97),
        Measurement("ADS share of the originals, two copies", two["ADS share of originals"], ">=", 0.97),
        Measurement("ADS total of the copies", frame["ADS total of copies"][1:].min(), ">", 0.0),
        Measurement(
            "ADS of originals minus their values alone", frame["originals moved by"].max(), "<=", EXACT
        ),
    ]
    if scale == "full":
        images = replication(balanced_split(*mnist(), seed, 50, 50))
        share = images["ADS share of originals"].min()
        measurements += [
            Measurement("MNIST: smallest ADS share of the originals", share, ">=", 0.90),
            Measurement("MNIST: ADS total of the copies", images["ADS total of copies"][1:].min(), ">", 0.0),
            Measurement("MNIST: originals minus alone", images["originals moved by"].max(), "<=", EXACT),
        ]
        frame = pd.concat({"digits": frame, "mnist": images}, names=["data"]).reset_index("data")

    def draw(ax):
        first = frame.iloc[:3]
        ax.plot(first["copies"], first["ADS share of originals"], "o-", label="asymmetric")
        ax.plot(first["copies"], first["DS share of originals"], "s--", label="data Shapley")
        ax.set(xlabel="copies of every point", ylabel="originals' share", ylim=(0, 1.05), xticks=[0, 1, 2])
        ax.legend()

    return Evidence(
        measurements,
        table=frame,
        figure=draw,
        notes="One split of the digits. Over the splits 0-11 the originals' share is 0.966-0.983 with one "
        "copy and 0.959-0.974 (mean 0.969) with two.",
    )


@PAPER.claim(
    "p1-5",
    "A batch is paid what it adds to the batches before it; nothing that arrives later changes its value.",
    source="Proposition 4.2",
)
def no_claw_back(_scale: Scale, seed: int) -> Evidence:
    split = digits_split(seed, 900, 500)
    groups = np.repeat([0, 1, 2], 300)
    rows = []
    identity = invariance = 0.0
    previous = None
    for arrived in (1, 2, 3):
        rows_in = groups < arrived
        batch = split._replace(X=split.X[rows_in], y=split.y[rows_in])
        grouped = KNNShapley(5).fit(*batch, groups=groups[rows_in])
        symmetric = KNNShapley(5).fit(*batch)
        before = 0.0 if previous is None else previous.total_utility_
        identity = max(identity, abs(grouped.group_values_[-1] - (grouped.total_utility_ - before)))
        if previous is not None:
            invariance = max(
                invariance, np.abs(grouped.values_[: len(previous.values_)] - previous.values_).max()
            )
        rows.append(
            {
                "batches": arrived,
                "DS of batch 1": symmetric.values_[:300].sum(),
                "ADS of batch 1": grouped.group_values_[0],
                "ADS of newest batch": grouped.group_values_[-1],
            }
        )
        previous = grouped
    frame = pd.DataFrame(rows)
    return Evidence(
        [
            Measurement("group total minus marginal gain", identity, "<=", EXACT),
            Measurement("change of earlier values on arrival", invariance, "<=", EXACT),
            Measurement(
                "largest change of batch 1 under DS (a fall)", frame["DS of batch 1"].diff().max(), "<", 0.0
            ),
        ],
        table=frame,
    )


@PAPER.claim(
    "p1-7",
    "Mislabelled points have the lowest values.",
    source="Section 6, practical use",
)
def noisy_labels(scale: Scale, seed: int) -> Evidence:
    n_seeds = 5 if scale == "quick" else 20
    rows = []
    for name in ("digits", "breast_cancer"):
        for repeat in range(seed, seed + n_seeds):
            split = standardised_split(name, repeat)
            rng = np.random.default_rng(repeat + 1000)
            n, n_classes = len(split.y), int(split.y.max()) + 1
            flipped = rng.permutation(n)[: round(0.1 * n)]
            noisy = split.y.copy()
            noisy[flipped] = (noisy[flipped] + rng.integers(1, n_classes, size=len(flipped))) % n_classes
            values = KNNShapley(5).fit(split.X, noisy, split.X_val, split.y_val).values_
            is_flipped = np.isin(np.arange(n), flipped)
            lowest = np.argsort(values, kind="stable")[: len(flipped)]
            rows.append(
                {
                    "data": name,
                    "seed": repeat,
                    "auc": roc_auc_score(is_flipped, -values),
                    "precision": is_flipped[lowest].mean(),
                }
            )
    frame = pd.DataFrame(rows)
    mean = frame.groupby("data")[["auc", "precision"]].mean()
    return Evidence(
        [
            Measurement("digits: AUC of -value", mean.loc["digits", "auc"], ">=", 0.98),
            Measurement("breast_cancer: AUC of -value", mean.loc["breast_cancer", "auc"], ">=", 0.96),
            Measurement(
                "digits: precision at the number of flips", mean.loc["digits", "precision"], ">=", 0.85
            ),
            Measurement(
                "breast_cancer: precision at the number of flips",
                mean.loc["breast_cancer", "precision"],
                ">=",
                0.75,
            ),
        ],
        table=frame,
    )


@PAPER.claim(
    "p1-8",
    "Copies that arrive after their originals earn next to nothing; new points of the same batch earn more "
    "than the copies. Data Shapley cannot tell the two apart.",
    source="Section 4.4",
)
def redundant_or_novel(scale: Scale, seed: int) -> Evidence:
    n_seeds = 10 if scale == "quick" else 40
    rows = []
    for repeat in range(seed, seed + n_seeds):
        split = digits_split(repeat, 450, 500)
        rng = np.random.default_rng(repeat + 1000)
        copied = rng.choice(300, size=150, replace=False)
        jittered = split.X[copied] + 0.3 * rng.standard_normal((150, split.X.shape[1]))
        X = np.vstack([split.X[:300], jittered, split.X[300:]])
        y = np.concatenate([split.y[:300], split.y[copied], split.y[300:]])
        groups = np.repeat([0, 1], 300)
        grouped = KNNShapley(5).fit(X, y, split.X_val, split.y_val, groups=groups).values_
        symmetric = KNNShapley(5).fit(X, y, split.X_val, split.y_val).values_
        copies, novel = slice(300, 450), slice(450, 600)
        rows.append(
            {
                "seed": repeat,
                "ADS copies": grouped[copies].sum(),
                "ADS novel": grouped[novel].sum(),
                "DS copies": symmetric[copies].sum(),
                "DS novel": symmetric[novel].sum(),
            }
        )
    frame = pd.DataFrame(rows)
    mean = frame.mean()
    return Evidence(
        [
            Measurement("ADS / DS pay of the copies", mean["ADS copies"] / mean["DS copies"], "<", 0.08),
            Measurement("ADS pay of novel / copies", mean["ADS novel"] / mean["ADS copies"], ">=", 1.2),
        ],
        table=frame,
        notes=f"Data Shapley pays novel / copies = {mean['DS novel'] / mean['DS copies']:.3f}.",
    )


@PAPER.claim(
    "p1-9",
    "A broker who sells the augmented copies of positive value earns what they add to the model; the "
    "originals' total is unchanged. Under data Shapley he earns several times as much.",
    source="Figure 3b",
    requires=("package:mlxtend",),
)
def augmented_copies(scale: Scale, seed: int) -> Evidence:
    rows = []
    for repeat in range(seed, seed + (3 if scale == "quick" else 10)):
        split = balanced_split(*mnist(), repeat, 50, 50)
        copies = augmented_images(split.X, 28, np.random.default_rng(repeat + 1000))
        n = len(split.y)
        offered = split._replace(X=np.vstack([split.X, copies]), y=np.tile(split.y, 2))
        arrival = np.repeat([0, 1], n)
        alone = KNNShapley(5).fit(*split)

        asymmetric = KNNShapley(5).fit(*offered, groups=arrival).values_
        kept = (arrival == 0) | (asymmetric > 0)
        sold = KNNShapley(5).fit(*rows_of(offered, kept), groups=arrival[kept])

        symmetric = KNNShapley(5).fit(*offered).values_
        kept_by_ds = (arrival == 0) | (symmetric > 0)
        sold_by_ds = KNNShapley(5).fit(*rows_of(offered, kept_by_ds))
        rows.append(
            {
                "seed": repeat,
                "originals moved by": abs(sold.group_values_[0] - alone.values_.sum()),
                "ADS copies sold": kept.sum() - n,
                "ADS broker": sold.group_values_[1],
                "gain in utility": sold.total_utility_ - alone.total_utility_,
                "DS copies sold": kept_by_ds.sum() - n,
                "DS broker": sold_by_ds.values_[n:].sum(),
            }
        )
    frame = pd.DataFrame(rows)
    gap = (frame["ADS broker"] - frame["gain in utility"]).abs().max()
    return Evidence(
        [
            Measurement("change of the originals' total", frame["originals moved by"].max(), "<=", EXACT),
            Measurement("broker's ADS minus the gain in utility", gap, "<=", EXACT),
            Measurement("smallest ADS total of the broker", frame["ADS broker"].min(), ">", 0.0),
            Measurement("smallest DS total of the broker", frame["DS broker"].min(), ">", 0.20),
        ],
        table=frame,
    )


def rows_of(split: Split, kept: NDArray[np.bool_]) -> Split:
    """Return the split with the training rows `kept` only."""
    return split._replace(X=split.X[kept], y=split.y[kept])
