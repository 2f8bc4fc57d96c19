"""What a benchmark found: one kind of row for all scripts, as text and as JSON. Standard library only."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

Verdict = Literal["met", "missed", "not run", ""]

FORMAT = 1
# What a verdict says where values had to agree and no ratio had to be reached.
_SAME = {"met": "same values", "missed": "other values"}
_TIME_UNITS = ((1.0, "s"), (1e3, "ms"), (1e6, "µs"))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure of ours, alone or beside a peer's. Less is better in every unit.

    Parameters
    ----------
    what : str
        What is computed and measured, e.g. ``"KNN-Shapley n=5000 m=500"``.
    peer : str
        Another library, or a slower way of our own; empty where ours stands alone.
    version : str
        Of the peer's distribution; empty where it has none.
    unit : str
        Of `ours` and `theirs`.
    ours, theirs : float or None
        Medians over the turns.
    ratio, low, high : float or None
        theirs / ours: median, least and greatest over the turns.
    turns : int
        How often both were measured, one after the other.
    target : float or None
        What the ratio, or without a peer `ours`, has to reach.
    relation : {">=", "<="}
        How it has to.
    difference, tolerance : float or None
        Largest difference between the two results, and what is allowed.
    note : str
        What a reader must know to judge the row.
    skipped : str
        Why it was not run.
    """

    what: str
    peer: str = ""
    version: str = ""
    unit: str = "s"
    ours: float | None = None
    theirs: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    turns: int = 0
    target: float | None = None
    relation: Literal[">=", "<="] = ">="
    difference: float | None = None
    tolerance: float | None = None
    note: str = ""
    skipped: str = ""

    @property
    def verdict(self) -> Verdict:
        """Whether target and tolerance are met; empty where nothing was to reach."""
        if self.skipped:
            return "not run"
        if self.target is None and self.tolerance is None:
            return ""
        figure = self.ratio if self.peer else self.ours
        reached = self.target is None or (
            figure is not None and (figure >= self.target if self.relation == ">=" else figure <= self.target)
        )
        same = self.tolerance is None or (self.difference is not None and self.difference <= self.tolerance)
        return "met" if reached and same else "missed"

    def cells(self) -> dict[str, str]:
        """Return what a table shows, by column."""
        bound = figure_text(self.target) if self.peer else quantity_text(self.target, self.unit)
        goal = f"{'≥' if self.relation == '>=' else '≤'} {bound}"
        if self.tolerance is not None and self.difference is not None:
            found = f"differs by {self.difference:.1g}, allowed {self.tolerance:.1g}"
        else:
            found = ""
        spread = (
            "" if self.turns < 2 or self.low is None else f"{figure_text(self.low)}–{figure_text(self.high)}"
        )
        return {
            "what": self.what,
            "peer": f"{self.peer} {self.version}".strip(),
            "ours": quantity_text(self.ours, self.unit),
            "theirs": quantity_text(self.theirs, self.unit),
            "ratio": figure_text(self.ratio),
            "spread": spread,
            "target": goal if self.target is not None else "",
            "verdict": _SAME.get(self.verdict, self.verdict) if self.target is None else self.verdict,
            "remark": "; ".join(part for part in (self.skipped, self.note, found) if part),
        }


@dataclass(frozen=True, kw_only=True)
class Record:
    """The rows of one script, and where and when they were measured.

    Parameters
    ----------
    script : str
        Name of the file without its ending.
    rows : tuple of Row
    date : str
        ISO date of the run.
    seconds : float
        Wall time of the whole script.
    environment : dict of str to str
        Processor, cores, memory, versions.
    shared : bool
        Other work ran on the machine at the same time, as whoever ran it says.
    error : str
        Why there are no rows; empty where there are.
    """

    script: str
    rows: tuple[Row, ...] = ()
    date: str = ""
    seconds: float = 0.0
    environment: dict[str, str]
    shared: bool = False
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the record as values for JSON; a field that says nothing is left out."""
        empty = {field.name: field.default for field in fields(Row)}
        rows = [{k: v for k, v in asdict(row).items() if v != empty[k]} for row in self.rows]
        return {**asdict(self), "rows": rows}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Record:
        """Rebuild a record; TypeError where its members are not those of a record."""
        return cls(**{**value, "rows": tuple(Row(**row) for row in value["rows"])})


def read_records(path: Path) -> dict[str, Record]:
    """Return script -> record of a file; an empty dict where there is none.

    Raises
    ------
    ValueError
        Where the file is not one that :func:`records_text` wrote.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        content = json.loads(text)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r}, this is {FORMAT}")
        records = [Record.from_json(value) for value in content["scripts"]]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} does not hold benchmark results: {error!r}") from error
    return {record.script: record for record in records}


def records_text(records: dict[str, Record]) -> str:
    """Return the JSON of some scripts' records, in the order of their names."""
    content = {"format": FORMAT, "scripts": [records[name].to_json() for name in sorted(records)]}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def finite(value: float | None) -> float | None:
    """Return the number, or None where it is none: JSON has no NaN."""
    return None if value is None or not math.isfinite(value) else float(value)


def without_paths(text: str) -> str:
    """Return a message on one line, less the folders of this machine, which say nothing to others."""
    line = " ".join(text.split())
    return re.sub(r" ?\(?(?<![\w.])(?:/[\w.+-]+){2,}/?\)?", "", line).strip()


def figure_text(value: float | None) -> str:
    """Return a number with three digits, thousands in full; empty for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def quantity_text(value: float | None, unit: str) -> str:
    """Return a number with its unit; seconds in ms or µs where they are short."""
    if value is None:
        return ""
    if unit != "s":
        return f"{figure_text(value)} {unit}".strip()
    scale, name = next((pair for pair in _TIME_UNITS if value * pair[0] >= 1.0), _TIME_UNITS[-1])
    return f"{figure_text(value * scale)} {name}"


COLUMNS = ("what", "peer", "ours", "theirs", "ratio", "spread", "target", "verdict", "remark")


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text, one line each."""
    cells = [dict(zip(COLUMNS, COLUMNS)), *(row.cells() for row in rows)]
    widths = {name: max(len(line[name]) for line in cells) for name in COLUMNS}
    lines = []
    for line in cells:
        parts = [
            line[name].ljust(widths[name])
            if name in ("what", "peer", "verdict", "remark")
            else line[name].rjust(widths[name])
            for name in COLUMNS
        ]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)
