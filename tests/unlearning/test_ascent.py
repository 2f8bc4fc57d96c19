"""Gradient ascent against hand-written steps, and what it must leave alone."""

import copy
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from mlpapers.testing import check_result, contract_checks
from mlpapers.unlearning._torch_rows import RandomBatches
from mlpapers.unlearning.ascent import GradientAscentResult, GradientAscentUnlearner
from mlpapers.unlearning.weights import value_weights


@pytest.fixture
def rows():
    """Forget rows (12), retain rows (40) of three classes, double precision."""
    rng = np.random.default_rng(0)
    X = torch.tensor(rng.normal(size=(52, 4)))
    y = torch.tensor(rng.integers(0, 3, 52))
    return (X[:12], y[:12]), (X[12:], y[12:])


@pytest.fixture
def network():
    """An untrained network of two layers, double precision."""
    return seeded(lambda: torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3)))


def seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().double()


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def unchanged(model, before):
    return all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def by_hand(model, objectives, lr):
    """Return a copy of `model` after one descent step on each of the objectives."""
    model = copy.deepcopy(model)
    for objective in objectives:
        gradients = torch.autograd.grad(objective(model), list(model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(model.parameters(), gradients):
                parameter -= lr * gradient
    return model


def number(tensor):
    return float(tensor.detach())


def assert_same_parameters(a, b):
    # The same operations in double precision; sums may be taken in another order.
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-13)


def plain(rows):
    return lambda model: cross_entropy(model(rows[0]), rows[1])


def weighted(rows, weights, cap=math.inf):
    def objective(model):
        losses = cross_entropy(model(rows[0]), rows[1], reduction="none")
        return (torch.tensor(weights) * losses.clamp(max=cap)).mean()

    return objective


class TestSteps:
    def test_conventional_ascent_moves_up_the_mean_gradient(self, network, rows):
        forget, _ = rows
        result = GradientAscentUnlearner(network, loss_cap=None, n_steps=3).unlearn(forget)
        expected = by_hand(network, [lambda m: -plain(forget)(m)] * 3, 0.05)
        assert_same_parameters(result.model, expected)
        np.testing.assert_array_equal(result.weights, np.ones(12))
        assert result.stopped_by == "steps"

    def test_values_weight_the_ascent(self, network, rows):
        forget, _ = rows
        values = np.random.default_rng(1).normal(size=12)
        result = GradientAscentUnlearner(network, loss_cap=None, n_steps=2).unlearn(
            forget, forget_values=values
        )
        s = 2.0 - 2.0 * values.argsort().argsort() / 11
        np.testing.assert_allclose(result.weights, s, rtol=1e-14)
        assert_same_parameters(result.model, by_hand(network, [lambda m: -weighted(forget, s)(m)] * 2, 0.05))

    def test_alternating_rounds(self, network, rows):
        forget, retain = rows
        values = np.arange(40.0)
        w = value_weights(values, "rank", floor=0.1)
        unlearner = GradientAscentUnlearner(
            network, n_steps=2, retain_steps=3, lr=0.1, loss_cap=None, retain_batch_size=99
        )
        result = unlearner.unlearn(forget, retain, retain_values=values)
        one_round = [lambda m: -plain(forget)(m)] + [weighted(retain, w)] * 3
        assert_same_parameters(result.model, by_hand(network, one_round * 2, 0.1))

    def test_joint_rounds(self, network, rows):
        forget, retain = rows
        unlearner = GradientAscentUnlearner(
            network,
            n_steps=4,
            retain_mode="joint",
            retain_weight=0.7,
            loss_cap=None,
            retain_batch_size=40,
        )
        result = unlearner.unlearn(forget, retain)
        joint = [lambda m: 0.7 * plain(retain)(m) - plain(forget)(m)] * 4
        assert_same_parameters(result.model, by_hand(network, joint, 0.05))

    def test_rows_above_the_cap_have_no_gradient(self, network, rows):
        forget, _ = rows
        losses = cross_entropy(network(forget[0]), forget[1], reduction="none").detach()
        cap = float(losses.median())
        result = GradientAscentUnlearner(network, n_steps=1, loss_cap=cap).unlearn(forget)
        below = (losses <= cap).double().numpy()
        assert 0 < below.sum() < 12
        assert_same_parameters(result.model, by_hand(network, [lambda m: -weighted(forget, below)(m)], 0.05))

    def test_log_k_is_the_default_cap(self, network, rows):
        forget, _ = rows
        default = GradientAscentUnlearner(network, n_steps=9).unlearn(forget)
        explicit = GradientAscentUnlearner(network, n_steps=9, loss_cap=math.log(3)).unlearn(forget)
        assert_same_parameters(default.model, explicit.model)

    def test_gradients_are_scaled_down_to_their_largest_norm(self, network, rows):
        forget, _ = rows
        result = GradientAscentUnlearner(network, n_steps=1, loss_cap=None, max_grad_norm=1e-3).unlearn(
            forget
        )
        moved = math.hypot(
            *(number((p - q).norm()) for p, q in zip(result.model.parameters(), network.parameters()))
        )
        # torch divides by norm + 1e-6.
        assert moved == pytest.approx(0.05 * 1e-3, rel=1e-4)
        assert result.history["grad_norm"][0] > 1e-3

    def test_batches_partition_the_rows(self):
        batches = RandomBatches(10, 3, np.random.default_rng(0))
        for _ in range(5):
            drawn = np.concatenate([batches.draw() for _ in range(3)])
            assert len(np.unique(drawn)) == 9
            assert drawn.min() >= 0
            assert drawn.max() < 10

    def test_every_row_is_drawn_equally_often(self):
        batches = RandomBatches(10, 3, np.random.default_rng(0))
        counts = np.bincount(np.concatenate([batches.draw() for _ in range(3000)]), minlength=10)
        # Each order of 10 gives 9 rows: 1000 orders, a row is left out with probability 1/10.
        assert np.abs(counts - 900).max() < 5 * math.sqrt(1000 * 0.1 * 0.9)

    @pytest.mark.parametrize("optimizer", ["adam", "adamw"])
    def test_other_optimizers(self, network, rows, optimizer):
        forget, _ = rows
        result = GradientAscentUnlearner(
            network, optimizer=optimizer, lr=1e-2, n_steps=1, loss_cap=None
        ).unlearn(forget)
        # The first Adam step moves every parameter by lr against the sign of its gradient.
        gradients = torch.autograd.grad(plain(forget)(network), list(network.parameters()))
        decay = 1e-2 if optimizer == "adamw" else 0.0
        for new, old, gradient in zip(result.model.parameters(), network.parameters(), gradients):
            expected = old.detach() * (1.0 - 1e-2 * decay) + 1e-2 * gradient.sign()
            # epsilon = 1e-8 beside gradients, the smallest of which are near 1e-3
            torch.testing.assert_close(new.detach(), expected, rtol=0.0, atol=1e-6)

    def test_momentum_is_that_of_sgd(self, network, rows):
        forget, _ = rows
        result = GradientAscentUnlearner(network, momentum=0.5, n_steps=2, loss_cap=None).unlearn(forget)
        model = copy.deepcopy(network)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5)
        for _ in range(2):
            optimizer.zero_grad()
            (-plain(forget)(model)).backward()
            optimizer.step()
        assert_same_parameters(result.model, model)


