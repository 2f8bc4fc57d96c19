"""Rounds against enumeration, what they cost, and federated averaging."""

import itertools
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from mlpapers.core.result import ResultFormatError
from mlpapers.valuation.fedavg import FedAvgUpdate
from mlpapers.valuation.rounds import RoundResult, SequentialResult
from mlpapers.valuation.sequential import SequentialShapley

# Sums of at most 2^6 numbers of order 1.
EXACT = 1e-12


class Table:
    """A state is a frozen set of names; its utility is an independent N(0, 1) number for each set."""

    def __init__(self, seed):
        self.seed, self.evaluated, self.updates = seed, [], 0

    def update(self, state, payloads):
        self.updates += 1
        return state | frozenset(payloads)

    def evaluate(self, state):
        self.evaluated.append(state)
        return float(np.random.default_rng([self.seed, *sorted(state)]).normal())

    def value(self, state):
        return float(np.random.default_rng([self.seed, *sorted(state)]).normal())


def shapley(table, state, names):
    values = np.zeros(len(names))
    orders = list(itertools.permutations(range(len(names))))
    for order in orders:
        grown = state
        for i in order:
            values[i] += table.value(grown | {names[i]}) - table.value(grown)
            grown = grown | {names[i]}
    return values / len(orders)


@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_a_round_is_the_shapley_value_given_the_state(n, seed):
    table = Table(seed)
    state, names = frozenset({100}), list(range(n))
    result = SequentialShapley(table.update, table.evaluate).value_round(state, names)
    np.testing.assert_allclose(result.values, shapley(table, state, names), atol=EXACT)
    everybody = state | set(names)
    assert result.values.sum() == pytest.approx(table.value(everybody) - table.value(state), abs=EXACT)
    loo = [table.value(everybody) - table.value(everybody - {i}) for i in names]
    single = [table.value(state | {i}) - table.value(state) for i in names]
    np.testing.assert_allclose(result.loo, loo, atol=EXACT)
    np.testing.assert_allclose(result.single, single, atol=EXACT)
    assert (result.utility_before, result.utility_after) == (table.value(state), table.value(everybody))
    assert len(table.evaluated) == len(set(table.evaluated)) == result.n_evaluations == 2**n
    assert not result.stderr.any()


@given(st.integers(0, 2**32 - 1), st.sampled_from([None, 1, 2]), st.sampled_from(["ads", "loo", "single"]))
@settings(max_examples=25)
def test_a_run_values_each_round_given_what_the_earlier_ones_kept(seed, top_k, rule):
    table = Table(seed)
    rounds = [[0, 1, 2], [3, 4], [5, 6, 7, 8]]
    names = [["a", "b", "c"], ["a", "c"], ["d", "a", "b", "c"]]
    valuer = SequentialShapley(table.update, table.evaluate)
    result = valuer.run(frozenset(), rounds, contributors=names, rule=rule, top_k=top_k)
    state, totals = frozenset(), dict.fromkeys("abcd", 0.0)
    for t, sources in enumerate(rounds):
        everybody = state | set(sources)
        expected = {
            "ads": shapley(table, state, sources),
            "loo": np.array([table.value(everybody) - table.value(everybody - {i}) for i in sources]),
            "single": np.array([table.value(state | {i}) - table.value(state) for i in sources]),
        }[rule]
        np.testing.assert_allclose(result.values[t], expected, atol=EXACT)
        kept = np.argsort(-result.values[t], kind="stable")[: len(sources) if top_k is None else top_k]
        assert result.selected[t].tolist() == kept.tolist()
        assert result.utilities[t] == table.value(state)
        state |= {sources[i] for i in kept}
        assert result.states[t + 1] == state
        for name, value in zip(names[t], result.values[t]):
            totals[name] += value
    assert result.utilities[-1] == table.value(state)
    assert result.contributor_values == pytest.approx(totals, abs=EXACT)
    assert result.n_evaluations == len(table.evaluated)
    if rule == "ads":
        assert result.n_evaluations == 8 + 4 + 16
    if rule == "ads" and top_k is None:
        total = sum(values.sum() for values in result.values)
        assert total == pytest.approx(result.utilities[-1] - result.utilities[0], abs=EXACT)


