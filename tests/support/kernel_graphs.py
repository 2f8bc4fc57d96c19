"""Random programs of pointwise operations, reductions, scans and views; when a kernel is right."""

from __future__ import annotations

import random

import torch

from mlpapers.kernels.task import Task

UNARY = ("torch.relu({0})", "torch.tanh({0})", "torch.sigmoid({0})", "{0}.abs()", "{0} * 0.5 - 1", "{0} ** 2",
         "torch.exp({0}.clamp(-3, 3))", "torch.nn.functional.gelu({0})",
         "torch.where({0} > 0.1, {0}, {0} * 0.25)",
         "torch.nn.functional.silu({0})", "-{0}", "{0}.clamp(min=-0.5)",
         "torch.sqrt({0}.abs() + 0.1)")  # fmt: skip
BINARY = ("{0} + {1}", "{0} * {1}", "{0} - {1}", "torch.maximum({0}, {1})", "{0} / ({1}.abs() + 0.5)")
REDUCE = ("sum", "mean", "amax", "amin")
ROW = ("torch.softmax({0}, {1})", "torch.cumsum({0}, {1})", "torch.log_softmax({0}, {1})",
       "{0} / (torch.linalg.vector_norm({0}, dim={1}, keepdim=True) + 0.1)",
       "{0} - {0}.mean({1}, keepdim=True)", "{0}.flip({1})")  # fmt: skip


class Program:
    """Draws one program: shapes are tracked on real tensors, so every line is legal."""

    def __init__(self, seed: int, dtype: str = "float32", zero: bool = False) -> None:
        self.rng = random.Random(seed)
        self.dtype = dtype
        rank = self.rng.randint(1, 4)
        sizes = [1, 2, 3, 5, 8, 17, 33, 70] if rank < 4 else [1, 2, 3, 5, 8]
        self.shape = [self.rng.choice(sizes) for _ in range(rank)]
        if zero:
            self.shape[self.rng.randrange(rank)] = 0
        self.inputs = [self._input() for _ in range(self.rng.randint(1, 2))]
        self.names = list("xy"[: len(self.inputs)])
        torch.manual_seed(seed)
        scope = {"torch": torch}
        self.values = {name: eval(text, scope) for name, text in zip(self.names, self.inputs)}
        self.lines: list[str] = []
        for step in range(self.rng.randint(1, 9)):
            self._add(f"v{step}", zero)

    def _input(self) -> str:
        shape = [1 if self.rng.random() < 0.15 else size for size in self.shape]
        text = f"torch.randn({shape}, dtype=torch.{self.dtype})"
        kind = self.rng.random()
        if kind < 0.15 and len(shape) > 1:
            flipped = list(reversed(shape))
            axes = list(range(len(shape)))[::-1]
            return f"torch.randn({flipped}, dtype=torch.{self.dtype}).permute({axes})"
        if kind < 0.25:
            return f"torch.randn({[1, *shape[1:]]}, dtype=torch.{self.dtype}).expand({shape})"
        return text

    def _add(self, name: str, zero: bool) -> None:
        source = self.rng.choice([*self.values])
        x = self.values[source]
        kind = self.rng.random()
        dim = self.rng.randrange(x.dim()) if x.dim() else 0
        if kind < 0.3 or x.dim() == 0:
            text = self.rng.choice(UNARY).format(source)
        elif kind < 0.55:
            text = self.rng.choice(BINARY).format(source, self.rng.choice([*self.values]))
        elif kind < 0.68:
            op = self.rng.choice(REDUCE[:2] if zero else REDUCE)
            dims = sorted(self.rng.sample(range(x.dim()), self.rng.randint(1, x.dim())))
            text = f"{source}.{op}(dim={dims}, keepdim={self.rng.random() < 0.7})"
        elif kind < 0.85 and not zero:
            text = self.rng.choice(ROW).format(source, dim)
        else:
            text = self._view(source, x, dim)
        try:
            value = eval(text, {"torch": torch, **self.values})
        except (RuntimeError, IndexError):
            return
        if value.numel() > 200_000:
            return
        self.values[name] = value
        self.lines.append(f"{name} = {text}")

    def _view(self, source: str, x: torch.Tensor, dim: int) -> str:
        choice = self.rng.randrange(5)
        if choice == 0:
            return f"{source}.transpose({dim}, {self.rng.randrange(x.dim())})"
        if choice == 1:
            return f"{source}.reshape(-1)" if self.rng.random() < 0.5 else f"{source}.flatten(0, {dim})"
        if choice == 2:
            return f"{source}.unsqueeze({dim})"
        if choice == 3 and x.shape[dim] > 2:
            return f"{source}.narrow({dim}, 1, {x.shape[dim] - 2})"
        return f"{source}.contiguous()"

    def task(self) -> Task:
        """Return the program as a task; its results are the last values."""
        last = [line.split(" = ")[0] for line in self.lines[-2:]] or self.names[:1]
        returned = last[0] if len(last) == 1 else f"({', '.join(last)})"
        body = "\n        ".join([*self.lines, f"return {returned}"])
        source = (
            "import torch\nclass Model(torch.nn.Module):\n"
            f"    def forward(self, {', '.join(self.names)}):\n        {body}\n"
            f"def get_inputs():\n    return [{', '.join(self.inputs)}]\n"
        )
        return Task.from_source(source, "random")


def mismatch(out: torch.Tensor, eager: torch.Tensor, oracle: torch.Tensor) -> str:
    """Return what is wrong with an output, or an empty string.

    Right is within 1e-4 (|r| + s) of eager with s = min(1, rms), or at most twice as far from the float64
    oracle as eager in norm (with one unit of rounding as the least distance).
    """
    if out.shape != eager.shape or out.dtype != eager.dtype:
        return f"{tuple(out.shape)} {out.dtype} instead of {tuple(eager.shape)} {eager.dtype}"
    if not eager.is_floating_point():
        return "" if torch.equal(out, eager) else "integers differ"
    o, r, q = out.double(), eager.double(), oracle.double()
    if not torch.equal(o.isnan(), r.isnan()):
        return "nan at other places"
    if not torch.equal(o[r.isinf()], r[r.isinf()]):
        return "other infinities"
    finite = r.isfinite() & q.isfinite()
    o, r, q = (value[finite] for value in (o, r, q))
    if not o.numel():
        return ""
    eps = torch.finfo(out.dtype).eps
    scale = min(1.0, float((q**2).mean().sqrt()))
    tolerance = 1e-4 if out.dtype in (torch.float32, torch.float64) else 1e-2
    close = bool(((o - r).abs() <= tolerance * (r.abs() + scale)).all())
    unit = max(float((r - q).norm()), eps * float(q.norm()))
    return (
        ""
        if close or float((o - q).norm()) <= 2 * unit
        else f"largest error {float((o - r).abs().max()):.3g}"
    )