class TestLosses:
    def test_one_logit(self, rows):
        (X, y), _ = rows
        y = (y > 0).long()
        model = seeded(lambda: torch.nn.Linear(4, 1))
        result = GradientAscentUnlearner(model, loss="binary_cross_entropy", n_steps=2).unlearn((X, y))
        losses = binary_cross_entropy_with_logits(model(X)[:, 0], y.double(), reduction="none")
        assert result.forget_loss_before == pytest.approx(number(losses.mean()), rel=1e-14)
        capped = GradientAscentUnlearner(
            model, loss="binary_cross_entropy", n_steps=2, loss_cap=math.log(2)
        ).unlearn((X, y))
        assert_same_parameters(result.model, capped.model)

    def test_squared(self, rows):
        (X, _), _ = rows
        y = X.sum(1)
        model = seeded(lambda: torch.nn.Linear(4, 1))
        result = GradientAscentUnlearner(model, loss="squared", loss_cap=None, n_steps=2).unlearn((X, y))
        objective = [lambda m: -0.5 * ((m(X)[:, 0] - y) ** 2).mean()] * 2
        assert_same_parameters(result.model, by_hand(model, objective, 0.05))

    def test_a_callable_is_the_loss(self, network, rows):
        forget, retain = rows
        named = GradientAscentUnlearner(network, n_steps=5, random_state=0).unlearn(forget, retain)
        called = GradientAscentUnlearner(
            network,
            loss=lambda model, x, y: cross_entropy(model(x), y, reduction="none"),
            n_steps=5,
            random_state=0,
        ).unlearn(forget, retain)
        assert_same_parameters(named.model, called.model)

    def test_targets_with_positions_are_averaged_by_row(self):
        X = torch.randn(5, 2, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        y = torch.arange(35).reshape(5, 7) % 3
        model = seeded(lambda: torch.nn.Conv1d(2, 3, 1))
        result = GradientAscentUnlearner(model, n_steps=1, loss_cap=None).unlearn((X, y))
        assert result.forget_loss_before == pytest.approx(number(cross_entropy(model(X), y)), rel=1e-14)

    def test_a_loss_that_is_not_by_row_is_refused(self, network, rows):
        unlearner = GradientAscentUnlearner(network, loss=lambda model, x, y: cross_entropy(model(x), y))
        with pytest.raises(ValueError, match="one value per row"):
            unlearner.unlearn(rows[0])

    def test_log_k_needs_classes(self, rows):
        (X, _), _ = rows
        model = seeded(lambda: torch.nn.Linear(4, 1))
        with pytest.raises(ValueError, match="loss_cap"):
            GradientAscentUnlearner(model, loss="squared").unlearn((X, X.sum(1)))
        with pytest.raises(ValueError, match="loss_cap"):
            GradientAscentUnlearner(model, loss=lambda m, x, y: (m(x)[:, 0] - y) ** 2).unlearn((X, X.sum(1)))

        def structured(m, x, y):
            return (m(x["a"])[:, 0] - y) ** 2

        data = [({"a": x}, float(x.sum())) for x in X]
        with pytest.raises(ValueError, match="loss_cap"):
            GradientAscentUnlearner(model, loss=structured).unlearn(ListData(data))
        result = GradientAscentUnlearner(model, loss=structured, loss_cap=None, n_steps=2).unlearn(
            ListData(data)
        )
        squares = (model(X)[:, 0] - X.sum(1)) ** 2
        assert result.forget_loss_before == pytest.approx(number(squares.mean()), rel=1e-12)


class ListData(torch.utils.data.Dataset):
    def __init__(self, pairs):
        self.pairs = pairs

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, index):
        return self.pairs[index]


