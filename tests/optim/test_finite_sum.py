"""Oracles: structured sums against the general path, directions, increments, counting, torch models."""

import numpy as np
import pytest
import scipy.sparse
import torch

from mlpapers.optim import FiniteSum, LinearFiniteSum, QuadraticFiniteSum, minimize_fw_zo
from mlpapers.optim._directions import CoordinateBlock, Directions, VectorBlock
from mlpapers.optim._increment import Increment
from mlpapers.optim._oracle import BudgetExhaustedError, Oracle
from mlpapers.optim._run import Run, Settings
from mlpapers.optim.constraints import L1Ball, L2Ball
from mlpapers.optim.finite_sum import as_finite_sum
from mlpapers.optim.linear import LOSSES

N, D = 30, 6


def linear(loss, sparse=False):
    rng = np.random.default_rng(3)
    A = rng.normal(size=(N, D)) * (rng.random((N, D)) < 0.5)
    y = np.sign(rng.normal(size=N))
    return LinearFiniteSum(scipy.sparse.csr_matrix(A) if sparse else A, y, loss)


def cases():
    yield from ((f"{loss}{' sparse' * sparse}", linear(loss, sparse)) for loss in LOSSES for sparse in (0, 1))
    rng = np.random.default_rng(4)
    yield "quadratic", QuadraticFiniteSum(rng.uniform(0.5, 1.5, (N, D)), rng.normal(size=(N, D)))


CASES = dict(cases())


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("central", [False, True])
def test_structured_differences_are_those_of_values(name, central):
    total = CASES[name]
    plain = FiniteSum(total.values, N, D, dtype=np.float64)
    rng = np.random.default_rng(0)
    x, idx = rng.normal(size=D), rng.integers(0, N, 40)
    fd = "central" if central else "forward"
    ours = Oracle(total, D, max_queries=None, fd=fd, mu=1e-3, chunk_size=64)
    theirs = Oracle(plain, D, max_queries=None, fd=fd, mu=1e-3, chunk_size=7)
    blocks = [CoordinateBlock(rng.integers(0, D, 40)), VectorBlock(rng.normal(size=(40, D)))]
    for block in blocks:
        a, b = (oracle.at(x).differences(idx, block) for oracle in (ours, theirs))
        # Values of order 10 cancel to differences of order 1e-3.
        np.testing.assert_allclose(a, b, atol=1e-10)
        some, rows = block.take(slice(0, 5)), np.sort(rng.choice(N, 11, replace=False))
        for chosen in (rows, np.arange(N), np.array([2, 2, 5])):
            pairs = zip(ours.at(x).means(some, chosen), theirs.at(x).means(some, chosen))
            for a, b in pairs:
                np.testing.assert_allclose(a, b, atol=1e-9)
    assert ours.n_queries == theirs.n_queries


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_limits_of_differences(name):
    total = CASES[name]
    x = np.random.default_rng(1).normal(size=D)
    h = 1e-6
    numeric = [(total.mean(x + h * e) - total.mean(x - h * e)) / (2 * h) for e in np.eye(D)]
    np.testing.assert_allclose(total.gradient(x), numeric, atol=1e-7)
    idx = np.arange(N)
    rows = total.grad(np.broadcast_to(x, (N, D)), idx)
    np.testing.assert_allclose(rows.mean(axis=0), total.gradient(x), atol=1e-12)


def test_known_values_are_charged_once():
    total = CASES["quadratic"]
    oracle = Oracle(total, D, max_queries=20)
    probe = oracle.at(np.zeros(D))
    probe.base(np.array([1, 1, 2]))
    assert oracle.n_queries == 2
    probe.differences(np.array([1, 2, 3]), CoordinateBlock(np.array([0, 0, 1])))
    assert oracle.n_queries == 2 + 1 + 3
    with pytest.raises(BudgetExhaustedError):
        probe.means(CoordinateBlock(np.arange(D)), np.arange(N))
    assert oracle.n_queries <= 20


