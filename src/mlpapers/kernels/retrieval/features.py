"""What a task computes, as far as documents are chosen by it."""

from __future__ import annotations

import collections
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlpapers.kernels.graph.ir import Graph
    from mlpapers.kernels.task import Task

CATEGORIES = (
    "elementwise", "reduction", "norm", "loss", "scan", "pool", "matmul", "conv", "attention", "move",
    "fused",
)  # fmt: skip
_CALL = re.compile(r"(?:\btorch|\bF|\bnn|\bfunctional)\.(\w+)|\.(\w+)\(")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "matmul", "linear", "einsum", "mv", "dot")
# Operations around a product that do not make it a chain.
_FREE_AROUND_PRODUCT = 1


@dataclass(frozen=True)
class Features:
    """Operations, category and shapes of a task.

    Attributes
    ----------
    ops : dict of str to int
        aten operations without their overload, and how often each occurs.
    category : str
    shapes : tuple of tuple of int
        Of the inputs.
    dtypes : tuple of str
    """

    ops: dict[str, int]
    category: str
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The operations as words, each as often as it occurs, with the category and the types."""
        words = [name for name, count in sorted(self.ops.items()) for _ in range(count)]
        return " ".join([*words, self.category, *self.dtypes])


def features(task: Task) -> Features:
    """Return the features of a task, from its graph, or from its text where it cannot be captured.

    Parameters
    ----------
    task : Task

    Returns
    -------
    features : Features
    """
    from mlpapers.kernels.graph.capture import capture

    try:
        graph = capture(task)
    except (ValueError, RuntimeError, NotImplementedError):
        return _from_text(task)
    ops: collections.Counter[str] = collections.Counter()
    for name, count in graph.aten.items():
        ops[base_name(name)] += count
    leaves = [graph.nodes[index] for _, index in graph.inputs if index >= 0]
    return Features(
        dict(ops),
        _category(graph, ops),
        tuple(tuple(int(size) for size in node.shape) for node in leaves),
        tuple(dict.fromkeys(node.dtype for node in leaves)),
    )


def base_name(name: str) -> str:
    """Return an aten operation without namespace and overload.

    Parameters
    ----------
    name : str

    Returns
    -------
    name : str

    Examples
    --------
    >>> base_name("aten.sum.dim_IntList")
    'sum'
    """
    return name.replace("::", ".").removeprefix("torch.ops.").removeprefix("aten.").partition(".")[0]


def _category(graph: Graph, ops: collections.Counter[str]) -> str:
    """Return the first class that fits: what costs most decides."""
    kinds = collections.Counter(node.kind for node in graph.nodes)
    names = set(ops)
    chain = sum(kinds[kind] for kind in ("pointwise", "reduce", "window"))
    if any("attention" in name for name in names):
        return "attention"
    product = any(name in _PRODUCTS for name in names)
    convolution = any("conv" in name for name in names)
    if product or convolution:
        own = _FREE_AROUND_PRODUCT
        return "fused" if chain > own else ("conv" if convolution else "matmul")
    if kinds["window"]:
        return "pool"
    if kinds["scan"]:
        return "scan"
    if kinds["reduce"]:
        sizes = [int(graph.nodes[index].numel) for index in graph.outputs]
        inputs = [int(graph.nodes[index].numel) for _, index in graph.inputs if index >= 0]
        if sizes and inputs and max(sizes) >= max(inputs):
            return "norm"
        return "loss" if sizes == [1] and len(inputs) > 1 else "reduction"
    return "elementwise" if kinds["pointwise"] else "move"


def _from_text(task: Task) -> Features:
    words = [a or b for a, b in _CALL.findall(task.resolved_source)]
    ops = collections.Counter(_CAMEL.sub("_", word).lower() for word in words)
    joined = " ".join(ops)
    guesses: tuple[tuple[str, tuple[str, ...]], ...] = (
        ("attention", ("attention",)),
        ("conv", ("conv",)),
        ("matmul", ("matmul", "linear", "bmm", "einsum")),
        ("pool", ("pool",)),
        ("scan", ("cumsum", "cumprod")),
        ("norm", ("norm", "softmax")),
        ("loss", ("loss", "kl_div", "cross_entropy")),
        ("reduction", ("sum", "mean", "max", "min", "argmax", "argmin", "prod")),
    )
    category = next((name for name, marks in guesses if any(mark in joined for mark in marks)), "elementwise")
    return Features(dict(ops), category, _shapes(task))


def _shapes(task: Task) -> tuple[tuple[int, ...], ...]:
    found: list[Any] = []
    try:
        found = task.draw_inputs()
    except (ValueError, RuntimeError, MemoryError):
        # A task without inputs to look at has no shapes; what is wrong with it is said where it is run.
        return ()
    return tuple(tuple(x.shape) for x in found if hasattr(x, "shape"))
