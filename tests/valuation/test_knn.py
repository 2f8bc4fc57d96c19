"""Values of nearest-neighbour games against enumeration, closed forms, and invariances."""

import itertools
import math
import tracemalloc

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from mlpapers.valuation.knn import KNNShapley, knn_loo

FORMS = {
    "k": {},
    "min": {"denominator": "min", "empty_value": 0.1},
    "soft": {},
    "theorem": {"algorithm": "theorem"},
    "regression": {"task": "regression"},
}


class Instance:
    """A tiny random problem, half of them on a lattice (many ties), with the utility by definition."""

    def __init__(self, rng, form, ties="index", n=None):
        self.form, self.ties = form, ties
        n = rng.integers(1, 9) if n is None else n
        self.k = int(rng.integers(1, 11))
        self.groups = rng.integers(-3, 3, size=n) if rng.random() < 0.7 else np.zeros(n, dtype=int)
        if rng.random() < 0.5:
            self.X, self.X_val = (rng.integers(0, 3, size=(m, 2)).astype(float) for m in (n, 2))
        else:
            self.X, self.X_val = (rng.normal(size=(m, 2)) for m in (n, 2))
        if form == "regression":
            self.y, self.y_val = rng.normal(size=n), rng.normal(size=2)
        else:
            self.y_val = rng.integers(0, 4, size=2)
            self.y = rng.dirichlet(np.ones(3), size=n) if form == "soft" else rng.integers(0, 3, size=n)

    def valuer(self, **options):
        return KNNShapley(self.k, ties=self.ties, **{**FORMS[self.form], **options})

    def scores(self, j):
        if self.form == "regression":
            return self.y
        if self.form == "soft":
            return self.y[:, self.y_val[j]] if self.y_val[j] < 3 else np.zeros(len(self.y))
        return (self.y == self.y_val[j]).astype(float)

    def utility(self, members, j):
        members = np.asarray(members, dtype=int)
        distances = ((self.X[members] - self.X_val[j]) ** 2).sum(axis=1)
        priority = -self.groups[members] if self.ties == "later_group" else np.zeros(len(members))
        near = members[np.lexsort((members, priority, distances))][: self.k]
        total = self.scores(j)[near].sum()
        if self.form == "regression":
            return -((total / self.k - self.y_val[j]) ** 2)
        if self.form == "min":
            return total / len(near) if len(near) else 0.1
        return total / self.k

    def values(self):
        """The average marginal contribution over subsets of the own group, on top of all earlier groups."""
        n = len(self.X)
        values = np.zeros(n)
        for j in range(len(self.X_val)):
            for group in np.unique(self.groups):
                earlier = np.flatnonzero(self.groups < group).tolist()
                own = np.flatnonzero(self.groups == group).tolist()
                gains = {
                    members: self.utility([*earlier, *members], j)
                    for size in range(len(own) + 1)
                    for members in itertools.combinations(own, size)
                }
                for i in own:
                    for members, before in gains.items():
                        if i not in members:
                            weight = len(own) * math.comb(len(own) - 1, len(members))
                            values[i] += (gains[tuple(sorted((*members, i)))] - before) / weight
        return values / len(self.X_val)


@pytest.mark.parametrize("ties", ["index", "later_group"])
@pytest.mark.parametrize("form", FORMS)
def test_values_are_those_of_the_definition(form, ties):
    rng = np.random.default_rng(0)
    for _ in range(60):
        case = Instance(rng, form, ties)
        valuer = case.valuer().fit(case.X, case.y, case.X_val, case.y_val, groups=case.groups)
        assert np.abs(valuer.values_ - case.values()).max() <= 1e-12
        everyone = np.mean([case.utility(range(len(case.X)), j) for j in range(2)])
        nobody = np.mean([case.utility([], j) for j in range(2)])
        assert valuer.total_utility_ == pytest.approx(everyone, abs=1e-12)
        assert valuer.empty_utility_ == pytest.approx(nobody, abs=1e-12)
        assert valuer.values_.sum() == pytest.approx(everyone - nobody, abs=1e-12)


PAPER_ORDER = np.arange(6.0)[:, None]
PAPER_GROUPS = [1, 0, 1, 0, 0, 1]