class TestSources:
    def test_datasets_arrays_and_tensors_are_the_same_rows(self, network, rows):
        forget, retain = rows
        unlearner = GradientAscentUnlearner(
            network, n_steps=4, batch_size=5, retain_batch_size=7, random_state=3
        )
        values = {"forget_values": np.arange(12.0), "retain_values": np.arange(40.0)[::-1]}
        expected = unlearner.unlearn(forget, retain, **values)
        datasets = [torch.utils.data.TensorDataset(*pair) for pair in rows]
        lists = [ListData([(x, int(y)) for x, y in zip(*pair)]) for pair in rows]
        arrays = [tuple(part.numpy() for part in pair) for pair in rows]
        for sources in (datasets, lists, arrays):
            assert_same_parameters(unlearner.unlearn(*sources, **values).model, expected.model)

    def test_arrays_take_the_precision_of_the_model(self, rows):
        X, y = (part.numpy() for part in rows[0])
        model = seeded(lambda: torch.nn.Linear(4, 3)).float()
        result = GradientAscentUnlearner(model, n_steps=1).unlearn((X, y.astype(np.int32)))
        assert result.model.weight.dtype == torch.float32

    def test_objects_with_values(self, network, rows):
        class Valued:
            values_ = np.arange(12.0)

        result = GradientAscentUnlearner(network, n_steps=1).unlearn(rows[0], forget_values=Valued())
        np.testing.assert_array_equal(
            result.weights, value_weights(np.arange(12.0), floor=0, direction="decreasing")
        )

    @pytest.mark.parametrize("source", [None, 3, "rows", (torch.zeros(2, 4),)])
    def test_other_things_are_refused(self, network, source):
        with pytest.raises(TypeError, match="forget"):
            GradientAscentUnlearner(network).unlearn(source)

    def test_streams_are_refused(self, network):
        class Stream(torch.utils.data.IterableDataset):
            def __iter__(self):
                return iter(())

        with pytest.raises(TypeError, match="length"):
            GradientAscentUnlearner(network).unlearn(Stream())

    def test_rows_must_match(self, network, rows):
        (X, y), retain = rows
        unlearner = GradientAscentUnlearner(network)
        with pytest.raises(ValueError, match="forget"):
            unlearner.unlearn((X, y[:-1]))
        with pytest.raises(ValueError, match="at least one row"):
            unlearner.unlearn((X[:0], y[:0]))
        with pytest.raises(ValueError, match="forget_values"):
            unlearner.unlearn((X, y), forget_values=np.arange(11.0))
        with pytest.raises(ValueError, match="retain_values"):
            unlearner.unlearn((X, y), retain, retain_values=np.arange(12.0))
        with pytest.raises(ValueError, match="retain_values need retain"):
            unlearner.unlearn((X, y), retain_values=np.arange(12.0))
        with pytest.raises(ValueError, match="finite losses"):
            unlearner.unlearn((X * math.nan, y))