def test_random_selection_evaluates_nothing_it_does_not_need():
    table = Table(3)
    valuer = SequentialShapley(table.update, table.evaluate, random_state=0)
    result = valuer.run(frozenset(), [[0, 1, 2, 3], [4, 5]], rule="random", top_k=1)
    again = valuer.run(frozenset(), [[0, 1, 2, 3], [4, 5]], rule="random", top_k=1)
    assert [kept.tolist() for kept in result.selected] == [kept.tolist() for kept in again.selected]
    assert all(((values >= 0) & (values < 1)).all() for values in result.values)
    # Before, after all, and after the one selected.
    assert result.n_evaluations == 6
    picks = [
        int(
            valuer.set_params(random_state=seed)
            .run(frozenset(), [[0, 1, 2, 3]], rule="random", top_k=1)
            .selected[0][0]
        )
        for seed in range(40)
    ]
    assert set(picks) == {0, 1, 2, 3}


def test_permutations_estimate_the_same_values():
    n, state = 6, frozenset()
    table = Table(5)
    exact = SequentialShapley(table.update, table.evaluate, method="exact").value_round(state, range(n))
    table.evaluated.clear()
    mc = SequentialShapley(
        table.update, table.evaluate, method="mc", max_permutations=400, random_state=0
    ).value_round(state, range(n))
    assert mc.n_evaluations == len(table.evaluated) == len(set(table.evaluated)) <= 2**n
    assert mc.values.sum() == pytest.approx(mc.utility_after - mc.utility_before, abs=EXACT)
    assert (np.abs(mc.values - exact.values) <= 5 * mc.stderr).all()
    # A marginal contribution has variance at most 2 * 4 over sets whose numbers are N(0, 1).
    assert (mc.stderr < np.sqrt(8 / 400)).all()
    np.testing.assert_array_equal(mc.loo, exact.loo)


def test_large_rounds_are_sampled():
    table = Table(6)
    valuer = SequentialShapley(table.update, table.evaluate, max_permutations=3, random_state=0)
    assert valuer.value_round(frozenset(), range(8)).n_evaluations == 2**8
    assert valuer.value_round(frozenset(), range(9)).n_evaluations <= 3 * 8 + 2 + 2 * 9
    with pytest.raises(ValueError, match="at most 16 sources; got 17"):
        valuer.set_params(method="exact").value_round(frozenset(), range(17))


def test_workers_do_not_change_results():
    table = Table(7)
    one = SequentialShapley(table.update, table.evaluate, method="mc", max_permutations=20, random_state=4)
    with joblib.parallel_config("threading"):
        two = clone(one).set_params(n_jobs=2).value_round(frozenset(), range(5))
    np.testing.assert_array_equal(one.value_round(frozenset(), range(5)).values, two.values)


def test_prepare_runs_once_a_round():
    class Prepared(Table):
        prepared = 0

        def prepare(self, state, sources):
            self.prepared += 1
            return [source + 10 for source in sources]

        def __call__(self, state, payloads):
            return self.update(state, payloads)

    table = Prepared(8)
    result = SequentialShapley(table, table.evaluate).run(frozenset(), [[0, 1], [2, 3]])
    assert table.prepared == 2
    assert result.states[-1] == {10, 11, 12, 13}
    assert result.contributor_values.keys() == {0, 1, 2, 3}

    table.prepare = lambda _, sources: sources[:1]
    with pytest.raises(ValueError, match=r"one payload per source \(2\); got 1"):
        SequentialShapley(table, table.evaluate).value_round(frozenset(), [0, 1])


