"""Several devices: one measurement at a time on each, all of them busy, and times that compare."""

import threading
import time
from pathlib import Path

import pytest
import torch

from mlpapers.kernels import KernelAgent
from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.verify import examiner as module
from mlpapers.kernels.verify.devices import check_devices, put_together, share_out, take_device
from mlpapers.kernels.verify.examiner import Examiner
from mlpapers.kernels.verify.isolation import Outcome

TASK = make_task(
    "t", "", "return torch.relu(x) * 2", ("torch.rand(16, 8)",), "import torch\nimport torch.nn as nn\n"
)
DEVICES = ["cpu:0", "cpu:1", "cpu:2"]


@pytest.fixture(autouse=True)
def locks(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPAPERS_KERNEL_CACHE", str(tmp_path))


def test_names_are_those_of_the_backend_and_differ():
    assert check_devices(None, "cpu") == ("cpu",)
    assert check_devices(None, "cuda") == ("cuda:0",)
    assert check_devices(DEVICES, "cpu") == tuple(DEVICES)
    with pytest.raises(TypeError, match="devices must be a list"):
        check_devices("cpu:0", "cpu")
    with pytest.raises(ValueError, match=r"named cpu:0, cpu:1, \.\.\.; got 'cuda:0'"):
        check_devices(["cuda:0"], "cpu")
    with pytest.raises(ValueError, match="must differ"):
        check_devices(["cpu:0", "cpu:0"], "cpu")
    with pytest.raises(ValueError, match="must differ"):
        check_devices(["cpu", "cpu:0"], "cpu")
    with pytest.raises(ValueError, match=f"got 'cuda:99' of {torch.cuda.device_count()}"):
        check_devices(["cuda:99"], "cuda")


def test_the_agent_refuses_devices_of_another_kind():
    agent = KernelAgent(dsl="cpp", backend="cpu", devices=["cuda:0"], store=":memory:")
    with pytest.raises(ValueError, match="got 'cuda:0'"):
        agent.generate(TASK)


def test_a_device_is_held_by_one_at_a_time_and_none_stands_idle():
    """Three devices, nine holders: all three meet at a barrier, so they hold at once, and no two hold one."""
    barrier, busy, worst = threading.Barrier(3), dict.fromkeys(DEVICES, 0), []
    guard = threading.Lock()

    def hold():
        with take_device(DEVICES) as device:
            with guard:
                busy[device] += 1
                worst.append(busy[device])
            barrier.wait(timeout=30)
            with guard:
                busy[device] -= 1

    threads = [threading.Thread(target=hold) for _ in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(worst) == 9
    assert set(worst) == {1}
    assert not barrier.broken


def test_places_are_shared_evenly_and_every_group_has_the_first():
    for n in range(1, 20):
        for lanes in range(1, 6):
            groups = share_out(n, lanes)
            assert all(group[0] == 0 for group in groups)
            others = sorted(place for group in groups for place in group[1:])
            assert others == list(range(1, n))
            sizes = [len(group) for group in groups]
            assert max(sizes) - min(sizes) <= 1
            assert len(groups) == 1 or min(sizes) >= 3


def test_times_of_a_slower_device_are_scaled_by_what_both_measured():
    true = [4.0, 1.0, 2.0, 3.0, 5.0]
    groups = share_out(5, 2)
    parts = [[[true[k] * slow] * 3 for k in group] for slow, group in zip((1.0, 2.5), groups)]
    assert put_together(groups, parts, 5) == [[value] * 3 for value in true]
    parts[1][1] = None
    assert put_together(groups, parts, 5)[groups[1][1]] is None


class Workers:
    """In the place of workers: notes who ran where and when; a second device is half as fast."""

    def __init__(self, together):
        self.barrier = threading.Barrier(together)
        self.jobs, self.busy = [], set()

    def __call__(self, folder, job, **_):
        texts = [(folder / f"{name}.py").read_text() for name in job["racers"]]
        if self.barrier.parties > 1:
            self.barrier.wait(timeout=30)
        self.jobs.append((job["device"], texts))
        speed = [float(text.split()[-1]) for text in texts]
        return Outcome("ok", {"times": [[value * len(self.jobs)] * job["runs"] for value in speed]})


def test_a_race_uses_all_devices_at_once_and_orders_as_one_would(monkeypatch):
    codes = [f"# {value}" for value in (4.0, 1.0, 2.0, 3.0, 5.0, 6.0)]
    workers = Workers(together=2)
    monkeypatch.setattr(module, "run_job", workers)
    with Examiner(TASK, dsl="cpp", backend="cpu", devices=["cpu:0", "cpu:1"], random_state=0) as examiner:
        times = examiner.race(codes, 3)
        order = sorted(range(6), key=lambda k: times[k][0])
        assert order == [1, 2, 3, 0, 4, 5]
        assert len(workers.jobs) == 2
        assert {device for device, _ in workers.jobs} == {"cpu"}
        assert all(texts[0] == codes[0] for _, texts in workers.jobs)
        # Pairs are compared run by run: one device, one worker.
        monkeypatch.setattr(module, "run_job", workers := Workers(together=1))
        examiner.race(codes[:3], 31)
        assert [texts for _, texts in workers.jobs] == [codes[:3]]


def test_a_gpu_gets_jobs_with_its_name_and_without_limits_of_memory(monkeypatch):
    seen = []

    def run_job(folder, job, *, limits, environment, sandbox):
        seen.append((job, limits, environment))
        return Outcome("device" if not job["network"] else "ok", {"times": [[1.0]]})

    monkeypatch.setattr(module, "run_job", run_job)
    monkeypatch.setattr(Examiner, "_needs_network", False)
    with Examiner(TASK, dsl="cpp", backend="cpu", random_state=0) as examiner:
        examiner.devices, examiner._on_host = ("cuda:1",), False
        assert examiner.race(["# 1"], 3) == [[1.0]]
        job, limits, environment = seen[0]
        assert job["device"] == "cuda:1"
        assert job["cold"]
        assert limits.memory == 0
        assert environment["TRITON_CACHE_DIR"] in job["writable"]
        assert Path(environment["TRITON_CACHE_DIR"]).is_dir()
        # The driver did not start without a network; it gets one, and the next job does at once.
        assert [job["network"] for job, _, _ in seen] == [False, True]
        examiner.race(["# 1"], 3)
        assert [job["network"] for job, _, _ in seen] == [False, True, True]
    assert not Path(environment["TRITON_CACHE_DIR"]).exists()


def test_candidates_are_measured_on_both_devices_while_others_wait(monkeypatch):
    """Two holders of the only two devices: a third waits until one is given back."""
    first, second = take_device(["cpu:0", "cpu:1"]), take_device(["cpu:0", "cpu:1"])
    assert {first.__enter__(), second.__enter__()} == {"cpu:0", "cpu:1"}
    got = []
    waiting = threading.Thread(target=lambda: got.append(_once(["cpu:0", "cpu:1"])))
    waiting.start()
    time.sleep(0.1)
    assert got == []
    second.__exit__(None, None, None)
    waiting.join(timeout=30)
    assert got == ["cpu:1"]
    first.__exit__(None, None, None)


def _once(devices):
    with take_device(devices) as device:
        return device
