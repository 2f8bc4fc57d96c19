"""Verification: whether somebody's kernel is right, honest, and faster.

``verify(task, code, dsl=...)`` takes a candidate through five stages: static policy, build, correctness,
reward hacks, timing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlpapers.kernels.verify.pipeline import verify as verify

# The function of this name is public in mlpapers.kernels, where the package is called the same.
_NAMES = {"verify": "pipeline"}


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