class TestStopping:
    def test_target(self, network, rows):
        forget, retain = rows
        start = number(plain(forget)(network))
        result = GradientAscentUnlearner(network, target_loss=start + 0.05, random_state=0).unlearn(
            forget, retain
        )
        assert result.stopped_by == "target"
        assert result.n_steps == len(result.history) > 1
        losses = result.history["forget_loss"].to_numpy()
        assert losses[-1] == result.forget_loss_after >= start + 0.05
        assert (losses[:-1] < start + 0.05).all()
        assert result.forget_loss_after == pytest.approx(number(plain(forget)(result.model)), rel=1e-14)
        assert result.forget_loss_before == pytest.approx(start, rel=1e-14)

    def test_a_target_already_reached_changes_nothing(self, network, rows):
        result = GradientAscentUnlearner(network, target_loss=0.0).unlearn(*rows)
        assert (result.n_steps, result.stopped_by) == (0, "target")
        assert unchanged(result.model, state(network))
        assert result.forget_loss_after == result.forget_loss_before

    def test_cap(self, network, rows):
        result = GradientAscentUnlearner(network, loss_cap=1e-3, n_steps=5).unlearn(rows[0])
        assert (result.n_steps, result.stopped_by) == (0, "cap")
        result = GradientAscentUnlearner(network, lr=0.5, n_steps=5000).unlearn(rows[0])
        losses = cross_entropy(result.model(rows[0][0]), rows[0][1], reduction="none")
        assert result.stopped_by == "cap"
        assert (losses >= math.log(3)).all()

    def test_callback(self, network, rows):
        seen = []

        def callback(record):
            seen.append(dict(record))
            return record["step"] == 3

        result = GradientAscentUnlearner(network, n_steps=9, random_state=0).unlearn(*rows, callback=callback)
        assert (result.n_steps, result.stopped_by) == (3, "callback")
        assert [record["forget_loss"] for record in seen] == result.history["forget_loss"].tolist()
        assert seen[-1]["model"] is result.model

    def test_a_number_that_is_not_finite_restores_the_last_round(self, network, rows):
        forget, _ = rows

        def exploding(model, x, y):
            exploding.calls += 1
            losses = cross_entropy(model(x), y, reduction="none")
            return losses * math.inf if exploding.calls > 5 else losses

        # One evaluation at the start, then two calls a round: the sixth is the third step.
        exploding.calls = 0
        result = GradientAscentUnlearner(network, loss=exploding, loss_cap=math.log(3)).unlearn(forget)
        assert (result.n_steps, result.stopped_by) == (2, "nonfinite")
        two = GradientAscentUnlearner(network, n_steps=2).unlearn(forget)
        assert unchanged(result.model, state(two.model))
        assert result.forget_loss_after == two.forget_loss_after

    def test_steps_that_are_too_long(self, rows):
        X, y = (part.numpy() for part in rows[0])
        model = seeded(lambda: torch.nn.Linear(4, 3)).float()
        # Single precision ends at 3e38: the first step overflows the scores.
        result = GradientAscentUnlearner(model, loss_cap=None, lr=1e38).unlearn((100.0 * X, y))
        assert result.stopped_by == "nonfinite"
        assert unchanged(result.model, state(model))
        assert math.isfinite(result.forget_loss_after)

    def test_an_exception_leaves_the_last_round(self, network, rows):
        forget, retain = rows
        expected = GradientAscentUnlearner(network, n_steps=2, random_state=0).unlearn(forget, retain)

        def callback(record):
            if record["step"] == 2:
                record["model"][0].weight.data.zero_()
                raise KeyError("stop")

        network.train()
        network[1].eval()
        with pytest.raises(KeyError):
            GradientAscentUnlearner(network, inplace=True, random_state=0).unlearn(
                forget, retain, callback=callback
            )
        assert unchanged(network, state(expected.model))
        assert [module.training for module in network] == [True, False, True]


