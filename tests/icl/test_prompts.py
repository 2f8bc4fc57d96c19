"""Sampled prompts and data sets have the law, the shapes and the refusals they promise."""

import numpy as np
import pytest
import torch

from mlpapers.icl import make_semisupervised_gmm, sample_gmm_prompts


def test_rows_have_the_mean_and_the_noise_of_the_mixture():
    prompts = sample_gmm_prompts(4000, 6, 3, p=0.3, sigma=0.7, random_state=0)
    residual = prompts.X - prompts.y_true[..., None] * prompts.mu[:, None, :]
    n = residual.size
    assert abs(residual.std() - 0.7) < 5 * 0.7 / np.sqrt(2 * n)
    assert abs((prompts.y != 0).mean() - 0.3) < 5 * np.sqrt(0.21 / (4000 * 6))
    assert np.abs(np.linalg.norm(prompts.mu, axis=1) - 1).max() < 1e-12
    revealed = prompts.y != 0
    assert np.array_equal(prompts.y[revealed], prompts.y_true[revealed])
    # Second moment of a uniform direction is I/d.
    second = np.einsum("bi,bj->ij", prompts.mu, prompts.mu) / 4000
    assert np.abs(second - np.eye(3) / 3).max() < 5 / np.sqrt(4000)


def test_tokens_are_the_prompt_matrix():
    prompts = sample_gmm_prompts(2, 4, 3, n_labeled=2, random_state=1)
    tokens = prompts.tokens()
    for b in range(2):
        expected = np.zeros((5, 4))
        expected[:4, :3], expected[:4, 3], expected[4, :3] = prompts.X[b], prompts.y[b], prompts.x_query[b]
        assert np.array_equal(tokens[b], expected)
    tensors = sample_gmm_prompts(2, 4, 3, n_labeled=2, random_state=1, as_torch=True)
    assert tensors.X.dtype == torch.float64
    assert np.array_equal(tensors.tokens().numpy(), tokens)


def test_noise_can_be_zero_and_labels_counted():
    prompts = sample_gmm_prompts(5, 7, 2, sigma=0.0, n_labeled=3, random_state=2)
    assert np.array_equal(prompts.X, prompts.y_true[..., None] * prompts.mu[:, None, :])
    assert np.array_equal((prompts.y != 0).sum(axis=1), np.full(5, 3))


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("n_tasks", lambda: sample_gmm_prompts(0, 3, 2)),
        ("n_context", lambda: sample_gmm_prompts(1, 0, 2)),
        ("n_features", lambda: sample_gmm_prompts(1, 3, 0)),
        ("p ", lambda: sample_gmm_prompts(1, 3, 2, p=1.2)),
        ("sigma", lambda: sample_gmm_prompts(1, 3, 2, sigma=-1.0)),
        ("n_labeled", lambda: sample_gmm_prompts(1, 3, 2, n_labeled=4)),
        ("n_samples", lambda: make_semisupervised_gmm(1)),
        ("n_labeled", lambda: make_semisupervised_gmm(5, n_labeled=6)),
        ("sigma", lambda: make_semisupervised_gmm(5, n_labeled=1, sigma=-0.1)),
    ],
)
def test_bad_arguments_are_named(name, call):
    with pytest.raises(ValueError, match=name):
        call()


def test_both_classes_are_labelled():
    for seed in range(50):
        X, y, y_true, mu = make_semisupervised_gmm(20, 3, n_labeled=2, random_state=seed)
        assert sorted(y[y >= 0]) == [0, 1]
        assert np.array_equal(y[y >= 0], y_true[y >= 0])
        assert X.shape == (20, 3)
        assert abs(np.linalg.norm(mu) - 1) < 1e-12