@pytest.mark.parametrize("kind", ["coordinate", "orthogonal", "sphere", "gaussian"])
def test_increments_are_unbiased(kind):
    total = CASES["logistic"]
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, D))
    settings = Settings(directions=kind)
    oracle = Oracle(total, D, max_queries=None)
    run = Run(oracle, L2Ball(9.0), settings, x, np.random.SeedSequence(1), None)
    draws = np.array([Increment(run, y, 4).change for _ in range(5000)])
    truth = total.gradient(x) - total.gradient(y)
    error = np.abs(draws.mean(axis=0) - truth)
    # 20,000 pairs; four standard errors in each of six coordinates fail once in 2500 runs.
    assert (error <= 4 * draws.std(axis=0) / np.sqrt(5000) + 1e-6).all()


@pytest.mark.parametrize(("kind", "d"), [("orthogonal", 7), ("orthogonal", 2100), ("coordinate", 7)])
def test_systems_are_orthonormal_and_sweeps_never_repeat(kind, d):
    directions = Directions(kind, d, np.random.default_rng(0))
    block = directions.block(np.arange(min(d, 60)))
    gram = np.array([block.dots(row) for row in block.U]) if kind == "orthogonal" else np.eye(len(block))
    np.testing.assert_allclose(gram, np.eye(len(block)), atol=1e-12)
    seen = []
    for l in (3, 2, 4, 5, 7, 1):
        k = directions.refresh(l).k
        assert len(set(k.tolist())) == l
        seen += k.tolist()
    if d == 7:
        assert sorted(seen[:5] + [k for k in seen[5:9] if k not in seen[:5]][:2]) == list(range(7))


def test_pairs_are_stratified():
    directions = Directions("coordinate", 5, np.random.default_rng(0))
    counts = np.bincount(directions.pairs(13).k, minlength=5)
    assert sorted(counts.tolist()) == [2, 2, 3, 3, 3]


def test_memory_factors_are_those_of_the_theory():
    rng = np.random.default_rng(0)
    d, l, draws = 12, 3, 4000
    g = rng.normal(size=d)
    factors = []
    for _ in range(draws):
        U = rng.normal(size=(l, d))
        factors.append(np.sum((g - U.T @ (U @ g) / (d + 1 + l)) ** 2) / (g @ g))
    # 1 - l/(d + 1 + l), within four standard errors.
    expected = 1.0 - l / (d + 1 + l)
    assert abs(np.mean(factors) - expected) <= 4 * np.std(factors) / np.sqrt(draws)


def torch_problem():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Dropout(0.5), torch.nn.Linear(5, 3))
    X, y = torch.randn(9, 4), torch.arange(9) % 3
    return net, X, y, lambda z, t: torch.nn.functional.cross_entropy(z, t, reduction="none")


def test_torch_models_are_evaluated_in_one_batch_and_keep_their_mode():
    net, X, y, loss = torch_problem()
    net.train()
    total = FiniteSum.from_torch(net, X, y, loss)
    delta, idx = np.random.default_rng(0).normal(size=(6, 4)), np.array([0, 8, 3, 3, 1, 2])
    values = total.values(delta, idx)
    assert net.training
    net.eval()
    with torch.no_grad():
        expected = loss(net(X[idx] + torch.tensor(delta, dtype=torch.float32)), y[idx])
    np.testing.assert_allclose(values, expected.numpy(), atol=1e-6)
    assert total.dtype == np.float32
    g = total.gradient(delta[0])
    h = 1e-2
    numeric = [(total.mean(delta[0] + h * e) - total.mean(delta[0] - h * e)) / (2 * h) for e in np.eye(4)]
    np.testing.assert_allclose(g, numeric, atol=1e-3)


