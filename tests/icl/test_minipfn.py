"""The tabular model: its file, its invariances, what it predicts, and how it was made."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_iris, load_wine

from mlpapers.icl import LoopedClassifier, MiniPFNClassifier
from mlpapers.icl._checkpoint import bundled_checkpoint, read_checkpoint, write_checkpoint
from mlpapers.icl._network import MiniPFN, pad_features
from mlpapers.icl._prior import sample_tables
from mlpapers.icl.pretrain import main, pretrain, recipe_hash


@pytest.fixture(scope="module")
def wine():
    X, y = load_wine(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    return X[order], y[order]


def test_bundled_checkpoint_is_small_and_of_its_recipe():
    assert bundled_checkpoint().stat().st_size < 500_000
    weights, recipe = read_checkpoint(None)
    assert recipe["hash"] == recipe_hash(recipe)
    assert (recipe["n_steps"], recipe["random_state"]) == (8000, 0)
    assert recipe["loss"] < 0.3
    assert sum(value.size for value in weights.values()) == 201_473


def test_network_sees_the_context_alone():
    torch.manual_seed(0)
    network = MiniPFN().eval()
    x, s, query = torch.randn(2, 9, 16), torch.rand(2, 9) * 2 - 1, torch.randn(2, 5, 16)
    order = torch.randperm(9)
    with torch.inference_mode():
        logits = network(x, s, query)
        assert float((network(x[:, order], s[:, order], query) - logits).abs().max()) < 1e-5
        alone = torch.cat([network(x, s, query[:, [q]]) for q in range(5)], dim=1)
        assert float((alone - logits).abs().max()) < 1e-5
    padded = pad_features(torch.ones(1, 1, 4))
    assert padded.shape[-1] == 16
    assert float(padded.norm()) == pytest.approx(4.0)


def test_predictions(wine):
    X, y = wine
    model = MiniPFNClassifier(random_state=0).fit(X[:60], y[:60])
    P = model.predict_proba(X[60:])
    assert np.abs(P.sum(axis=1) - 1).max() < 1e-12
    assert model.score(X[60:], y[60:]) > 0.9
    # Chunks of queries and the units of features do not matter.
    chunked = MiniPFNClassifier(random_state=0, chunk_size=7).fit(X[:60], y[:60])
    assert np.abs(chunked.predict_proba(X[60:]) - P).max() < 1e-5
    scaled = MiniPFNClassifier(random_state=0).fit(100 * X[:60] + 5, y[:60])
    assert np.abs(scaled.predict_proba(100 * X[60:] + 5) - P).max() < 1e-3


def test_order_of_the_context_does_not_matter(wine):
    X, y = wine
    order = np.random.default_rng(1).permutation(60)
    one = MiniPFNClassifier(random_state=0).fit(X[:60], y[:60]).predict_proba(X[60:])
    other = MiniPFNClassifier(random_state=0).fit(X[order], y[order]).predict_proba(X[60:])
    assert np.abs(one - other).max() < 1e-4


def test_two_best_classes_are_compared_by_their_own_rows(wine):
    X, y = wine
    model = MiniPFNClassifier(random_state=0).fit(X[:60], y[:60])
    P = model.predict_proba(X[60:])
    binary = {
        c: MiniPFNClassifier(random_state=0).fit(X[:60], (y[:60] == c).astype(int)).predict_proba(X[60:])
        for c in range(3)
    }
    rest = np.column_stack([binary[c][:, 1] for c in range(3)])
    best = np.sort(np.argsort(-rest, axis=1)[:, :2], axis=1)
    assert len(np.unique(best, axis=0)) == 3
    for a, b in [(0, 1), (0, 2), (1, 2)]:
        asked = (best == (a, b)).all(axis=1)
        pair = np.isin(y[:60], (a, b))
        alone = MiniPFNClassifier(random_state=0).fit(X[:60][pair], y[:60][pair]).predict_proba(X[60:][asked])
        odds = np.sqrt(alone[:, 1] / alone[:, 0] * rest[asked, b] / rest[asked, a])
        # float32 logits of up to about 10
        assert np.allclose(P[asked, b] / P[asked, a], odds, rtol=1e-4)
        third = 3 - a - b
        assert np.allclose(P[asked, third], rest[asked, third] / rest[asked].sum(axis=1), rtol=1e-4)


def test_soft_labels_are_labels(wine):
    X, y = wine
    y = (y == 0).astype(int)
    hard = MiniPFNClassifier(random_state=0).fit(X[:40], y[:40])
    soft = MiniPFNClassifier(random_state=0).fit_soft(X[:40], np.eye(2)[y[:40]], [0, 1])
    assert np.array_equal(hard.predict_proba(X), soft.predict_proba(X))
    flipped = MiniPFNClassifier(random_state=0).fit_soft(X[:40], np.eye(2)[1 - y[:40]], [0, 1])
    # An even number of members with and without swapped classes makes the answer nearly odd in the labels.
    assert np.corrcoef(flipped.predict_proba(X)[:, 1], hard.predict_proba(X)[:, 0])[0, 1] > 0.95


def test_many_features_and_rows(wine):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(80, 30)), np.arange(80) % 2
    X[:, :10] += 2 * y[:, None]
    model = MiniPFNClassifier(n_estimators=6, max_context=50, random_state=0).fit(X, y)
    assert model.context_.shape == (50, 30)
    assert model.score(X, y) > 0.8
    constant = np.column_stack([X[:, 0], np.ones(80)])
    assert np.isfinite(MiniPFNClassifier(random_state=0).fit(constant, y).predict_proba(constant)).all()


def test_same_seed_same_numbers(wine):
    X, y = wine
    known = np.where(np.arange(178) < 15, y, -1)
    runs = [LoopedClassifier(n_loops=2, random_state=5).fit(X, known) for _ in range(2)]
    assert np.array_equal(runs[0].label_distributions_, runs[1].label_distributions_)
    assert runs[0].soft_ == "soft"


def test_refusals(wine, tmp_path):
    X, y = wine
    for name, options in {
        "n_estimators": {"n_estimators": 0},
        "max_context": {"max_context": 0},
        "chunk_size": {"chunk_size": 0},
        "device": {"device": "abacus"},
    }.items():
        with pytest.raises(ValueError, match=name):
            MiniPFNClassifier(**options).fit(X, y)
    with pytest.raises(FileNotFoundError, match="checkpoint"):
        MiniPFNClassifier(checkpoint=tmp_path / "none.npz").fit(X, y)
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="checkpoint"):
        MiniPFNClassifier(checkpoint=broken).fit(X, y)
    model = MiniPFNClassifier()
    with pytest.raises(ValueError, match="P must"):
        model.fit_soft(X, np.ones((178, 2)), [0, 1])
    with pytest.raises(ValueError, match="P must"):
        model.fit_soft(X, np.eye(3)[y], [0, 1])
    with pytest.raises(ValueError, match="class"):
        model.fit(X, np.zeros(178))
    for hole in (None, pd.NA, np.nan):
        with pytest.raises(ValueError, match="y must hold a label in every row; row 3 has none"):
            model.fit(X, pd.Series(y, dtype=object).where(np.arange(178) != 3, hole))
    with pytest.warns(UserWarning, match="y holds -1, which is a class here"):
        assert model.fit(X, np.where(y == 2, -1, y)).classes_.tolist() == [-1, 0, 1]
    assert model.fit(X, np.where(y == 2, -1, 1)).classes_.tolist() == [-1, 1]


def test_training_repeats_and_its_file_loads(tmp_path):
    weights, recipe = pretrain(3, 0)
    again, _ = pretrain(3, 0)
    assert all(np.array_equal(weights[name], again[name]) for name in weights)
    path = tmp_path / "small.npz"
    assert main(["--steps", "3", "--seed", "0", "--out", str(path)]) == 0
    read, stored = read_checkpoint(path)
    assert stored["hash"] == recipe["hash"] == recipe_hash(stored)
    assert all(np.abs(read[name] - weights[name]).max() < 1e-2 for name in weights)
    X, y = load_iris(return_X_y=True)
    assert MiniPFNClassifier(checkpoint=path, random_state=0).fit(X, y).predict_proba(X).shape == (150, 3)
    other = write_checkpoint(tmp_path / "other.npz", weights, recipe)
    assert other.read_bytes() == path.read_bytes()
    with pytest.raises(ValueError, match="finite"):
        write_checkpoint(path, {"w": np.array([np.inf])}, {})
    assert json.loads(json.dumps(stored)) == stored


def test_other_networks_are_refused(tmp_path):
    weights, recipe = pretrain(1, 0)
    name = next(iter(weights))
    path = write_checkpoint(tmp_path / "cut.npz", {name: weights[name]}, recipe)
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match="does not fit"):
        MiniPFNClassifier(checkpoint=path).fit(X, y)


def test_prior():
    rng = np.random.default_rng(0)
    for _ in range(20):
        tables = sample_tables(rng, 8)
        n, d = tables.x.shape[1:]
        assert 6 <= n <= 64
        assert 2 <= d <= 16
        assert all(np.isfinite(part).all() for part in tables)
        assert np.abs(tables.x).max() <= 5.0
        assert set(np.unique(tables.y_query)) <= {-1.0, 1.0}
        # Context rows are standardised by themselves; clipping moves few of them.
        assert np.abs(tables.x.mean(axis=1)).max() < 1.0
