"""The tasks of ``mini_bench``: small PyTorch modules in KernelBench's format, in our own words.

Together they need every template of the rule synthesiser and every category of operators. The category is the
first word of a task's name. Sizes are constants at the top of each source, so ``task.with_overrides``
changes them; some are odd on purpose.
"""

from __future__ import annotations

from mlpapers.kernels.task import Task

CATEGORIES = (
    "elementwise", "reduction", "norm", "loss", "scan", "pool", "matmul", "conv", "attention", "move",
    "fused",
)  # fmt: skip


def _source(
    forward: str, inputs: str, *, sizes: str, init: str = "", init_inputs: str = "", args: str = "x"
) -> str:
    """Return the text of a task; `forward` may have several lines, the last of which is what is returned."""
    *steps, result = forward.strip().splitlines()
    names = [part.split("=")[0].strip() for part in init_inputs.split(",") if part.strip()]
    lines = ["import torch", "import torch.nn as nn", "import torch.nn.functional as F", ""]
    lines += [part.strip() for part in sizes.split(";")]
    lines += ["", "", "class Model(nn.Module):"]
    if init:
        lines += [f"    def __init__({', '.join(['self', *names])}):", "        super().__init__()"]
        lines += [f"        {line}" for line in init.strip().splitlines()]
        lines.append("")
    lines.append(f"    def forward(self, {args}):")
    lines += [f"        {line}" for line in steps]
    lines += [f"        return {result.strip()}", "", "", "def get_inputs():", f"    return [{inputs}]"]
    if init_inputs:
        values = [part.split("=")[1].strip() for part in init_inputs.split(",")]
        lines += ["", "", "def get_init_inputs():", f"    return [{', '.join(values)}]"]
    return "\n".join(lines) + "\n"


_ROWS = "rows = 96; columns = 1000"
_X = "torch.rand(rows, columns)"
_N = "torch.randn(rows, columns)"
_TWO = "torch.rand(rows, columns), torch.rand(rows, columns)"
_IMAGE = "batch = 4; channels = 12; height = 29; width = 31"
_PIXELS = "torch.randn(batch, channels, height, width)"
_GEMM = "m = 64; k = 160; n = 96"


def _elementwise() -> dict[str, str]:
    big = "rows = 200; columns = 1021"
    return {
        "relu": _source("torch.relu(x)", _N, sizes=big),
        "gelu_erf": _source("F.gelu(x)", _N, sizes=big),
        "gelu_tanh": _source(
            "inner = 0.7978845608 * (x + 0.044715 * torch.pow(x, 3))\n0.5 * x * (1.0 + torch.tanh(inner))",
            _N,
            sizes=big,
        ),
        "swish": _source("x * torch.sigmoid(x)", _N, sizes=big),
        "mish_twice": _source("F.mish(F.mish(x))", _N, sizes=big),
        "leaky_elu": _source("F.elu(F.leaky_relu(x, 0.02), 0.7)", _N, sizes=big),
        "hard": _source("F.hardswish(x) + F.hardtanh(x, -0.5, 1.5)", _N, sizes=big),
        "softplus_softsign": _source("F.softplus(x) * F.softsign(x)", _N, sizes=big),
        "broadcast": _source(
            "(x + self.shift) * self.scale",
            _N,
            sizes=_ROWS,
            init="self.shift = nn.Parameter(torch.randn(width))\nself.scale = nn.Parameter(torch.randn(1))",
            init_inputs="width=columns",
        ),
        "masked": _source(
            "torch.where(mask > 0.5, x * 2.0, -x).clamp(-1.0, 1.5)",
            _N + ", torch.rand(rows, columns)",
            sizes=_ROWS,
            args="x, mask",
        ),
    }


def _reduction() -> dict[str, str]:
    cube = "batch = 12; rows = 53; columns = 61"
    x = "torch.randn(batch, rows, columns)"
    return {
        "sum_middle": _source("torch.sum(x, dim=1, keepdim=True)", x, sizes=cube),
        "mean_last": _source("x.mean(dim=-1)", x, sizes=cube),
        "max_middle": _source("torch.max(x, dim=1)[0]", x, sizes=cube),
        "argmax": _source("torch.argmax(x, dim=2)", x, sizes=cube),
        "min_both": _source("values, places = torch.min(x, dim=1)\nvalues, places", x, sizes=cube),
        "logsumexp": _source("torch.logsumexp(x, dim=2)", x, sizes=cube),
        "variance": _source("torch.var(x, dim=2)", x, sizes=cube),
        "whole": _source("(x * x).sum()", x, sizes=cube),
    }


