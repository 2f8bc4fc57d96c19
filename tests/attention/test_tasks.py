"""The synthetic tasks: what is drawn, and what is known in closed form."""

import numpy as np
import pytest
import torch

from mlpapers.attention import (
    associative_recall,
    denoising,
    dilution,
    graph_next_token,
    passkey_prompts,
)
from mlpapers.attention.denoising import _sample
from mlpapers.attention.recall import _pairs
from mlpapers.testing import check_result


class TestGraph:
    def test_targets_are_uniform_over_neighbours(self):
        run = graph_next_token("tree", n_steps=3, random_state=0)
        check_result(run)
        assert run.degrees.tolist() == [3, 4, 4, 3, 2, 2, 2, 2]
        np.testing.assert_allclose(run.target.sum(1), 1.0)
        np.testing.assert_allclose(run.target.max(1), 1.0 / run.degrees)

    def test_divergence_falls_and_is_that_of_the_prediction(self):
        run = graph_next_token(n_steps=300, random_state=1)
        assert run.divergence[-1] < 0.5 * run.divergence[0]
        terms = np.where(
            run.target > 0, run.target * np.log(np.maximum(run.target, 1e-300) / run.prediction), 0.0
        )
        assert run.divergence[-1] == pytest.approx(terms.sum(1).mean())
        assert (graph_next_token(method="vanilla", n_steps=2, random_state=1).tau == 1).all()

    def test_both_methods_start_alike(self):
        runs = [graph_next_token(method=m, n_steps=0, random_state=4) for m in ("ssa", "vanilla")]
        assert runs[0].divergence[0] == runs[1].divergence[0]


class TestDenoising:
    def test_samples(self):
        x, carries, signal = _sample(np.random.default_rng(0), 4000, 9, 0.2)
        assert bool(carries[:, -1].all())
        assert float(carries[:, :-1].float().mean()) == pytest.approx(0.25, abs=0.01)
        noise = x - carries[..., None] * signal[:, None]
        assert float(noise.std()) == pytest.approx(0.2, rel=0.02)

    def test_means_without_noise_are_exact(self):
        for method in ("naive", "bayes"):
            assert denoising(method, 8, 1e-9, n_test=50, random_state=0).mse < 1e-12

    def test_training_helps(self):
        start, end = (denoising("learned", 8, 0.3, n_steps=n, n_test=500, random_state=0) for n in (0, 80))
        check_result(end)
        assert end.mse < start.mse


class TestDilution:
    def test_uniform_without_training_or_weights(self):
        run = dilution("vanilla", lengths=(1, 8), n_steps=0, n_test=20, random_state=0)
        check_result(run)
        assert run.mass[0] == pytest.approx(1.0)
        assert run.norm == pytest.approx(3.0)
        assert np.isnan(run.alpha)

    def test_position_temperature_is_learned(self):
        run = dilution("linear", lengths=(16,), n_steps=30, n_test=20, batch_size=16, random_state=0)
        assert run.alpha > 0.1


class TestRecall:
    def test_pairs(self):
        ids, labels = _pairs(np.random.default_rng(0), 20, 3, 12)
        for row, label in zip(ids.tolist(), labels.tolist()):
            stored = dict(zip(row[0:6:2], row[1:6:2]))
            assert len(stored) == 3
            assert {key: stored[key] for key in row[6::2]} == dict(zip(row[6::2], row[7::2]))
            assert label[:7] == [-100] * 7
            assert label[7::2] == row[7::2]
            assert label[8::2] == [-100] * 2

    def test_run(self):
        runs = [
            associative_recall(
                n_pairs=2,
                vocab_size=8,
                dim=16,
                num_layers=1,
                n_steps=5,
                batch_size=4,
                n_test=16,
                random_state=0,
            )
            for _ in range(2)
        ]
        check_result(runs[0])
        assert runs[0].accuracy == runs[1].accuracy
        assert runs[0].history["loss"].tolist() == runs[1].history["loss"].tolist()


class TestPasskey:
    def test_prompts(self):
        made = passkey_prompts(20, n_characters=300, random_state=0)
        check_result(made)
        for prompt, answer, depth in zip(made.prompts, made.answers, made.depths):
            assert len(prompt) == 300
            assert prompt.count(answer) == 1
            assert len(answer) == 5
            assert prompt.index("The pass key is") == round(depth * (300 - 74))
        assert made.accuracy(lambda _: [f" {a}." for a in made.answers]) == 1.0
        assert made.accuracy(lambda _: ["12"] * 19 + [made.answers[-1]]) == pytest.approx(1 / 20)
        with pytest.raises(ValueError, match="complete must return 20 texts; got 0"):
            made.accuracy(lambda _: [])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: graph_next_token("ring"), "graph must be one of"),
        (lambda: graph_next_token(method="ssmax"), "method must be one of"),
        (lambda: denoising("median"), "method must be one of"),
        (lambda: denoising(sigma=0.0), "sigma must be a finite number > 0"),
        (lambda: dilution(lengths=()), "lengths must not be empty"),
        (lambda: dilution(penalty=-1.0), "penalty must be a finite number >= 0"),
        (lambda: associative_recall(n_pairs=40), r"n_pairs must be an integer in \[1, 32\]"),
        (lambda: passkey_prompts(n_characters=10), "n_characters must be an integer >= 7"),
    ],
)
def test_errors(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_torch_generators_are_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    denoising("vanilla", 4, n_steps=2, n_test=4, random_state=1)
    graph_next_token(n_steps=2, random_state=1)
    dilution(lengths=(4,), n_steps=2, n_test=4, random_state=1)
    assert torch.equal(torch.rand(3), expected)