@pytest.mark.parametrize(
    ("groups", "options", "expected", "tolerance"),
    [
        (PAPER_GROUPS, {"n_neighbors": 2}, [0, 0, 0, 0.5, 0, 0], 1e-15),
        (None, {"n_neighbors": 2}, [13 / 60, -17 / 60, 13 / 60, 13 / 60, -1 / 30, 1 / 6], 1e-15),
        (
            PAPER_GROUPS,
            {"n_neighbors": 4, "denominator": "min", "empty_value": 0.1},
            [0.18055556, -0.17222222, 0.18055556, 0.57777778, -0.17222222, 0.05555556],
            5e-9,
        ),
    ],
)
def test_worked_examples_of_classification(groups, options, expected, tolerance):
    valuer = KNNShapley(**options).fit(PAPER_ORDER, [1, 0, 1, 1, 0, 1], [[-1.0]], [1], groups=groups)
    assert np.abs(valuer.values_ - expected).max() <= tolerance


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (PAPER_GROUPS, [-0.40625, -1, -1.09375, 1.5, 0, 0]),
        (None, [1 / 3, -1.391666667, 0.045833333, -0.079166667, 0.008333333, 0.083333333]),
    ],
)
def test_worked_examples_of_regression(groups, expected):
    valuer = KNNShapley(2, task="regression")
    valuer.fit(PAPER_ORDER, [1, -2, 0.5, 3, 0, 2], [[-1.0]], [0.75], groups=groups)
    assert np.abs(valuer.values_ - expected).max() <= 5e-10


@pytest.mark.parametrize("ties", ["index", "later_group"])
@pytest.mark.parametrize("soft", [False, True])
def test_scan_equals_the_printed_theorem(soft, ties):
    """Groups of some dozens, so that later ones lie only partly within the K nearest earlier points."""
    rng = np.random.default_rng(1)
    X, X_val = rng.integers(0, 6, size=(150, 2)).astype(float), rng.integers(0, 6, size=(12, 2)).astype(float)
    y = rng.dirichlet(np.ones(3), size=150) if soft else rng.integers(0, 3, size=150)
    groups, y_val = rng.choice([0, 0, 1, 1, 1, 5, 7], size=150), rng.integers(0, 3, size=12)
    for k in (1, 4, 60):
        scan, theorem = (
            KNNShapley(k, ties=ties, algorithm=name).fit(X, y, X_val, y_val, groups=groups).values_
            for name in ("fast", "theorem")
        )
        assert np.abs(scan - theorem).max() <= 1e-12


def test_one_group_equals_the_reverse_cumulative_sum():
    rng = np.random.default_rng(2)
    X, X_val = rng.normal(size=(3000, 5)), rng.normal(size=(70, 5))
    y, y_val, k, n = rng.integers(0, 4, size=3000), rng.integers(0, 4, size=70), 5, 3000
    order = np.argsort(cdist(X_val, X, "sqeuclidean"), axis=1, kind="stable")
    h = (y[order] == y_val[:, None]).astype(float)
    steps = np.empty_like(h)
    steps[:, -1] = h[:, -1] * min(k, n) / (k * n)
    steps[:, :-1] = (h[:, :-1] - h[:, 1:]) / np.maximum(k, np.arange(1, n))
    expected = np.zeros(n)
    np.add.at(expected, order, np.cumsum(steps[:, ::-1], axis=1)[:, ::-1] / 70)
    assert np.abs(KNNShapley(k).fit(X, y, X_val, y_val).values_ - expected).max() <= 1e-14


@pytest.mark.parametrize("ties", ["index", "later_group"])
@pytest.mark.parametrize("form", ["k", "min", "regression"])
def test_batches_one_by_one_equal_one_fit(form, ties):
    rng = np.random.default_rng(3)
    for _ in range(25):
        case = Instance(rng, form, ties, n=int(rng.integers(2, 30)))
        groups = np.sort(case.groups)
        fitted = case.valuer().fit(case.X, case.y, case.X_val, case.y_val, groups=groups)
        streamed = case.valuer()
        for group in np.unique(groups):
            batch = case.X[groups == group], case.y[groups == group]
            if group == groups[0]:
                streamed.partial_fit(*batch, case.X_val, case.y_val)
                continue
            earlier = streamed.values_.copy()
            alone = streamed.predict_value(*batch)
            for i in range(len(batch[0])):
                single = [
                    np.append(old[groups < group], new[i : i + 1], axis=0)
                    for old, new in zip((case.X, case.y), batch)
                ]
                arrival = np.append(groups[groups < group], group)
                one = case.valuer().fit(*single, case.X_val, case.y_val, groups=arrival)
                assert alone[i] == pytest.approx(one.values_[-1], abs=1e-12)
            streamed.partial_fit(*batch)
            assert np.array_equal(streamed.values_[: len(earlier)], earlier)
        assert np.abs(streamed.values_ - fitted.values_).max() <= 1e-12
        assert streamed.total_utility_ == pytest.approx(fitted.total_utility_, abs=1e-12)
        assert np.array_equal(streamed.groups_, fitted.groups_)


