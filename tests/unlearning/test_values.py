"""Data values: against brute force, and against what they promise."""

import itertools
import math

import numpy as np
import pytest

from mlpapers.unlearning import DVWUClassifier, knn_shapley_values, register_value_function
from mlpapers.unlearning._newton import minimise
from mlpapers.unlearning._objective import Objective
from mlpapers.unlearning.losses import make_loss
from mlpapers.unlearning.values import find_value_function, gradient_alignment, influence


def test_knn_values_are_the_shapley_values_of_the_game():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(6, 2)), np.array([0, 1, 1, 0, 1, 0])
    X_val, y_val = rng.normal(size=(5, 2)), np.array([0, 1, 0, 1, 2])

    def utility(members, k=3):
        total = 0.0
        for point, label in zip(X_val, y_val):
            near = sorted(members, key=lambda i: np.linalg.norm(X[i] - point))[:k]
            total += sum(y[i] == label for i in near) / k
        return total / len(X_val)

    expected = np.zeros(6)
    for i in range(6):
        others = [j for j in range(6) if j != i]
        for size in range(6):
            share = math.factorial(size) * math.factorial(5 - size) / math.factorial(6)
            for subset in itertools.combinations(others, size):
                expected[i] += share * (utility([*subset, i]) - utility(subset))
    for chunk_size in (1, 2, 256):
        values = knn_shapley_values(X, y, X_val, y_val, n_neighbors=3, chunk_size=chunk_size)
        np.testing.assert_allclose(values, expected, atol=1e-14)


@pytest.mark.parametrize("name", ["log_loss", "softmax", "squared"])
def test_influence_is_the_first_order_change_of_the_validation_loss(name):
    rng = np.random.default_rng(1)
    X, X_val = rng.normal(size=(80, 3)), rng.normal(size=(20, 3))
    if name == "squared":
        y, y_val = X @ [1.0, 2.0, 0.0] + rng.normal(size=80), X_val @ [1.0, 2.0, 0.0]
        targets, targets_val = y, y_val
    else:
        cuts = [0.0] if name == "log_loss" else [-0.5, 0.5]
        y, y_val = np.digitize(X[:, 0], cuts), np.digitize(X_val[:, 0], cuts)
        targets, targets_val = (2.0 * y - 1, 2.0 * y_val - 1) if name == "log_loss" else (y, y_val)
    loss = make_loss(name, n_classes=3)
    A, A_val = (np.column_stack([points, np.ones(len(points))]) for points in (X, X_val))

    def validation_loss(w):
        objective = Objective(loss, A, targets, w, 0.08)
        theta = minimise(objective, np.zeros(objective.n_parameters), tol=1e-11, max_iter=100).theta
        return loss.value(loss.scores(A_val, theta), targets_val).sum()

    values = influence(X, y, X_val, y_val)
    for i in range(4):
        less, more = np.ones(80), np.ones(80)
        less[i], more[i] = 1.0 - 1e-4, 1.0 + 1e-4
        slope = (validation_loss(less) - validation_loss(more)) / 2e-4
        assert values[i] == pytest.approx(slope, rel=1e-4, abs=1e-6)
    aligned = gradient_alignment(X, y, X_val, y_val)
    assert np.corrcoef(aligned, values)[0, 1] > 0.3


def test_flipped_labels_have_low_values(binary):
    X, y, X_val, y_val = binary
    rng = np.random.default_rng(0)
    flipped = rng.random(200) < 0.2
    noisy = np.where(flipped, 1 - y, y)
    for function in (knn_shapley_values, influence, gradient_alignment):
        values = function(X, noisy, X_val, y_val)
        pairs = values[~flipped][:, None] > values[flipped][None, :]
        assert pairs.mean() > 0.6  # an area under the curve of 1/2 is chance


def test_validation_labels_that_training_never_saw(binary):
    X, y, X_val, _ = binary
    strange = np.array(["a", "b"])[y]
    model = DVWUClassifier(value_function="knn_shapley").fit(
        X, strange, X_val=X_val, y_val=np.full(60, "somewhere else")
    )
    np.testing.assert_array_equal(model.data_values_, 0.0)
    np.testing.assert_array_equal(model.weights_, 1.0)


def test_registry():
    def constant(X, y, X_val, y_val):
        return np.zeros(len(X))

    register_value_function("test-constant", constant)
    register_value_function("test-constant", constant)
    assert find_value_function("test-constant") == (constant, False)
    assert find_value_function(constant) == (constant, False)
    assert find_value_function("influence") == (influence, True)
    with pytest.raises(ValueError, match="already taken"):
        register_value_function("test-constant", gradient_alignment)
    with pytest.raises(ValueError, match="already taken"):
        register_value_function("influence", constant)
    with pytest.raises(ValueError, match="non-empty"):
        register_value_function("", constant)
    with pytest.raises(TypeError, match="callable"):
        register_value_function("test-none", 3)
    with pytest.raises(TypeError, match="name must be a string; got 5"):
        register_value_function(5, constant)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="X_val and y_val"):
        knn_shapley_values([[0.0]], [0], [[0.0]], [0, 1])
    with pytest.raises(ValueError, match="chunk_size"):
        knn_shapley_values([[0.0]], [0], [[0.0]], [0], chunk_size=0)
    with pytest.raises(ValueError, match="n_neighbors"):
        knn_shapley_values([[0.0]], [0], [[0.0]], [0], n_neighbors=0)
