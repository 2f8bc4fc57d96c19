"""The clock of a worker: calls on a processor, events on a GPU (a make-believe one)."""

import time

import pytest
import torch

from mlpapers.kernels.verify import _guard
from mlpapers.kernels.verify import _stopwatch as module
from mlpapers.kernels.verify._stopwatch import Stopwatch
from mlpapers.kernels.verify.hacks import timing_hacks
from mlpapers.kernels.verify.isolation import Outcome


class FakeGPU:
    """Events that read a counter which each call moves on by 2 ms."""

    def __init__(self):
        self.now, self.waits = 0.0, 0
        gpu = self

        class Event:
            def __init__(self, enable_timing=False):
                assert enable_timing
                self.at = None

            def record(self):
                self.at = gpu.now

            def elapsed_time(self, end):
                return end.at - self.at

        self.Event = Event

    def synchronize(self):
        self.waits += 1

    def call(self, x):
        self.now += 2.0
        return x


class FakeDriver:
    def __init__(self):
        self.calls = []

    def cuCtxSetLimit(self, limit, value):
        self.calls.append((limit, value.value))

    def cuCtxResetPersistingL2Cache(self):
        self.calls.append("reset")


def test_a_processor_is_timed_by_its_clock():
    seconds, here, output = Stopwatch("cpu").time(lambda x: time.sleep(0.01) or x, [3], 2)
    assert seconds == here >= 0.01
    assert output == 3


def test_a_gpu_is_timed_by_events_between_two_waits(monkeypatch):
    monkeypatch.setattr(module, "_driver", FakeDriver)
    gpu = FakeGPU()
    watch = Stopwatch("cuda:0", cuda=gpu)
    gpu.Event.elapsed_time = lambda *_: 0.0  # a candidate that changes the class is late
    seconds, _, output = watch.time(gpu.call, [7], 3)
    assert seconds == pytest.approx(2e-3, rel=1e-12)
    assert output == 7
    assert gpu.waits == 2
    assert watch._driver.calls == [(6, 0), "reset"]


def test_a_cold_measurement_overwrites_more_than_the_cache():
    watch = Stopwatch("cpu", cold=True)
    watch.time(lambda: None, [])
    watch.time(lambda: None, [])
    assert watch._sweep.numel() * watch._sweep.element_size() == 256 << 20
    assert torch.equal(watch._sweep[:: 1 << 20], torch.full((64,), 2.0))


def test_work_beside_the_stream_is_seen():
    def outcome(host):
        times = {"alone": [2e-3], "eager": [2e-3] * 5, "kernel": [1e-3] * 5, "host": host}
        return Outcome("ok", {**times, "blocks": [{"calls": 4, "seconds": 4e-3}]})

    assert timing_hacks(outcome([1.1e-3] * 5)) == []
    assert timing_hacks(outcome([])) == []
    assert timing_hacks(outcome([9e-3, *[1.1e-3] * 4])) == []
    assert timing_hacks(outcome([2e-3] * 5)) == ["async_work"]


def test_generators_of_a_processor_and_blocks_for_none():
    before = _guard.generators("cpu")
    _guard.fill_device("cpu", [torch.rand(3)])
    assert not _guard.same_all(before, _guard.generators("cpu"))
    torch.manual_seed(0)
    first = _guard.generators("cpu")
    torch.manual_seed(0)
    assert _guard.same_all(first, _guard.generators("cpu"))
