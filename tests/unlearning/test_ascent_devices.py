"""Gradient ascent and its evaluation on every kind of device, against the same run on the CPU.

Each test runs on the CPU too, where it compares the run with itself: so the test is known to be sound where
there is no other device. ``pytest -m cuda`` selects those of a GPU.
"""

from __future__ import annotations

import copy
import gc
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from mlpapers.testing import check_result
from mlpapers.unlearning.ascent import GradientAscentResult, GradientAscentUnlearner
from mlpapers.unlearning.evaluation import evaluate_unlearning, relearn_steps

NO_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs cuda: torch finds no CUDA device")

# Sums are taken in another order on another device: some roundings of double precision, over a few steps of
# smooth functions of size one.
CLOSE = {"rtol": 1e-9, "atol": 1e-11}
APPROX = {"rel": 1e-8, "abs": 1e-12}


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, NO_CUDA])])
def device(request):
    return torch.device(request.param)


@pytest.fixture
def rows():
    """Forget rows (12), retain rows (40) and test rows (30) of three classes on the CPU, double precision."""
    rng = np.random.default_rng(0)
    X = torch.tensor(rng.normal(size=(82, 4)))
    y = torch.tensor(rng.integers(0, 3, 82))
    return (X[:12], y[:12]), (X[12:52], y[12:52]), (X[52:], y[52:])


VALUES = {"forget_values": np.arange(12.0), "retain_values": np.arange(40.0)[::-1]}


def seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return make().double()


def network():
    return seeded(lambda: torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)))


def normalised():
    """A network with a frozen layer, batch normalisation and dropout."""
    model = seeded(
        lambda: torch.nn.Sequential(
            torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.Dropout(0.5), torch.nn.Linear(5, 3)
        )
    )
    model[0].weight.requires_grad_(False)
    model.train()
    model[3].eval()
    return model


def on(device, model):
    return copy.deepcopy(model).to(device)


def moved(device, pairs):
    return [tuple(part.to(device) for part in pair) for pair in pairs]


def state(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_same_run(result, expected, device):
    """The model is on `device`, and all numbers are those of the run on the CPU."""
    assert {parameter.device.type for parameter in result.model.parameters()} == {device.type}
    for p, q in zip(result.model.parameters(), expected.model.parameters(), strict=True):
        assert p.dtype == q.dtype
        torch.testing.assert_close(p.detach().cpu(), q.detach(), **CLOSE)
    assert (result.n_steps, result.stopped_by) == (expected.n_steps, expected.stopped_by)
    for column in result.history:
        np.testing.assert_allclose(result.history[column], expected.history[column], **CLOSE)
    np.testing.assert_array_equal(result.weights, expected.weights)
    assert result.forget_loss_before == pytest.approx(expected.forget_loss_before, rel=1e-9)
    assert result.forget_loss_after == pytest.approx(expected.forget_loss_after, rel=1e-9)


OPTIONS = {
    "defaults": {},
    "batches": {"batch_size": 5, "retain_batch_size": 7, "retain_steps": 2},
    "joint": {"retain_mode": "joint", "retain_weight": 0.7, "retain_batch_size": 9},
    "momentum": {"momentum": 0.5},
    "adam": {"optimizer": "adam", "lr": 1e-2},
    "adamw": {"optimizer": "adamw", "lr": 1e-2},
    "clipped": {"max_grad_norm": 1e-2},
    "no cap": {"loss_cap": None},
    "cap": {"loss_cap": 0.9},
    "callable loss": {"loss": lambda model, x, y: cross_entropy(model(x), y, reduction="none")},
    "callable weights": {"weighting": lambda v: 1.0 + v - v.min()},
    "target": {"target_loss": 1.25, "n_steps": 400},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_run_is_that_of_the_cpu(device, rows, name):
    forget, retain, _ = rows
    options = {"n_steps": 6, "random_state": 3, **OPTIONS[name]}
    expected = GradientAscentUnlearner(network(), **options).unlearn(forget, retain, **VALUES)
    assert expected.n_steps > 1
    result = GradientAscentUnlearner(on(device, network()), **options).unlearn(forget, retain, **VALUES)
    assert_same_run(result, expected, device)
    check_result(result)


def test_pure_ascent(device, rows):
    forget = rows[0]
    options = {"n_steps": 5, "lr": 0.1}
    expected = GradientAscentUnlearner(network(), **options).unlearn(forget)
    result = GradientAscentUnlearner(on(device, network()), **options).unlearn(forget)
    assert_same_run(result, expected, device)
    assert result.history["retain_loss"].isna().all()


class Pairs(torch.utils.data.Dataset):
    def __init__(self, pairs):
        self.pairs = pairs

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        return self.pairs[index]


def test_rows_may_lie_anywhere(device, rows):
    pairs = rows[:2]
    options = {"n_steps": 4, "batch_size": 5, "retain_batch_size": 7, "random_state": 3}
    expected = GradientAscentUnlearner(network(), **options).unlearn(*pairs, **VALUES)
    unlearner = GradientAscentUnlearner(on(device, network()), **options)
    sources = {
        "on the device": moved(device, pairs),
        "on the CPU": pairs,
        "arrays": [tuple(part.numpy() for part in pair) for pair in pairs],
        "a dataset of tensors there": [
            torch.utils.data.TensorDataset(*pair) for pair in moved(device, pairs)
        ],
        "a dataset of tensors here": [torch.utils.data.TensorDataset(*pair) for pair in pairs],
        "a dataset of numbers": [Pairs([(x, int(y)) for x, y in zip(*pair)]) for pair in pairs],
    }
    for given in sources.values():
        assert_same_run(unlearner.unlearn(*given, **VALUES), expected, device)


def test_rows_of_named_parts(device, rows):
    (X, y), _, _ = rows

    def structured(model, x, y):
        return cross_entropy(model(x["points"]), y, reduction="none")

    data = Pairs([({"points": point}, int(label)) for point, label in zip(X, y)])
    options = {"loss": structured, "loss_cap": None, "n_steps": 3}
    expected = GradientAscentUnlearner(network(), **options).unlearn(data)
    assert_same_run(GradientAscentUnlearner(on(device, network()), **options).unlearn(data), expected, device)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "squared"])