def test_torch_parameters_can_be_the_point():
    net, X, y, loss = torch_problem()
    net.eval()
    total = FiniteSum.from_torch(net, X, y, loss, perturb="parameters")
    flat = torch.cat([p.detach().ravel() for p in net.parameters()]).double().numpy()
    assert total.dim == flat.size
    with torch.no_grad():
        expected = float(loss(net(X), y).mean())
    assert total.mean(flat) == pytest.approx(expected, abs=1e-6)


def test_sums_of_batches_group_equal_points_and_warn_when_slow():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(20, 3))
    total = FiniteSum.from_sum(lambda x, batch: (batch @ x) ** 2, data, 3)
    x = rng.normal(size=3)
    assert total.mean(x) == pytest.approx(float(np.mean((data @ x) ** 2)))
    with pytest.warns(UserWarning, match="Python loop"):
        values = total.values(rng.normal(size=(20, 3)), np.arange(20))
    assert values.shape == (20,)


TARGET = np.array([0.3, -0.2, 0.05])
SINGLE = {
    "scalar": np.float32,
    "array": lambda value: np.array([value], dtype=np.float32),
    "tensor": lambda value: torch.tensor(value, dtype=torch.float32),
}


@pytest.mark.parametrize("kind", SINGLE)
def test_differences_of_a_plain_callable_follow_the_precision_of_its_values(kind):
    def fun(x):
        return SINGLE[kind](float(((x - TARGET) ** 2).sum()))

    result = minimize_fw_zo(fun, np.zeros(3), L1Ball(1.0), method="auto", max_queries=3000, random_state=0)
    # Forward differences of a square are off by mu/2, mu = sqrt(eps), and rounding adds as much.
    np.testing.assert_allclose(result.x, TARGET, atol=2.0 * np.finfo(np.float32).eps ** 0.5)


def test_the_lowest_precision_counts_unless_one_is_given():
    values = iter([0.0, np.float32(1.0), 2.0])
    plain = as_finite_sum(lambda _: next(values))
    seen = []
    for _ in range(3):
        plain.values(np.zeros((1, 2)), np.zeros(1, dtype=int))
        seen.append(plain.dtype)
    assert seen == [np.float64, np.float32, np.float32]

    def single(X, idx):
        return np.zeros(len(idx), dtype=np.float32)

    given = FiniteSum(single, 1, 2, dtype=np.float64)
    given.values(np.zeros((1, 2)), np.zeros(1, dtype=int))
    assert given.dtype == np.float64


def test_values_of_two_digits_are_refused():
    with pytest.raises(TypeError, match="fun must return float16 or more digits"):
        as_finite_sum(lambda _: torch.zeros(1, dtype=torch.bfloat16)).mean(np.zeros(2))


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: FiniteSum(3, 2, 2), TypeError, "values"),
        (lambda: FiniteSum(lambda X, _: X, 0, 2), ValueError, "n_functions"),
        (lambda: FiniteSum(lambda X, _: X, 2, 2, dtype=int), ValueError, "dtype"),
        (lambda: FiniteSum(lambda X, _: X, 2, 2).gradient(np.zeros(2)), ValueError, "grad"),
        (lambda: LinearFiniteSum(np.ones(3), np.ones(3), "squared"), ValueError, "A must"),
        (lambda: LinearFiniteSum(np.ones((3, 1)), np.ones(2), "squared"), ValueError, "y must"),
        (lambda: LinearFiniteSum(np.full((3, 1), np.nan), np.ones(3), "squared"), ValueError, "finite"),
        (lambda: LinearFiniteSum(np.ones((3, 1)), np.ones(3), "no"), ValueError, "loss must be one of"),
        (lambda: QuadraticFiniteSum(np.ones((3, 1)), np.ones((3, 2))), ValueError, "H and b"),
        (lambda: as_finite_sum("f"), TypeError, "fun"),
        (
            lambda: FiniteSum.from_torch(torch.nn.Identity(), np.ones((3, 1)), np.ones(2), torch.add),
            ValueError,
            "targets",
        ),
    ],
)
def test_bad_sums_are_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()
