"""Directives that show what ``docs/full_scale.json`` says of the claims."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from tabular import machine_words, paragraph, table

from mlpapers.core._evidence import claim_package
from mlpapers.core.paper import Claim, Measurement, Paper, find_paper, papers
from mlpapers.core.report import ClaimOutcome

RESULTS = Path(__file__).resolve().parents[1] / "full_scale.json"
HEADER = ["claim", "what it says, and what was measured", "seconds"]
# A miss that is declared for the small scale may hold at the large one.
GOOD = ("holds", "unexpectedly holds")
STATES = ("holds", "known miss", "fails", "not run")
WIDTHS = [10, 78, 12]


def stored_measurement(item: dict[str, Any]) -> Measurement:
    """Rebuild a measurement; JSON has no tuples, and writes numbers that are none as objects."""
    fields = {
        name: float(value["float"]) if isinstance(value, dict) else value for name, value in item.items()
    }
    if isinstance(fields["target"], list):
        fields["target"] = tuple(fields["target"])
    return Measurement(**fields)


def outcome_of(claim: Claim, run: dict[str, Any] | None) -> ClaimOutcome:
    """Return what became of a claim; without measurements where it was not run."""
    if run is None:
        return ClaimOutcome.of(claim, claim_package(claim), "full", 0)
    return ClaimOutcome.of(
        claim,
        claim_package(claim),
        "full",
        run["seed"],
        seconds=run["seconds"],
        measurements=tuple(stored_measurement(item) for item in run["measurements"]),
    )


def needs(claim: Claim) -> str:
    """Return what a claim needs that not every machine has, for a reader; empty where it needs nothing."""
    return ", ".join(name.removeprefix("package:") for name in claim.requires)


def measured(measurement: Measurement) -> nodes.list_item:
    """Return one number beside its bound; only one that misses is marked."""
    if measurement.holds:
        return nodes.list_item("", paragraph(str(measurement).removesuffix(": holds")))
    return nodes.list_item("", paragraph(str(measurement), css="claim-miss"))


def claim_row(claim: Claim, outcome: ClaimOutcome, date: str) -> list[nodes.Node]:
    """Return the cells of one claim: what it says, its state and why, its numbers beside their bounds."""
    name = nodes.paragraph("", "", nodes.literal("", claim.name))
    found = nodes.container("", paragraph(claim.statement))
    if not outcome.measurements:
        needed = f"; it needs {needs(claim)}" if claim.requires else ""
        found += paragraph(f"Not run at this scale{needed}.", css="claim-remark")
        return [name, found, paragraph("")]
    if outcome.state in GOOD:
        found += paragraph("Holds", css="claim-remark")
    else:
        found += paragraph(outcome.state.capitalize(), css="claim-miss")
    if outcome.known_miss is not None:
        where = "At scale quick: " if outcome.state in GOOD else ""
        found += paragraph(f"{where}{outcome.known_miss}", css="claim-remark")
    found += nodes.bullet_list("", *(measured(measurement) for measurement in outcome.measurements))
    seconds = nodes.container("", paragraph(f"{outcome.seconds:,.0f}"), paragraph(date, css="claim-remark"))
    return [name, found, seconds]


def read_outcomes(paper: Paper) -> list[ClaimOutcome]:
    """Return what became of the claims of a paper, in its order."""
    runs = read_page()["claims"]
    return [outcome_of(claim, runs.get(claim.id)) for claim in paper.claims]


def read_page() -> dict[str, Any]:
    """Return the runs that the page shows."""
    return dict(json.loads(RESULTS.read_text(encoding="utf-8")))


class FullScaleDirective(SphinxDirective):
    """The claims of one paper at full scale."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(RESULTS))
        try:
            paper = find_paper(self.arguments[0])
        except ValueError as error:
            raise self.error(str(error)) from None
        runs = read_page()["claims"]
        rows = [
            claim_row(claim, outcome, runs.get(claim.id, {}).get("date", ""))
            for claim, outcome in zip(paper.claims, read_outcomes(paper), strict=True)
        ]
        link, _ = self.parse_inline(f"The mathematics and the limits: :doc:`/papers/{paper.key}`.")
        return [nodes.paragraph("", "", *link), table(HEADER, rows, WIDTHS, "claims-table")]


class SummaryDirective(SphinxDirective):
    """All papers in one table: how many of their claims hold, miss, fail, were not run; and minutes."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(RESULTS))
        rows: list[list[nodes.Node]] = []
        total: Counter[str] = Counter()
        minutes = 0.0
        for paper in papers():
            if not paper.package.startswith("mlpapers."):
                continue
            outcomes = read_outcomes(paper)
            counts = Counter("holds" if o.state in GOOD else o.state for o in outcomes)
            took = sum(outcome.seconds for outcome in outcomes) / 60
            title = nodes.paragraph(
                "", "", nodes.reference("", paper.title, refid=nodes.make_id(paper.title))
            )
            rows.append([title, *self.figures(counts, took)])
            total, minutes = total + counts, minutes + took
        rows.append([paragraph("all papers"), *self.figures(total, minutes)])
        header = ["paper", "claims", *STATES, "minutes"]
        return [table(header, rows, [45, 9, *([9] * len(STATES)), 10], "papers-table")]

    @staticmethod
    def figures(counts: Counter[str], minutes: float) -> list[nodes.Node]:
        """Return the cells with the numbers of one row."""
        numbers = [counts.total(), *(counts[state] for state in STATES)]
        return [*(paragraph(str(number)) for number in numbers), paragraph(f"{minutes:,.0f}")]


class MachineDirective(SphinxDirective):
    """The machine of the runs, in one line."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(RESULTS))
        return [paragraph(f"The machine: {', '.join(machine_words(dict(read_page()['machine'])))}.")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("full-scale", FullScaleDirective)
    app.add_directive("full-scale-summary", SummaryDirective)
    app.add_directive("full-scale-machine", MachineDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
