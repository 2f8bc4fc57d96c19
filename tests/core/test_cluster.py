"""The same numbers on a real cluster: two worker processes behind a scheduler on the loopback."""

import os

import joblib
import numpy as np
import pytest
from parallel_cases import heavy_draw, kill_worker_once, process_id

from mlpapers.core import parallel_map, spawn_seeds
from mlpapers.core.parallel import cluster as on_cluster

distributed = pytest.importorskip("distributed")

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def cluster():
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
        client.wait_for_workers(2)
        yield client


def run_loop(tmp_path):
    """A parallel loop with a shared table, as the estimators run it."""
    table = np.random.default_rng(0).normal(size=(300, 20))
    return np.array(parallel_map(heavy_draw, spawn_seeds(0, 12), shared=(table,)))


# What must give the same bits on the cluster as in this process: name -> function of a scratch folder.
JOBS = {"loop": run_loop}


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
