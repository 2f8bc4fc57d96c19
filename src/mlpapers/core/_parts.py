"""Small parts that the report's page repeats: marks of a state, regions that scroll."""

from __future__ import annotations

from collections.abc import Iterable

from mlpapers.core._markup import Markup, element
from mlpapers.core.report import State

MARKS: dict[State, str] = {
    "holds": "✓",
    "fails": "✗",
    "error": "!",
    "unexpectedly holds": "?",
    "known miss": "≠",
    "not run": "–",
}


def scroller(child: Markup, label: str) -> Markup:
    """Return a region that scrolls by itself, by keyboard too: the page never scrolls sideways."""
    return element("div", child, class_="scroll", role="region", aria_label=label, tabindex="0")


def mark(state: State) -> Markup:
    """Return the sign of a state, which a screen reader skips: its name stands beside it."""
    return element("span", MARKS[state], class_="mark", aria_hidden="true")


def separated(items: Iterable[str | None]) -> list[Markup]:
    """Return the texts that there are, each an element that the style sets apart."""
    return [element("span", item) for item in items if item]


def slug(state: State) -> str:
    """Return the class by which the style knows a state."""
    return f"s-{state.replace(' ', '-')}"