def test_results_are_saved_without_the_models(tmp_path):
    table = Table(9)
    valuer = SequentialShapley(table.update, table.evaluate)
    run = valuer.run(frozenset(), [[0, 1], [2]], contributors=[["a", "b"], ["a"]], top_k=1)
    loaded = SequentialResult.load(run.save(tmp_path / "run.zip"))
    assert loaded.states is None
    with pytest.raises(ResultFormatError, match="states"):
        loaded.require("states")
    assert loaded.contributor_values == run.contributor_values
    np.testing.assert_array_equal(loaded.utilities, run.utilities)
    frame = loaded.to_frame()
    assert frame["selected"].sum() == 2
    assert frame["round"].tolist() == [0, 0, 1]
    assert len(loaded.plot().lines[0].get_xdata()) == 3
    one = valuer.value_round(frozenset(), [0, 1])
    np.testing.assert_array_equal(RoundResult.load(one.save(tmp_path / "one.zip")).values, one.values)
    assert len(one.plot().patches) == 2


@pytest.mark.parametrize(
    ("options", "run", "message"),
    [
        ({"method": "shapley"}, {}, "method must be one of 'auto', 'exact', 'mc'"),
        ({"max_permutations": 0}, {}, "max_permutations"),
        ({}, {"rule": "best"}, "rule must be one of 'ads', 'loo', 'random', 'single'"),
        ({}, {"top_k": 0}, "top_k"),
        ({}, {"rounds": []}, "rounds must hold at least one round"),
        ({}, {"rounds": [[0], []]}, "empty round"),
        ({}, {"contributors": [["a", "b"]]}, "contributors must name an owner for each source"),
    ],
)
def test_errors(options, run, message):
    table = Table(0)
    valuer = SequentialShapley(table.update, table.evaluate, **options)
    with pytest.raises(ValueError, match=message):
        valuer.run(**({"state": frozenset(), "rounds": [[0]]} | run))


def test_utilities_must_be_finite_and_functions_callable():
    valuer = SequentialShapley(lambda state, payloads: state + len(payloads), lambda state: 1 / (2 - state))
    with pytest.raises(ZeroDivisionError):
        valuer.value_round(0, [None, None])
    valuer = SequentialShapley(
        lambda state, payloads: state + len(payloads), lambda state: np.nan if state == 2 else 0.0
    )
    with pytest.raises(ValueError, match="subset of size 2 must be finite"):
        valuer.value_round(0, [None, None])
    with pytest.raises(TypeError, match="evaluate must be callable"):
        SequentialShapley(lambda state, _: state, None).value_round(0, [None])


def clients(n, seed, classes=3):
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(12, 4)).astype(np.float32), rng.integers(0, classes, 12)) for _ in range(n)]


def test_a_coalition_of_clients_is_the_mean_of_their_models():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    start = {name: value.clone() for name, value in module.state_dict().items()}
    update = FedAvgUpdate(module, local_epochs=7, lr=0.2, batch_size=5)
    sources = clients(3, 0)
    payloads = update.prepare(start, sources)
    trained = []
    for X, y in sources:
        module.load_state_dict(start)
        optimiser = torch.optim.SGD(module.parameters(), lr=0.2)
        for _ in range(7):
            for low in range(0, 12, 5):
                optimiser.zero_grad()
                rows, labels = torch.tensor(X[low : low + 5]), torch.tensor(y[low : low + 5])
                torch.nn.functional.cross_entropy(module(rows), labels).backward()
                optimiser.step()
        trained.append({name: value.clone() for name, value in module.state_dict().items()})
    for payload, expected in zip(payloads, trained):
        for name, value in expected.items():
            torch.testing.assert_close(payload[name], value)
    mean = update(start, [payloads[0], payloads[2]])
    for name in start:
        torch.testing.assert_close(mean[name], (payloads[0][name] + payloads[2][name]) / 2)
    # A client alone keeps its own model.
    for name, value in update(start, payloads[1:2]).items():
        torch.testing.assert_close(value, payloads[1][name])