@pytest.mark.parametrize("form", ["k", "min", "regression"])
def test_a_training_set_that_values_itself_leaves_each_point_out_of_its_own_game(form):
    rng = np.random.default_rng(4)
    for _ in range(20):
        case = Instance(rng, form, n=int(rng.integers(2, 8)))
        n = len(case.X)
        expected = np.zeros(n)
        for j in range(n):
            others = np.flatnonzero(np.arange(n) != j)
            game = case.valuer().fit(
                case.X[others], case.y[others], case.X[[j]], case.y[[j]], groups=case.groups[others]
            )
            expected[others] += game.values_ / (n - 1)
        valuer = case.valuer().fit(case.X, case.y, groups=case.groups)
        assert np.abs(valuer.values_ - expected).max() <= 1e-12
        gain = valuer.total_utility_ - valuer.empty_utility_
        assert valuer.values_.sum() == pytest.approx(gain * n / (n - 1), abs=1e-12)


def test_leave_one_out_is_the_loss_of_utility():
    rng = np.random.default_rng(5)
    for form in ("k", "soft"):
        for _ in range(30):
            case = Instance(rng, form)
            n = len(case.X)
            expected = [
                np.mean(
                    [
                        case.utility(range(n), j) - case.utility(np.delete(np.arange(n), i), j)
                        for j in range(2)
                    ]
                )
                for i in range(n)
            ]
            values = knn_loo(case.X, case.y, case.X_val, case.y_val, case.k)
            assert np.abs(values - expected).max() <= 1e-12


@given(seed=st.integers(0, 2**32 - 1), max_error=st.floats(0.02, 0.9), groups=st.booleans())
def test_truncation_keeps_its_bound(seed, max_error, groups):
    rng = np.random.default_rng(seed)
    X, X_val = rng.normal(size=(120, 2)), rng.normal(size=(3, 2))
    y, y_val = rng.integers(0, 2, size=120), rng.integers(0, 2, size=3)
    order = np.repeat([0, 1], [100, 20]) if groups else None
    exact, rough = (
        KNNShapley(3, max_error=bound).fit(X, y, X_val, y_val, groups=order).values_
        for bound in (0.0, max_error)
    )
    kept = max(3, math.ceil(1 / max_error))
    assert np.abs(exact - rough).max() <= 1 / kept + 1e-15
    if groups:
        assert np.array_equal(exact[100:], rough[100:])


@st.composite
def problems(draw, forms=("k", "min", "regression")):
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, m = draw(st.integers(1, 40)), draw(st.integers(1, 5))
    form = draw(st.sampled_from(forms))
    options = {"n_neighbors": draw(st.integers(1, 50)), **FORMS[form]}
    groups = rng.integers(0, draw(st.integers(1, 4)), size=n)
    X, X_val = rng.normal(size=(n, 3)), rng.normal(size=(m, 3))
    if form == "regression":
        return rng, options, (X, rng.normal(size=n), X_val, rng.normal(size=m)), groups
    return rng, options, (X, rng.integers(0, 3, size=n), X_val, rng.integers(0, 4, size=m)), groups


@given(problems())
def test_rows_and_group_numbers_are_only_names(problem):
    rng, options, (X, y, X_val, y_val), groups = problem
    values = KNNShapley(**options).fit(X, y, X_val, y_val, groups=groups).values_
    shuffle = rng.permutation(len(X))
    renamed = KNNShapley(**options).fit(X[shuffle], y[shuffle], X_val, y_val, groups=7 * groups[shuffle] - 9)
    assert np.abs(renamed.values_ - values[shuffle]).max() <= 1e-12


@given(problems())
def test_validation_sets_average_with_their_sizes(problem):
    rng, options, (X, y, X_val, y_val), groups = problem
    X_all, y_all = np.tile(X_val, (2, 1)), np.concatenate([y_val, rng.permutation(y_val)])
    total, shuffle = 2 * len(X_val), rng.permutation(2 * len(X_val))
    first = int(rng.integers(1, total))
    both = KNNShapley(**options).fit(X, y, X_all[shuffle], y_all[shuffle], groups=groups).values_
    parts = [
        KNNShapley(**options).fit(X, y, X_all[part], y_all[part], groups=groups).values_
        for part in (slice(0, first), slice(first, total))
    ]
    assert np.abs(both - np.average(parts, axis=0, weights=[first, total - first])).max() <= 1e-12