def _norm() -> dict[str, str]:
    return {
        "softmax": _source("torch.softmax(x, dim=1)", _N, sizes=_ROWS),
        "log_softmax": _source("F.log_softmax(x, dim=-1)", _N, sizes=_ROWS),
        "layer": _source(
            "self.norm(x)",
            _N,
            sizes=_ROWS,
            init="self.norm = nn.LayerNorm(width)",
            init_inputs="width=columns",
        ),
        "rms": _source(
            "x / torch.sqrt((x * x).mean(dim=1, keepdim=True) + self.eps)",
            _PIXELS,
            sizes=_IMAGE,
            init="self.eps = eps",
            init_inputs="eps=1e-5",
        ),
        "group": _source(
            "self.norm(x)",
            _PIXELS,
            sizes=_IMAGE,
            init="self.norm = nn.GroupNorm(groups, width)",
            init_inputs="groups=3, width=channels",
        ),
        "instance": _source(
            "self.norm(x)",
            _PIXELS,
            sizes=_IMAGE,
            init="self.norm = nn.InstanceNorm2d(width)",
            init_inputs="width=channels",
        ),
        "batch_train": _source(
            "self.norm(x)",
            _PIXELS,
            sizes=_IMAGE,
            init="self.norm = nn.BatchNorm2d(width)",
            init_inputs="width=channels",
        ),
        "l1": _source("x / x.abs().sum(dim=1, keepdim=True)", _X, sizes=_ROWS),
        "l2": _source("x / torch.norm(x, p=2, dim=1, keepdim=True)", _N, sizes=_ROWS),
        "frobenius": _source("x / torch.norm(x, p='fro')", _N, sizes=_ROWS),
    }


def _loss() -> dict[str, str]:
    classes = "batch = 300; classes = 37"
    return {
        "mse": _source("torch.mean((a - b) ** 2)", _TWO, sizes=_ROWS, args="a, b"),
        "huber": _source("F.smooth_l1_loss(a, b)", _TWO, sizes=_ROWS, args="a, b"),
        "kl": _source(
            "F.kl_div(torch.log(p), q, reduction='batchmean')",
            "torch.rand(rows, columns).softmax(-1), torch.rand(rows, columns).softmax(-1)",
            sizes=_ROWS,
            args="p, q",
        ),
        "cross_entropy": _source(
            "F.cross_entropy(scores, wanted)",
            "torch.randn(batch, classes), torch.randint(0, classes, (batch,))",
            sizes=classes,
            args="scores, wanted",
        ),
        "hinge": _source(
            "torch.mean(torch.clamp(1 - scores * signs, min=0))",
            "torch.randn(rows, columns), torch.randint(0, 2, (columns,)).float() * 2 - 1",
            sizes=_ROWS,
            args="scores, signs",
        ),
        "triplet": _source(
            "self.loss(anchor, near, far)",
            ", ".join([_X] * 3),
            sizes=_ROWS,
            args="anchor, near, far",
            init="self.loss = nn.TripletMarginLoss(margin=margin)",
            init_inputs="margin=1.0",
        ),
    }


def _scan() -> dict[str, str]:
    return {
        "cumsum": _source("torch.cumsum(x, dim=1)", _N, sizes=_ROWS),
        "reverse": _source("torch.cumsum(x.flip(1), dim=1).flip(1)", _N, sizes=_ROWS),
        "masked": _source(
            "torch.cumsum(x * mask, dim=1)",
            _N + ", torch.rand(rows, columns) > 0.5",
            sizes=_ROWS,
            args="x, mask",
        ),
        "cumprod": _source("torch.cumprod(x, dim=1)", "0.9 + 0.2 * " + _X, sizes="rows = 40; columns = 90"),
    }


def _pool() -> dict[str, str]:
    return {
        "max2d": _source("F.max_pool2d(x, 3, stride=2, padding=1)", _PIXELS, sizes=_IMAGE),
        "average2d": _source("F.avg_pool2d(x, 2)", _PIXELS, sizes=_IMAGE),
        "average1d": _source(
            "F.avg_pool1d(x, 5, stride=2, padding=2)",
            "torch.randn(batch, channels, length)",
            sizes="batch = 6; channels = 10; length = 203",
        ),
        "global": _source("F.adaptive_avg_pool2d(x, 1)", _PIXELS, sizes=_IMAGE),
    }


def _matmul() -> dict[str, str]:
    return {
        "plain": _source("a @ b", "torch.rand(m, k), torch.rand(k, n)", sizes=_GEMM, args="a, b"),
        "transposed": _source(
            "a.t() @ b.t()", "torch.rand(k, m), torch.rand(n, k)", sizes=_GEMM, args="a, b"
        ),
        "batched": _source(
            "torch.bmm(a, b)",
            "torch.rand(batch, m, k), torch.rand(batch, k, n)",
            sizes="batch = 5; " + _GEMM,
            args="a, b",
        ),
        "vector": _source(
            "a @ b", "torch.rand(m, k), torch.rand(k, 1)", sizes="m = 301; k = 777", args="a, b"
        ),
        "diagonal": _source(
            "torch.diag(d) @ a", "torch.rand(k), torch.rand(k, n)", sizes="k = 120; n = 333", args="d, a"
        ),
    }


