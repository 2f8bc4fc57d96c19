"""The report as one HTML page that loads nothing: style, script and pictures stand in it."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
from collections.abc import Iterable, Sequence

from mlpapers.core._markup import Markup, cell_text, duration_text, element, number_text
from mlpapers.core._svg import embed_svg
from mlpapers.core._table import ClaimTable
from mlpapers.core.paper import Measurement
from mlpapers.core.report import (
    FAILURES,
    STATES,
    ClaimOutcome,
    PaperInfo,
    Report,
    State,
)

# A table of evidence is shown up to this many rows; the evidence file has them all.
_MAX_ROWS = 200

_MARKS: dict[State, str] = {
    "holds": "✓",
    "fails": "✗",
    "error": "!",
    "unexpectedly holds": "?",
    "known miss": "≠",
    "not run": "–",
}
_TITLES: dict[State, tuple[str, str]] = {
    "holds": ("claim holds", "claims hold"),
    "fails": ("claim fails", "claims fail"),
    "error": ("claim raised an error", "claims raised an error"),
    "unexpectedly holds": ("known miss unexpectedly holds", "known misses unexpectedly hold"),
    "known miss": ("known miss", "known misses"),
    "not run": ("claim was not run", "claims were not run"),
}
_RELATIONS = {"<=": "≤", ">=": "≥", "<": "<", ">": ">", "in": "in"}


def render_page(report: Report) -> str:
    """Return the whole page."""
    style, script = _resource("report.css"), _resource("report.js")
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    # The page may hold texts from anywhere (tracebacks, notes): nothing but its own script can run, and
    # nothing can be fetched.
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{script_hash}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element(
            "meta", name="generator", content=f"mlpapers {report.environment.get('mlpapers', '')}".strip()
        ),
        element("title", f"mlpapers: reproduction report ({report.scale}, seed {report.seed})"),
        element("link", rel="icon", href=_icon(report)),
        element("style", Markup(style)),
    )
    body = element(
        "body",
        element("a", "Skip to the claims", class_="skip", href="#claims"),
        _masthead(report),
        element("main", _overview(report), _filters(report), _claims(report), _environment(report)),
        element("script", Markup(script)),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def render_notebook(report: Report) -> str:
    """Return a short table, one row per paper, for a notebook."""
    rows = [
        element("tr", element("th", info.title), *(element("td", cell) for cell in _paper_counts(outcomes)))
        for info, outcomes in _by_paper(report)
    ]
    header = element("tr", *(element("th", name) for name in ("paper", *_COUNT_NAMES)))
    caption = f"Reproduction report: scale {report.scale}, seed {report.seed}"
    return element("table", element("caption", caption), element("thead", header), element("tbody", *rows))


def _masthead(report: Report) -> Markup:
    counts = report.counts()
    ran = len(report.outcomes) - counts["not run"]
    facts = [f"scale {report.scale}", f"seed {report.seed}"]
    if "mlpapers" in report.environment:
        facts.insert(0, f"mlpapers {report.environment['mlpapers']}")
    if "commit" in report.environment:
        facts.append(f"commit {report.environment['commit'][:10]}")
    facts.append(f"{duration_text(sum(outcome.seconds for outcome in report.outcomes))} of experiments")
    present = [state for state in STATES if counts[state]]
    said = ", ".join(f"{counts[state]} {_TITLES[state][counts[state] != 1]}" for state in present)
    # The width is an inline style, so that the bar needs no script.
    meter = [element("span", class_=_slug(state), style=f"flex-grow:{counts[state]}") for state in present]
    chips = [
        element(
            "li",
            _mark(state),
            element("b", str(counts[state])),
            f" {_TITLES[state][counts[state] != 1]}",
            class_=_slug(state),
        )
        for state in present
    ]
    return element(
        "header",
        element(
            "div",
            element("p", " · ".join(facts), class_="facts"),
            element("button", "Dark", type="button", id="theme", hidden=True, aria_pressed="false"),
            class_="topline",
        ),
        element("h1", "Reproduction report"),
        element(
            "p",
            element("strong", str(counts["holds"])),
            f" of {ran} {'claim' if ran == 1 else 'claims'} that ran hold{'s' if ran == 1 else ''}",
            class_="verdict",
        ),
        element("div", *meter, class_="meter", role="img", aria_label=said or "no claims"),
        element("ul", *chips, class_="totals"),
        class_="masthead",
    )


_COUNT_NAMES = ("holds", "failed", "known miss", "not run", "seconds")


def _paper_counts(outcomes: Sequence[ClaimOutcome]) -> list[str]:
    states = [outcome.state for outcome in outcomes]
    failed = sum(state in FAILURES for state in states)
    seconds = sum(outcome.seconds for outcome in outcomes)
    counts = [states.count("holds"), failed, states.count("known miss"), states.count("not run")]
    return [*map(str, counts), f"{seconds:.1f}"]


def _overview(report: Report) -> Markup:
    """One row per paper, a mark per claim; the packages head their papers and carry the seconds."""
    bodies = []
    papers = _by_paper(report)
    for package, seconds in report.seconds().items():
        rows = [
            element(
                "tr",
                element(
                    "th",
                    element("a", info.title, href=f"#{info.key}"),
                    element("span", *(_dot(outcome) for outcome in outcomes), class_="dots"),
                    scope="row",
                ),
                *(
                    element("td", cell, class_=f"n {_count_class(name)}{' zero' if cell == '0' else ''}")
                    for name, cell in zip(_COUNT_NAMES, _paper_counts(outcomes), strict=True)
                ),
            )
            for info, outcomes in papers
            if outcomes[0].package == package
        ]
        head = element(
            "tr",
            element("th", element("code", package), scope="rowgroup"),
            *(element("td", class_=_count_class(name)) for name in _COUNT_NAMES[:-1]),
            element("td", f"{seconds:.1f}", class_="n"),
            class_="package",
        )
        bodies.append(element("tbody", head, *rows))
    header = element(
        "tr",
        element("th", "Paper", scope="col"),
        *(
            element("th", name.capitalize(), scope="col", class_=f"n {_count_class(name)}")
            for name in _COUNT_NAMES
        ),
    )
    table = element("table", element("thead", header), *bodies, class_="overview")
    return element(
        "section",
        element("h2", "Papers", id="papers"),
        _scroller(table, "Outcomes by paper"),
        aria_labelledby="papers",
    )


def _count_class(name: str) -> str:
    return name.replace(" ", "-")


def _dot(outcome: ClaimOutcome) -> Markup:
    said = f"{outcome.id}: {outcome.state}"
    mark = _MARKS[outcome.state]
    return element(
        "a", mark, class_=f"dot {_slug(outcome.state)}", href=f"#{outcome.id}", title=said, aria_label=said
    )


def _filters(report: Report) -> Markup:
    counts = report.counts()
    options = [element("option", "All papers", value="")]
    options += [element("option", info.title, value=info.key) for info, _ in _by_paper(report)]
    toggles = [
        element(
            "button",
            _mark(state),
            f"{state.capitalize()} ",
            element("span", str(counts[state]), class_="count"),
            type="button",
            class_=f"toggle {_slug(state)}",
            data_state=state,
            aria_pressed="false",
        )
        for state in STATES
        if counts[state]
    ]
    return element(
        "div",
        element(
            "label",
            element("span", "Search the claims", class_="sr"),
            element("input", type="search", id="text", placeholder="Search the claims", autocomplete="off"),
        ),
        element("label", element("span", "Paper", class_="sr"), element("select", *options, id="paper")),
        element("div", *toggles, class_="toggles", role="group", aria_label="States"),
        element(
            "p",
            element("span", id="shown", role="status"),
            element("button", "Clear", type="button", id="clear", hidden=True),
            element("button", "Fold all", type="button", id="fold", aria_pressed="false"),
            class_="actions",
        ),
        id="filters",
        role="search",
        aria_label="Filter the claims",
        hidden=True,
    )


def _claims(report: Report) -> Markup:
    sections = [
        element(
            "section",
            element("h3", info.title),
            _citation(info),
            *(_card(outcome) for outcome in outcomes),
            class_="paper",
            id=info.key,
        )
        for info, outcomes in _by_paper(report)
    ]
    return element(
        "section",
        element("h2", "Claims", id="claims", tabindex="-1"),
        *sections,
        element("p", "No claim matches the filter.", id="none", hidden=True),
        aria_labelledby="claims",
    )


def _citation(info: PaperInfo) -> Markup | None:
    authors = ", ".join(info.authors)
    parts = [part for part in (authors, info.venue, str(info.year or "")) if part]
    link = (
        element("a", info.url.removeprefix("https://"), href=info.url, rel="noreferrer") if info.url else None
    )
    if not parts and link is None:
        return None
    return element("p", ". ".join(parts) + (". " if link else ""), link, class_="citation")


def _card(outcome: ClaimOutcome) -> Markup:
    facts = [
        outcome.source,
        duration_text(outcome.seconds) if outcome.state != "not run" else None,
        f"seed {outcome.seed}",
        f"scale {outcome.scale}",
        "timed: ran alone" if outcome.timed else None,
    ]
    badge = element("span", _mark(outcome.state), outcome.state, class_="badge")
    link = element("a", outcome.id, href=f"#{outcome.id}", class_="anchor")
    details = [
        _measurements(outcome.measurements) if outcome.measurements else None,
        element("p", outcome.notes, class_="notes") if outcome.notes else None,
        _picture(outcome),
        _table(outcome.table) if outcome.table else None,
        _scroller(element("pre", outcome.traceback), "Traceback") if outcome.traceback else None,
    ]
    return element(
        "article",
        element("p", badge, link, class_="label"),
        element("h4", outcome.statement),
        element("p", *_separated(facts), class_="facts"),
        _explanation(outcome),
        element("details", element("summary", "Evidence"), *details, open=True)
        if any(part is not None for part in details)
        else None,
        id=outcome.id,
        class_=f"claim {_slug(outcome.state)}",
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
    return element("div", _scroller(shown, "Table of the evidence"), element("p", note) if note else None)


def _environment(report: Report) -> Markup:
    rows = [
        element("div", element("dt", name), element("dd", fact)) for name, fact in report.environment.items()
    ]
    return element(
        "section",
        element("h2", "Environment", id="environment"),
        element("dl", *rows),
        aria_labelledby="environment",
    )


def _by_paper(report: Report) -> list[tuple[PaperInfo, list[ClaimOutcome]]]:
    groups: dict[str, list[ClaimOutcome]] = {}
    for outcome in report.outcomes:
        groups.setdefault(outcome.paper, []).append(outcome)
    known = {info.key: info for info in report.papers}
    return [(known.get(key) or PaperInfo(key, key), outcomes) for key, outcomes in groups.items()]


def _scroller(child: Markup, label: str) -> Markup:
    """Return a region that scrolls by itself, by keyboard too: the page never scrolls sideways."""
    return element("div", child, class_="scroll", role="region", aria_label=label, tabindex="0")


def _mark(state: State) -> Markup:
    return element("span", _MARKS[state], class_="mark", aria_hidden="true")


def _separated(items: Iterable[str | None]) -> list[Markup]:
    return [element("span", item) for item in items if item]


def _slug(state: State) -> str:
    return f"s-{state.replace(' ', '-')}"


def _icon(report: Report) -> str:
    color = "%232f8f5b" if report.ok() else "%23c8323f"
    return (
        "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'>"
        f"<rect width='8' height='8' rx='2' fill='{color}'/></svg>"
    )


def _resource(name: str) -> str:
    return importlib.resources.files("mlpapers.core").joinpath(name).read_text(encoding="utf-8")
