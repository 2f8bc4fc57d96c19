"""Tasks: constants and their overrides, construction, refusals."""

from dataclasses import replace

import pytest
import torch

from mlpapers.kernels.task import LiveModule, Task, TaskError

SOURCE = """
import torch
import torch.nn as nn
batch, dim = 4, 8
scale = 2.0
class Model(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.fc = nn.Linear(dim, 3)
    def forward(self, x):
        return self.fc(x) * scale
def get_inputs():
    return [torch.randn(batch, dim)]
def get_init_inputs():
    return [dim]
"""


def test_overrides_replace_constants_also_in_tuples():
    task = Task.from_source(SOURCE).with_overrides(batch=2, dim=5)
    module, (x,) = task.build()
    assert x.shape == (2, 5)
    assert module.fc.in_features == 5
    assert Task.from_source(SOURCE).constants() == {"batch": 4, "dim": 8, "scale": 2.0}


def test_a_later_override_wins_and_changes_the_fingerprint():
    task = Task.from_source(SOURCE)
    other = task.with_overrides(batch=2).with_overrides(batch=3)
    assert other.build()[1][0].shape[0] == 3
    assert other.fingerprint != task.fingerprint
    assert task.with_overrides().fingerprint == task.fingerprint


def test_unknown_override_lists_the_constants():
    with pytest.raises(KeyError, match="batch, dim, scale"):
        Task.from_source(SOURCE, overrides={"rows": 1})


def test_build_is_reproducible_and_leaves_the_callers_generator_alone():
    task = Task.from_source(SOURCE)
    before = torch.random.get_rng_state()
    first, second = task.build(3), task.build(3)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first[1][0], second[1][0])
    assert torch.equal(first[0].fc.weight, second[0].fc.weight)
    assert not torch.equal(first[1][0], task.build(4)[1][0])
    assert task.init_inputs() == [8]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "empty"),
        ("def get_inputs(:", "no Python"),
        ("def get_inputs():\n    return []", "Model"),
        ("class Model:\n    pass", "get_inputs"),
    ],
)
def test_sources_that_are_no_task(source, message):
    with pytest.raises(TaskError, match=message):
        Task.from_source(source)


@pytest.mark.parametrize(
    "value", ["torch.zeros(2, dtype=torch.cfloat)", "torch.eye(2).to_sparse()", "'text'"]
)
def test_inputs_that_are_not_supported(value):
    source = SOURCE.replace("torch.randn(batch, dim)", value)
    with pytest.raises(TaskError, match="input 0"):
        Task.from_source(source).build()


def test_a_constructor_that_raises_is_named():
    source = SOURCE.replace("super().__init__()", "raise RuntimeError('no such layer')")
    with pytest.raises(TaskError, match="no such layer"):
        Task.from_source(source).build()


def test_tasks_from_modules_in_memory():
    module = torch.nn.Linear(3, 2)
    task = Task.from_module(module, lambda: [torch.ones(1, 3)])
    built, (x,) = task.build()
    assert built is not module
    assert torch.equal(built(x), module(x))
    same = Task.from_module(torch.nn.Linear, lambda: [torch.ones(1, 3)], lambda: [3, 2])
    assert same.init_inputs() == [3, 2]
    assert same.fingerprint != task.fingerprint
    with pytest.raises(ValueError, match="get_init_inputs"):
        Task.from_module(module, list, list)
    with pytest.raises(TypeError, match="module"):
        Task.from_module(3, list)
    with pytest.raises(KeyError):
        task.with_overrides(rows=1)


def test_a_task_that_was_read_back_has_no_module():
    kept = Task.from_module(torch.nn.Linear(3, 2), lambda: [torch.ones(1, 3)])
    task = replace(kept, live=LiveModule())
    assert task == kept
    for use in (task.build, task.draw_inputs, task.init_inputs, lambda: task.instance):
        with pytest.raises(TaskError, match="from_module"):
            use()


def test_only_an_instance_is_the_module_of_a_task():
    module = torch.nn.Linear(3, 2)
    assert Task.from_module(module, list).instance is module
    assert Task.from_module(torch.nn.Linear, list, lambda: [3, 2]).instance is None
    assert Task.from_source(SOURCE).instance is None
    before = Task.from_module(module, list).fingerprint
    module.register_buffer("shift", torch.ones(2), persistent=False)
    assert Task.from_module(module, list).fingerprint != before
    # torch copies no tensor that has a history.
    module.held = torch.ones(2, requires_grad=True) * 2
    with pytest.raises(TaskError, match="copying the module"):
        Task.from_module(module, list).build()
    with pytest.raises(TaskError, match="cannot be copied"):
        _ = Task.from_module(module, list).nondeterministic


class Times(torch.nn.Module):
    """A module whose setting stands in no parameter, buffer or repr."""

    def __init__(self, factor=2.0):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def test_tasks_from_modules_that_compute_different_things_are_told_apart():
    def fingerprint(module, get_inputs=lambda: [torch.rand(2, 3)], get_init_inputs=None):
        return Task.from_module(module, get_inputs, get_init_inputs).fingerprint

    assert fingerprint(Times()) == fingerprint(Times())
    assert fingerprint(Times(3.0)) != fingerprint(Times())
    assert fingerprint(Times().eval()) != fingerprint(Times())
    assert fingerprint(Times(), lambda: [torch.rand(2, 4)]) != fingerprint(Times())
    assert fingerprint(Times, get_init_inputs=lambda: [3.0]) != fingerprint(Times)
    # float32 cannot tell these apart.
    counts = [torch.nn.Identity() for _ in range(2)]
    for module, count in zip(counts, (2**24, 2**24 + 1)):
        module.register_buffer("count", torch.tensor(count))
    assert fingerprint(counts[0]) != fingerprint(counts[1])


def test_an_override_holds_for_the_rest_of_its_line():
    source = SOURCE.replace("batch, dim = 4, 8", "text = 'a\\x0cb\x0cü'; batch = 4; dim = 2 * batch  # sizes")
    task = Task.from_source(source).with_overrides(batch=3)
    assert task.build()[1][0].shape == (3, 6)
    assert len(task.resolved_source.split("\n")) == len(source.split("\n"))
    several = SOURCE.replace("batch, dim = 4, 8", "batch = (\n    4\n)\ndim: int = 8").replace("\n", "\r\n")
    assert Task.from_source(several).with_overrides(batch=2, dim=5).build()[1][0].shape == (2, 5)


def test_dropout_makes_a_task_nondeterministic():
    source = SOURCE.replace("self.fc(x) * scale", "nn.functional.dropout(self.fc(x), 0.5)")
    assert Task.from_source(source).nondeterministic
    assert not Task.from_source(SOURCE).nondeterministic
