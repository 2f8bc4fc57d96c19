"""Products and convolutions of our own, against PyTorch's: sizes that do not fill blocks, all layouts."""

import pytest
import torch

from mlpapers.core.requirements import missing_requirement
from mlpapers.kernels.claims._suite import make_task
from mlpapers.kernels.graph import UnsupportedOp
from mlpapers.kernels.kernel import Kernel
from mlpapers.kernels.sketch import Sketch
from mlpapers.kernels.synthesis.synthesise import candidate, synthesise

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
needs_compiler = pytest.mark.skipif(bool(missing_requirement("cxx")), reason="needs a C++ compiler")

# name: (constructor, forward, inputs, terms of each sum)
CASES = {
    "mm": ("", "return x @ y", ("torch.randn(37, 300)", "torch.randn(300, 45)"), 300),
    "transposed": ("", "return x.T @ y.T", ("torch.randn(65, 30)", "torch.randn(70, 65)"), 65),
    "vector": ("", "return x @ y", ("torch.randn(37, 30)", "torch.randn(30)"), 30),
    "rows": ("", "return x @ y", ("torch.randn(2, 3, 7, 30)", "torch.randn(30, 33)"), 30),
    "bmm": ("", "return x @ y.transpose(1, 2)", ("torch.randn(5, 9, 70)", "torch.randn(5, 40, 70)"), 70),
    "linear": (
        "self.l = nn.Linear(70, 41)",
        "return torch.relu(self.l(x)) * 2",
        ("torch.randn(3, 19, 70)",),
        70,
    ),
    "addmm": (
        "",
        "return torch.addmm(z, x, y, beta=0.5, alpha=2.0)",
        ("torch.randn(9, 30)", "torch.randn(30, 11)", "torch.randn(11)"),
        30,
    ),
    "attention": (
        "",
        "return F.scaled_dot_product_attention(x, y, y * 2, is_causal=True)",
        ("torch.randn(2, 3, 9, 8)", "torch.randn(2, 3, 9, 8)"),
        9,
    ),
    "conv1d": ("self.c = nn.Conv1d(4, 5, 3, 2, 2, 2)", "return self.c(x)", ("torch.randn(2, 4, 50)",), 12),
    "conv2d": (
        "self.c = nn.Conv2d(8, 12, (3, 5), (1, 2), (1, 2), groups=4)",
        "return torch.relu(self.c(x))",
        ("torch.randn(3, 8, 17, 21)",),
        30,
    ),
    # Rows in several patches, inputs parted by the stride, and more channels than one patch takes.
    "conv2d stride": (
        "self.c = nn.Conv2d(3, 16, 11, 4, 2)",
        "return self.c(x)",
        ("torch.randn(2, 3, 65, 70)",),
        363,
    ),
    "conv2d dilation": (
        "self.c = nn.Conv2d(90, 7, 3, padding=4, dilation=3)",
        "return self.c(x)",
        ("torch.randn(1, 90, 9, 12)",),
        810,
    ),
    "conv1d long": ("self.c = nn.Conv1d(2, 3, 5)", "return self.c(x)", ("torch.randn(1, 2, 5000)",), 10),
    "transposed 1d": (
        "self.c = nn.ConvTranspose1d(3, 5, 4, stride=3, padding=2, dilation=2)",
        "return self.c(x)",
        ("torch.randn(2, 3, 40)",),
        12,
    ),
    "transposed 2d": (
        "self.c = nn.ConvTranspose2d(6, 4, 3, stride=2, padding=1, output_padding=1, groups=2)",
        "return torch.relu(self.c(x))",
        ("torch.randn(2, 6, 9, 11)",),
        27,
    ),
    # A stride beyond the kernel: some outputs meet no input.
    "transposed gaps": (
        "self.c = nn.ConvTranspose2d(3, 4, 2, stride=3)",
        "return self.c(x)",
        ("torch.randn(2, 3, 5, 5)",),
        12,
    ),
    "transposed 3d": (
        "self.c = nn.ConvTranspose3d(3, 4, (3, 5, 2), stride=(2, 1, 3), padding=(1, 2, 0), bias=False)",
        "return self.c(x)",
        ("torch.randn(1, 3, 5, 6, 7)",),
        90,
    ),
    "conv3d": (
        "self.c = nn.Conv3d(3, 17, 3, padding=1, bias=False)",
        "return self.c(x)",
        ("torch.randn(2, 3, 5, 9, 11)",),
        81,
    ),
}


def case(name):
    constructor, forward, inputs, terms = CASES[name]
    return make_task(name, constructor, forward, inputs, HEAD), terms


@needs_compiler
@pytest.mark.parametrize("name", CASES)
def test_own_contractions(name):
    task, terms = case(name)
    (first, *_) = synthesise(task, library_ops="none")
    assert first.sketch.library == ()
    assert Sketch.parse(first.sketch.to_text()) == first.sketch
    code = candidate(first).code
    assert "torch.ops" not in code
    module, inputs = task.build(0)
    ours = Kernel(code, "cpp", "cpu", task).load()()
    ours.load_state_dict(module.state_dict())
    with torch.no_grad():
        wanted = module.double()(*[x.double() for x in inputs])
    # n products and sums of entries of a few units are off by at most n roundings of their size, n * 2^-24;
    # their sum grows like the root of n, so n^1.5 bounds it with room for the factors.
    bound = 4 * terms**1.5 * 2.0**-24
    torch.testing.assert_close(ours(*inputs).double(), wanted, rtol=bound, atol=bound)
    # The interpreter takes the library's word for the same call.
    told = first.sketch.interpret(
        [x.numpy() for x in inputs], {k: v.float().numpy() for k, v in ours.state_dict().items()}
    )
    torch.testing.assert_close(torch.from_numpy(told[0]).double(), wanted, rtol=bound, atol=bound)


@pytest.mark.parametrize(
    ("constructor", "forward", "inputs"),
    [
        ("", "return x @ y", ("torch.randn(4, 5).double()", "torch.randn(5, 6).double()")),
        ("", "return F.conv1d(x, y)", ("torch.randn(2, 4, 9).double()", "torch.randn(5, 4, 3).double()")),
    ],
)
def test_what_has_no_own_form_is_refused(constructor, forward, inputs):
    with pytest.raises(UnsupportedOp, match="library_ops='none' forbids"):
        synthesise(make_task("t", constructor, forward, inputs, HEAD), library_ops="none")
