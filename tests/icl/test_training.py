"""Training on samples: reaches a known optimum, repeats, restarts, refuses."""

import functools

import numpy as np
import pytest
import torch

from mlpapers.icl import (
    MultilayerLinearAttention,
    TaskMixture,
    TaskPromptLinearAttention,
    one_layer_optimal_loss,
    sample_gmm_prompts,
    train_icl,
)
from mlpapers.testing import check_result

N, P, SIGMA, D = 10, 0.5, 0.7, 2


def sampler(batch_size, random_state):
    return sample_gmm_prompts(batch_size, N, D, p=P, sigma=SIGMA, random_state=random_state)


def make_model(**options):
    torch.manual_seed(0)
    return MultilayerLinearAttention(D, **options)


@functools.cache
def short_run():
    return train_icl(make_model(), sampler, n_steps=20, batch_size=16, random_state=0)


def test_one_layer_reaches_its_optimal_loss():
    model = make_model()
    result = train_icl(model, sampler, n_steps=600, batch_size=256, lr=1e-2, random_state=0)
    best = one_layer_optimal_loss(N, P, SIGMA, D)
    # The mean of 60 batches of 256 prompts has a standard error of about one percent.
    assert abs(result.best_loss - best) < 0.05 * best
    assert len(result.losses) == result.n_steps == 600
    for name, value in model.state_dict().items():
        assert torch.equal(value, result.model_state[name])


def test_same_seed_same_losses():
    again = train_icl(make_model(), sampler, n_steps=20, batch_size=16, random_state=0)
    assert np.array_equal(again.losses, short_run().losses)
    other = train_icl(make_model(), sampler, n_steps=20, batch_size=16, random_state=1)
    assert not np.array_equal(other.losses, short_run().losses)


def test_restarts_keep_the_best():
    seen = []
    result = train_icl(
        make_model(),
        sampler,
        n_steps=20,
        batch_size=16,
        n_restarts=3,
        random_state=0,
        callback=lambda step, loss: seen.append((step, loss)),
    )
    runs = np.array([loss for _, loss in seen]).reshape(3, 20)
    assert [step for step, _ in seen] == [*range(1, 21)] * 3
    assert abs(result.best_loss - runs[:, -2:].mean(axis=1).min()) < 1e-12


def test_logistic_loss_and_tasks(capsys):
    result = train_icl(
        make_model(n_layers=2), sampler, loss="logistic", n_steps=10, batch_size=8, random_state=0, verbose=5
    )
    assert 0 < result.best_loss < 1
    assert capsys.readouterr().out.count("loss") == 2
    mixture = TaskMixture(np.ones((2, 2)), np.stack([np.eye(2)] * 2))
    model = TaskPromptLinearAttention(2, 2, head=True)
    before = model.prompts.detach().clone()
    train_icl(
        model,
        lambda batch, rng: mixture.sample(batch, 4, random_state=rng),
        n_steps=5,
        batch_size=8,
        random_state=0,
    )
    assert not torch.equal(before, model.prompts)


def test_result_keeps_its_promises():
    check_result(short_run())


def test_divergence_is_reported():
    model = make_model()
    with torch.no_grad():
        model.head.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="diverged"):
        train_icl(model, sampler, n_steps=2, batch_size=4, random_state=0)


def test_bad_arguments_are_named():
    for name, options in {
        "loss": {"loss": "hinge"},
        "n_steps": {"n_steps": 0},
        "batch_size": {"batch_size": 0},
        "lr": {"lr": 0.0},
        "clip": {"clip": -1.0},
        "n_restarts": {"n_restarts": 0},
        "verbose": {"verbose": -1},
    }.items():
        with pytest.raises(ValueError, match=name):
            train_icl(make_model(), sampler, **options)
    with pytest.raises(TypeError, match="reset_parameters"):
        train_icl(torch.nn.Sequential(), sampler, n_restarts=2)
