import gc
import threading
from pathlib import Path

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parallel_cases import always_die, die_once, draw, fail_at_three, locate, sleep_backwards, square

from mlpapers.core import parallel_map, spawn_seeds
from mlpapers.core.parallel import _abandon, chunk_slices, count_workers

BACKENDS = {
    "serial": {"n_jobs": None},
    "one": {"n_jobs": 1},
    "threads": {"n_jobs": 2, "prefer": "threads"},
    "processes": {"n_jobs": 2},
}


@pytest.fixture(params=BACKENDS)
def backend(request):
    return BACKENDS[request.param]


def test_results_are_in_the_order_of_the_tasks(backend):
    assert parallel_map(square, range(20), **backend) == [task * task for task in range(20)]
    assert parallel_map(sleep_backwards, iter(range(4)), **backend) == [0, 1, 2, 3]
    assert parallel_map(square, [], **backend) == []


def test_shared_objects_come_before_the_task(backend):
    table = np.arange(2.0**18)  # 2 MiB: joblib sends it as a memory map
    found = parallel_map(locate, [0, 5, 2**18 - 1], shared=(table, 2.0), **backend)
    assert [value for value, _ in found] == [0.0, 10.0, 2.0 * (2**18 - 1)]


def test_large_shared_arrays_are_read_only_in_worker_processes():
    found = parallel_map(locate, range(2), shared=(np.arange(2.0**18), 1.0), n_jobs=2)
    assert [writeable for _, writeable in found] == [False, False]


def test_random_numbers_do_not_depend_on_the_workers(backend):
    values = np.array(parallel_map(draw, spawn_seeds(0, 8), **backend))
    expected = np.array([draw(seed) for seed in np.random.SeedSequence(0).spawn(8)])
    assert np.array_equal(values, expected)


def test_an_exception_of_a_task_is_raised_as_it_is(backend):
    with pytest.raises(LookupError, match="task 3 is not there"):
        parallel_map(fail_at_three, range(6), **backend)
    gc.collect()


def test_on_result_is_called_once_per_task_in_this_process(backend):
    seen = []
    results = parallel_map(square, range(10), on_result=lambda *pair: seen.append(pair), **backend)
    assert sorted(seen) == list(enumerate(results))


def test_an_exception_of_on_result_ends_the_run(backend):
    def stop(index, result):
        raise KeyError(index)

    with pytest.raises(KeyError):
        parallel_map(square, range(10), on_result=stop, **backend)
    gc.collect()


@pytest.mark.parametrize(
    ("name", "error", "reported"),
    [
        ("ExecutorManagerThread", KeyError, []),
        ("ExecutorManagerThread", ValueError, [ValueError]),
        ("another", KeyError, [KeyError]),
    ],
)
def test_abandoning_a_run_hides_only_the_lost_task_of_the_pool(monkeypatch, name, error, reported):
    seen = []
    monkeypatch.setattr(threading, "excepthook", lambda failure: seen.append(failure.exc_type))
    hook = threading.excepthook

    def fail():
        raise error(15)

    def outcomes():
        try:
            yield
        finally:
            thread = threading.Thread(target=fail, name=name)
            thread.start()
            thread.join()

    running = outcomes()
    next(running)
    _abandon(running)
    assert seen == reported
    assert threading.excepthook is hook


def test_an_enclosing_configuration_chooses_the_backend():
    with joblib.parallel_config(backend="threading", n_jobs=2):
        assert parallel_map(square, range(5)) == [0, 1, 4, 9, 16]
        assert count_workers(None) == 2
    assert count_workers(None) == 1
    assert count_workers(2) == 2
    assert count_workers(-1) == joblib.cpu_count()


def test_a_killed_worker_is_survived(tmp_path):
    marker = tmp_path / "died"
    seen = []
    values = parallel_map(
        die_once, range(6), shared=(str(marker),), n_jobs=2, on_result=lambda index, _: seen.append(index)
    )
    assert marker.exists()
    assert np.array_equal(values, [draw(task) for task in range(6)])
    assert sorted(seen) == list(range(6))


def test_workers_that_always_die_are_an_error():
    with pytest.raises(Exception, match=r"(?i)worker|process|terminated") as caught:
        parallel_map(always_die, range(2), n_jobs=2)
    assert type(caught.value).__name__ in ("TerminatedWorkerError", "BrokenProcessPool")


def test_spawned_seeds_are_independent_and_reproducible():
    seeds = spawn_seeds(3, 4)
    assert [seed.spawn_key for seed in seeds] == [(0,), (1,), (2,), (3,)]
    states = {tuple(seed.generate_state(4)) for seed in seeds + spawn_seeds(4, 4)}
    assert len(states) == 8
    assert [s.generate_state(2).tolist() for s in spawn_seeds(3, 2)] == [
        s.generate_state(2).tolist() for s in seeds[:2]
    ]


@given(n=st.integers(0, 50), chunk_size=st.integers(1, 60))
def test_chunks_cover_the_range_in_order(n, chunk_size):
    slices = chunk_slices(n, chunk_size)
    assert [i for part in slices for i in range(n)[part]] == list(range(n))
    assert all(1 <= part.stop - part.start <= chunk_size for part in slices)


def test_this_is_the_only_caller_of_joblib():
    package = Path(__import__("mlpapers").__file__).parent
    callers = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if any(line.startswith(("import joblib", "from joblib")) for line in path.read_text().splitlines())
    }
    assert callers == {"core/parallel.py"}
