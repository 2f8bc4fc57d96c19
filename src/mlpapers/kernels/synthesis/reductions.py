"""Accumulators of reductions: how they start, take in a tile, merge and become the reduced value."""

from __future__ import annotations

from typing import Any

from mlpapers.kernels.graph.ir import Node
from mlpapers.kernels.ops import COMPUTE
from mlpapers.kernels.sketch import Alloc, Compute
from mlpapers.kernels.synthesis.body import Body

_HINTS = ("accumulator", "fastest")
# Sums of so many terms per accumulator stay in the operands' type; longer ones are taken in double.
SHORT_SUM = 4096


def is_moment(node: Node) -> bool:
    """Whether a reduction is one of the pair mean and sum of squared deviations."""
    return node.op in ("mean", "m2")


def group_moments(body: Body, reduces: list[int]) -> list[list[int]]:
    """Return the reductions, those of moments that share an operand together."""
    groups: list[list[int]] = []
    for member in reduces:
        node = body.node(member)
        for group in groups:
            first = body.node(group[0])
            if is_moment(node) and is_moment(first) and first.inputs == node.inputs:
                group.append(member)
                break
        else:
            groups.append([member])
    return groups


class Accumulator:
    """The accumulators of one reduction (or of one pair of moments).

    Parameters
    ----------
    body : Body
    members : list of int
    dims : tuple of str
        Extents of the accumulator tile; () where a whole row falls into one number.
    long : bool
        Take sums in double.
    """

    def __init__(self, body: Body, members: list[int], dims: tuple[str, ...], long: bool) -> None:
        self.body, self.members, self.dims = body, members, dims
        self.node = body.node(members[0])
        op = self.node.op
        kind = COMPUTE[body.node(self.node.inputs[0]).dtype]
        wide = "f64" if kind == "f32" and long else kind
        name = f"s{members[0]}"
        infinity = {"amax": "-inf", "amin": "inf", "argmax": "-inf", "argmin": "inf"}
        if kind in ("i64", "b1"):
            infinity = {name: start.replace("inf", str(2**63 - 1)) for name, start in infinity.items()}
        if is_moment(self.node):
            self.parts = [(f"{name}m", wide, "0.0"), (f"{name}q", wide, "0.0"), (f"{name}n", "f64", "0.0")]
            self.op, self.merge = "reduce_moments", "merge_moments"
        elif op in ("argmax", "argmin"):
            self.parts = [(f"{name}v", kind, infinity[op]), (f"{name}i", "i64", "-1")]
            self.op = self.merge = f"reduce_{op}"
        elif op in ("any", "all"):
            self.parts = [(name, "b1", "0" if op == "any" else "1")]
            self.op = self.merge = f"reduce_{op}"
        elif op in infinity:
            self.parts = [(name, kind, infinity[op])]
            self.op = self.merge = f"reduce_{op}"
        else:
            total = wide if op in ("sum", "prod") else kind
            start = "0" if op == "sum" else "1"
            self.parts = [
                (name, "i64" if kind == "b1" else total, start if kind in ("i64", "b1") else f"{start}.0")
            ]
            self.op = self.merge = f"reduce_{op}"

    def allocs(self) -> list[Any]:
        """Return the statements that create the accumulators."""
        scalar_count = is_moment(self.node)
        return [
            Alloc(name, () if scalar_count and name.endswith("n") else self.dims, dtype, _HINTS, start)
            for name, dtype, start in self.parts
        ]

    def take(self, loaded: dict[Any, str], out: list[Any]) -> None:
        """Emit the statement that takes in a tile of the operand."""
        operand = self.body.operand(self.members[0], 0, loaded, out)
        args: tuple[str, ...] = (operand,)
        if len(self.parts) == 2:
            args = (operand, self.body.operand(self.members[0], -1, loaded, out))
        out.append(Compute(self.op, args, tuple(name for name, _, _ in self.parts)))

    def finish(self, out: list[Any]) -> None:
        """Emit the statements that turn the accumulators into the members' values."""
        for member in self.members:
            node = self.body.node(member)
            which = {"m2": 1, "argmax": 1, "argmin": 1}.get(node.op, 0)
            out.append(
                Compute("cast", (self.parts[which][0],), (self.body.tile(member),), COMPUTE[node.dtype])
            )
