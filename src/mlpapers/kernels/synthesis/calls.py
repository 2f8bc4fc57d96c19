"""Template: contractions and other calls of the library, and pooling windows."""

from __future__ import annotations

import json
from typing import Any

from mlpapers.kernels.graph.ir import Node
from mlpapers.kernels.graph.size import Sym, product, text
from mlpapers.kernels.sketch import Call


def library_call(node: Node, arguments: list[str], results: list[str]) -> Call:
    """Return the statement of a library call.

    Parameters
    ----------
    node : Node
    arguments : list of str
        Tensors or views.
    results : list of str

    Returns
    -------
    call : Call
    """
    spec = {
        "args": [_encode(value) for value in node.attrs["args"]],
        "kwargs": {key: _encode(value) for key, value in node.attrs["kwargs"].items()},
        "several": bool(node.attrs["results"]),
    }
    if "memory" in node.attrs:
        # The result's dims in the order of its buffer.
        spec["memory"] = list(node.attrs["memory"])
    return Call(node.attrs["target"], json.dumps(spec), tuple(arguments), tuple(results))


def _encode(value: Any) -> Any:
    if isinstance(value, tuple) and len(value) == 2 and value[0] == "tensor":
        return f"%{value[1]}"
    if isinstance(value, Sym):
        return "=" + text(value)
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def window_call(node: Node, source: Node, argument: str, result: str) -> Call:
    """Return the statement of a pooling window.

    Parameters
    ----------
    node, source : Node
        The window and its operand.
    argument, result : str

    Returns
    -------
    call : Call
    """
    attrs = node.attrs
    rank = len(attrs["kernel"])
    spec = {
        "reduce": attrs["reduce"],
        **{key: [int(k) for k in attrs[key]] for key in ("kernel", "stride", "padding", "dilation")},
        "include": attrs["include"],
        "divisor": attrs["divisor"],
        "ceil": attrs["ceil"],
        "planes": text(product(source.shape[:-rank])),
        "sizes": [text(size) for size in source.shape[-rank:]],
        "outs": [text(size) for size in node.shape[-rank:]],
    }
    return Call("window", json.dumps(spec), (argument,), (result,))
