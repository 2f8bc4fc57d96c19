"""Choices between a cheap value and a costly one: blocks that only take the cheap one skip the other.

Where half of the elements take either side nothing is won, and little is lost: the condition is evaluated
twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpapers.kernels.ops import POINTWISE
from mlpapers.kernels.sketch import Compute, Load, Store

if TYPE_CHECKING:
    from mlpapers.kernels.dsl.cpp.vector import Run

# From here on an operation costs more than the test of a block.
_COSTLY = 12
_BLOCK = 128


@dataclass(frozen=True)
class Choice:
    """One ``where`` of a run whose costly operand nobody else needs.

    Parameters
    ----------
    where : Compute
    cheap : str
        The operand that remains.
    positive : bool
        Whether the costly operand is taken where the condition is true.
    test, rest : tuple
        The statements that the condition needs, and those of a block without the costly operand; of the
        latter ``where`` itself is one.
    """

    where: Compute
    cheap: str
    positive: bool
    test: tuple[Any, ...]
    rest: tuple[Any, ...]


def find_choice(statements: Sequence[Any]) -> Choice | None:
    """Return the choice of a run that spares the most, None where there is none.

    Parameters
    ----------
    statements : sequence
        Loads, stores and elementwise operations on tiles, in order.

    Returns
    -------
    choice : Choice or None
    """
    if not all(isinstance(s, Load | Store) or _elementwise(s) for s in statements):
        return None
    best: tuple[int, Choice] | None = None
    for where in statements:
        if not isinstance(where, Compute) or where.op != "where":
            continue
        condition, first, second = where.args
        test = _needed(statements, {condition}, {})
        if not test or _cost(test) >= _COSTLY:
            continue
        for cheap, costly in ((second, first), (first, second)):
            rest = _needed(statements, set(), {id(where): (cheap,)})
            spared = _cost(statements) - _cost(rest)
            if cheap != costly and spared >= _COSTLY and (best is None or spared > best[0]):
                best = spared, Choice(where, cheap, costly == first, tuple(test), tuple(rest))
    return best[1] if best else None


def write_choice(run: Run, choice: Choice, depth: int) -> None:
    """Emit a run's loop in blocks: the condition first, then the block with or without the costly operand.

    Parameters
    ----------
    run : Run
        Its statements are translated already.
    choice : Choice
    depth : int
    """
    assert run.tile is not None
    f, size = run.f, f"n_{run.tile[0]}"
    lines = {id(s): text for s, text in run.spans}
    condition = run.value(choice.where.args[0], "b1")
    kind = f.types[choice.where.dst[0]]
    taken = run.assignment(choice.where.dst[0], run.value(choice.cheap, kind))

    f.emit(depth, f"for (long g = 0; g < {size}; g += {_BLOCK}) {{")
    f.emit(depth + 1, f"const long h = m_min(g + {_BLOCK}, {size});")
    f.emit(depth + 1, "int u = 0;")
    test = [line for s in choice.test for line in lines[id(s)]]
    found = f"u |= {'' if choice.positive else '!'}({condition});"
    f.emit_block(depth + 1, [*test, found], f" reduction(|:u){run.reductions}")
    f.emit(depth + 1, "if (u) {")
    f.emit_block(depth + 2, run.inside, run.reductions)
    f.emit(depth + 1, "} else {")
    rest = [line for s in choice.rest for line in ([taken] if s is choice.where else lines[id(s)])]
    f.emit_block(depth + 2, rest, run.reductions)
    f.emit(depth + 1, "}")
    f.emit(depth, "}")


def _elementwise(s: Any) -> bool:
    return isinstance(s, Compute) and not s.op.startswith(("scan_", "reduce_", "merge_"))


def _cost(statements: Sequence[Any]) -> int:
    return sum(POINTWISE[s.op].cost for s in statements if isinstance(s, Compute) and s.op in POINTWISE)


def _needed(statements: Sequence[Any], names: set[str], reads: dict[int, tuple[str, ...]]) -> list[Any]:
    """Return the statements behind `names`, or behind all stores where none are given, in order."""
    wanted = set(names)
    found: list[Any] = []
    for s in reversed(statements):
        if isinstance(s, Store):
            if names:
                continue
            used: tuple[str, ...] = (s.src, *(item[1:] for item in s.index if item.startswith("@")))
        elif isinstance(s, Load):
            if s.dst not in wanted:
                continue
            used = tuple(item[1:] for item in s.index if item.startswith("@"))
        else:
            if s.dst[0] not in wanted:
                continue
            used = reads.get(id(s), s.args)
        wanted.update(used)
        found.append(s)
    return found[::-1]
