"""A directive that shows what ``benchmarks/results.json`` says of one script."""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from tabular import machine_words, paragraph, table

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from _rows import Record, Row, read_records

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
RESULTS = FOLDER / "results.json"
HEADER = ["what", "beside", "ours", "theirs", "ratio", "target"]
WIDTHS = [34, 18, 11, 11, 13, 13]


def row_cells(row: Row) -> list[nodes.Node]:
    """Return the cells of one row: its remark stands under what it is, its verdict under the target."""
    cells = row.cells()
    what, ratio, target = nodes.container("", paragraph(cells["what"])), nodes.container(), nodes.container()
    if cells["remark"]:
        what += paragraph(cells["remark"], css="claim-remark")
    ratio += paragraph(cells["ratio"])
    if cells["spread"]:
        ratio += paragraph(cells["spread"], css="claim-remark")
    target += paragraph(cells["target"])
    if row.verdict:
        target += paragraph(row.verdict, css="claim-miss" if row.verdict == "missed" else "claim-remark")
    plain = [paragraph(cells[name]) for name in ("peer", "ours", "theirs")]
    return [what, *plain, ratio, target]


def circumstances(record: Record) -> str:
    """Return when and where the rows were measured, and how they ended, in one paragraph."""
    facts = dict(record.environment)
    parts = [f"mlpapers {facts.pop('mlpapers', '')}", f"Python {facts.pop('python', '')}"]
    parts += machine_words(facts)
    counts = Counter(row.verdict or "without a target" for row in record.rows)
    found = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    busy = " Other work ran on the machine at the same time." if record.shared else ""
    return f"{record.date}: {', '.join(parts)}.{busy} Rows: {found}."


class BenchmarksDirective(SphinxDirective):
    """The rows of one script of ``benchmarks``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        script = self.arguments[0]
        self.env.note_dependency(str(RESULTS))
        if not (FOLDER / f"{script}.py").exists():
            raise self.error(f"there is no benchmarks/{script}.py")
        try:
            record = read_records(RESULTS).get(script)
        except ValueError as error:
            raise self.error(str(error)) from None
        if record is None:
            return [
                paragraph("Not run yet: ", nodes.literal("", f'make bench ARGS="{script}"'), nodes.Text("."))
            ]
        if record.error:
            return [paragraph(f"The last run gave no figures: {record.error}.")]
        rows = [row_cells(row) for row in record.rows]
        return [paragraph(circumstances(record)), table(HEADER, rows, WIDTHS, "claims-table")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("benchmarks", BenchmarksDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
