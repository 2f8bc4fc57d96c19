"""From PyTorch's captured program to our graph: one rule per aten operation, registered by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mlpapers.kernels.graph.ir import Builder, Node, UnsupportedOp
from mlpapers.kernels.graph.size import Size, from_torch

Rule = Callable[["Lowering", Any], Any]
RULES: dict[str, Rule] = {}
# Calls that draw random numbers, by the name of the operation.
RANDOM_OPS = (
    "bernoulli", "dropout", "native_dropout", "rand", "randn", "randint", "rand_like", "randn_like",
    "randperm",
    "normal", "multinomial", "uniform", "rrelu_with_noise", "rrelu_with_noise_functional",
)  # fmt: skip


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register the lowering of one or several aten operations (names without overload)."""

    def register(function: Rule) -> Rule:
        for name in names:
            RULES[name] = function
        return function

    return register


def torch_dtypes() -> dict[Any, str]:
    """Return the storage types by torch dtype."""
    import torch

    return {
        torch.float64: "f64", torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16",
        torch.int64: "i64", torch.int32: "i32", torch.int16: "i16", torch.int8: "i8", torch.uint8: "u8",
        torch.bool: "b1",
    }  # fmt: skip


class Lowering:
    """Translates call after call; rules use its small vocabulary.

    Parameters
    ----------
    builder : Builder
    names : dict of str to str
        torch's symbols and ours.
    hints : dict of str to int, optional
        Values of torch's symbols at the task's own sizes, where they were captured at others.
    """

    def __init__(self, builder: Builder, names: dict[str, str], hints: dict[str, int] | None = None) -> None:
        self.b = builder
        self.names = names
        self.hints = hints or {}
        self.values: dict[Any, Any] = {}
        self.dtypes = torch_dtypes()

    def lower(self, call: Any) -> None:
        """Lower one call and remember its value."""
        name = getattr(call.target, "__name__", str(call.target)).split(".")[0]
        self.b.graph.aten[name] = self.b.graph.aten.get(name, 0) + 1
        if name in RANDOM_OPS:
            self.b.graph.random = True
        if name == "getitem":
            self.values[call] = self.values[call.args[0]][call.args[1]]
            return
        handler = RULES.get(name)
        value = handler(self, call) if handler is not None else None
        self.values[call] = self.library(call) if value is None else value

    def arguments(self, call: Any, **defaults: Any) -> list[Any]:
        """Return a call's arguments in the order of `defaults`, by position or name, defaults filled in."""
        found = []
        for position, (name, default) in enumerate(defaults.items()):
            if position < len(call.args):
                found.append(call.args[position])
            else:
                found.append(call.kwargs.get(name, default))
        return found

    def shape(self, call: Any) -> tuple[Size, ...]:
        """Return the shape of a call's (first) result."""
        return self.shapes(call)[0]

    def shapes(self, call: Any) -> list[tuple[Size, ...]]:
        """Return the shapes of all results."""
        return [
            tuple(from_torch(size, self.names, self.hints) for size in value.shape) for value in results(call)
        ]

    def dtype(self, call: Any) -> str:
        """Return the storage type of a call's (first) result."""
        return self.storage(call, results(call)[0].dtype)

    def storage(self, call: Any, dtype: Any) -> str:
        """Return the storage type of a torch dtype that `call` makes; UnsupportedOp where there is none."""
        if dtype not in self.dtypes:
            raise UnsupportedOp(f"{call.target} makes numbers of {dtype}, which no kernel holds")
        return self.dtypes[dtype]

    def size(self, value: Any) -> Size:
        """Return a size given as a number, a SymInt or a node that computes one."""
        value = value.meta["val"] if hasattr(value, "meta") else value
        return from_torch(value, self.names, self.hints)

    def operand(self, value: Any, dtype: str) -> int:
        """Return the node of a tensor or number argument, converted to `dtype`."""
        if hasattr(value, "meta") and not hasattr(value.meta["val"], "shape"):
            return self.b.scalar(self.size(value), dtype)
        if hasattr(value, "meta"):
            return self.b.cast(self.values[value], dtype)
        number = bool(value) if dtype == "b1" else (int(value) if dtype[0] in "iu" else float(value))
        return self.b.scalar(number, dtype)

    def node(self, value: Any) -> Node:
        """Return the node of a tensor argument."""
        return self.b.node(self.values[value])

    def apply(self, op: str, operands: Sequence[int], dtype: str, shape: Sequence[Size] | None = None) -> int:
        """Add an elementwise operation; the shape defaults to the operands' broadcast shape."""
        if shape is None:
            shape = self.broadcast([self.b.node(position).shape for position in operands])
        return self.b.pointwise(op, operands, shape, dtype)

    @staticmethod
    def broadcast(shapes: Sequence[Sequence[Size]]) -> tuple[Size, ...]:
        """Return the broadcast shape."""
        rank = max((len(shape) for shape in shapes), default=0)
        found: list[Size] = [1] * rank
        for shape in shapes:
            for d, size in enumerate(shape, start=rank - len(shape)):
                if size != 1:
                    found[d] = size
        return tuple(found)

    def library(self, call: Any, flops: float = 0.0, contraction: bool = False) -> Any:
        """Add a call of PyTorch itself; tensors among its arguments become inputs."""
        inputs: list[int] = []

        def encode(value: Any) -> Any:
            if hasattr(value, "meta"):
                if not hasattr(value.meta["val"], "shape"):
                    return self.size(value)
                inputs.append(self.values[value])
                return ("tensor", len(inputs) - 1)
            if isinstance(value, list | tuple):
                return [encode(item) for item in value]
            return self.size(value) if hasattr(value, "node") else value

        args = [encode(value) for value in call.args]
        kwargs = {key: encode(value) for key, value in call.kwargs.items()}
        outputs = results(call)
        shapes = self.shapes(call)
        position = self.b.add(
            "library",
            inputs,
            shapes[0],
            self.storage(call, outputs[0].dtype),
            target=str(call.target),
            args=args,
            kwargs=kwargs,
            flops=flops,
            contraction=contraction,
            results=len(outputs) if isinstance(call.meta["val"], list | tuple) else 0,
        )
        if not isinstance(call.meta["val"], list | tuple):
            return position
        return [
            self.b.add("pick", (position,), shape, self.storage(call, output.dtype), result=k)
            for k, (shape, output) in enumerate(zip(shapes, outputs))
        ]


def results(call: Any) -> list[Any]:
    """Return the fake tensors of all of a call's results."""
    value = call.meta["val"]
    return [item for item in value if item is not None] if isinstance(value, list | tuple) else [value]