class TestWhatStays:
    def normalised(self):
        model = seeded(
            lambda: torch.nn.Sequential(
                torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.Dropout(0.5), torch.nn.Linear(5, 3)
            )
        )
        model[0].weight.requires_grad_(False)
        model.train()
        model[3].eval()
        return model

    def test_frozen_parameters_buffers_and_flags(self, rows):
        model = self.normalised()
        before = state(model)
        result = GradientAscentUnlearner(model, n_steps=5, inplace=True, random_state=0).unlearn(*rows)
        assert result.model is model
        after = state(model)
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed == {"0.bias", "1.weight", "1.bias", "3.weight", "3.bias"}
        assert [module.training for module in model] == [True, True, True, False]

    def test_training_mode_moves_buffers(self, rows):
        model = self.normalised()
        results = [
            GradientAscentUnlearner(model, n_steps=5, train_mode=True, random_state=0).unlearn(*rows)
            for _ in range(2)
        ]
        # One forward pass a step; evaluation leaves the statistics alone.
        assert results[0].model[1].num_batches_tracked == 25
        assert unchanged(results[0].model, state(results[1].model))
        evaluated = copy.deepcopy(results[0].model).eval()
        assert results[0].forget_loss_after == pytest.approx(number(plain(rows[0])(evaluated)), rel=1e-12)
        assert [module.training for module in results[0].model] == [True, True, True, False]

    def test_the_model_is_copied(self, network, rows):
        before = state(network)
        result = GradientAscentUnlearner(network, n_steps=3).unlearn(*rows)
        assert unchanged(network, before)
        assert not unchanged(result.model, before)

    def test_gradients_and_random_state(self, network, rows):
        plain(rows[1])(network).backward()
        gradients = [parameter.grad for parameter in network.parameters()]
        kept = [gradient.clone() for gradient in gradients]
        random_state = torch.get_rng_state()
        GradientAscentUnlearner(network, n_steps=3, inplace=True).unlearn(*rows)
        assert torch.equal(torch.get_rng_state(), random_state)
        for parameter, gradient, copied in zip(network.parameters(), gradients, kept):
            assert parameter.grad is gradient
            assert torch.equal(gradient, copied)

    def test_tied_parameters_stay_tied(self, rows):
        class Tied(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
                self.b.weight = self.a.weight

            def forward(self, x):
                return self.b(torch.tanh(self.a(x)))

        result = GradientAscentUnlearner(seeded(Tied), n_steps=2).unlearn(*rows)
        assert result.model.a.weight is result.model.b.weight

    def test_random_state(self, network, rows):
        def run(random_state):
            return GradientAscentUnlearner(
                network, n_steps=3, batch_size=4, retain_batch_size=6, random_state=random_state
            ).unlearn(*rows)

        assert unchanged(run(1).model, state(run(1).model))
        assert not unchanged(run(1).model, state(run(2).model))


class TestResult:
    def test_kept_promises(self, network, rows, tmp_path):
        with_retain = GradientAscentUnlearner(network, n_steps=4).unlearn(*rows)
        pure = GradientAscentUnlearner(network, n_steps=4).unlearn(rows[0])
        idle = GradientAscentUnlearner(network, target_loss=0.0).unlearn(rows[0])
        for result in (with_retain, pure, idle):
            check_result(result)
            assert result.certified is False
        assert GradientAscentResult.load(with_retain.save(tmp_path / "run")).model is None
        assert pure.history["retain_loss"].isna().all()
        assert with_retain.history.columns.tolist() == ["step", "forget_loss", "retain_loss", "grad_norm"]

    def test_history_of_the_first_round(self, network, rows):
        forget, retain = rows
        result = GradientAscentUnlearner(
            network, n_steps=1, retain_mode="joint", retain_batch_size=40, loss_cap=None
        ).unlearn(forget, retain)
        gradients = torch.autograd.grad(
            plain(retain)(network) - plain(forget)(network), list(network.parameters())
        )
        norm = math.sqrt(sum(float((gradient**2).sum()) for gradient in gradients))
        first = result.history.iloc[0]
        assert first["grad_norm"] == pytest.approx(norm, rel=1e-12)
        assert first["retain_loss"] == pytest.approx(number(plain(retain)(network)), rel=1e-12)

    def test_verbose(self, network, rows, capsys):
        GradientAscentUnlearner(network, n_steps=3, verbose=2).unlearn(*rows)
        assert len(capsys.readouterr().out.splitlines()) == 4


BAD = {
    "loss": ["nonsense", 3],
    "lr": [0.0, -1.0, math.nan, "fast"],
    "n_steps": [0, 2.5],
    "batch_size": [0, 1.5],
    "retain_mode": ["both"],
    "retain_steps": [0, None],
    "retain_weight": [-1.0, math.inf],
    "retain_batch_size": [0],
    "loss_cap": [0.0, -1.0, "log_n", math.nan],
    "target_loss": [math.nan, "low"],
    "weighting": ["heavy"],
    "weight_floor": [-0.1, 1.1],
    "optimizer": ["newton"],
    "momentum": [1.0, -0.1],
    "max_grad_norm": [0.0],
    "train_mode": [1],
    "inplace": ["yes"],
    "random_state": ["seed"],
    "verbose": [-1],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in BAD for value in BAD[name]])