@given(problems())
def test_each_group_shares_what_it_adds(problem):
    _, options, (X, y, X_val, y_val), groups = problem
    valuer = KNNShapley(**options).fit(X, y, X_val, y_val, groups=groups)
    # The mean utility of nobody depends on the labels in y only through the default of empty_value, set here.
    before = valuer.empty_utility_
    for t, group in enumerate(np.unique(groups)):
        seen = groups <= group
        after = KNNShapley(**options).fit(X[seen], y[seen], X_val, y_val).total_utility_
        assert valuer.group_values_[t] == pytest.approx(after - before, abs=1e-12)
        before = after


@given(problems())
def test_singleton_groups_get_their_marginal_contributions(problem):
    _, options, (X, y, X_val, y_val), _ = problem
    valuer = KNNShapley(**options).fit(X, y, X_val, y_val, groups=np.arange(len(X)))
    totals = [valuer.empty_utility_] + [
        KNNShapley(**options).fit(X[:i], y[:i], X_val, y_val).total_utility_ for i in range(1, len(X) + 1)
    ]
    assert np.abs(valuer.values_ - np.diff(totals)).max() <= 1e-12


@given(problems())
def test_equal_points_of_one_group_get_equal_values(problem):
    rng, options, (X, y, X_val, y_val), groups = problem
    again = rng.integers(0, len(X), size=3)
    X, y, groups = np.append(X, X[again], axis=0), np.append(y, y[again]), np.append(groups, groups[again])
    values = KNNShapley(**options).fit(X, y, X_val, y_val, groups=groups).values_
    assert np.abs(values[-3:] - values[again]).max() <= 1e-12


@given(problems(forms=("k", "min")), st.floats(0.0, 1.0))
def test_values_are_linear_in_soft_labels(problem, weight):
    rng, options, (X, _, X_val, y_val), groups = problem
    # Linear in scores alone: the utility of nobody must not stay behind as a constant.
    options = options | ({"empty_value": 0.0} if "denominator" in options else {})
    first, second = rng.dirichlet(np.ones(3), size=(2, len(X)))
    a, b, mixed = (
        KNNShapley(**options).fit(X, y, X_val, y_val, groups=groups).values_
        for y in (first, second, weight * first + (1 - weight) * second)
    )
    assert np.abs(weight * a + (1 - weight) * b - mixed).max() <= 1e-13


@given(st.integers(1, 30), st.integers(0, 10), st.integers(0, 2**32 - 1))
def test_at_least_as_many_neighbours_as_points_share_the_votes(n, more, seed):
    rng = np.random.default_rng(seed)
    X, X_val = rng.normal(size=(n, 2)), rng.normal(size=(6, 2))
    y, y_val = rng.integers(0, 2, n), rng.integers(0, 2, 6)
    values = KNNShapley(n + more).fit(X, y, X_val, y_val).values_
    assert np.abs(values - (y[:, None] == y_val).mean(axis=1) / (n + more)).max() <= 1e-14


def test_copies_by_a_broker_leave_the_originals_their_values():
    """Later copies tie exactly with the originals, although products round their distances differently."""
    rng = np.random.default_rng(8)
    X, X_val = rng.normal(size=(80, 7)) + 50.0, rng.normal(size=(20, 7)) + 50.0
    y, y_val = rng.integers(0, 3, 80), rng.integers(0, 3, 20)
    single = KNNShapley(5).fit(X, y, X_val, y_val)
    for ties in ("index", "later_group"):
        market = KNNShapley(5, ties=ties).fit(
            np.tile(X, (3, 1)), np.tile(y, 3), X_val, y_val, groups=np.repeat([0, 1, 2], 80)
        )
        assert np.abs(market.values_[:80] - single.values_).max() <= 1e-12
    symmetric = KNNShapley(5).fit(np.tile(X, (2, 1)), np.tile(y, 2), X_val, y_val)
    assert symmetric.values_[:80].sum() < 0.6 * single.values_.sum()


