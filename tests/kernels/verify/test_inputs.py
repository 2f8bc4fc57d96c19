"""Trials: own distribution, other values, other sizes, changed weights."""

import numpy as np
import pytest
import torch
from kernel_support import BATCH_NORM, HEAD, MATMUL, RELU, SCALE

from mlpapers.kernels.task import Task
from mlpapers.kernels.verify.inputs import draw_trials, resize
from mlpapers.kernels.verify.reference import Reference


def trials_of(task, *, n_correct=5, shape_policy="batch", seed=0):
    return draw_trials(
        task,
        Reference(task, 1),
        n_correct=n_correct,
        shape_policy=shape_policy,
        rng=np.random.default_rng(seed),
    )


def shapes(trials):
    return [tuple(tuple(x.shape) for x in trial.inputs) for trial in trials if trial.label.startswith("size")]


def test_other_values_reach_below_zero():
    other = [trial for trial in trials_of(RELU) if trial.label == "other values"]
    assert len(other) == 1
    x = other[0].inputs[0]
    assert -3 <= x.min() < -2.5
    assert 2.5 < x.max() <= 3
    assert all(trial.inputs[0].min() >= 0 for trial in trials_of(RELU) if trial.label == "own distribution")


def test_answers_are_those_of_the_reference():
    for trial in trials_of(SCALE):
        (x,) = trial.inputs
        assert torch.equal(trial.eager[0], x * trial.state["weight"])
        assert torch.equal(trial.oracle[0], x.double() * trial.state["weight"].double())


def test_weights_change_from_the_second_trial_on():
    first, second, third, *_ = trials_of(SCALE)
    assert torch.equal(first.state["weight"], Reference(SCALE, 1).state()["weight"])
    ratio = second.state["weight"] / first.state["weight"]
    assert 1.05 <= ratio.min() <= ratio.max() <= 1.3
    assert not torch.equal(second.state["weight"], third.state["weight"])


def test_batch_sizes():
    assert shapes(trials_of(RELU)) == [((49, 50),), ((24, 50),)]
    # The leading sizes of the factors differ; only the first is the batch.
    assert shapes(trials_of(MATMUL)) == [((65, 96), (96, 40)), ((32, 96), (96, 40))]
    assert shapes(trials_of(RELU, shape_policy="static")) == []


def test_a_square_product_has_rows_too():
    task = Task.from_source(MATMUL.source.replace("96", "64"))
    # Both factors with 65 rows do not fit together, so the first alone grows.
    assert shapes(trials_of(task)) == [((65, 64), (64, 40)), ((32, 64), (64, 40))]


def test_dynamic_sizes_keep_shared_dimensions_together():
    found = shapes(trials_of(MATMUL, shape_policy="dynamic"))
    assert ((1, 96), (96, 40)) in found
    assert ((64, 99), (99, 40)) in found
    assert ((64, 96), (96, 80)) in found
    assert all(a[1] == b[0] for a, b in found)
    # What a parameter fixes stays.
    assert all(shape[0][1] == 30 for shape in shapes(trials_of(SCALE, shape_policy="dynamic")))


def test_structure_of_zeros_is_kept():
    task = Task.from_source(
        HEAD
        + "class Model(nn.Module):\n    def forward(self, x):\n        return x @ x\n"
        + "def get_inputs():\n    return [torch.rand(16, 16).tril()]"
    )
    (other,) = [trial for trial in trials_of(task) if trial.label == "other values"]
    assert torch.equal(other.inputs[0], other.inputs[0].tril())
    assert other.inputs[0].min() < -1


def test_other_values_are_skipped_where_the_oracle_is_not_finite():
    task = Task.from_source(RELU.source.replace("torch.relu(x)", "torch.log(x + 1e-3)"))
    assert [trial.label for trial in trials_of(task, shape_policy="static")] == ["own distribution"] * 5


def test_state_after_the_call():
    for trial in trials_of(BATCH_NORM, shape_policy="static"):
        assert trial.state_after["norm.num_batches_tracked"] == trial.state["norm.num_batches_tracked"] + 1
        assert not torch.equal(trial.state_after["norm.running_mean"], trial.state["norm.running_mean"])


def test_resized_inputs_continue_with_fresh_draws():
    base = RELU.draw_inputs(0)
    longer = resize(RELU, base, [(0, 0)], 130, np.random.default_rng(0))[0]
    assert longer.shape == (130, 50)
    assert torch.equal(longer[:48], base[0])
    assert len(torch.unique(longer)) > 6400
    shorter = resize(RELU, base, [(0, 1)], 7, np.random.default_rng(0))[0]
    assert torch.equal(shorter, base[0][:, :7])


def test_seeds_differ_between_runs_and_not_within_one():
    one, same, other = (trials_of(RELU, n_correct=1, seed=s)[0].inputs[0] for s in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_task_that_raises_is_no_task():
    task = Task.from_source(RELU.source.replace("torch.relu(x)", "x @ x"))
    with pytest.raises(ValueError, match="raises on its own inputs"):
        trials_of(task)


def test_indices_out_of_range_are_found_before_a_gpu_stops_at_them():
    """A device does not refuse them, it stops for good; so the processor is asked first."""
    task = Task.from_source(
        HEAD
        + """
class Model(nn.Module):
    def forward(self, x, y):
        return nn.functional.cross_entropy(x, y)
def get_inputs():
    return [torch.rand(8, 6), torch.randint(0, 6, (8,))]
"""
    )
    reference, state = Reference(task), {}
    reference.device = "a device"
    x, y = task.draw_inputs(0)
    assert reference.takes([x, y], state)
    assert not reference.takes([x[:, :1].contiguous(), y + 1], state)
    # Where nothing is an index nothing is tried.
    assert reference.takes([x, x[:3]], state)


def test_a_size_of_zero_is_kept():
    empty = RELU.with_overrides(n=0)
    assert empty.draw_inputs()[0].shape == (0, 50)
    assert shapes(trials_of(empty)) == []
    # The other dimension is still tried at other sizes.
    assert ((0, 100),) in shapes(trials_of(empty, shape_policy="dynamic"))


def test_keys_of_a_tied_weight_keep_one_value():
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4, bias=False))
    module[1].weight = module[0].weight
    trials = trials_of(Task.from_module(module, lambda: [torch.randn(3, 4)]))
    assert not torch.equal(trials[0].state["0.weight"], trials[1].state["0.weight"])
    for trial in trials:
        assert torch.equal(trial.state["0.weight"], trial.state["1.weight"])
        assert torch.equal(trial.state_after["0.weight"], trial.state["0.weight"])
