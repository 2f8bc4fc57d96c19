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

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlpapers.core.validation import check_real
from mlpapers.kernels.verify._tally import Answer, answer_of, tally

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


def compare(
    eager: Sequence[Any],
    oracle: Sequence[Any],
    candidate: Sequence[Any],
    *,
    rtol: float | None = None,
    inputs: Sequence[Any] = (),
    answers: Sequence[Answer | None] | None = None,
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
    answers : sequence, optional
        ``answers_of(eager, oracle)``, where many candidates are judged by the same.

    Returns
    -------
    comparison : Comparison
    """
    if rtol is not None:
        check_real("rtol", rtol, low=0.0, closed="neither")
    if len(candidate) != len(eager):
        return _wrong(f"{len(eager)} outputs were expected; got {len(candidate)}")
    parts = []
    known = [None] * len(eager) if answers is None else answers
    for position, (r, q, o, answer) in enumerate(zip(eager, oracle, candidate, known)):
        part = _compare_one(r, q, o, rtol, inputs, answer)
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


def answers_of(eager: Sequence[Any], oracle: Sequence[Any]) -> list[Answer | None]:
    """Return what of the errors depends on the reference alone, for each output; None for a whole number."""
    import torch

    pairs = [(torch.as_tensor(r), torch.as_tensor(q)) for r, q in zip(eager, oracle)]
    return [
        answer_of(r.detach().reshape(-1), q.detach().reshape(-1)) if r.is_floating_point() else None
        for r, q in pairs
    ]


def _compare_one(
    r: Any, q: Any, o: Any, rtol: float | None, inputs: Sequence[Any], answer: Answer | None
) -> Comparison:
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
    return _compare_real(r, q, o, rtol, answer)


def _compare_real(r: Any, q: Any, o: Any, rtol: float | None, answer: Answer | None) -> Comparison:
    import torch

    dtype = str(r.dtype).removeprefix("torch.")
    rtol = RTOL.get(dtype, 1e-2) if rtol is None else rtol
    flat = [x.detach().reshape(-1) for x in (r, q, o)]
    found = tally(*flat, rtol=rtol, bound=_KERNELBENCH.get(dtype, 1e-2), answer=answer)
    answer = found.answer
    said = f"shape {tuple(r.shape)}, dtype {dtype}"
    if found.misplaced:
        return Comparison(
            False, False, False, found.allclose, math.inf, math.inf, math.inf,
            f"nan or infinity in the wrong places, {said}, first at {_places(found.misplaced, r.shape)}",
        )  # fmt: skip
    if not answer.n:
        return Comparison(True, True, True, found.allclose)
    eps = torch.finfo(r.dtype).eps
    norm_bound = max(answer.norm_r, eps * answer.norm_q)
    oracle_ok = found.norm_o <= 2 * norm_bound and found.max_o <= 4 * max(answer.max_r, eps * answer.rms)
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
        low_precision=bool(error) and 0 < found.norm_o <= 0.05 * answer.norm_q,
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
