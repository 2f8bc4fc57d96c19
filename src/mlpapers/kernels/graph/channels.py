"""Convolutions on a GPU: the library's call in channels-last layout, its bias left to the kernel behind it.

A tensor of sizes (N, C, *S) lies channels-last where its buffer is a dense (N, *S, C): cuDNN's tensor-core
kernels read and write that, and transpose whatever comes in another layout on the way in and on the way out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlpapers.kernels.graph.ir import Builder, Graph, Node
from mlpapers.kernels.graph.size import Size

LAYOUTS = ("library", "channels_last", "by_use")
# Kinds of nodes that become part of a kernel of ours, which can add the bias.
_KERNELS = ("pointwise", "reduce", "scan", "index")
_RANKS = (4, 5)
_DTYPES = ("f32", "f16", "bf16")
_TARGET = "aten.convolution.default"
# The library multiplies in TF32 in either layout from so many channels (a multiple of 4) on, and where the
# result is not small; elsewhere only in channels-last, which would be less precise than what was asked for.
CHANNELS, ELEMENTS = 16, 1 << 22


def memory_order(rank: int) -> tuple[int, ...]:
    """Return the dims in the order in which a channels-last buffer holds them.

    Parameters
    ----------
    rank : int

    Returns
    -------
    order : tuple of int

    Examples
    --------
    >>> memory_order(4)
    (0, 2, 3, 1)
    """
    return (0, *range(2, rank), 1)


def with_convolutions(graph: Graph, layout: str | None) -> Graph:
    """Return a graph whose convolutions have a layout, and whose biases are added by what follows them.

    A convolution in groups stays as it is: for most of them the library has no channels-last kernels that
    are worth it.

    Parameters
    ----------
    graph : Graph
    layout : {"library", "channels_last", "by_use"} or None
        "library" calls the library with the tensors as they lie. "by_use" does so where a reduction over
        space follows, whose rows lie apart in channels-last memory, where the library is more precise so, and
        where nothing of ours follows and the library need not transpose. None changes nothing, nor moves a
        bias.

    Returns
    -------
    graph : Graph
        The same one where there is nothing to change.
    """
    if layout is None:
        return graph
    chosen = {node.index: how for node in graph.nodes if (how := _choice(graph, node, layout)) is not None}
    if not chosen:
        return graph
    builder = Builder()
    places: dict[int, int] = {}
    for node in graph.nodes:
        inputs = [places[position] for position in node.inputs]
        if node.index in chosen:
            places[node.index] = _convolution(builder, node, inputs, chosen[node.index])
        else:
            places[node.index] = builder.add(node.op, inputs, node.shape, node.dtype, **node.attrs)
    return builder.rewritten(graph, places)


def _choice(graph: Graph, node: Node, layout: str) -> str | None:
    """Return the layout of a node that is a convolution in one group, None where it stays as it is."""
    if node.op != "library" or node.attrs["target"] != _TARGET or node.attrs["args"][8:] != [1]:
        return None
    users = _users(graph, node)
    kinds = {user.kind for user in users}
    if layout == "library" or len(node.shape) not in _RANKS or node.dtype not in _DTYPES:
        # A pooling window adds no bias.
        return "library" if kinds & set(_KERNELS) else None
    if layout == "by_use":
        if any(_over_space(graph, user) for user in users) or not _as_precise(graph, node):
            return _choice(graph, node, "library")
        lone = not kinds & {*_KERNELS, "window"}
        if lone and not _pays(node, graph.nodes[node.inputs[1]].shape[2:]):
            return None
    return "channels_last"


def _as_precise(graph: Graph, node: Node) -> bool:
    """Whether the library's kernels of both layouts round their factors alike."""
    channels = graph.nodes[node.inputs[0]].shape[1]
    many = int(channels) >= CHANNELS and int(channels) % 4 == 0
    return (many or bool(node.attrs["args"][6])) and int(node.numel) >= ELEMENTS


def _pays(node: Node, kernel: Sequence[Size]) -> bool:
    """Whether our transpositions around a lone convolution cost less than the library's (and its bias).

    For transposed convolutions the library transposes anyway; for others it often has kernels that need not.
    """
    if node.attrs["args"][6]:
        return len(node.shape) == min(_RANKS) or all(stride > 1 for stride in node.attrs["args"][3])
    return len(node.inputs) > 2 and any(size > 1 for size in kernel)


def _users(graph: Graph, node: Node) -> list[Node]:
    """Return what reads a value, as it is or under views, and what reads elementwise functions of it."""
    reached = {node.index}
    found = []
    for other in graph.nodes[node.index + 1 :]:
        if reached & set(other.inputs):
            found.append(other)
            if other.kind in ("view", "pointwise"):
                reached.add(other.index)
    return found


def _over_space(graph: Graph, node: Node) -> bool:
    """Whether a node reduces more than the channels, or than one dim of several before the last."""
    if node.kind != "reduce":
        return False
    rank = len(graph.nodes[node.inputs[0]].shape)
    return node.attrs["dims"] != (1,) and (len(node.attrs["dims"]) > 1 or node.attrs["dims"][0] == rank - 1)


def _convolution(builder: Builder, node: Node, inputs: list[int], layout: str) -> int:
    """Add a convolution without its bias, and the elementwise operation that takes its result in."""
    x, weight, *bias = inputs
    attrs: dict[str, Any] = {**node.attrs, "args": [*node.attrs["args"][:2], None, *node.attrs["args"][3:]]}
    rank = len(node.shape)
    if layout == "channels_last":
        order = memory_order(rank)
        attrs["memory"] = order
        x = _laid_out(builder, x, order)
    elif not bias:
        return builder.add(node.op, inputs, node.shape, node.dtype, **node.attrs)
    found = builder.add(node.op, [x, weight], node.shape, node.dtype, **attrs)
    if not bias:
        return builder.add("identity", [found], node.shape, node.dtype)
    channels: list[Size] = [node.shape[1], *[1] * (rank - 2)]
    return builder.pointwise("add", [found, builder.reshape(bias[0], channels)], node.shape, node.dtype)


def _laid_out(builder: Builder, position: int, order: tuple[int, ...]) -> int:
    """Return a copy of a value in a buffer with its dims in the given order."""
    node = builder.node(position)
    memory: Mapping[str, Any] = {"memory": order}
    return builder.add("identity", [position], node.shape, node.dtype, **memory)
