"""What a clock shows must show again and again: a busy machine is no cheat."""

import pytest

from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.verify.examiner import Examiner
from mlpapers.kernels.verify.isolation import Outcome
from mlpapers.kernels.verify.report import CorrectnessReport

TASK = make_task("t", "", "return torch.relu(x)", ("torch.rand(6, 5)",))
TIMES = Outcome("ok", {"eager": [2.0] * 5, "kernel": [1.0] * 5})


@pytest.mark.parametrize(
    ("shown", "ok", "measurements"),
    [
        ([[]], True, 1),
        ([["clock"], ["clock", "roofline"], ["clock"], []], True, 4),
        ([["clock"], ["slows_reference"]], True, 2),
        ([["clock"]] * 4, False, 4),
        ([["state_drift"]], False, 1),
        ([["clock", "patches_harness"]], False, 1),
    ],
)
def test_suspicions_of_the_clock_are_measured_again_and_those_of_values_are_not(
    monkeypatch, shown, ok, measurements
):
    rest = iter(shown)
    count = []

    def time(_self, _code):
        count.append(1)
        return TIMES, next(rest), ""

    monkeypatch.setattr(Examiner, "time", time)
    monkeypatch.setattr(Examiner, "degenerate", False)
    with Examiner(TASK, dsl="cpp", backend="cpu", random_state=0) as examiner:
        verdict = examiner._timed("code", CorrectnessReport(ok=True))
    assert verdict.ok == ok
    assert len(count) == measurements
    assert ok or set(verdict.report.hacks) <= {"clock", "state_drift", "patches_harness"}
    assert ok == (verdict.speedup == 2.0)
