"""What tells objects in memory apart."""

import functools
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from mlpapers.kernels._identity import digest

SCALE = 2


def scaled(k):
    return lambda x, shift=1: k * x + shift


def by_global(x):
    return SCALE * x


class Held:
    def __init__(self, value):
        self.value, self.me = value, self

    def method(self):
        return self.value

    @property
    def half(self):
        return self.value / 2


class Net(torch.nn.Module):
    def __init__(self, value=1):
        super().__init__()
        self.values = [value, self]
        self.inner = torch.nn.ModuleList([torch.nn.Dropout(0.5)])

    def forward(self, x):
        return super().forward(x)


MADE = {
    "int": int, "float": float, "text": str, "nested": lambda v: [v, {"a": {v}}], "closure": scaled,
    "object": Held, "method": lambda v: Held(v).method, "partial": lambda v: functools.partial(max, v),
    "array": lambda v: np.arange(3) + v, "scalar": np.float32, "tensor": lambda v: torch.full((2, 3), v),
    "shape": torch.zeros, "module": Net, "int64": lambda v: torch.tensor(2**53 + v),
    "bfloat16": lambda v: torch.full((), v, dtype=torch.bfloat16), "rng": np.random.default_rng,
    "class": lambda v: type("Kind", (), {"f": scaled(v)}), "range": range, "iterator": lambda v: iter([v, 3]),
}  # fmt: skip


@pytest.mark.parametrize("kind", MADE)
def test_equal_values_have_one_digest_and_others_another(kind):
    make = MADE[kind]
    assert digest(make(1)) == digest(make(1))
    assert digest(make(1)) != digest(make(2))


def test_structure_counts():
    values = ([1, 2], (1, 2), [[1], 2], [1, [2]], {1: 2}, {1, 2}, "12", [1, True], [1, 1], [1, 1.0], None, [])
    assert len({digest(value) for value in values}) == len(values)
    assert digest(1, 2) != digest([1, 2])
    same = [1]
    assert digest([same, same]) != digest([same, [2]])


def test_a_global_that_a_function_names_counts(monkeypatch):
    before = digest(by_global)
    monkeypatch.setitem(globals(), "SCALE", 3)
    assert digest(by_global) != before


def test_a_module_counts_with_its_mode_and_its_hooks():
    net = Net()
    before = digest(net)
    assert digest(net.eval()) != before
    net.train()
    assert digest(net) == before
    net.inner[0].p = 0.25
    assert digest(net) != before
    net.inner[0].p = 0.5
    net.register_forward_hook(lambda *call: -call[-1])
    assert digest(net) != before


def test_what_cannot_be_taken_apart_counts_by_its_class():
    assert digest(threading.Lock()) == digest(threading.Lock())
    assert digest(n for n in "ab") == digest(n for n in "cd")


def test_the_digest_is_the_same_in_every_process():
    code = (
        "from mlpapers.kernels._identity import digest; import torch\n"
        "f = lambda: [torch.rand(3), {1, 'b', 'c'}]\n"
        "print(digest(f, torch.nn.Linear, {'x', 'y'}, frozenset('abc')))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(found) == 1
