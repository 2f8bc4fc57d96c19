"""Exact prompt losses and optima: Monte Carlo, published values, invariances, infima."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlpapers.icl import (
    TaskMixture,
    optimal_loss,
    optimal_weights,
    paper_settings,
    prompt_loss,
    strategies,
)

CLOSED = strategies()[:5]


def random_mixture(seed, d=None, K=None):
    rng = np.random.default_rng(seed)
    d, K = d or int(rng.integers(1, 6)), K or int(rng.integers(1, 5))
    roots, root = rng.normal(size=(K, d, d)), rng.normal(size=(d, d))
    return TaskMixture(
        rng.normal(size=(K, d)),
        roots @ roots.transpose(0, 2, 1),
        weights=rng.dirichlet(np.ones(K)),
        noise=rng.random(K),
        input_cov=root @ root.T,
    ), int(rng.integers(1, 30))


def paper_mixture(pair, noise):
    return TaskMixture(
        np.outer(pair, np.ones(10)), np.stack([np.eye(10)] * 2), weights=(0.3, 0.7), noise=noise
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_loss_is_the_mean_over_prompts(seed):
    mixture, _ = random_mixture(seed, d=2, K=3)
    rng = np.random.default_rng(seed)
    W, p, h = 0.1 * rng.normal(size=(2, 2)), rng.normal(size=(3, 2)), 0.5 * rng.normal(size=(3, 2))
    sample = mixture.sample(100_000, 4, random_state=seed)
    k, X = sample.task, sample.X
    inner = np.einsum("bni,bn->bi", X, sample.y + np.einsum("bni,bi->bn", X, h[k])) + p[k]
    errors = (np.einsum("bi,ij,bj->b", sample.x_query, W, inner) - sample.y_query) ** 2
    exact = prompt_loss(W, p, h, mixture, 4)
    assert abs(errors.mean() - exact) < 5 * errors.std() / np.sqrt(len(errors))


@pytest.mark.parametrize(
    ("pair", "noise", "expected"),
    [
        ((1.4, -0.6), 0.0, (5.64241, 5.01306, 3.54839, 5.50301, 3.89149)),
        ((1.4, -0.6), 0.3, (5.74623, 5.11426, 3.65706, 5.60605, 3.99949)),
        ((1.0, -1.0), 0.0, (5.96832, 5.21760, 3.54839, 5.81578, 3.97675)),
        ((1.0, -1.0), 0.3, (6.07139, 5.31791, 3.65706, 5.91808, 4.08428)),
    ],
)
def test_reference_table(pair, noise, expected):
    mixture = paper_mixture(pair, noise)
    for strategy, value in zip(CLOSED, expected):
        assert abs(optimal_loss(mixture, 20, strategy) - value) < 1e-5


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_optimum_is_where_the_gradient_vanishes(seed):
    mixture, n = random_mixture(seed)
    scale = optimal_loss(mixture, n, "plain")
    for strategy in CLOSED:
        best = optimal_weights(mixture, n, strategy)
        if not best.attained:
            continue
        parts = [torch.tensor(part, requires_grad=True) for part in (best.W, best.prompts, best.heads)]
        loss = prompt_loss(*parts, mixture, n)
        assert abs(float(loss.detach()) - best.loss) <= 1e-9 * scale
        assert best.loss >= mixture.v2 - 1e-9 * scale
        loss.backward()
        used = {"prompts": "prompt" in strategy, "W": not strategy.startswith("finetune")}
        used["heads"] = strategy == "prompt+head"
        for name, part in zip(("W", "prompts", "heads"), parts):
            if used[name]:
                # The gradient in a part is the size of the loss over the size of the part.
                size = max(float(part.detach().abs().max()), 1e-3)
                assert float(part.grad.abs().max()) * size <= 1e-6 * scale * max(1.0, n)


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_order_of_the_losses(seed):
    mixture, n = random_mixture(seed)
    loss = {name: optimal_loss(mixture, n, name) for name in CLOSED}
    slack = 1e-9 * loss["plain"]
    assert loss["prompt+head"] <= loss["prompt"] + slack <= loss["finetune_prompt"] + 2 * slack
    assert loss["finetune_prompt"] <= loss["plain"] + slack
    assert loss["prompt+head"] <= loss["finetune_prompt+head"] + slack
    assert loss["finetune_prompt+head"] <= loss["finetune_prompt"] + slack


@given(st.integers(0, 10_000), st.floats(0.1, 10.0))
@settings(max_examples=30, deadline=None)
def test_invariances(seed, scale):
    mixture, n = random_mixture(seed)
    K = mixture.n_tasks
    order = np.random.default_rng(seed).permutation(K)
    options = {"weights": mixture.weights, "noise": mixture.noise, "input_cov": mixture.input_cov}
    renamed = TaskMixture(
        mixture.means[order],
        mixture.covariances[order],
        weights=mixture.weights[order],
        noise=mixture.noise[order],
        input_cov=mixture.input_cov,
    )
    twice = np.concatenate([np.arange(K), [0]])
    shares = mixture.weights[twice].copy()
    shares[[0, -1]] /= 2
    split = TaskMixture(
        mixture.means[twice],
        mixture.covariances[twice],
        weights=shares,
        noise=mixture.noise[twice],
        input_cov=mixture.input_cov,
    )
    scaled = TaskMixture(
        scale * mixture.means,
        scale**2 * mixture.covariances,
        **{**options, "noise": scale * mixture.noise},
    )
    for strategy in CLOSED:
        loss = optimal_loss(mixture, n, strategy)
        tolerance = 1e-8 * optimal_loss(mixture, n, "plain")
        assert abs(optimal_loss(renamed, n, strategy) - loss) <= tolerance
        assert abs(optimal_loss(split, n, strategy) - loss) <= tolerance
        assert abs(optimal_loss(scaled, n, strategy) / scale**2 - loss) <= tolerance


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_more_context_helps(seed):
    mixture, _ = random_mixture(seed)
    for strategy in ("plain", "prompt", "prompt+head"):
        losses = [optimal_loss(mixture, n, strategy) for n in (1, 2, 5, 20, 100)]
        assert (np.diff(losses) <= 1e-9 * losses[0]).all()


def test_fine_tuning_need_not_gain_from_context():
    mixture, _ = paper_settings()["mean0_diag"]
    losses = [optimal_loss(mixture, n, "finetune_prompt") for n in (1, 3, 5)]
    assert np.abs(np.array(losses) - [3.638, 3.678, 3.265]).max() < 1e-3


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_loss_is_convex_in_the_weights(seed):
    mixture, n = random_mixture(seed)
    rng = np.random.default_rng(seed)
    d, K = mixture.n_features, mixture.n_tasks
    p, h = rng.normal(size=(2, K, d))
    U, V = rng.normal(size=(2, d, d))
    low, middle, high = (prompt_loss(W, p, h, mixture, n) for W in (U, (U + V) / 2, V))
    assert min(low, middle, high) >= mixture.v2
    assert middle <= (low + high) / 2 + 1e-9 * (low + high)


def test_without_means_all_strategies_are_one():
    mixture, n = random_mixture(3)
    centred = TaskMixture(0 * mixture.means, mixture.covariances, weights=mixture.weights, noise=0.2)
    losses = [optimal_loss(centred, n, strategy) for strategy in CLOSED]
    assert np.ptp(losses) <= 1e-12 * losses[0]


def test_infimum_that_is_not_attained():
    means = [[1.0, 2.0], [0.0, 1.0]]
    flat = TaskMixture(means, np.stack([np.diag([1.0, 0.0])] * 2))
    best = optimal_weights(flat, 5, "prompt")
    assert not best.attained
    # The moved weights come close to the infimum, and nothing does better than it.
    near = prompt_loss(best.W, best.prompts, best.heads, flat, 5)
    assert -1e-12 <= near - best.loss < 1e-9
    assert optimal_weights(flat, 5, "plain").attained
    silent = TaskMixture(means, np.stack([np.eye(2)] * 2), input_cov=np.diag([1.0, 0.0]))
    for strategy in CLOSED:
        best = optimal_weights(silent, 5, strategy)
        assert abs(prompt_loss(best.W, best.prompts, best.heads, silent, 5) - best.loss) < 1e-12


def test_heads_without_prompts():
    mixture = paper_mixture((1.0, -1.0), 0.3)
    losses = {
        name: optimal_loss(mixture, 20, name) for name in ("plain", "shared_head", "head", "prompt+head")
    }
    assert abs(losses["shared_head"] - 6.0607) < 1e-4
    assert losses["plain"] > losses["shared_head"] > losses["head"] > losses["prompt+head"]
    best = optimal_weights(mixture, 20, "head")
    assert abs(prompt_loss(best.W, best.prompts, best.heads, mixture, 20) - best.loss) < 1e-10


def test_bad_arguments_are_named():
    mixture = paper_mixture((1.0, -1.0), 0.3)
    d, K = 10, 2
    with pytest.raises(ValueError, match="strategy must be one of 'plain'"):
        optimal_loss(mixture, 20, "magic")
    with pytest.raises(ValueError, match="n_context"):
        optimal_loss(mixture, 0, "plain")
    with pytest.raises(TypeError, match="mixture"):
        optimal_loss(None, 5, "plain")
    good = {"W": np.eye(d), "prompts": np.zeros((K, d)), "heads": np.zeros((K, d))}
    for name in good:
        with pytest.raises(ValueError, match=name):
            prompt_loss(*{**good, name: np.zeros((3, 3))}.values(), mixture, 20)
