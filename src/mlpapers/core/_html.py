"""The report as one HTML page that loads nothing: style, script and pictures stand in it."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
from collections.abc import Sequence

from mlpapers.core._card import card
from mlpapers.core._markup import Markup, duration_text, element
from mlpapers.core._parts import MARKS, mark, scroller, slug
from mlpapers.core.report import (
    FAILURES,
    STATES,
    ClaimOutcome,
    PaperInfo,
    Report,
    State,
)

_TITLES: dict[State, tuple[str, str]] = {
    "holds": ("claim holds", "claims hold"),
    "fails": ("claim fails", "claims fail"),
    "error": ("claim raised an error", "claims raised an error"),
    "unexpectedly holds": ("known miss unexpectedly holds", "known misses unexpectedly hold"),
    "known miss": ("known miss", "known misses"),
    "not run": ("claim was not run", "claims were not run"),
}


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
    meter = [element("span", class_=slug(state), style=f"flex-grow:{counts[state]}") for state in present]
    chips = [
        element(
            "li",
            mark(state),
            element("b", str(counts[state])),
            f" {_TITLES[state][counts[state] != 1]}",
            class_=slug(state),
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
        scroller(table, "Outcomes by paper"),
        aria_labelledby="papers",
    )


def _count_class(name: str) -> str:
    return name.replace(" ", "-")


def _dot(outcome: ClaimOutcome) -> Markup:
    said = f"{outcome.id}: {outcome.state}"
    sign = MARKS[outcome.state]
    return element(
        "a", sign, class_=f"dot {slug(outcome.state)}", href=f"#{outcome.id}", title=said, aria_label=said
    )


def _filters(report: Report) -> Markup:
    counts = report.counts()
    options = [element("option", "All papers", value="")]
    options += [element("option", info.title, value=info.key) for info, _ in _by_paper(report)]
    toggles = [
        element(
            "button",
            mark(state),
            f"{state.capitalize()} ",
            element("span", str(counts[state]), class_="count"),
            type="button",
            class_=f"toggle {slug(state)}",
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
            *(card(outcome) for outcome in outcomes),
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


def _icon(report: Report) -> str:
    color = "%232f8f5b" if report.ok() else "%23c8323f"
    return (
        "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'>"
        f"<rect width='8' height='8' rx='2' fill='{color}'/></svg>"
    )


def _resource(name: str) -> str:
    return importlib.resources.files("mlpapers.core").joinpath(name).read_text(encoding="utf-8")
