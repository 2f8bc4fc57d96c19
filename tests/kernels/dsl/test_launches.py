"""Grids and programs: how sketches are cut, and what workspaces become."""

import numpy as np
import pytest

from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.dsl.launches import Launch, Sizes, Tiles, launches, rematerialised, with_chunks
from mlpapers.kernels.sketch import Alloc, Call, For, Load, Store, walk
from mlpapers.kernels.synthesis.synthesise import synthesise

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"


def sketch_of(forward, inputs=("torch.randn(19, 130)",), constructor=""):
    return synthesise(make_task("t", constructor, forward, inputs, HEAD))[0].sketch


def test_parallel_loops_are_the_grid_and_calls_stand_between():
    steps = launches(
        sketch_of("return torch.relu(self.fc(x))", ("torch.randn(11, 40)",), "self.fc = nn.Linear(40, 24)")
    )
    assert [type(step) for step in steps] == [Call, Launch]
    assert steps[1].columns == steps[1].axes[-1].var


def test_serial_regions_become_programs_of_their_own():
    # The mean of the rows' losses reads what the rows' program has stored.
    steps = launches(sketch_of("return F.cross_entropy(x, x.argmax(1))"))
    stored: set[str] = set()
    for step in steps:
        views = {view.name: view.base for view in sketch_of("return F.cross_entropy(x, x.argmax(1))").views}
        mine = {views.get(s.target, s.target) for s in walk(step.body) if isinstance(s, Store)}
        assert not mine & stored
        stored |= mine
    assert len(steps) >= 2


def test_workspaces_are_computed_again():
    sketch = sketch_of("return torch.softmax(x, -1)")
    assert any(isinstance(s, Alloc) and "temp_workspace" in s.hints for s in walk(sketch.body))
    loop = next(s for s in sketch.body if isinstance(s, For))
    body = rematerialised(loop.body)
    assert not any(isinstance(s, Alloc) and "temp_workspace" in s.hints for s in walk(body))
    names = {s.name for s in walk(loop.body) if isinstance(s, Alloc) and "temp_workspace" in s.hints}
    assert not any(isinstance(s, Load) and s.source in names for s in walk(body))
    assert body == rematerialised(body)


@pytest.mark.parametrize("factor", [0.25, 1, 4])
def test_other_chunks_mean_the_same(factor):
    sketch = sketch_of("return torch.mean((x - y) ** 2)", ("torch.randn(300, 700)", "torch.randn(300, 700)"))
    ((name, value),) = [pair for pair in sketch.constexprs if pair[0].startswith("CHUNK")]
    changed = with_chunks(sketch, {name: int(value * factor)}).validate()
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((300, 700)).astype(np.float32) for _ in range(2))
    wanted = np.mean((x.astype(float) - y) ** 2)
    # A block of 4096 terms is summed in float32.
    assert changed.interpret([x, y])[0] == pytest.approx(wanted, rel=1e-5)


def test_lanes_follow_the_index():
    steps = launches(sketch_of("return x / torch.linalg.vector_norm(x, dim=1, keepdim=True)",
                               ("torch.randn(3, 9, 70)",)))  # fmt: skip
    tiles = Tiles(sketch_of("return x / torch.linalg.vector_norm(x, dim=1, keepdim=True)",
                            ("torch.randn(3, 9, 70)",)), steps[0])  # fmt: skip
    found = {lanes for s in walk(steps[0].body) if isinstance(s, Load) for lanes in [tiles.lanes[s.dst]]}
    assert frozenset("RC") in found
    accumulators = [s for s in walk(steps[0].body) if isinstance(s, Alloc)]
    assert all(tiles.lanes[s.name] == frozenset("C") for s in accumulators)


def test_sizes_are_digits_variables_or_arguments():
    sizes = Sizes({"TILE0": 64}, "min({0}, {1})")
    assert sizes.text("TILE0") == "64"
    assert sizes.text("(1000 + 63) // 64") == "16"
    assert sizes.text("3*n0") == "e0"
    assert sizes.text("min(c+TILE0, 3*n0)") == "min(c + 64, e0)"
    assert sizes.arguments == ["3*n0"]
    assert sizes.known("n0") is None
    assert sizes.known("TILE0") == 64
