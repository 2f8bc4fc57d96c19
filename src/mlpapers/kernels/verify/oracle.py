r"""The rule by which an output is right: close to eager, or as close to float64 as eager is.

Let r be the eager output, q the oracle (the reference in float64 on the same inputs), o the candidate's
output, rms the root mean square over a tensor, eps the unit of the task's dtype, and s = min(1, rms(q)).

.. math::
   \text{tol\_ok:}\quad & |o - r| \le \text{rtol}\,(|r| + s) \text{ everywhere} \\
   \text{oracle\_ok:}\quad & \|o - q\| \le 2 \max(\|r - q\|, \epsilon \|q\|) \text{ and }
       \max|o - q| \le 4 \max(\max|r - q|, \epsilon\,\mathrm{rms}(q))

An output passes by either. With an absolute term of rtol alone, as in ``allclose``, the constant zero passes
where values are small; with eager as the only judge, a blocked cumulative sum that is more accurate than
eager fails. Where r is nan or infinite, o must be the same.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpapers.core.validation import check_real
from mlpapers.kernels.verify._tally import tally

if TYPE_CHECKING:
    from mlpapers.kernels.task import Task

# Relative tolerance by name of dtype.
RTOL = {"float64": 1e-8, "float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-2}
# KernelBench's absolute and relative tolerance.
_KERNELBENCH = {"float64": 1e-4, "float32": 1e-4, "float16": 1e-2, "bfloat16": 1e-2}
_SHOWN_INDICES = 5


@dataclass(frozen=True)
class Comparison:
    """One output, or all outputs of a trial, against eager and oracle.

    Attributes
    ----------
    ok, tol_ok, oracle_ok, kernelbench_ok : bool
    max_abs_err, max_rel_err, err_ratio : float
        As in :class:`~mlpapers.kernels.verify.report.CorrectnessReport`.
    error : str
        What is wrong, without any expected value.
    low_precision : bool
        Wrong, but within 5 % in the norm: what a narrower dtype would give.
    """

    ok: bool
    tol_ok: bool
    oracle_ok: bool
    kernelbench_ok: bool
    max_abs_err: float = 0.0
    max_rel_err: float = 0.0
    err_ratio: float = 0.0
    error: str = ""
    low_precision: bool = False


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


def compare(
    eager: Sequence[Any],
    oracle: Sequence[Any],
    candidate: Sequence[Any],
    *,
    rtol: float | None = None,
    inputs: Sequence[Any] = (),
) -> Comparison:
    """Judge all outputs of one call.

    Parameters
    ----------
    eager, oracle, candidate : sequence of tensor or number
        Flat outputs: of the reference, of the reference in float64, of the candidate.
    rtol : float, optional
        Replaces the tolerance of the dtype.
    inputs : sequence of tensor, optional
        The inputs; with them an index where the oracle's input values tie is not an error.

    Returns
    -------
    comparison : Comparison
    """
    if rtol is not None:
        check_real("rtol", rtol, low=0.0, closed="neither")
    if len(candidate) != len(eager):
        return _wrong(f"{len(eager)} outputs were expected; got {len(candidate)}")
    parts = []
    for position, (r, q, o) in enumerate(zip(eager, oracle, candidate)):
        part = _compare_one(r, q, o, rtol, inputs)
        if part.error and len(eager) > 1:
            part = _with_error(part, f"output {position}: {part.error}")
        parts.append(part)
    return Comparison(
        ok=all(part.ok for part in parts),
        tol_ok=all(part.tol_ok for part in parts),
        oracle_ok=all(part.oracle_ok for part in parts),
        kernelbench_ok=all(part.kernelbench_ok for part in parts),
        max_abs_err=max((part.max_abs_err for part in parts), default=0.0),
        max_rel_err=max((part.max_rel_err for part in parts), default=0.0),
        err_ratio=max((part.err_ratio for part in parts), default=0.0),
        error="; ".join(part.error for part in parts if part.error),
        low_precision=any(part.low_precision for part in parts)
        and all(part.ok or part.low_precision for part in parts),
    )


def _compare_one(r: Any, q: Any, o: Any, rtol: float | None, inputs: Sequence[Any]) -> Comparison:
    import torch

    if not isinstance(r, torch.Tensor):
        r = torch.as_tensor(r)
        o = o if isinstance(o, torch.Tensor) else torch.as_tensor(o)
    q = torch.as_tensor(q)
    if not isinstance(o, torch.Tensor):
        return _wrong(f"a tensor was expected; got {type(o).__name__}")
    if o.shape != r.shape:
        return _wrong(f"shape {tuple(r.shape)} was expected; got {tuple(o.shape)}")
    if o.dtype != r.dtype:
        return _wrong(f"dtype {r.dtype} was expected; got {o.dtype}")
    if not r.is_floating_point():
        return _compare_exact(r, q, o, inputs)
    return _compare_real(r, q, o, rtol)


def _compare_real(r: Any, q: Any, o: Any, rtol: float | None) -> Comparison:
    import torch

    dtype = str(r.dtype).removeprefix("torch.")
    rtol = RTOL.get(dtype, 1e-2) if rtol is None else rtol
    flat = [x.detach().reshape(-1) for x in (r, q, o)]
    found = tally(*flat, rtol=rtol, bound=_KERNELBENCH.get(dtype, 1e-2))
    said = f"shape {tuple(r.shape)}, dtype {dtype}"
    if found.misplaced:
        return Comparison(
            False, False, False, found.allclose, math.inf, math.inf, math.inf,
            f"nan or infinity in the wrong places, {said}, first at {_places(found.misplaced, r.shape)}",
        )  # fmt: skip
    if not found.n:
        return Comparison(True, True, True, found.allclose)
    eps = torch.finfo(r.dtype).eps
    norm_bound = max(found.norm_r, eps * found.norm_q)
    oracle_ok = found.norm_o <= 2 * norm_bound and found.max_o <= 4 * max(found.max_r, eps * found.rms)
    tol_ok = not found.n_wrong
    error = ""
    if not (tol_ok or oracle_ok):
        error = (
            f"wrong values: {said}, {found.n_wrong} of {r.numel()} entries "
            f"differ by more than {rtol:g} (|r| + s), largest difference {found.max_difference:.3g}, "
            f"first at {_places(found.wrong, r.shape)}"
        )
    ratio = found.norm_o / norm_bound if norm_bound > 0 else (0.0 if found.norm_o == 0 else math.inf)
    return Comparison(
        ok=tol_ok or oracle_ok,
        tol_ok=tol_ok,
        oracle_ok=oracle_ok,
        kernelbench_ok=found.allclose,
        max_abs_err=found.max_difference,
        max_rel_err=found.max_relative,
        err_ratio=ratio,
        error=error,
        low_precision=bool(error) and 0 < found.norm_o <= 0.05 * found.norm_q,
    )


def _compare_exact(r: Any, q: Any, o: Any, inputs: Sequence[Any]) -> Comparison:
    """Integers and booleans are equal, to eager or to the oracle, or point to values that tie."""
    right = (o == r) | (o == q.to(r.dtype))
    if not bool(right.all()):
        right |= _ties(q, o, inputs)
    ok = bool(right.all())
    error = ""
    if not ok:
        error = (
            f"wrong values: shape {tuple(r.shape)}, dtype {str(r.dtype).removeprefix('torch.')}, "
            f"{int((~right).sum())} of {r.numel()} entries differ, first at {_first(~right)}"
        )
    gap = 0.0 if ok else float((o.double() - r.double()).abs().max())
    return Comparison(ok, ok, ok, bool((o == r).all()), gap, gap, 0.0, error)


def _ties(q: Any, o: Any, inputs: Sequence[Any]) -> Any:
    """Return where `o` points along some dimension of the only real input to the value that `q` points to."""
    import torch

    tied = torch.zeros_like(q, dtype=torch.bool)
    real = [x for x in inputs if isinstance(x, torch.Tensor) and x.is_floating_point()]
    if len(real) != 1 or q.is_floating_point() or q.dtype == torch.bool:
        return tied
    x = real[0].double()
    for dim in range(x.ndim):
        shape = list(x.shape)
        shape[dim] = 1
        if q.numel() != math.prod(shape) or not (int(o.min()) >= 0 and int(o.max()) < x.shape[dim]):
            continue
        squeezed = shape[:dim] + shape[dim + 1 :]
        if list(q.shape) not in (shape, squeezed):
            continue
        chosen, best = (x.gather(dim, index.reshape(shape).long()) for index in (o, q))
        tied |= (chosen == best).reshape(q.shape)
    return tied


def _places(flat: Sequence[int], shape: Sequence[int]) -> str:
    return ", ".join(str(tuple(map(int, np.unravel_index(index, tuple(shape))))) for index in flat)


def _first(wrong: Any) -> str:
    found = wrong.nonzero()[:_SHOWN_INDICES].tolist()
    return ", ".join(str(tuple(index)) for index in found)


def _wrong(error: str) -> Comparison:
    return Comparison(False, False, False, False, math.inf, math.inf, math.inf, error)


def _with_error(part: Comparison, error: str) -> Comparison:
    from dataclasses import replace

    return replace(part, error=error)


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
        """Return a copy of parameters and buffers."""
        return {key: value.detach().to("cpu", copy=True) for key, value in self.module.state_dict().items()}

    def _call(self, module: Any, inputs: Sequence[Any], seed: int) -> list[Any]:
        """Return the flat outputs, in the processor's memory."""
        return [_moved(x, "cpu") for x in _call(module, self._there(inputs), seed, self.device)]

    def _there(self, inputs: Sequence[Any]) -> list[Any]:
        return list(inputs) if self.device == "cpu" else [_moved(x, self.device) for x in inputs]

    def run(
        self, inputs: Sequence[Any], state: dict[str, Any], seed: int
    ) -> tuple[list[Any], dict[str, Any]]:
        """Return the flat outputs on `inputs` (left as they are) and the state after the call."""
        self.module.load_state_dict(state)
        return self._call(self.module, copies(inputs), seed), self.state()

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
        given = self._there(copies(inputs))
        self.module.load_state_dict(state)
        _call(self.module, given, seed, self.device)
        return not all(same_bits(_moved(a, "cpu"), b) for a, b in zip(given, inputs))


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
    outputs = []
    for seed in range(1, n_seeds + 1):
        inputs = task.draw_inputs(seed)
        wide = reference.run_double(inputs, state, 0)
        outputs.append(reference.run(inputs, state, 0)[0] if wide is None else wide)
    return all(_constant([output[i] for output in outputs]) for i in range(len(outputs[0])))


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
