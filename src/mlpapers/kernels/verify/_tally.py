"""The errors of an output, block by block: a tensor of many megabytes is read once, not forty times."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

# Doubles of the handful of temporaries of a block stay in the second-level cache.
_BLOCK = 1 << 15
_SHOWN = 5
# Below this part of the tolerance a rounded quotient cannot hide an entry above it.
_SURELY_BELOW = 1.0 - 1e-12


@dataclass(frozen=True)
class Answer:
    """What of the errors depends on the reference alone: r eager, q the float64 oracle.

    Attributes
    ----------
    n : int
        Entries where r and q are finite; only these count.
    rms, norm_q : float
        Of q.
    norm_r, max_r : float
        Norm and largest entry of |r - q|.
    whole : bool
        All entries are finite.
    """

    n: int
    rms: float
    norm_q: float
    norm_r: float
    max_r: float
    whole: bool


@dataclass
class Tally:
    """Sums and extremes of the errors of one output o.

    Attributes
    ----------
    answer : Answer
    norm_o, max_o : float
        Norm and largest entry of |o - q|.
    max_difference, max_relative : float
        Largest |o - r|, and the same relative to |r| + min(1, rms).
    n_wrong : int
        Entries with |o - r| > rtol (|r| + min(1, rms)).
    wrong : list of int
        The first of them, as flat indices.
    misplaced : list of int
        The first entries where nan and infinities of o are not r's.
    allclose : bool
        KernelBench's rule.
    """

    answer: Answer
    norm_o: float = 0.0
    max_o: float = 0.0
    max_difference: float = 0.0
    max_relative: float = 0.0
    n_wrong: int = 0
    wrong: list[int] = field(default_factory=list)
    misplaced: list[int] = field(default_factory=list)
    allclose: bool = True


def answer_of(r: Any, q: Any) -> Answer:
    """Return what every candidate's errors are measured by.

    Parameters
    ----------
    r, q : tensor of shape (n,)

    Returns
    -------
    answer : Answer
    """
    n, square_q, square_r, largest, whole = 0, 0.0, 0.0, 0.0, True
    for _, r_, q_ in _blocks(r, q):
        error = r_ - q_
        # Nan and infinities of either show in the sum; a sum that merely overflows costs a second look.
        if not math.isfinite(float(error.sum())):
            fine = r_.isfinite() & q_.isfinite()
            whole = whole and bool(fine.all())
            q_, error = q_[fine], error[fine]
        n += q_.numel()
        square_q += float(q_.dot(q_))
        square_r += float(error.dot(error))
        largest = max(largest, _largest(error))
    norm = math.sqrt(square_q)
    return Answer(n, norm / math.sqrt(n) if n else 0.0, norm, math.sqrt(square_r), largest, whole)


def tally(r: Any, q: Any, o: Any, *, rtol: float, bound: float, answer: Answer | None = None) -> Tally:
    """Return the errors of an output.

    Parameters
    ----------
    r, q, o : tensor of shape (n,)
    rtol : float
    bound : float
        KernelBench's absolute and relative tolerance.
    answer : Answer, optional
        ``answer_of(r, q)``, where it is known.

    Returns
    -------
    found : Tally
    """
    import torch

    found = Tally(answer_of(r, q) if answer is None else answer)
    scale = min(1.0, found.answer.rms)
    tiny = torch.finfo(torch.float64).tiny
    square = 0.0
    for start, r_, q_, o_ in _blocks(r, q, o):
        difference = (o_ - r_).abs_()
        largest = float(difference.max())
        if found.answer.whole and math.isfinite(largest):
            # The relative part of the tolerance only adds to it.
            if largest > bound:
                found.allclose = found.allclose and bool((difference <= _allowed(o_, bound)).all())
        else:
            found.allclose = found.allclose and bool(((difference <= _allowed(o_, bound)) | (r_ == o_)).all())
            fine = r_.isfinite() & q_.isfinite()
            bad = (r_.isnan() != o_.isnan()) | (r_.isinf() & (r_ != o_)) | (fine & ~o_.isfinite())
            found.misplaced += _shown(bad, start, found.misplaced)
            difference, r_, q_, o_ = (torch.where(fine, x, 0.0) for x in (difference, r_, q_, o_))
            largest = float(difference.max())
        size = r_.abs().add_(scale)
        relative = float((difference / (size if scale > tiny else size.clamp_min_(tiny))).max())
        if not relative <= rtol * _SURELY_BELOW:
            wrong = difference > rtol * size
            found.n_wrong += int(wrong.sum())
            found.wrong += _shown(wrong, start, found.wrong)
        found.max_difference = max(found.max_difference, largest)
        found.max_relative = max(found.max_relative, relative)
        error = o_ - q_
        square += float(error.dot(error))
        found.max_o = max(found.max_o, _largest(error))
    found.norm_o = math.sqrt(square)
    return found


def _allowed(o: Any, bound: float) -> Any:
    return o.abs().mul_(bound).add_(bound)


def _largest(error: Any) -> float:
    """Return the largest absolute value; nan where there is one, 0 where there is nothing."""
    if not error.numel():
        return 0.0
    low, high = error.aminmax()
    return max(abs(float(low)), abs(float(high)))


def _blocks(*values: Any) -> Iterator[tuple[Any, ...]]:
    for start in range(0, values[0].numel(), _BLOCK):
        yield (start, *(value[start : start + _BLOCK].double() for value in values))


def _shown(mask: Any, start: int, already: list[int]) -> list[int]:
    room = _SHOWN - len(already)
    return [start + int(index) for index in mask.nonzero().reshape(-1)[:room]] if room > 0 else []
