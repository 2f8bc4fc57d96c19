"""The text that a rendered Triton kernel carries around its launches."""

from mlpapers.kernels.dsl.host import CHECKS

LOADER = (
    """\
# -- loader: the launches' small helpers
import functools
import inspect

import torch
import triton
import triton.language as tl

"""
    + CHECKS
    + '''

_compiled = {}


def _run(kernel, programs, *arguments, **options):
    """Launch a kernel; bools go as bytes, and offsets have 64 bits where 32 may not do.

    Triton needs longer to find what it has compiled than a small kernel needs to run. So that is kept here,
    by what it depends on: numbers, and of tensors the type, the alignment and that they are on a GPU.
    """
    if programs <= 0:
        return
    key, plain, tensor = [id(kernel), programs, *options.values()], [], None
    for x in arguments:
        if type(x) is int:
            key.append(x)
            plain.append(x)
        elif isinstance(x, torch.Tensor):
            place, tensor = x.data_ptr(), x
            key += (x.dtype, place % 16, x.is_cuda)
            plain.append(place)
        else:
            key += (type(x), x)
            plain.append(x)
    here = -1 if tensor is None else tensor.get_device()
    if here >= 0 and here != torch.cuda.current_device():
        with torch.cuda.device(here):
            return _run(kernel, programs, *arguments, **options)
    key = (here, *key)
    found = _compiled.get(key)
    if found is not None:
        launch, stream, function, packed, rest = found
        launch(programs, 1, 1, stream(here), function, packed, None, None, None, *plain, *rest)
        return
    parameters = inspect.signature(kernel.fn).parameters
    if "WIDE" in parameters:
        options["WIDE"] = any(isinstance(x, torch.Tensor) and x.numel() >= 1 << 31 for x in arguments)
    plain = [
        x.view(torch.uint8) if isinstance(x, torch.Tensor) and x.dtype == torch.bool else x for x in arguments
    ]
    ready = kernel[(programs,)](*plain, **options)
    # The interpreter compiles nothing.
    if ready is not None:
        rest = [options.get(p.name, p.default) for p in list(parameters.values())[len(arguments) :]]
        if len(_compiled) >= 1024:
            _compiled.clear()
        stream = triton.runtime.driver.active.get_current_stream
        _compiled[key] = ready.run, stream, ready.function, ready.packed_metadata, rest


# -- end of the loader
'''
)
