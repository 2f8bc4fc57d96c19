"""Which settings of the knobs are tried, in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Params = dict[str, Any]


def candidates(
    space: Mapping[str, Sequence[Any]],
    defaults: Mapping[str, Any],
    *,
    n: int,
    known: Mapping[str, Any] | None = None,
    rng: np.random.Generator,
) -> list[Params]:
    """Return up to `n` different settings: the known winner, the defaults, neighbours, then random ones.

    Neighbours differ from the start (the known winner, else the defaults) in one knob; the nearest values of
    all knobs come before the next nearest of any.

    Parameters
    ----------
    space : mapping of str to sequence
        Admissible values of each knob, in their natural order.
    defaults : mapping
    n : int
    known : mapping, optional
        What won for a similar task; knobs and values that `space` does not have are ignored.
    rng : numpy.random.Generator

    Returns
    -------
    settings : list of dict

    Examples
    --------
    >>> candidates({"unroll": (1, 2, 4)}, {"unroll": 2}, n=3, rng=np.random.default_rng(0))
    [{'unroll': 2}, {'unroll': 1}, {'unroll': 4}]
    """
    start = dict(defaults)
    found: list[Params] = []
    if known:
        start |= {name: value for name, value in known.items() if value in space.get(name, ())}
        found.append(dict(start))
    found.append(dict(defaults))
    steps = max((len(values) for values in space.values()), default=0)
    for distance in range(1, steps):
        for name, values in space.items():
            values = list(values)
            at = values.index(start[name]) if start.get(name) in values else 0
            near = (at - distance, at + distance)
            found += [start | {name: values[k]} for k in near if 0 <= k < len(values)]
        if len(_unique(found)) >= n:
            break
    total = int(np.prod([len(values) for values in space.values()], dtype=np.float64)) if space else 1
    found = _unique(found)
    attempts = 0
    while len(found) < min(n, total) and attempts < 50 * n:
        attempts += 1
        drawn = {name: values[int(rng.integers(len(values)))] for name, values in space.items()}
        found = _unique([*found, start | drawn])
    return found[:n]


def _unique(settings: Sequence[Params]) -> list[Params]:
    kept: list[Params] = []
    for item in settings:
        if item not in kept:
            kept.append(item)
    return kept
