"""The errors of an output, block by block: a tensor of many megabytes is read twice, not forty times."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

# Doubles of the handful of temporaries of a block stay in the second-level cache.
_BLOCK = 1 << 15
_SHOWN = 5


@dataclass
class Tally:
    """Sums and extremes of the errors of one output o, with r eager and q the float64 oracle.

    Attributes
    ----------
    n : int
        Entries where r and q are finite; only these count below.
    rms : float
        Of q.
    norm_q, norm_o, norm_r : float
        Norms of q, o - q and r - q.
    max_o, max_r : float
        Largest |o - q| and |r - q|.
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

    n: int = 0
    rms: float = 0.0
    norm_q: float = 0.0
    norm_o: float = 0.0
    norm_r: float = 0.0
    max_o: float = 0.0
    max_r: float = 0.0
    max_difference: float = 0.0
    max_relative: float = 0.0
    n_wrong: int = 0
    wrong: list[int] = field(default_factory=list)
    misplaced: list[int] = field(default_factory=list)
    allclose: bool = True


def tally(r: Any, q: Any, o: Any, *, rtol: float, bound: float) -> Tally:
    """Return the errors of an output.

    Parameters
    ----------
    r, q, o : tensor of shape (n,)
    rtol : float
    bound : float
        KernelBench's absolute and relative tolerance.

    Returns
    -------
    found : Tally
    """
    import torch

    found = Tally()
    square = 0.0
    for _, r_, q_, _ in _blocks(r, q, o):
        fine = r_.isfinite() & q_.isfinite()
        whole = bool(fine.all())
        kept = q_ if whole else q_[fine]
        found.n += kept.numel()
        square += float(kept.square().sum())
    found.norm_q = math.sqrt(square)
    found.rms = found.norm_q / math.sqrt(found.n) if found.n else 0.0
    scale = min(1.0, found.rms)
    squares_o = squares_r = 0.0
    for start, r_, q_, o_ in _blocks(r, q, o):
        difference = (o_ - r_).abs()
        allowed = o_.abs().mul_(bound).add_(bound)
        whole = bool((r_.isfinite() & q_.isfinite() & o_.isfinite()).all())
        if whole:
            found.allclose = found.allclose and bool((difference <= allowed).all())
        else:
            found.allclose = found.allclose and bool(((difference <= allowed) | (r_ == o_)).all())
            fine = r_.isfinite() & q_.isfinite()
            bad = (r_.isnan() != o_.isnan()) | (r_.isinf() & (r_ != o_)) | (fine & ~o_.isfinite())
            found.misplaced += _shown(bad, start, found.misplaced)
            difference, r_, q_, o_ = (torch.where(fine, x, 0.0) for x in (difference, r_, q_, o_))
        size = r_.abs().add_(scale)
        wrong = difference > rtol * size
        if bool(wrong.any()):
            found.n_wrong += int(wrong.sum())
            found.wrong += _shown(wrong, start, found.wrong)
        found.max_difference = max(found.max_difference, float(difference.max()))
        relative = difference.div_(size.clamp_min_(torch.finfo(torch.float64).tiny))
        found.max_relative = max(found.max_relative, float(relative.max()))
        error_o, error_r = o_ - q_, r_ - q_
        squares_o += float(error_o.square().sum())
        squares_r += float(error_r.square().sum())
        found.max_o = max(found.max_o, float(error_o.abs_().max()))
        found.max_r = max(found.max_r, float(error_r.abs_().max()))
    found.norm_o, found.norm_r = math.sqrt(squares_o), math.sqrt(squares_r)
    return found


def _blocks(*values: Any) -> Iterator[tuple[Any, ...]]:
    for start in range(0, values[0].numel(), _BLOCK):
        yield (start, *(value[start : start + _BLOCK].double() for value in values))


def _shown(mask: Any, start: int, already: list[int]) -> list[int]:
    room = _SHOWN - len(already)
    return [start + int(index) for index in mask.nonzero().reshape(-1)[:room]] if room > 0 else []
