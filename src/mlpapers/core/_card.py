"""The card of one claim in the report: its statement, why it misses, and its evidence."""

from __future__ import annotations

from collections.abc import Iterable

from mlpapers.core._markup import Markup, cell_text, duration_text, element, number_text
from mlpapers.core._parts import mark, scroller, separated, slug
from mlpapers.core._svg import embed_svg
from mlpapers.core._table import ClaimTable
from mlpapers.core.paper import Measurement
from mlpapers.core.report import ClaimOutcome

# A table of evidence is shown up to this many rows; the evidence file has them all.
_MAX_ROWS = 200
_RELATIONS = {"<=": "≤", ">=": "≥", "<": "<", ">": ">", "in": "in"}


def card(outcome: ClaimOutcome) -> Markup:
    """Return the article of one claim."""
    facts = [
        outcome.source,
        duration_text(outcome.seconds) if outcome.state != "not run" else None,
        f"seed {outcome.seed}",
        f"scale {outcome.scale}",
        "timed: ran alone" if outcome.timed else None,
    ]
    badge = element("span", mark(outcome.state), outcome.state, class_="badge")
    link = element("a", outcome.id, href=f"#{outcome.id}", class_="anchor")
    details = [
        _measurements(outcome.measurements) if outcome.measurements else None,
        element("p", outcome.notes, class_="notes") if outcome.notes else None,
        _picture(outcome),
        _table(outcome.table) if outcome.table else None,
        scroller(element("pre", outcome.traceback), "Traceback") if outcome.traceback else None,
    ]
    return element(
        "article",
        element("p", badge, link, class_="label"),
        element("h4", outcome.statement),
        element("p", *separated(facts), class_="facts"),
        _explanation(outcome),
        element("details", element("summary", "Evidence"), *details, open=True)
        if any(part is not None for part in details)
        else None,
        id=outcome.id,
        class_=f"claim {slug(outcome.state)}",
        data_state=outcome.state,
        data_paper=outcome.paper,
    )


def _explanation(outcome: ClaimOutcome) -> Markup | None:
    """Say what a reader must know before the numbers: why the claim misses, did not run, or raised."""
    lines = {
        "known miss": ("Known miss: ", outcome.known_miss),
        "unexpectedly holds": ("Declared a known miss, but it holds: ", outcome.known_miss),
        "not run": ("Not run: ", outcome.missing),
        "error": ("", outcome.error),
    }
    if outcome.state not in lines:
        return None
    lead, text = lines[outcome.state]
    return element("p", element("strong", lead) if lead else None, text, class_="why")


def _measurements(measurements: Iterable[Measurement]) -> Markup:
    items = list(measurements)
    stated = any(item.paper is not None for item in items)
    names = ["Measurement", "Measured", "Target", *(["In the paper"] if stated else []), ""]
    rows = []
    for item in items:
        paper = item.paper if isinstance(item.paper, str) else number_text(item.paper)
        unit = element("span", f" {item.unit}", class_="unit") if item.unit else None
        verdict = element(
            "td",
            element("span", "✓" if item.holds else "✗", aria_hidden="true"),
            element("span", "holds" if item.holds else "misses", class_="sr"),
            class_="verdict",
        )
        rows.append(
            element(
                "tr",
                element("th", item.name, scope="row"),
                element(
                    "td",
                    number_text(item.value),
                    unit,
                    class_="n",
                    title=repr(item.value),
                    data_name="Measured",
                ),
                element("td", _target(item), class_="n", data_name="Target"),
                element("td", paper, class_="n", data_name="In the paper") if stated else None,
                verdict,
                class_="held" if item.holds else "missed",
            )
        )
    header = [element("th", name or element("span", "Verdict", class_="sr"), scope="col") for name in names]
    table = element("table", element("thead", element("tr", *header)), element("tbody", *rows))
    return element("div", table, class_="measurements")


def _target(item: Measurement) -> str:
    if isinstance(item.target, tuple):
        return f"in [{number_text(item.target[0])}, {number_text(item.target[1])}]"
    return f"{_RELATIONS[item.relation]} {number_text(item.target)}"


def _picture(outcome: ClaimOutcome) -> Markup | None:
    if outcome.figure is None:
        return None
    prefix = outcome.id.replace("/", "-").replace(".", "-") + "-"
    picture = Markup(embed_svg(outcome.figure, prefix, f"Picture of the evidence for {outcome.id}"))
    return element("figure", picture)


def _table(table: ClaimTable) -> Markup:
    numeric = [
        all(isinstance(row[position], int | float) or row[position] is None for row in table.rows)
        for position in range(len(table.columns))
    ]
    kinds = ["n" if is_numeric else None for is_numeric in numeric]
    header = [element("th", name, scope="col", class_=kind) for name, kind in zip(table.columns, kinds)]
    rows = [
        element("tr", *(element("td", cell_text(cell), class_=kind) for cell, kind in zip(row, kinds)))
        for row in table.rows[:_MAX_ROWS]
    ]
    shown = element("table", element("thead", element("tr", *header)), element("tbody", *rows), class_="data")
    left_out = len(table.rows) - _MAX_ROWS
    note = (
        f"The first {_MAX_ROWS} of {len(table.rows)} rows; the evidence file has all." if left_out > 0 else ""
    )
    return element("div", scroller(shown, "Table of the evidence"), element("p", note) if note else None)
