"""The graph of a task: capture, operations, regions, floor."""

from mlpapers.core._lazy import attach

__getattr__, __dir__, _names = attach(
    __name__,
    {
        "Builder": "ir",
        "Graph": "ir",
        "Node": "ir",
        "UnsupportedOp": "ir",
        "capture": "capture",
        "floor_seconds": "floor",
    },
)
