"""Tasks on which speed is measured: every template family, memory-bound sizes."""

from __future__ import annotations

import textwrap

from mlpapers.kernels.task import Task

QUICK = ("mse", "kl_div", "rms_norm", "softmax", "group_norm", "tanh_gelu", "masked_cumsum", "conv2d_chain")

_HEAD = (
    "import math\nimport torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\n"
    "rows = 4096\nbatch = 8\n"
)
_MATRIX = "torch.rand(rows, 2048)"
_IMAGE = "torch.rand(batch, 64, 128, 128)"
_CUBE = "torch.rand(2 * batch, 512, 1024)"

# name: (constructor, forward, inputs)
_SUITE: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "mse": ("", "return torch.mean((x - y) ** 2)", (_MATRIX, _MATRIX)),
    "kl_div": (
        "",
        'return F.kl_div(torch.log(x), y, reduction="batchmean")',
        (f"{_MATRIX}.softmax(-1)", f"{_MATRIX}.softmax(-1)"),
    ),
    "rms_norm": ("", "return x / torch.sqrt(torch.mean(x ** 2, dim=1, keepdim=True) + 1e-5)", (_IMAGE,)),
    "softmax": ("", "return torch.softmax(x, dim=1)", (_MATRIX,)),
    "group_norm": ("self.norm = nn.GroupNorm(8, 64)", "return self.norm(x)", (_IMAGE,)),
    "tanh_gelu": (
        "",
        "return 0.5 * x * (1.0 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))))",
        (_MATRIX,),
    ),
    "masked_cumsum": (
        "",
        "return torch.cumsum(x * y, dim=1)",
        (_MATRIX, "torch.randint(0, 2, (rows, 2048)).bool()"),
    ),
    "conv2d_chain": (
        "self.conv = nn.Conv2d(3, 16, 3)",
        "return F.hardswish(torch.relu(self.conv(x)))",
        ("torch.rand(4 * batch, 3, 128, 128)",),
    ),
    "hinge": (
        "",
        "return torch.mean(torch.clamp(1 - x * y, min=0))",
        (_MATRIX, "torch.randint(0, 2, (2048,)).float() * 2 - 1"),
    ),
    "triplet": (
        "self.loss = nn.TripletMarginLoss()",
        "return self.loss(x, y, z)",
        (_MATRIX, _MATRIX, _MATRIX),
    ),
    "mish_mish": ("", "return F.mish(F.mish(x))", (_MATRIX,)),
    "huber": ("", "return F.smooth_l1_loss(x, y)", (_MATRIX, _MATRIX)),
    "cross_entropy": ("", "return F.cross_entropy(x, y)", (_MATRIX, "torch.randint(0, 2048, (rows,))")),
    "argmax": ("", "return torch.argmax(x, dim=1)", (_CUBE,)),
    "instance_norm": ("self.norm = nn.InstanceNorm2d(64)", "return self.norm(x)", (_IMAGE,)),
    "swish": ("", "return x * torch.sigmoid(x)", (_MATRIX,)),
    "l1_norm": ("", "return x / torch.mean(torch.abs(x), dim=1, keepdim=True)", (_MATRIX,)),
    "conv3d_chain": (
        "self.conv = nn.Conv3d(3, 16, 3)\nself.bias = nn.Parameter(torch.randn(16, 1, 1, 1))",
        "x = F.leaky_relu(torch.relu(self.conv(x)), 0.01)\nreturn torch.sigmoid(F.gelu(x)) + self.bias",
        ("torch.rand(batch // 2, 3, 32, 64, 64)",),
    ),
    "sum": ("", "return torch.sum(x, dim=1, keepdim=True)", (_CUBE,)),
    "cumsum": ("", "return torch.cumsum(x, dim=1)", (_MATRIX,)),
    "l2_norm": ("", "return x / torch.norm(x, p=2, dim=1, keepdim=True)", (_MATRIX,)),
    "sigmoid": ("", "return torch.sigmoid(x)", (_MATRIX,)),
    "gelu": ("", "return F.gelu(x)", (_MATRIX,)),
    "relu": ("", "return torch.relu(x)", (_MATRIX,)),
}
NAMES = tuple(_SUITE)


def make_task(name: str, constructor: str, forward: str, inputs: tuple[str, ...], head: str = _HEAD) -> Task:
    """Return a task from the bodies of its constructor and of ``forward``."""
    arguments = ", ".join("xyzw"[: len(inputs)])
    body = textwrap.indent(constructor or "pass", " " * 8)
    source = (
        f"{head}\n\nclass Model(nn.Module):\n    def __init__(self):\n        super().__init__()\n{body}\n\n"
        f"    def forward(self, {arguments}):\n{textwrap.indent(forward, ' ' * 8)}\n\n\n"
        f"def get_inputs():\n    return [{', '.join(inputs)}]\n"
    )
    return Task.from_source(source, name)


def speed_task(name: str) -> Task:
    """Return a task of the suite: 8.4 million elements, or what the convolution makes of its input."""
    return make_task(name, *_SUITE[name])
