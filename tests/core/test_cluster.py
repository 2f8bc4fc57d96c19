"""The same numbers on a real cluster: two worker processes behind a scheduler on the loopback."""

import os

import joblib
import numpy as np
import pytest
from parallel_cases import FragileGame, fragile_claims, heavy_draw, kill_worker_once, process_id
from sklearn.linear_model import Ridge

from mlpapers.core import parallel_map, reproduce, spawn_seeds
from mlpapers.core.parallel import cluster as on_cluster
from mlpapers.datasets import load_diabetes
from mlpapers.valuation import AsymmetricShapley

distributed = pytest.importorskip("distributed")

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(300),
    # distributed drops sockets of connections that a killed or slow worker never answered.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def two_workers():
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


@pytest.fixture
def cluster(two_workers):
    # An earlier test may have killed one, and with a single worker joblib runs everything here.
    two_workers.wait_for_workers(2)
    return two_workers


def run_loop(tmp_path):
    """A parallel loop with a shared table, as the estimators run it."""
    table = np.random.default_rng(0).normal(size=(300, 20))
    return np.array(parallel_map(heavy_draw, spawn_seeds(0, 12), shared=(table,)))


def run_monte_carlo(tmp_path):
    """Asymmetric Shapley values of a model by permutation scans, refitted for each coalition."""
    X, y = load_diabetes(return_X_y=True)
    valuer = AsymmetricShapley(Ridge(), method="mc", max_permutations=20, incremental=False, random_state=3)
    valuer.fit(X[:16], y[:16], X[200:260], y[200:260], groups=np.repeat([0, 1], 8))
    return np.concatenate([valuer.values_, valuer.stderr_])


def run_claims(tmp_path):
    """Two claims of a paper, whatever was stored of them before."""
    names = ["asymmetric-shapley/p1-1", "asymmetric-shapley/p1-12"]
    report = reproduce(names, out=tmp_path, resume=False)
    assert report.ok()
    return np.array([m.value for outcome in report.outcomes for m in outcome.measurements])


# What must give the same bits on the cluster as in this process: name -> function of a scratch folder.
JOBS = {"loop": run_loop, "monte carlo": run_monte_carlo, "claims": run_claims}


@pytest.mark.parametrize("job", JOBS)
def test_the_cluster_gives_the_serial_numbers(job, cluster, tmp_path):
    serial = JOBS[job](tmp_path)
    with joblib.parallel_config(backend="dask"):
        spread = JOBS[job](tmp_path)
    assert np.array_equal(serial, spread)


def test_a_running_cluster_is_named_by_its_address(cluster, tmp_path):
    with on_cluster(cluster.scheduler.address):
        spread = run_loop(tmp_path)
    assert np.array_equal(spread, run_loop(tmp_path))


def test_the_work_is_spread_over_both_workers(cluster):
    with joblib.parallel_config(backend="dask"):
        processes = set(parallel_map(process_id, range(12)))
    assert len(processes) == 2
    assert os.getpid() not in processes


def test_a_killed_worker_is_survived(cluster, tmp_path):
    marker = tmp_path / "killed"
    seeds = spawn_seeds(1, 8)
    table = np.arange(50.0)
    with joblib.parallel_config(backend="dask"):
        values = parallel_map(kill_worker_once, seeds, shared=(str(marker), os.getpid()))
    assert marker.exists()
    assert np.array_equal(values, [heavy_draw(table, seed) for seed in seeds])


def test_monte_carlo_values_survive_a_killed_worker(cluster, tmp_path):
    marker = tmp_path / "killed"
    valuer = AsymmetricShapley(method="mc", max_permutations=40, rtol=0.0, random_state=5)
    serial = valuer.fit_game(FragileGame(marker, os.getpid()), 8).values_
    assert not marker.exists()
    with joblib.parallel_config(backend="dask"):
        spread = valuer.fit_game(FragileGame(marker, os.getpid()), 8).values_
    assert marker.exists()
    assert np.array_equal(serial, spread)


def test_reproducing_survives_a_killed_worker(cluster, tmp_path):
    marker = tmp_path / "killed"
    claims = fragile_claims(str(marker), os.getpid())
    serial = reproduce(claims, seed=2, out=tmp_path / "serial")
    assert not marker.exists()
    with joblib.parallel_config(backend="dask"):
        spread = reproduce(claims, seed=2, out=tmp_path / "spread")
    assert marker.exists()
    assert serial.ok()
    measured = [
        [m.value for outcome in report.outcomes for m in outcome.measurements] for report in (serial, spread)
    ]
    assert measured[0] == measured[1]
