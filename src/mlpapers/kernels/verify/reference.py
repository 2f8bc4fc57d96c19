"""The reference: a task's module with one set of weights, and its answers in its own dtype and in float64."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlpapers.kernels.task import Task


def flatten(output: Any) -> list[Any]:
    """Return the tensors (and numbers) of an output, depth first; TypeError for anything else in it."""
    import torch

    if isinstance(output, torch.Tensor | int | float | bool):
        return [output]
    if isinstance(output, dict):
        return [leaf for key in output for leaf in flatten(output[key])]
    if isinstance(output, list | tuple):
        return [leaf for item in output for leaf in flatten(item)]
    raise TypeError(f"an output must consist of tensors and numbers; got {type(output).__name__}")


class Reference:
    """The task's module with one set of weights: runs in its own dtype and in float64.

    Parameters
    ----------
    task : Task
    seed : int
        For the constructor.
    device : str
        Where it runs; inputs, states and outputs are in the processor's memory all the same.
    """

    def __init__(self, task: Task, seed: int = 0, device: str = "cpu") -> None:
        self.module, self.inputs = task.build(seed)
        self.device = device
        if device != "cpu":
            self.module = self.module.to(device)

    def state(self) -> dict[str, Any]:
        """Return a copy of parameters and buffers; keys of one tied weight share their copy."""
        held = self.module.state_dict(keep_vars=True)
        made = {id(value): value.detach().to("cpu", copy=True) for value in held.values()}
        return {key: made[id(value)] for key, value in held.items()}

    def _call(self, module: Any, inputs: Sequence[Any], seed: int) -> list[Any]:
        """Return the flat outputs, in the processor's memory."""
        return [_moved(x, "cpu") for x in _call(module, self._there(inputs), seed, self.device)]

    def _there(self, inputs: Sequence[Any]) -> list[Any]:
        return list(inputs) if self.device == "cpu" else [_moved(x, self.device) for x in inputs]

    def run(
        self, inputs: Sequence[Any], state: dict[str, Any], seed: int
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the flat outputs on `inputs` (left as they are) and the state after the call."""
        return self.run_watched(inputs, state, seed)[:2]

    def run_watched(
        self, inputs: Sequence[Any], state: dict[str, Any], seed: int
    ) -> tuple[list[Any], dict[str, Any], bool]:
        """Return the flat outputs, the state after the call, and whether it wrote to its inputs."""
        self.module.load_state_dict(state)
        given = self._there(copies(inputs))
        outputs = [_moved(x, "cpu") for x in _call(self.module, given, seed, self.device)]
        mutates = not all(same_bits(_moved(a, "cpu"), b) for a, b in zip(given, inputs))
        return outputs, self.state(), mutates

    def takes(self, inputs: Sequence[Any], state: dict[str, Any]) -> bool:
        """Return whether ``forward`` can be tried on these inputs where it runs.

        A GPU does not refuse an index that is out of range: it stops for good, whatever comes after. So
        inputs with integers are tried on the processor first.
        """
        import torch

        if self.device == "cpu" or not any(
            isinstance(x, torch.Tensor) and not x.is_floating_point() and x.dtype != torch.bool
            for x in inputs
        ):
            return True
        module = copy.deepcopy(self.module).to("cpu")
        module.load_state_dict(state)
        try:
            _call(module, copies(inputs), 0)
        except (RuntimeError, ValueError, IndexError, TypeError, AssertionError):
            return False
        return True

    def run_double(self, inputs: Sequence[Any], state: dict[str, Any], seed: int) -> list[Any] | None:
        """Return the flat outputs in float64; None where the module cannot compute in it."""
        import torch

        module = copy.deepcopy(self.module)
        module.load_state_dict(state)
        wide = [
            x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in copies(inputs)
        ]
        try:
            return self._call(module.double(), wide, seed)
        except (RuntimeError, TypeError, ValueError, NotImplementedError):
            return None

    def draws(self, inputs: Sequence[Any], state: dict[str, Any]) -> bool:
        """Return whether ``forward`` takes numbers from torch's generator, seen in an output or not."""
        import torch

        from mlpapers.kernels.verify._guard import generators

        self.module.load_state_dict(state)
        with torch.random.fork_rng(devices=_drawing(self.device)), torch.no_grad():
            torch.manual_seed(0)
            before = generators(self.device)
            self.module(*self._there(copies(inputs)))
            return not all(map(torch.equal, before, generators(self.device)))

    def mutates(self, inputs: Sequence[Any], state: dict[str, Any], seed: int) -> bool:
        """Return whether ``forward`` writes to its inputs."""
        return self.run_watched(inputs, state, seed)[2]

    def answer(self, inputs: Sequence[Any], state: dict[str, Any], seed: int) -> list[Any]:
        """Return the flat outputs in float64, or those of the module's own dtype where it has no other."""
        wide = self.run_double(inputs, state, seed)
        return self.run(inputs, state, seed)[0] if wide is None else wide


def _drawing(device: str) -> list[str]:
    return [] if device == "cpu" else [device]


def _moved(value: Any, device: str) -> Any:
    import torch

    return value.to(device) if isinstance(value, torch.Tensor) else value


def _call(module: Any, inputs: list[Any], seed: int, device: str = "cpu") -> list[Any]:
    import torch

    with torch.random.fork_rng(devices=_drawing(device)), torch.no_grad():
        torch.manual_seed(seed)
        return flatten(module(*inputs))


def copies(inputs: Sequence[Any]) -> list[Any]:
    """Return the inputs with tensors copied, strides and shared storages kept."""
    return copy.deepcopy(list(inputs))


def same_bits(a: Any, b: Any) -> bool:
    """Return whether two inputs are equal to the last bit (nan equals itself)."""
    import torch

    if not isinstance(a, torch.Tensor):
        return bool(a == b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.is_floating_point():
        bits = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[a.element_size()]
        return torch.equal(a.contiguous().view(bits), b.contiguous().view(bits))
    return torch.equal(a, b)


def is_degenerate(task: Task, *, n_seeds: int = 3, device: str = "cpu") -> bool:
    """Return whether the task's output is the same for all inputs, or rounding noise.

    With q_1 .. q_n the float64 outputs on inputs of several seeds and the same weights, a task is degenerate
    where the spread max|q_i - q_1| of every floating-point output is at most 1e-12, or 1e-9 of its rms, and
    all other outputs are equal.

    Parameters
    ----------
    task : Task
    n_seeds : int
    device : str

    Returns
    -------
    degenerate : bool
    """
    reference = Reference(task, device=device)
    state = reference.state()
    return not varies(reference.answer(task.draw_inputs(seed), state, 0) for seed in range(1, n_seeds + 1))


def varies(outputs: Iterable[list[Any]]) -> bool:
    """Return whether some output differs from the first; none that comes after it is asked for.

    Parameters
    ----------
    outputs : iterable of list
        Flat outputs on different inputs, at least one.

    Returns
    -------
    varies : bool
    """
    rest: Iterator[list[Any]] = iter(outputs)
    first = next(rest)
    return any(not all(_constant(pair) for pair in zip(first, other)) for other in rest)


def _constant(values: Sequence[Any]) -> bool:
    import torch

    first, *others = (torch.as_tensor(value) for value in values)
    if any(other.shape != first.shape for other in others):
        return False
    if not first.is_floating_point():
        return all(torch.equal(first, other) for other in others)
    if first.numel() == 0:
        return False
    first = first.double()
    rms = float(first.square().mean().sqrt())
    for other in others:
        gap = (other.double() - first).abs()
        if not bool(((gap <= max(1e-12, 1e-9 * rms)) | (first.isnan() & other.isnan())).all()):
            return False
    return True