def _conv() -> dict[str, str]:
    def layer(kind: str, options: str = "") -> str:
        return f"self.conv = nn.{kind}(width, wide, 3{options})"

    both = "width=channels, wide=16"
    return {
        "relu_hardswish": _source(
            "F.hardswish(torch.relu(self.conv(x)))",
            _PIXELS,
            sizes=_IMAGE,
            init=layer("Conv2d"),
            init_inputs=both,
        ),
        "transposed_chain": _source(
            "torch.tanh(self.conv(x) - self.bias) * 2.0",
            _PIXELS,
            sizes=_IMAGE,
            init=layer("ConvTranspose2d", ", stride=2")
            + "\nself.bias = nn.Parameter(torch.randn(wide, 1, 1))",
            init_inputs=both,
        ),
        "depthwise": _source(
            "self.conv(x)",
            _PIXELS,
            sizes=_IMAGE,
            init="self.conv = nn.Conv2d(width, width, 3, groups=width, padding=1)",
            init_inputs="width=channels",
        ),
        "norm_pool": _source(
            "self.pool(torch.relu(self.norm(self.conv(x))))",
            _PIXELS,
            sizes=_IMAGE,
            init=layer("Conv2d") + "\nself.norm = nn.BatchNorm2d(wide)\nself.pool = nn.MaxPool2d(2)",
            init_inputs=both,
        ),
    }


def _attention() -> dict[str, str]:
    sizes = "batch = 2; heads = 4; length = 33; width = 16"
    three = ", ".join(["torch.randn(batch, heads, length, width)"] * 3)
    return {
        "library": _source("F.scaled_dot_product_attention(q, k, v)", three, sizes=sizes, args="q, k, v"),
        "written_out": _source(
            "scores = q @ k.transpose(-2, -1) / math_scale\ntorch.softmax(scores, dim=-1) @ v",
            three,
            sizes=sizes + "; math_scale = 4.0",
            args="q, k, v",
        ),
    }


def _move() -> dict[str, str]:
    return {
        "concatenate": _source(
            "torch.cat([x, y * 2.0], dim=1)",
            _N + ", torch.randn(rows, 37)",
            sizes=_ROWS,
            args="x, y",
        ),
        "roll_pad": _source("F.pad(torch.roll(x, 3, dims=1), (1, 2)) + 1.0", _N, sizes=_ROWS),
        "transpose": _source("x.transpose(0, 1).contiguous() * 0.5", _N, sizes=_ROWS),
    }


def _fused() -> dict[str, str]:
    return {
        "silu_and_mul": _source(
            "gate, value = x.chunk(2, dim=-1)\nF.silu(gate) * value",
            "torch.randn(rows, 2 * columns)",
            sizes="rows = 96; columns = 513",
        ),
        "gelu_and_mul": _source(
            "gate, value = x.chunk(2, dim=-1)\nF.gelu(gate) * value",
            "torch.randn(rows, 2 * columns)",
            sizes="rows = 77; columns = 384",
        ),
        "linear_chain": _source(
            "torch.sigmoid(self.linear(x) * 0.5 - 1.0)",
            "torch.randn(m, k)",
            sizes=_GEMM,
            init="self.linear = nn.Linear(inside, outside)",
            init_inputs="inside=k, outside=n",
        ),
        "linear_norm": _source(
            "F.leaky_relu(self.norm(self.linear(x)))",
            "torch.randn(m, k)",
            sizes=_GEMM,
            init="self.linear = nn.Linear(inside, outside)\nself.norm = nn.GroupNorm(4, outside)",
            init_inputs="inside=k, outside=n",
        ),
        "feed_forward": _source(
            "self.down(F.gelu(self.up(self.norm(x)))) + x",
            "torch.randn(rows, width)",
            sizes="rows = 70; width = 64",
            init="self.norm = nn.LayerNorm(size)\nself.up = nn.Linear(size, 4 * size)\n"
            "self.down = nn.Linear(4 * size, size)",
            init_inputs="size=width",
        ),
        "residual_norm": _source(
            "F.layer_norm(x + torch.tanh(y), (columns,)) * self.scale",
            _N + ", " + _N,
            sizes=_ROWS,
            args="x, y",
            init="self.scale = nn.Parameter(torch.rand(width))",
            init_inputs="width=columns",
        ),
    }


def mini_bench() -> list[Task]:
    """Return our own benchmark: more than 40 small tasks, at least one for every template and category.

    Returns
    -------
    tasks : list of Task
        Named ``<category>_<what it computes>``, the category being one of elementwise, reduction, norm, loss,
        scan, pool, matmul, conv, attention, move, fused.

    Examples
    --------
    >>> tasks = mini_bench()
    >>> len(tasks) >= 40, tasks[0].name
    (True, 'elementwise_relu')
    """
    groups = (
        _elementwise, _reduction, _norm, _loss, _scan, _pool, _matmul, _conv, _attention, _move, _fused,
    )  # fmt: skip
    return [
        Task.from_source(source, f"{category}_{name}")
        for category, group in zip(CATEGORIES, groups)
        for name, source in group().items()
    ]


def category(task: Task) -> str:
    """Return the category of a task of ``mini_bench``; ValueError for any other task."""
    found = task.name.partition("_")[0]
    if found not in CATEGORIES:
        raise ValueError(f"task must be one of mini_bench; got {task.name!r}")
    return found
