"""The text that a rendered TileLang kernel carries to compile and launch its functions."""

from mlpapers.kernels.dsl.host import CHECKS

LOADER = (
    """\
# -- loader: compiles a function for the sizes of a call, once
import functools

import tilelang
import tilelang.language as T
import torch

"""
    + CHECKS
    + '''

_compiled = {}


def _run(factory, backend, programs, sizes, *tensors):
    """Launch what `factory` makes for these sizes; tensors are passed flat, bools as bytes."""
    if programs <= 0:
        return
    flat = [x.view(torch.uint8) if x.dtype == torch.bool else x for x in (t.reshape(-1) for t in tensors)]
    key = (factory, backend, sizes, tuple(x.numel() for x in flat))
    kernel = _compiled.get(key)
    if kernel is None:
        function = factory(*sizes, *(x.numel() for x in flat))
        if backend == "cpu":
            kernel = tilelang.compile(function, target="c", execution_backend="cython")
        else:
            kernel = tilelang.compile(function, target="cuda")
        _compiled[key] = kernel
    kernel(*flat)


# -- end of the loader
'''
)
