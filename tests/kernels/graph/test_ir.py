"""Gathers of elementwise results: computed of gathered operands where few elements are wanted."""

import pytest
import torch

from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.graph.capture import capture
from mlpapers.kernels.synthesis.synthesise import synthesise

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
X, ROW, COLUMN = "torch.randn(32, 48)", "torch.randn(48)", "torch.randn(32, 1)"
# forward, inputs, whether the gather moves before the operation
CASES = [
    ("return torch.exp(x).gather(1, z)", (X, "0", "torch.randint(0, 48, (32, 3))"), True),
    ("return (x * y).gather(1, z)", (X, ROW, "torch.randint(0, 48, (32, 3))"), True),
    ("return (x * y).gather(1, z)", (X, COLUMN, "torch.randint(0, 48, (32, 3))"), True),
    ("return (x - y).gather(0, z)", (X, ROW, "torch.randint(0, 32, (2, 48))"), True),
    ("return (x - y).gather(0, z)", (X, COLUMN, "torch.randint(0, 32, (2, 48))"), True),
    ("return torch.where(x > y, x, 2 * y).gather(1, z)", (X, X, "torch.randint(0, 48, (32, 1))"), True),
    ("return torch.log_softmax(x, 1).gather(1, z)", (X, "0", "torch.randint(0, 48, (32, 1))"), True),
    # As many as there are: nothing would be saved.
    ("return torch.exp(x).gather(1, z)", (X, "0", "torch.randint(0, 48, (32, 48))"), False),
]


@pytest.mark.parametrize(("forward", "inputs", "moves"), CASES)
def test_gathers_of_elementwise_results(forward, inputs, moves):
    task = make_task("t", "", forward, inputs, HEAD)
    graph = capture(task, shape_policy="static")
    gathers = [node for node in graph.nodes if node.op == "gather"]
    assert gathers
    assert all((graph.nodes[node.inputs[0]].kind != "pointwise") == moves for node in gathers)
    module, values = task.build(0)
    sketch = synthesise(task, shape_policy="static")[0].sketch
    found = sketch.interpret([v.numpy() if isinstance(v, torch.Tensor) else v for v in values])[0]
    # The same operations in float32, elementwise ones to a few roundings.
    torch.testing.assert_close(torch.from_numpy(found), module(*values), rtol=1e-6, atol=1e-6)


def test_a_cross_entropy_stores_no_matrix():
    task = make_task("t", "", "return F.cross_entropy(x, y)", (X, "torch.randint(0, 48, (32,))"), HEAD)
    sketch = synthesise(task)[0].sketch
    assert [t.name for t in sketch.tensors if len(t.dims) == 2 and t.dims[1] == "48"] == ["x_x"]
