"""The text of a module that was made from one in memory: its tree of parameters and buffers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpapers.kernels.task import Task

if TYPE_CHECKING:
    import torch


def skeleton(task: Task, names: list[str]) -> tuple[str, list[str]]:
    """Return the text of ModelNew up to the header of ``forward``, and the expression of each argument.

    What ``state_dict`` holds is to be loaded: until then floating-point numbers are nan, so that no answer
    passes for one of the weights. What it does not hold (buffers that are not persistent, tensors that are
    attributes) is part of the text.

    Parameters
    ----------
    task : Task
        Made from a module in memory.
    names : list of str
        The captured names of the arguments.

    Returns
    -------
    text : str
    arguments : list of str
    """
    module, _ = task.build()
    lines = ["import torch", "import torch.nn as nn", "", "", "class ModelNew(nn.Module):"]
    accepts = inspect.signature(type(module).__init__).parameters
    extra = ", *args, **kwargs" if len(accepts) > 1 and task.instance is None else ""
    lines += [f"    def __init__(self{extra}):", "        super().__init__()"]
    lines += [f"        {line}" for line in _tree(module)]
    arguments = _arguments(module, names)
    lines += ["", f"    def forward({', '.join(['self', *arguments])}):"]
    return "\n".join(lines), arguments


def _arguments(module: Any, names: list[str]) -> list[str]:
    """Return the names under which ``forward`` takes what was captured; others have their defaults in it."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    own = [p.name for p in inspect.signature(module.forward).parameters.values() if p.kind in kinds]
    return [own[k] if k < len(own) else names[k] for k in range(len(names))]


def _tree(module: Any) -> Iterator[str]:
    """Yield the statements that make the submodules and their tensors; what is shared is made once."""
    paths: dict[int, str] = {}
    made: dict[int, str] = {}
    for path, child in module.named_modules(remove_duplicate=False):
        parent, _, name = path.rpartition(".")
        first = paths.setdefault(id(child), path)
        # Below a module that is shared all is there already.
        if path and paths[id(module.get_submodule(parent))] == parent:
            new = "nn.Module()" if first == path else _owner(first)
            yield f"{_owner(parent)}.add_module({name!r}, {new})"
        if first == path:
            yield from _tensors(path, child, made)


def _tensors(path: str, module: Any, made: dict[int, str]) -> Iterator[str]:
    owner, prefix = _owner(path), f"{path}." if path else ""
    for name, value in _given(module._parameters):
        new = made.get(id(value)) or f"nn.Parameter({_unset(value)}, requires_grad={value.requires_grad})"
        yield f"{owner}.register_parameter({name!r}, {new})"
        made[id(value)] = f"self.get_parameter({prefix + name!r})"
    for name, value in _given(module._buffers):
        kept = name not in module._non_persistent_buffers_set
        new = made.get(id(value)) or (_unset(value) if kept else _exact(value))
        yield f"{owner}.register_buffer({name!r}, {new}, persistent={kept})"
        made[id(value)] = f"self.get_buffer({prefix + name!r})"
    for name, value in _given(vars(module)):
        yield f"{owner}.{name} = {made.get(id(value)) or _exact(value)}"


def _given(values: dict[str, Any]) -> list[tuple[str, Any]]:
    import torch

    return [(name, value) for name, value in values.items() if isinstance(value, torch.Tensor)]


def _owner(path: str) -> str:
    return f"self.get_submodule({path!r})" if path else "self"


def _unset(value: torch.Tensor) -> str:
    """Return an expression of a tensor that waits for its numbers."""
    number = "float('nan')" if value.is_floating_point() else "0"
    return f"torch.full({list(value.shape)}, {number}, dtype={value.dtype})"


def _exact(value: torch.Tensor) -> str:
    """Return an expression of a tensor to the last bit; equal numbers in a row are written once."""
    import torch

    shape = list(value.shape)
    if not value.numel():
        return f"torch.empty({shape}, dtype={value.dtype})"
    flat = value.detach().cpu().contiguous().reshape(-1)
    bits = flat.view(torch.uint8).numpy().view(f"V{flat.element_size()}")
    starts = np.flatnonzero(np.append(True, bits[1:] != bits[:-1]))
    lengths = np.diff(starts, append=len(bits))
    if len(starts) * (bits.itemsize + lengths.itemsize) >= bits.nbytes:
        return f"{_buffer(bits, value.dtype)}.reshape({shape})"
    runs = f"{_buffer(bits[starts], value.dtype)}.repeat_interleave({_buffer(lengths, torch.int64)})"
    return f"{runs}.reshape({shape})"


def _buffer(values: Any, dtype: torch.dtype) -> str:
    return f"torch.frombuffer(bytearray.fromhex({values.tobytes().hex()!r}), dtype={dtype})"