def test_values_per_validation_point_average_to_the_values():
    rng = np.random.default_rng(9)
    case = Instance(rng, "min", n=40)
    X_val, y_val, groups = rng.normal(size=(50, 2)), rng.integers(0, 3, 50), rng.permutation(40) // 9
    valuer = case.valuer(max_memory=0.02)
    chunks = list(valuer.values_per_val(case.X, case.y, X_val, y_val, groups))
    rows = np.vstack([values for _, values in chunks])
    assert len(chunks) > 1
    assert [chunk.start for chunk, _ in chunks[1:]] == [chunk.stop for chunk, _ in chunks[:-1]]
    fitted = valuer.fit(case.X, case.y, X_val, y_val, groups=groups)
    assert np.abs(rows.mean(axis=0) - fitted.values_).max() <= 1e-14
    lone = case.valuer().fit(case.X, case.y, X_val[[7]], y_val[[7]], groups=groups)
    assert np.abs(rows[7] - lone.values_).max() <= 1e-15


@pytest.mark.parametrize("name", ["cosine", "manhattan"])
def test_metrics_agree_with_given_distances(name):
    rng = np.random.default_rng(10)
    X, X_val, groups = rng.normal(size=(90, 4)), rng.normal(size=(11, 4)), rng.integers(0, 3, 90)
    y, y_val = rng.normal(size=90), rng.normal(size=11)

    def distance(a, b):
        return cdist(a, b, {"manhattan": "cityblock"}.get(name, name))

    expected = KNNShapley(4, task="regression", metric="precomputed")
    expected.fit(X, y, distance(X_val, X), y_val, groups=groups)
    for metric in (name, distance):
        valuer = KNNShapley(4, task="regression", metric=metric).fit(X, y, X_val, y_val, groups=groups)
        assert np.abs(valuer.values_ - expected.values_).max() <= 1e-12
    later = rng.normal(size=(9, 4)), rng.normal(size=9)
    given_distances = distance(X_val, later[0])
    arrivals = expected.predict_value(*later, X_val=given_distances), valuer.predict_value(*later)
    assert np.abs(arrivals[0] - arrivals[1]).max() <= 1e-12
    expected.partial_fit(*later, X_val=given_distances)
    assert np.abs(expected.values_ - valuer.partial_fit(*later).values_).max() <= 1e-12


def test_a_square_of_given_distances_values_itself():
    rng = np.random.default_rng(11)
    X, y = rng.normal(size=(30, 3)), rng.integers(0, 2, 30)
    square = KNNShapley(3, metric="precomputed").fit(cdist(X, X), y)
    assert np.abs(square.values_ - KNNShapley(3).fit(X, y).values_).max() <= 1e-12


def test_single_precision_is_close():
    rng = np.random.default_rng(12)
    X, X_val, y, y_val = (
        rng.normal(size=(2000, 8)),
        rng.normal(size=(40, 8)),
        rng.integers(0, 3, 2000),
        rng.integers(0, 3, 40),
    )
    a, b = (KNNShapley(5, float32=flag).fit(X, y, X_val, y_val).values_ for flag in (False, True))
    assert np.abs(a - b).max() <= 1e-5


def test_workers_do_not_change_a_bit():
    rng = np.random.default_rng(13)
    X, X_val = rng.normal(size=(400, 4)), rng.normal(size=(150, 4))
    y, y_val, groups = rng.normal(size=400), rng.normal(size=150), rng.integers(0, 3, 400)
    serial = KNNShapley(5, task="regression").fit(X, y, X_val, y_val, groups=groups).values_
    for backend in ("threading", "loky"):
        with joblib.parallel_config(backend=backend):
            parallel = KNNShapley(5, task="regression", n_jobs=2).fit(X, y, X_val, y_val, groups=groups)
        assert np.array_equal(parallel.values_, serial)
    little = KNNShapley(5, task="regression", max_memory=0.05).fit(X, y, X_val, y_val, groups=groups)
    assert np.abs(little.values_ - serial).max() <= 1e-14


def test_memory_stays_within_its_bound_whatever_the_number_of_validation_points():
    rng, n = np.random.default_rng(14), 200_000
    X, y = rng.normal(size=(n, 4)), rng.integers(0, 3, n)
    peaks = []
    for m in (8, 40):
        X_val, y_val = rng.normal(size=(m, 4)), rng.integers(0, 3, m)
        tracemalloc.start()
        KNNShapley(5, max_memory=40).fit(X, y, X_val, y_val)
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
    assert max(peaks) <= 40
    assert peaks[1] <= 1.25 * peaks[0]
