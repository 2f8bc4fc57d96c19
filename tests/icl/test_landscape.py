"""The exact one-layer loss: Monte Carlo, brute force in small cases, its minimum."""

import numpy as np
import pytest
import torch

from mlpapers.icl import (
    one_layer_attention_loss,
    one_layer_loss,
    one_layer_optimal_loss,
    optimal_step_size,
    sample_gmm_prompts,
)


def answers(prompts, Wb, w1, h1, h0):
    """f of one attention layer, term by term."""
    gram = np.einsum("bni,bnj->bij", prompts.X, prompts.X)
    Xy = np.einsum("bni,bn->bi", prompts.X, prompts.y)
    m = (prompts.y != 0).sum(axis=1)
    x = prompts.x_query
    first = np.einsum("bi,ij,bjk,k->b", x, Wb, gram, h1) + h0 * np.einsum("bi,ij,bj->b", x, Wb, Xy)
    return first + (x @ w1) * (Xy @ h1) + h0 * m * (x @ w1)


@pytest.mark.parametrize(("n", "p", "sigma", "d"), [(7, 0.4, 0.6, 3), (4, 1.0, 0.9, 2), (5, 0.2, 0.5, 1)])
def test_loss_is_the_mean_over_prompts(n, p, sigma, d):
    rng = np.random.default_rng(d)
    Wb, (w1, h1), h0 = 0.1 * rng.normal(size=(d, d)), 0.2 * rng.normal(size=(2, d)), 0.7
    prompts = sample_gmm_prompts(60_000, n, d, p=p, sigma=sigma, random_state=0)
    errors = (answers(prompts, Wb, w1, h1, h0) - prompts.y_query) ** 2
    exact = one_layer_attention_loss(Wb, w1, h1, h0, n=n, p=p, sigma=sigma)
    assert abs(errors.mean() - exact) < 5 * errors.std() / np.sqrt(len(errors))


def test_unlabelled_part_is_never_negative():
    rng = np.random.default_rng(1)
    for _ in range(200):
        d, n = rng.integers(1, 5), int(rng.integers(1, 20))
        p, sigma = float(rng.random()), float(rng.uniform(0.1, 2))
        Wb, (w1, h1), h0 = rng.normal(size=(d, d)), rng.normal(size=(2, d)), rng.normal()
        whole = one_layer_attention_loss(Wb, w1, h1, h0, n=n, p=p, sigma=sigma)
        labelled = one_layer_loss(h0 * Wb + np.outer(w1, h1), n=n, p=p, sigma=sigma)
        assert whole - labelled >= -1e-9 * abs(whole)


def test_minimum_is_a_multiple_of_the_identity():
    for n, p, sigma, d in ((30, 0.3, 0.5, 4), (50, 0.2, 1.0, 10), (3, 1.0, 2.0, 1)):
        step, best = optimal_step_size(n, p, sigma, d), one_layer_optimal_loss(n, p, sigma, d)
        W = torch.tensor(step * np.eye(d), requires_grad=True)
        loss = one_layer_loss(W, n=n, p=p, sigma=sigma)
        loss.backward()
        assert abs(float(loss.detach()) - best) < 1e-12
        assert float(W.grad.abs().max()) < 1e-12 * n
    assert optimal_step_size(5, 0.0, 1.0, 3) == 0.0
    assert one_layer_optimal_loss(5, 0.0, 1.0, 3) == 1.0


def test_torch_and_numpy_agree():
    rng = np.random.default_rng(2)
    Wb, (w1, h1), h0 = rng.normal(size=(3, 3)), rng.normal(size=(2, 3)), 0.4
    from_numpy = one_layer_attention_loss(Wb, w1, h1, h0, n=9, p=0.3, sigma=0.8)
    tensors = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (Wb, w1, h1, h0)]
    from_torch = one_layer_attention_loss(*tensors, n=9, p=0.3, sigma=0.8)
    from_torch.backward()
    assert abs(float(from_torch.detach()) - from_numpy) < 1e-12 * abs(from_numpy)
    step = 1e-6
    moved = one_layer_attention_loss(Wb, w1, h1, h0 + step, n=9, p=0.3, sigma=0.8)
    back = one_layer_attention_loss(Wb, w1, h1, h0 - step, n=9, p=0.3, sigma=0.8)
    assert abs((moved - back) / (2 * step) - float(tensors[3].grad)) < 1e-6 * abs(from_numpy)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("W ", lambda: one_layer_loss(np.zeros((2, 3)), n=3, p=0.5, sigma=1.0)),
        ("w1", lambda: one_layer_attention_loss(np.eye(2), np.zeros(3), np.zeros(2), 1, n=3, p=0.5, sigma=1)),
        ("n ", lambda: optimal_step_size(0, 0.5, 1.0, 2)),
        ("p ", lambda: optimal_step_size(3, 1.5, 1.0, 2)),
        ("sigma", lambda: optimal_step_size(3, 0.5, 0.0, 2)),
        ("d ", lambda: optimal_step_size(3, 0.5, 1.0, 0)),
    ],
)
def test_bad_arguments_are_named(name, call):
    with pytest.raises(ValueError, match=name):
        call()