def test_other_losses(device, rows, loss):
    (X, y), (X_R, y_R), _ = rows
    cap = "log_k" if loss == "binary_cross_entropy" else None
    model = seeded(lambda: torch.nn.Linear(4, 1))
    pairs = [(X, (y > 0).long()), (X_R, (y_R > 0).long())] if cap else [(X, X.sum(1)), (X_R, X_R.sum(1))]
    options = {"loss": loss, "loss_cap": cap, "n_steps": 3, "random_state": 1}
    expected = GradientAscentUnlearner(model, **options).unlearn(*pairs)
    result = GradientAscentUnlearner(on(device, model), **options).unlearn(*pairs)
    assert_same_run(result, expected, device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_precision_is_the_models(device, rows, dtype):
    forget, retain = ([X.numpy(), y.numpy()] for X, y in rows[:2])
    model = on(device, network()).to(dtype)
    result = GradientAscentUnlearner(model, n_steps=3, random_state=0).unlearn(
        tuple(forget), tuple(retain), **VALUES
    )
    assert {parameter.dtype for parameter in result.model.parameters()} == {dtype}
    assert result.n_steps == 3
    exact = GradientAscentUnlearner(network(), n_steps=3, random_state=0).unlearn(*rows[:2], **VALUES)
    # 15 steps, each rounded to half a unit of the last place of numbers of size one and less
    size = 30 * torch.finfo(dtype).eps
    for p, q in zip(result.model.parameters(), exact.model.parameters()):
        torch.testing.assert_close(p.detach().cpu().double(), q.detach(), rtol=size, atol=size)


def test_frozen_parameters_buffers_and_flags_stay(device, rows):
    model = on(device, normalised())
    before = state(model)
    result = GradientAscentUnlearner(model, n_steps=5, inplace=True, random_state=0).unlearn(*rows[:2])
    assert result.model is model
    changed = {name for name, value in state(model).items() if not torch.equal(value, before[name])}
    assert changed == {"0.bias", "1.weight", "1.bias", "3.weight", "3.bias"}
    assert [module.training for module in model] == [True, True, True, False]
    assert all(parameter.grad is None for parameter in model.parameters())


def random_states(device):
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def test_dropout_follows_the_random_state_and_gives_torchs_back(device, rows):
    model = on(device, normalised())
    before = random_states(device)

    def run(random_state):
        unlearner = GradientAscentUnlearner(model, n_steps=4, train_mode=True, random_state=random_state)
        return unlearner.unlearn(*rows[:2]).model

    first = run(0)
    assert all(torch.equal(a, b) for a, b in zip(random_states(device), before, strict=True))
    torch.rand(3, device=device)  # what was drawn before must not matter
    again, other = run(0), run(1)
    assert all(torch.equal(value, state(again)[name]) for name, value in state(first).items())
    assert any(not torch.equal(value, state(other)[name]) for name, value in state(first).items())
    # One forward pass a step: four rounds of one ascent and four descents.
    assert int(first[1].num_batches_tracked) == 20


def test_the_model_is_copied_on_its_device(device, rows):
    model = on(device, network())
    before = state(model)
    result = GradientAscentUnlearner(model, n_steps=2).unlearn(*rows[:2])
    assert all(torch.equal(value, before[name]) for name, value in state(model).items())
    pointers = [{p.data_ptr() for p in m.parameters()} for m in (model, result.model)]
    assert not pointers[0] & pointers[1]


def test_a_number_that_is_not_finite_restores_the_last_round(device, rows):
    forget = rows[0]

    def exploding(model, x, y):
        exploding.calls += 1
        losses = cross_entropy(model(x), y, reduction="none")
        return losses * math.inf if exploding.calls > 5 else losses

    # One evaluation at the start, then two calls a round: the sixth is the third step.
    exploding.calls = 0
    model = on(device, network())
    result = GradientAscentUnlearner(model, loss=exploding, loss_cap=math.log(3)).unlearn(forget)
    assert (result.n_steps, result.stopped_by) == (2, "nonfinite")
    two = GradientAscentUnlearner(model, n_steps=2).unlearn(forget)
    for p, q in zip(result.model.parameters(), two.model.parameters()):
        torch.testing.assert_close(p, q, **CLOSE)


def test_an_exception_leaves_the_last_round(device, rows):
    forget, retain, _ = rows
    expected = GradientAscentUnlearner(network(), n_steps=2, random_state=0).unlearn(forget, retain)
    model = on(device, network())

    def callback(record):
        assert next(record["model"].parameters()).device.type == device.type
        if record["step"] == 2:
            record["model"][0].weight.data.zero_()
            raise KeyError("stop")

    with pytest.raises(KeyError):
        GradientAscentUnlearner(model, inplace=True, random_state=0).unlearn(
            forget, retain, callback=callback
        )
    for p, q in zip(model.parameters(), expected.model.parameters()):
        torch.testing.assert_close(p.detach().cpu(), q.detach(), **CLOSE)


def test_a_cap_that_is_reached_stops_the_run(device, rows):
    forget = rows[0]
    result = GradientAscentUnlearner(on(device, network()), lr=0.5, n_steps=5000).unlearn(forget)
    assert result.stopped_by == "cap"
    X, y = moved(device, [forget])[0]
    assert (cross_entropy(result.model(X), y, reduction="none") >= math.log(3)).all()


def test_results_are_saved_without_the_device(device, rows, tmp_path):
    result = GradientAscentUnlearner(on(device, network()), n_steps=3, random_state=0).unlearn(*rows[:2])
    loaded = GradientAscentResult.load(result.save(tmp_path / "run"))
    assert loaded.model is None
    np.testing.assert_array_equal(loaded.weights, result.weights)
    assert loaded.history.equals(result.history)


def test_bad_rows_are_named(device, rows):
    (X, y), retain, _ = rows
    model = on(device, network())
    with pytest.raises(ValueError, match="finite losses"):
        GradientAscentUnlearner(model).unlearn((X * math.nan, y))
    with pytest.raises(ValueError, match="one value per row"):
        GradientAscentUnlearner(model, loss=lambda m, x, y: cross_entropy(m(x), y)).unlearn((X, y), retain)


def test_evaluation_and_relearning(device, rows):
    forget, retain, test = rows
    models = {
        "original": network(),
        "unlearned": GradientAscentUnlearner(network(), n_steps=9).unlearn(forget, retain).model,
        "retrained": GradientAscentUnlearner(network(), n_steps=3).unlearn(forget, retain).model,
    }
    parts = {"forget": forget, "retain": retain, "test": test}
    expected = evaluate_unlearning(**models, **parts)
    there = {name: on(device, model) for name, model in models.items()}
    for given in (parts, dict(zip(parts, moved(device, list(parts.values()))))):
        report = evaluate_unlearning(**there, **given)
        for name in ("unlearned", "retrained", "original"):
            scores, reference = getattr(report, name), getattr(expected, name)
            for field in ("test_accuracy", "retain_accuracy", "forget_accuracy", "mia_auc"):
                assert getattr(scores, field) == getattr(reference, field), field
            for field in ("parameter_distance", "disagreement", "kl_divergence"):
                assert getattr(scores, field) == pytest.approx(getattr(reference, field), **APPROX), field
    start = expected.target_loss
    steps = [relearn_steps(model["unlearned"], forget, start + 1e-3, lr=0.5) for model in (models, there)]
    assert steps[0] == steps[1] > 0


@pytest.mark.cuda
@NO_CUDA
def test_runs_hold_no_device_memory():
    device = torch.device("cuda")
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(512, 256, generator=generator)
    y = torch.arange(512) % 10
    model = torch.nn.Linear(256, 10).to(device)
    unlearner = GradientAscentUnlearner(model, n_steps=3, inplace=True, retain_batch_size=64)
    unlearner.unlearn((X[:128], y[:128]), (X[128:], y[128:]))
    gc.collect()
    before = torch.cuda.memory_allocated(device)
    for _ in range(5):
        unlearner.unlearn((X[:128], y[:128]), (X[128:], y[128:]))
    gc.collect()
    assert torch.cuda.memory_allocated(device) == before


@pytest.mark.cuda
@NO_CUDA
def test_a_model_on_two_devices(rows):
    """Rows go where the first parameter is; from there on the model moves them itself."""

    class Split(torch.nn.Module):
        def __init__(self):
            super().__init__()
            inner = network()
            self.first, self.last = inner[0].to("cuda"), inner[2]

        def forward(self, x):
            return self.last(torch.tanh(self.first(x)).cpu()).to(x.device)

    forget, retain, _ = rows
    expected = GradientAscentUnlearner(network(), n_steps=3, random_state=0).unlearn(forget, retain)
    result = GradientAscentUnlearner(Split(), n_steps=3, random_state=0).unlearn(forget, retain)
    for p, q in zip(result.model.parameters(), expected.model.parameters()):
        torch.testing.assert_close(p.detach().cpu(), q.detach(), **CLOSE)
