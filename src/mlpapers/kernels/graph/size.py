"""Sizes that are known as numbers at capture and as formulas of the free sizes at run time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import sympy


class Sym(int):
    """An integer that depends on free sizes: its value at capture, and the formula behind it.

    Arithmetic gives formulas. Two sizes are equal only where their formulas are (never by a coincidence of
    values), so a decision taken at capture holds at every size; ``<`` and ``>`` compare the values at
    capture and
    may serve heuristics only.
    """

    expr: sympy.Expr

    def __new__(cls, expr: sympy.Expr, value: int) -> Self:
        """Make a size from its formula and its value at capture."""
        self = super().__new__(cls, value)
        self.expr = expr
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sym) and bool((self.expr - other.expr).expand() == 0)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(("Sym", self.expr.expand()))

    def __add__(self, other: Any) -> Size:  # type: ignore[override]
        return make_size(self.expr + expression(other), int(self) + int(other))

    def __sub__(self, other: Any) -> Size:  # type: ignore[override]
        return make_size(self.expr - expression(other), int(self) - int(other))

    def __rsub__(self, other: Any) -> Size:  # type: ignore[override]
        return make_size(expression(other) - self.expr, int(other) - int(self))

    def __mul__(self, other: Any) -> Size:  # type: ignore[override]
        return make_size(self.expr * expression(other), int(self) * int(other))

    def __neg__(self) -> Size:  # type: ignore[override]
        return make_size(-self.expr, -int(self))

    def __floordiv__(self, other: Any) -> Size:  # type: ignore[override]
        return floor_divide(self, other)

    def __rfloordiv__(self, other: Any) -> Size:  # type: ignore[override]
        return floor_divide(other, self)

    __radd__ = __add__
    __rmul__ = __mul__

    def __repr__(self) -> str:
        return text(self)

    __str__ = __repr__

    def __reduce__(self) -> Any:
        return make_size, (self.expr, int(self))


Size = int | Sym


def expression(value: Any) -> Any:
    """Return the formula of a size (a sympy number for a plain integer)."""
    import sympy

    return value.expr if isinstance(value, Sym) else sympy.Integer(int(value))


def make_size(expr: Any, value: int) -> Size:
    """Return a plain integer where the formula is constant, else a ``Sym``."""
    expr = expr.expand()
    return int(expr) if expr.is_Integer else Sym(expr, value)


def exact_ratio(value: Size, divisor: Size) -> Size | None:
    """Return value / divisor where it is an integer at every size, else None."""
    if not isinstance(value, Sym) and not isinstance(divisor, Sym):
        return value // divisor if divisor and value % divisor == 0 else None
    import sympy

    quotient = sympy.cancel(expression(value) / expression(divisor)).expand()
    whole = quotient.is_polynomial() and all(
        term.is_Integer for term in quotient.as_coefficients_dict().values()
    )
    return make_size(quotient, int(value) // max(int(divisor), 1)) if whole else None


def floor_divide(value: Any, divisor: Any) -> Size:
    """Return floor(value / divisor) for a positive divisor."""
    exact = exact_ratio(value, divisor)
    if exact is not None:
        return exact
    from torch.utils._sympy.functions import FloorDiv

    return make_size(FloorDiv(expression(value), expression(divisor)), int(value) // int(divisor))


def product(sizes: Iterable[Size]) -> Size:
    """Return the product of sizes; 1 for none."""
    total: Size = 1
    for size in sizes:
        total = total * size
    return total


def at_least_zero(value: Size) -> Size:
    """Return max(0, value)."""
    import sympy

    if isinstance(value, Sym):
        return make_size(sympy.Max(0, value.expr), max(0, int(value)))
    return max(0, value)


def text(size: Size) -> str:
    """Return Python text that computes the size from the free sizes."""
    if not isinstance(size, Sym):
        return str(int(size))
    from torch.utils._sympy.printers import PythonPrinter

    return str(PythonPrinter().doprint(size.expr))


def from_torch(value: Any, names: dict[str, str], hints: dict[str, int] | None = None) -> Size:
    """Return the size behind a torch integer or SymInt; `names` maps torch's symbols to ours and grows.

    Parameters
    ----------
    value : int or torch.SymInt
    names : dict of str to str
    hints : dict of str to int, optional
        Values of torch's symbols at the task's own sizes, where the capture ran at others.

    Returns
    -------
    size : int or Sym
    """
    if isinstance(value, int) or not hasattr(value, "node"):
        return int(value)
    import sympy

    expr = value.node.expr
    if expr.is_Integer:
        return int(expr)
    renamed = {}
    for symbol in sorted(expr.free_symbols, key=str):
        name = names.setdefault(str(symbol), f"n{len(names)}")
        # An input may be empty, though the exporter takes sizes for at least 2.
        renamed[symbol] = sympy.Symbol(name, integer=True, nonnegative=True)
    hints = hints or {}
    if all(str(symbol) in hints for symbol in expr.free_symbols):
        at_capture = int(expr.xreplace({s: sympy.Integer(hints[str(s)]) for s in expr.free_symbols}))
    else:
        at_capture = int(value.node.hint)
    return make_size(expr.xreplace(renamed), at_capture)