def test_bad_parameters_are_named(network, rows, name, value):
    with pytest.raises((ValueError, TypeError), match=name):
        GradientAscentUnlearner(network, **{name: value}).unlearn(*rows)


def test_bad_models_and_combinations(network, rows):
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module"):
        GradientAscentUnlearner("network").unlearn(*rows)
    with pytest.raises(ValueError, match="has none"):
        GradientAscentUnlearner(torch.nn.Tanh()).unlearn(*rows)
    with pytest.raises(ValueError, match="momentum"):
        GradientAscentUnlearner(network, optimizer="adam", momentum=0.9).unlearn(*rows)
    with pytest.raises(ValueError, match="frozen"):
        GradientAscentUnlearner(network.requires_grad_(False)).unlearn(*rows)


def test_labels_and_rows_that_do_not_fit_the_model_are_named(network, rows):
    (X, y), retain = rows
    unlearner = GradientAscentUnlearner(network, n_steps=1, lr=0.1)
    for wrong, named in ((y + 5, 5), (y - 1, -1)):
        with pytest.raises(ValueError, match=rf"y must hold class numbers from 0 to 2.*; got {named}"):
            unlearner.unlearn((X, torch.where(y == 0, wrong, 0)))
        with pytest.raises(ValueError, match="y must hold class numbers"):
            unlearner.unlearn((X, y), (retain[0], torch.where(retain[1] == 0, wrong[0], 0) + 9))
    with pytest.raises(
        ValueError, match=r"X must hold rows that the model takes; it failed on shape \(\d+, 3\)"
    ):
        unlearner.unlearn((X[:, :3], y))
    with pytest.raises(TypeError, match="forget must hold numbers, and labels as class numbers from 0"):
        unlearner.unlearn((X, np.array(["a", "b", "c"])[y.numpy()]))
    one = torch.nn.Linear(4, 1).double()
    with pytest.raises(ValueError, match="one output column per class"):
        GradientAscentUnlearner(torch.nn.Sequential(one, torch.nn.Flatten(0)), loss_cap=1.0).unlearn((X, y))
    with pytest.raises(ValueError, match=r"y must hold 0 and 1, or probabilities.*; got 2"):
        GradientAscentUnlearner(one, loss="binary_cross_entropy").unlearn((X, y))
    with pytest.raises(
        ValueError, match=r"y must have one entry per output of the model, of shape \(12, 3\)"
    ):
        GradientAscentUnlearner(network, loss="squared", loss_cap=1.0).unlearn((X, y))
    # torch passes over -100, a padded token for instance.
    padded = torch.where(y == 0, -100, y)
    assert GradientAscentUnlearner(network, n_steps=1).unlearn((X, padded)).n_steps == 1


def test_nullable_columns_are_numbers(network, rows):
    X, y = (part.numpy() for part in rows[0])
    frame, labels = pd.DataFrame(X).convert_dtypes(), pd.Series(y, dtype="Int64")
    given = GradientAscentUnlearner(network, n_steps=2, lr=0.1).unlearn((frame, labels))
    plain_arrays = GradientAscentUnlearner(network, n_steps=2, lr=0.1).unlearn((X, y))
    assert_same_parameters(given.model, plain_arrays.model)


@pytest.mark.parametrize(
    "check", [pytest.param(check, id=check.name) for check in contract_checks(GradientAscentUnlearner)]
)
def test_the_contract_of_estimators(check):
    check()
