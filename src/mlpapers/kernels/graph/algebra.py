"""Rewrites that hold for real numbers and change rounding; applied on request and always disclosed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mlpapers.kernels.graph.ir import Builder, Graph, Node


def reassociate(graph: Graph) -> Graph:
    r"""Return the graph with cheaper forms of what real arithmetic allows.

    .. math:: \sum_j (x W^T + b)_j = x \cdot \sum_j W_j + \sum_j b_j, \qquad x / c = x \cdot (1 / c)

    The first turns a matrix product of M N K operations into a product with one vector; the second a division
    by a number into a multiplication.

    Parameters
    ----------
    graph : Graph

    Returns
    -------
    graph : Graph
        With "algebraic" among its disclosures where a rewrite was applied; otherwise the same graph.
    """
    builder = Builder()
    places: dict[int, int] = {}
    changed = False
    for node in graph.nodes:
        inputs = [places[position] for position in node.inputs]
        rewritten = _sum_of_linear(graph, builder, node, places)
        if rewritten is None:
            rewritten = _division(builder, node, inputs)
        if rewritten is None:
            places[node.index] = builder.add(node.op, inputs, node.shape, node.dtype, **node.attrs)
        else:
            changed = True
            places[node.index] = rewritten
    if not changed:
        return graph
    return replace(builder.rewritten(graph, places), disclosures=(*graph.disclosures, "algebraic"))


def _division(builder: Builder, node: Node, inputs: Sequence[int]) -> int | None:
    divisor = builder.value(inputs[1]) if node.op == "div" else None
    if not divisor or node.dtype[0] in "iu":
        return None
    return builder.pointwise(
        "mul", [inputs[0], builder.scalar(1 / divisor, node.dtype)], node.shape, node.dtype
    )


def _sum_of_linear(graph: Graph, builder: Builder, node: Node, places: dict[int, int]) -> int | None:
    call = graph.nodes[node.inputs[0]] if node.op == "sum" else None
    if call is None or call.op != "library" or "aten.linear" not in str(call.attrs["target"]):
        return None
    if node.attrs["dims"] != (len(call.shape) - 1,):
        return None
    x, weight, *bias = (places[position] for position in call.inputs)
    vector = builder.reduce("sum", weight, [0], node.dtype)
    shape = builder.node(x).shape
    total = builder.reduce("sum", builder.pointwise("mul", [x, vector], shape, node.dtype), [-1], node.dtype)
    if not bias:
        return total
    offset = builder.reduce("sum", bias[0], [0], node.dtype)
    return builder.pointwise("add", [total, offset], node.shape, node.dtype)
