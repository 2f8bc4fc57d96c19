"""Smaller versions of benchmark problems, found by halving their constants.

KernelBench's sizes fill a data-centre GPU. A processor can judge the same kernels at sizes that it handles in
milliseconds; which kernels are needed depends on the graph, hardly on its sizes.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from mlpapers.core.validation import check_int
from mlpapers.kernels.task import Task, TaskError

# Constants below this are rarely sizes of data.
_SMALLEST = 16
_NEVER = (
    "kernel",
    "stride",
    "padding",
    "dilation",
    "group",
    "scale",
    "eps",
    "head",
    "layer",
    "pool",
    "margin",
)


def shrink(task: Task, *, max_elements: int = 1 << 20) -> Task:
    """Return the task with constants halved until inputs, weights and outputs have few elements.

    The largest constant is halved while the module still runs; one whose halving breaks it stays.
    Names such as ``kernel_size`` or ``stride`` are left alone.

    Parameters
    ----------
    task : Task
    max_elements : int
        Of inputs, weights and outputs together.

    Returns
    -------
    task : Task
        The same task where nothing can be halved.
    """
    check_int("max_elements", max_elements, minimum=1)
    fixed: set[str] = set()
    current = task
    while (size := _elements(current)) is not None and size > max_elements:
        known = _values(current)
        usable = {name: _largest(value) for name, value in known.items() if name not in fixed}
        usable = {
            name: value
            for name, value in usable.items()
            if value >= _SMALLEST and not any(word in name.lower() for word in _NEVER)
        }
        if not usable:
            break
        name = max(usable, key=lambda key: (usable[key], key))
        # Constants of one size often go together, such as the widths of predictions and of targets.
        alike = [key for key in usable if usable[key] == usable[name]]
        for group in ([name], alike):
            smaller = current.with_overrides(**{key: _halved(known[key]) for key in group})
            after = _elements(smaller)
            if after is not None and after < size:
                current = smaller
                break
        else:
            fixed.add(name)
    return current


def _values(task: Task) -> dict[str, Any]:
    """Return the constants as they are when the source has run: some are products of literals."""
    namespace = task._namespace()
    return {name: namespace[name] for name in task.constants() if name in namespace}


def _largest(value: Any) -> int:
    if isinstance(value, bool):
        return 0
    if isinstance(value, int):
        return value
    if isinstance(value, tuple | list):
        return max((_largest(item) for item in value), default=0)
    return 0


def _halved(value: Any) -> Any:
    """Halve an integer, or the largest of a sequence; odd ones stay odd."""
    if isinstance(value, int):
        return value // 2 | (value & 1)
    items = list(value)
    at = max(range(len(items)), key=lambda k: _largest(items[k]))
    items[at] = _halved(items[at])
    return type(value)(items)


def _elements(task: Task) -> int | None:
    """Count elements of inputs, weights and outputs, allocating none; None where it does not run."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from mlpapers.kernels.verify.reference import flatten

    # Sizes that do not fit together are expected here, and no reason for a page of log.
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    level = logger.level
    with contextlib.ExitStack() as stack:
        stack.callback(logger.setLevel, level)
        logger.setLevel(logging.CRITICAL)
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(torch.no_grad())
        try:
            module, inputs = task.build(0)
            outputs = flatten(module(*inputs))
        except (TaskError, RuntimeError, ValueError, TypeError, IndexError, AssertionError):
            return None
        tensors = [*inputs, *outputs, *module.state_dict().values()]
        return sum(x.numel() for x in tensors if isinstance(x, torch.Tensor))
