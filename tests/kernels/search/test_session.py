"""Search inside a run: what it measures, and what it leaves to the race."""

import itertools
import shutil

import pytest

from mlpapers.kernels import KernelAgent
from mlpapers.kernels._session import Session
from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.verify.examiner import Examiner
from mlpapers.kernels.verify.report import Verdict

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
TASK = make_task("t", "", "return torch.softmax(x, 0)", ("torch.randn(40, 300)",), HEAD)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.parametrize("search", ["evolve", "ucb"])
def test_the_fastest_setting_wins_and_the_same_seed_repeats(monkeypatch, search):
    rounds = []

    def measured(self, number, codes, runs):
        # Narrow tiles of columns are fast on this clock.
        rounds.append((number, len(codes)))
        noise = itertools.cycle([1.0, 1.001, 0.999])
        return [[next(noise) * (1 + self._columns(code)) for _ in range(runs)] for code in codes]

    def columns(self, code):
        return next(width for width in (16, 32, 64, 128, 256, 512, 1024, 304) if f"[{width}]" in code) / 100

    monkeypatch.setattr(Examiner, "_timed", _untimed)
    monkeypatch.setattr(Session, "measured", measured)
    monkeypatch.setattr(Session, "_columns", columns, raising=False)
    found = []
    for _ in range(2):
        agent = KernelAgent(
            dsl="cpp", backend="cpu", search=search, n_candidates=12, time_budget=60, n_correct=1,
            store=":memory:", random_state=5,
        )  # fmt: skip
        result = agent.generate(TASK)
        assert result.success, result.report.error
        found.append(result.kernel.params)
    assert found[0] == found[1]
    assert found[0]["COLS0"] == 16
    assert sum(count - 1 for number, count in rounds if number >= 1000) <= 2 * 12


def _untimed(self, code, report):
    return Verdict(True, "time", report)