def test_federated_rounds_train_each_client_once():
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    module = torch.nn.Linear(4, 3)

    class Counting(FedAvgUpdate):
        trained = 0

        def prepare(self, state, sources):
            self.trained += len(sources)
            return super().prepare(state, sources)

    update = Counting(module, local_epochs=3, lr=0.1)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    X, y = clients(1, 9)[0]

    def evaluate(state):
        output = torch.nn.functional.linear(torch.tensor(X), state["weight"], state["bias"])
        return -float(torch.nn.functional.cross_entropy(output, torch.tensor(y)))

    result = SequentialShapley(update, evaluate).run(before, [clients(3, 1), clients(4, 2)], top_k=2)
    assert update.trained == 7
    assert result.n_evaluations == 8 + 16
    assert result.utilities.tolist() == [evaluate(state) for state in result.states]
    for t, (state, sources) in enumerate(zip(result.states, (clients(3, 1), clients(4, 2)))):
        everybody = update(state, update.prepare(state, sources))
        assert result.values[t].sum() == pytest.approx(evaluate(everybody) - result.utilities[t], abs=EXACT)
    assert update.trained == 14
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, before[name])


def test_federated_regression_and_integer_buffers():
    torch = pytest.importorskip("torch")
    torch.manual_seed(2)
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Linear(2, 1))
    update = FedAvgUpdate(module, local_epochs=2, lr=0.1)
    rng = np.random.default_rng(0)
    sources = [(rng.normal(size=(6, 2)), rng.normal(size=6)) for _ in range(2)]
    payloads = update.prepare(module.state_dict(), sources)
    mean = update(module.state_dict(), payloads)
    assert mean["0.num_batches_tracked"].item() == 2
    assert not mean["0.num_batches_tracked"].is_floating_point()
    assert mean["1.weight"].dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "name"),
    [({"local_epochs": 0}, "local_epochs"), ({"lr": 0.0}, "lr"), ({"batch_size": 0}, "batch_size")],
)
def test_federated_parameters(options, name):
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match=name):
        FedAvgUpdate(torch.nn.Linear(1, 1), **options)


def test_federated_sources_must_hold_rows():
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(1, 1)
    update = FedAvgUpdate(module)
    for source in (([[0.0]], [0.0, 1.0]), (np.zeros((0, 1)), np.zeros(0))):
        with pytest.raises(ValueError, match="equal, positive length"):
            update.prepare(module.state_dict(), [source])
    with pytest.raises(ValueError, match="at least one trained model"):
        update(module.state_dict(), [])


def test_federated_labels_that_do_not_fit_the_module_are_named():
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(2, 3)
    update, X = FedAvgUpdate(module, local_epochs=1), np.zeros((2, 2))
    for y, named in (([5, 0], 5), ([0, -1], -1)):
        with pytest.raises(ValueError, match=f"y must hold class numbers from 0 to 2.*; got {named}"):
            update.prepare(module.state_dict(), [(X, y)])
    with pytest.raises(TypeError, match="y of a source must hold numbers"):
        update.prepare(module.state_dict(), [(X, ["cat", "dog"])])
    with pytest.raises(
        ValueError, match=r"X must hold rows that the model takes; it failed on shape \(2, 1\)"
    ):
        update.prepare(module.state_dict(), [(X[:, :1], [0, 1])])
    with pytest.raises(ValueError, match="y must have one entry per output"):
        update.prepare(module.state_dict(), [(X, [0.0, 1.0])])


def test_federated_sources_may_be_frames():
    torch = pytest.importorskip("torch")
    module = torch.nn.Linear(2, 3)
    update = FedAvgUpdate(module, local_epochs=1)
    frame, labels = pd.DataFrame([[1.0, 2.0], [3.0, 4.0]]), pd.Series([2, 0], dtype="Int64")
    given, plain = update.prepare(module.state_dict(), [(frame, labels), (frame.to_numpy().tolist(), [2, 0])])
    for name, value in plain.items():
        assert torch.equal(given[name], value)


def test_rounds_load_no_torch():
    import subprocess

    code = (
        "import sys, mlpapers.valuation.sequential, mlpapers.valuation.fedavg;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
