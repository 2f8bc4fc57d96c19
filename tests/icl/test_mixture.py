"""Mixtures of regression tasks: moments, samples, published settings, refusals."""

import numpy as np
import pytest

from mlpapers.icl import TaskMixture, paper_settings


@pytest.fixture
def mixture():
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(3, 2, 2))
    return TaskMixture(
        rng.normal(size=(3, 2)),
        roots @ roots.transpose(0, 2, 1),
        weights=(0.2, 0.3, 0.5),
        noise=(0.1, 0.5, 0.2),
        input_cov=[[2.0, 0.5], [0.5, 1.0]],
    )


def test_moments_are_weighted_sums(mixture):
    M = sum(w * (C + np.outer(m, m)) for w, C, m in zip(mixture.weights, mixture.covariances, mixture.means))
    assert np.abs(mixture.M - M).max() < 1e-14
    assert abs(mixture.v2 - (0.2 * 0.01 + 0.3 * 0.25 + 0.5 * 0.04)) < 1e-15
    assert (mixture.n_tasks, mixture.n_features) == (3, 2)


def test_samples_have_the_moments(mixture):
    B = 40_000
    prompts = mixture.sample(B, 3, task=1, random_state=0)
    assert (prompts.task == 1).all()
    second = np.einsum("bi,bj->ij", prompts.beta, prompts.beta) / B
    exact = mixture.covariances[1] + np.outer(mixture.means[1], mixture.means[1])
    assert np.abs(second - exact).max() < 6 * np.abs(exact).max() * np.sqrt(3 / B)
    inputs = np.einsum("bni,bnj->ij", prompts.X, prompts.X) / (3 * B)
    assert np.abs(inputs - mixture.input_cov).max() < 6 * 2 * np.sqrt(3 / (3 * B))
    residual = prompts.y - np.einsum("bnd,bd->bn", prompts.X, prompts.beta)
    assert abs(residual.std() - 0.5) < 5 * 0.5 / np.sqrt(6 * B)
    shares = np.bincount(mixture.sample(B, 1, random_state=1).task) / B
    assert np.abs(shares - mixture.weights).max() < 5 * np.sqrt(0.25 / B)


def test_published_settings():
    settings = paper_settings()
    assert len(settings) == 11
    mixture, lengths = settings["mean-0.4_c11_noise0.3"]
    assert lengths == (1, 3, 5, 7, 10, 15, 20)
    assert mixture.means[:, 0].tolist() == [1.0, -1.0]
    assert abs(mixture.v2 - 0.09) < 1e-15
    for name, (mixture, _) in settings.items():
        mean = float(mixture.weights @ mixture.means[:, 0])
        assert abs(mean - (0.0 if name.startswith("mean0") else -0.4)) < 1e-12
    assert settings["mean0_c12"][0].covariances[:, 0, 0].tolist() == [1.0, 2.0]
    assert settings["mean0_diag"][0].covariances[0, 9, 9] == 2.0**-9


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("means", {"means": [1.0, 2.0]}),
        ("means", {"means": [[np.nan]]}),
        ("covariances", {"covariances": [[[1.0]]]}),
        ("covariances", {"covariances": [[[1.0, 0.5], [0.0, 1.0]]]}),
        ("covariances", {"covariances": [[[1.0, 2.0], [2.0, 1.0]]]}),
        ("weights", {"weights": [0.5]}),
        ("weights", {"weights": [-1.0]}),
        ("noise", {"noise": -0.1}),
        ("noise", {"noise": [0.1, 0.2]}),
        ("input_cov", {"input_cov": np.eye(3)}),
        ("input_cov", {"input_cov": -np.eye(2)}),
    ],
)
def test_bad_mixtures_are_refused(name, options):
    good = {"means": [[0.0, 1.0]], "covariances": [np.eye(2)]}
    given = {**good, **options}
    with pytest.raises(ValueError, match=name):
        TaskMixture(given.pop("means"), given.pop("covariances"), **given)


def test_bad_samples_are_refused(mixture):
    for name, call in {
        "n_tasks": lambda: mixture.sample(0, 3),
        "n_context": lambda: mixture.sample(1, 0),
        "task": lambda: mixture.sample(1, 3, task=3),
    }.items():
        with pytest.raises(ValueError, match=name):
            call()
