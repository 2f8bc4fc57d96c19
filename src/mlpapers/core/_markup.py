"""HTML elements that escape what they hold, and numbers as a page shows them."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable

from mlpapers.core._table import Cell

_VOID = frozenset({"meta", "link", "input", "br"})


class Markup(str):
    """Text that is HTML already; any other text is escaped on its way into an element."""

    __slots__ = ()


def element(name: str, /, *children: str | None, **attributes: str | bool | None) -> Markup:
    """Return an HTML element.

    Strings that are not Markup are escaped, None is left out. An attribute's name loses a trailing underscore
    and its other underscores become hyphens; True stands for an attribute without a value, False and None for
    none.
    """
    parts = [f"<{name}"]
    for key, value in attributes.items():
        label = key.removesuffix("_").replace("_", "-")
        if value is True:
            parts.append(f" {label}")
        elif value is not None and value is not False:
            parts.append(f' {label}="{html.escape(value)}"')
    parts.append(">")
    if name in _VOID:
        return Markup("".join(parts))
    return Markup("".join(parts) + _join(children) + f"</{name}>")


def number_text(value: float | None) -> str:
    """Return a number to five digits with a real minus sign; nothing for None."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "−∞"}.get(value, "NaN")
    return f"{value:.5g}".replace("-", "−").replace("e−0", "e−").replace("e+0", "e+")


def cell_text(cell: Cell) -> str:
    """Return the text of a table cell."""
    if cell is None or isinstance(cell, bool | str):
        return "" if cell is None else str(cell)
    return str(cell).replace("-", "−") if isinstance(cell, int) else number_text(cell)


def duration_text(seconds: float) -> str:
    """Return seconds in the unit that a reader would use."""
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _join(children: Iterable[str | None]) -> str:
    return "".join(
        child if isinstance(child, Markup) else html.escape(child, quote=False)
        for child in children
        if child is not None
    )
