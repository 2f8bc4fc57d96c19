"""Report: what became of every claim, as text, table, picture, JSON and one HTML page."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlpapers.core._axes import new_axes
from mlpapers.core._files import write_text
from mlpapers.core._json import json_number
from mlpapers.core._table import ClaimTable
from mlpapers.core.paper import Claim, Measurement, Paper, Scale
from mlpapers.core.result import Result

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

State = Literal["holds", "fails", "error", "unexpectedly holds", "known miss", "not run"]

STATES: tuple[State, ...] = ("holds", "fails", "error", "unexpectedly holds", "known miss", "not run")

# The states in which a claim breaks its promise; a declared miss that holds is a declaration gone stale.
FAILURES: frozenset[State] = frozenset({"fails", "error", "unexpectedly holds"})


@dataclass(frozen=True)
class PaperInfo:
    """What a report says about a paper: enough for a heading and a link."""

    key: str
    title: str
    authors: tuple[str, ...] = ()
    year: int | None = None
    venue: str = ""
    package: str = ""
    url: str | None = None

    @classmethod
    def of(cls, paper: Paper) -> PaperInfo:
        """Take the information from a registered paper."""
        url = f"https://doi.org/{paper.doi}" if paper.doi else None
        url = f"https://arxiv.org/abs/{paper.arxiv}" if paper.arxiv else url
        return cls(paper.key, paper.title, tuple(paper.authors), paper.year, paper.venue, paper.package, url)


@dataclass(frozen=True, kw_only=True, eq=False)
class ClaimOutcome:
    """What became of one claim; its state follows from what was measured and what was declared.

    Attributes
    ----------
    id, paper, package : str
        ``<paper key>/<claim>``, the paper's key, the package that the claim belongs to.
    statement, source : str
        The claim in words, and where the paper makes it.
    scale : {"quick", "full"}
    seed : int
    timed : bool
        It asserts speed.
    known_miss : str or None
        The declaration that it does not hold.
    seconds : float
        Wall time of the experiment; 0 where it did not run.
    measurements : tuple of Measurement
        Empty where the claim did not run or raised.
    table : ClaimTable or None
    figure : str or None
        A picture, as the text of an SVG file.
    notes : str
    missing : str or None
        Why the claim did not run ("needs cuda: …").
    error, traceback : str or None
        What the claim raised.
    """

    id: str
    paper: str
    package: str
    statement: str
    source: str
    scale: Scale
    seed: int
    timed: bool = False
    known_miss: str | None = None
    seconds: float = 0.0
    measurements: tuple[Measurement, ...] = ()
    table: ClaimTable | None = None
    figure: str | None = None
    notes: str = ""
    missing: str | None = None
    error: str | None = None
    traceback: str | None = None

    @property
    def holds(self) -> bool | None:
        """Whether every measurement meets its target; None where the claim did not run or raised."""
        if not self.measurements:
            return None
        return all(measurement.holds for measurement in self.measurements)

    @property
    def state(self) -> State:
        """One word: holds, fails, error, unexpectedly holds, known miss, not run."""
        if self.error is not None:
            return "error"
        if self.holds is None:
            return "not run"
        if self.known_miss is not None:
            return "unexpectedly holds" if self.holds else "known miss"
        return "holds" if self.holds else "fails"

    @property
    def reason(self) -> str | None:
        """Why the claim does not simply hold; None where it does."""
        if self.state == "error":
            return self.error
        if self.state == "not run":
            return self.missing
        if self.state == "unexpectedly holds":
            return "declared a known miss, but it holds: take the declaration away"
        missed = [measurement.comparison for measurement in self.measurements if not measurement.holds]
        return "; ".join(missed) or None

    @classmethod
    def of(cls, claim: Claim, package: str, scale: Scale, seed: int, **fields: Any) -> ClaimOutcome:
        """Describe what became of `claim`; `fields` are those that the run decided."""
        return cls(
            id=claim.id,
            paper=claim.key,
            package=package,
            statement=claim.statement,
            source=claim.source,
            scale=scale,
            seed=seed,
            timed=claim.timed,
            known_miss=claim.known_miss,
            **fields,
        )

    def to_record(self) -> dict[str, Any]:
        """Return the outcome as values for JSON, a number that is not finite as None."""
        return {
            "id": self.id,
            "paper": self.paper,
            "statement": self.statement,
            "holds": self.holds,
            "reason": self.reason,
            "known_miss": self.known_miss,
            "seconds": self.seconds,
            "measurements": [
                {
                    "name": measurement.name,
                    "value": json_number(measurement.value),
                    "relation": measurement.relation,
                    "target": json_number(measurement.target),
                    "unit": measurement.unit,
                    "paper": json_number(measurement.paper),
                }
                for measurement in self.measurements
            ],
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Report(Result):
    """The outcomes of a run over claims.

    Attributes
    ----------
    outcomes : tuple of ClaimOutcome
        In the order in which the claims were selected, whatever order they ended in.
    scale : {"quick", "full"}
    seed : int
    environment : dict of str to str
        Machine, versions, commit (:func:`mlpapers.core.environment.describe_environment`).
    papers : tuple of PaperInfo
        The papers that the outcomes belong to.
    """

    outcomes: tuple[ClaimOutcome, ...]
    scale: Scale
    seed: int
    environment: dict[str, str]
    papers: tuple[PaperInfo, ...] = ()

    def ok(self, strict: bool = False) -> bool:
        """Whether every claim that ran holds or is a declared known miss; with `strict` none may miss.

        A claim that did not run counts for neither side. A declared miss that holds is a failure: the
        declaration is wrong.
        """
        bad = FAILURES | {"known miss"} if strict else FAILURES
        return not any(outcome.state in bad for outcome in self.outcomes)

    def counts(self) -> dict[State, int]:
        """Return how many outcomes are in each state, all states named."""
        counter = Counter(outcome.state for outcome in self.outcomes)
        return {state: counter[state] for state in STATES}

    def seconds(self) -> dict[str, float]:
        """Return the wall seconds of the experiments of each package."""
        total: dict[str, float] = {}
        for outcome in self.outcomes:
            total[outcome.package] = total.get(outcome.package, 0.0) + outcome.seconds
        return total

    def summary(self) -> str:
        """Return a text table, one line per package, and a line for every claim that does not simply hold."""
        states = [state for state, count in self.counts().items() if count or state in ("holds", "fails")]
        header = ["package", "claims", *states, "seconds"]
        rows = [
            [package, *_count_cells([o for o in self.outcomes if o.package == package], states)]
            for package in self.seconds()
        ]
        rows.append(["all", *_count_cells(self.outcomes, states)])
        widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
        lines = [
            "  ".join(
                [
                    row[0].ljust(widths[0]),
                    *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
                ]
            )
            for row in [header, *rows]
        ]
        exceptions = [
            f"{outcome.state}: {outcome.id}: {outcome.reason}"
            for state in STATES
            for outcome in self.outcomes
            if outcome.state == state != "holds"
        ]
        title = f"Reproduction report: scale {self.scale}, seed {self.seed}"
        return "\n".join([title, *lines, *exceptions])

    def to_frame(self) -> pd.DataFrame:
        """Return one row per measurement; a claim without any has one row whose measurement is missing."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for outcome in self.outcomes:
            head: dict[str, Any] = {
                "package": outcome.package,
                "paper": outcome.paper,
                "claim": outcome.id,
                "state": outcome.state,
                "seconds": outcome.seconds,
            }
            rows += [head | _measurement_cells(item) for item in outcome.measurements or (None,)]
        return pd.DataFrame(rows, columns=[*_FRAME_COLUMNS])

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw a bar per package: the seconds of its claims, one segment per claim, coloured by state.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **options
            Passed to ``ax.barh``.
        """
        ax = new_axes(ax)
        packages = list(self.seconds())
        left = dict.fromkeys(packages, 0.0)
        named: set[State] = set()
        for outcome in self.outcomes:
            style: dict[str, Any] = {
                "color": STATE_COLORS[outcome.state],
                "edgecolor": "white",
                "linewidth": 0.5,
            } | options
            label = outcome.state if outcome.state not in named else None
            named.add(outcome.state)
            ax.barh(outcome.package, outcome.seconds, left=left[outcome.package], label=label, **style)
            left[outcome.package] += outcome.seconds
        ax.invert_yaxis()
        ax.set_xlabel("seconds")
        if named:
            ax.legend()
        return ax

    def to_json(self) -> str:
        """Return the outcomes as a JSON list of objects.

        Each has the members ``id``, ``paper``, ``statement``, ``holds`` (null where the claim did not run
        or raised), ``reason``, ``known_miss``, ``seconds`` and ``measurements``, whose members are ``name``,
        ``value``, ``relation``, ``target`` (for "in" a list of two), ``unit`` and ``paper``. JSON knows no
        NaN and no infinity: a number that is not finite is null.
        """
        records = [outcome.to_record() for outcome in self.outcomes]
        return json.dumps(records, indent=2, ensure_ascii=False, allow_nan=False)

    def write_html(self, path: str | os.PathLike[str]) -> Path:
        """Write the report as one self-contained HTML page, atomically, and return its path."""
        from mlpapers.core._html import render_page

        return write_text(path, render_page(self))

    def _repr_html_(self) -> str:
        from mlpapers.core._html import render_notebook

        return render_notebook(self)


STATE_COLORS: dict[State, str] = {
    "holds": "#2f8f5b",
    "fails": "#c8323f",
    "error": "#8e1f5c",
    "unexpectedly holds": "#d98a1f",
    "known miss": "#e58a8f",
    "not run": "#9aa2ab",
}

_FRAME_COLUMNS = (
    "package", "paper", "claim", "state", "measurement", "value", "relation", "target_low", "target_high",
    "unit", "holds", "stated", "seconds",
)  # fmt: skip


def _measurement_cells(measurement: Measurement | None) -> dict[str, Any]:
    if measurement is None:
        return {"value": math.nan, "target_low": math.nan, "target_high": math.nan}
    target = measurement.target
    low, high = target if isinstance(target, tuple) else (math.nan, math.nan)
    if not isinstance(target, tuple):
        low, high = (target, high) if measurement.relation in (">", ">=") else (low, target)
    return {
        "measurement": measurement.name,
        "value": measurement.value,
        "relation": measurement.relation,
        "target_low": low,
        "target_high": high,
        "unit": measurement.unit,
        "holds": measurement.holds,
        "stated": measurement.paper,
    }


def _count_cells(outcomes: Sequence[ClaimOutcome], states: Sequence[State]) -> list[str]:
    counter = Counter(outcome.state for outcome in outcomes)
    seconds = sum(outcome.seconds for outcome in outcomes)
    return [str(len(outcomes)), *(str(counter[state]) for state in states), f"{seconds:.1f}"]
