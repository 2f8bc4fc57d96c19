"""A directive that shows what ``docs/full_scale.json`` says of one paper's claims."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from tabular import paragraph, table

from mlpapers.core._evidence import claim_package
from mlpapers.core.paper import Claim, Measurement, find_paper
from mlpapers.core.report import ClaimOutcome

RESULTS = Path(__file__).resolve().parents[1] / "full_scale.json"
HEADER = ["claim", "measured", "seconds"]
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


def claim_row(outcome: ClaimOutcome, date: str) -> list[nodes.Node]:
    """Return the cells of one claim: its state and why, then its numbers beside their bounds."""
    found = nodes.container()
    good = outcome.state == "holds"
    state = "not run at this scale" if outcome.state == "not run" else outcome.state
    found += paragraph(state, css="claim-remark" if good or not outcome.measurements else "claim-miss")
    if outcome.known_miss is not None and outcome.measurements:
        found += paragraph(outcome.known_miss, css="claim-remark")
    numbers = nodes.bullet_list()
    for measurement in outcome.measurements:
        css = None if measurement.holds else "claim-miss"
        numbers += nodes.list_item("", paragraph(str(measurement), css=css))
    if outcome.measurements:
        found += numbers
    seconds = nodes.container("", paragraph(f"{outcome.seconds:,.0f}" if outcome.measurements else ""))
    if date:
        seconds += paragraph(date, css="claim-remark")
    name = outcome.id.partition("/")[2]
    return [nodes.paragraph("", "", nodes.literal("", name)), found, seconds]


class FullScaleDirective(SphinxDirective):
    """The claims of one paper at full scale."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(RESULTS))
        try:
            claims = find_paper(self.arguments[0]).claims
        except ValueError as error:
            raise self.error(str(error)) from None
        runs = json.loads(RESULTS.read_text(encoding="utf-8"))["claims"]
        outcomes = [outcome_of(claim, runs.get(claim.id)) for claim in claims]
        counts = Counter(outcome.state for outcome in outcomes)
        total = sum(outcome.seconds for outcome in outcomes) / 60
        ended = ", ".join(f"{count} {state}" for state, count in counts.items())
        rows = [
            claim_row(outcome, runs.get(claim.id, {}).get("date", ""))
            for claim, outcome in zip(claims, outcomes, strict=True)
        ]
        summary = paragraph(f"{len(claims)} claims: {ended}; {total:,.0f} minutes.")
        return [summary, table(HEADER, rows, WIDTHS, "claims-table")]


class MachineDirective(SphinxDirective):
    """The machine of the runs, in one line."""

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(RESULTS))
        facts = json.loads(RESULTS.read_text(encoding="utf-8"))["machine"]
        words = [facts.pop("cpu", ""), f"{facts.pop('cores', '?')} cores", facts.pop("memory", "")]
        words += [f"{name} {version}" for name, version in facts.items()]
        return [paragraph(f"The machine: {', '.join(word for word in words if word)}.")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive("full-scale", FullScaleDirective)
    app.add_directive("full-scale-machine", MachineDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
