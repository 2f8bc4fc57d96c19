"""Papers, their claims, and the evidence that a claim holds."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import math
import pkgutil
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mlpapers.core.requirements import check_requirement_name, missing_requirement
from mlpapers.core.validation import check_choice

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Scale = Literal["quick", "full"]
Relation = Literal["<=", ">=", "<", ">", "in"]

SCALES: tuple[Scale, ...] = ("quick", "full")
_ENTRY_POINT_GROUP = "mlpapers.papers"
_PAPER_KEY = r"[a-z0-9]+(-[a-z0-9]+)*"
_CLAIM_NAME = r"[a-z0-9]+([-._][a-z0-9]+)*"


@dataclass(frozen=True)
class Measurement:
    """One measured number against its target; whether it holds follows from the inequality.

    Parameters
    ----------
    name : str
        What was measured.
    value : float
        The measured value. NaN never holds.
    relation : {"<=", ">=", "<", ">", "in"}
    target : float or (low, high)
        The bound; for "in" the closed interval.
    unit : str
    paper : float or str, optional
        The figure that the paper itself states.

    Examples
    --------
    >>> Measurement("largest error", 3e-16, "<=", 1e-12).holds
    True
    >>> Measurement("coverage", float("nan"), "in", (0.9, 1.0)).holds
    False
    """

    name: str
    value: float
    relation: Relation
    target: float | tuple[float, float]
    unit: str = ""
    paper: float | str | None = None

    def __post_init__(self) -> None:
        check_choice("relation", self.relation, ("<=", ">=", "<", ">", "in"))
        object.__setattr__(self, "value", self._number("value", self.value))
        if self.relation == "in":
            ends: Any = self.target
            if not isinstance(ends, Sequence) or isinstance(ends, str) or len(ends) != 2:
                raise ValueError(f"target of {self.name!r} must be (low, high); got {ends!r}")
            low, high = (self._number("target", end) for end in ends)
            if not low <= high:
                raise ValueError(f"target of {self.name!r} must be (low, high), low <= high; got {ends!r}")
            object.__setattr__(self, "target", (low, high))
            return
        target = self._number("target", self.target)
        if math.isnan(target):
            raise ValueError(f"target of {self.name!r} must not be NaN")
        object.__setattr__(self, "target", target)

    def _number(self, what: str, value: Any) -> float:
        try:
            return float(value)
        except (TypeError, ValueError):
            raise TypeError(f"{what} of {self.name!r} must be a real number; got {value!r}") from None

    @property
    def holds(self) -> bool:
        """Whether `value` satisfies `relation` to `target`; every comparison with NaN is False."""
        if isinstance(self.target, tuple):
            low, high = self.target
            return low <= self.value <= high
        if self.relation == "<=":
            return self.value <= self.target
        if self.relation == ">=":
            return self.value >= self.target
        if self.relation == "<":
            return self.value < self.target
        return self.value > self.target

    @property
    def comparison(self) -> str:
        """The measured value beside its target, in words."""
        target = self.target
        bound = f"[{target[0]:g}, {target[1]:g}]" if isinstance(target, tuple) else f"{target:g}"
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.name} = {self.value:.6g}{unit} (target {self.relation} {bound})"

    def __str__(self) -> str:
        return f"{self.comparison}: {'holds' if self.holds else 'FAILS'}"


@dataclass(frozen=True, eq=False)
class Evidence:
    """What one run of a claim measured.

    Parameters
    ----------
    measurements : sequence of Measurement
        At least one; a claim without a measurement is an error.
    table : DataFrame, optional
        The rows behind the measurements.
    figure : callable, optional
        ``figure(ax)`` draws on a matplotlib Axes; it is called once, when the claim ends.
    notes : str
        Remarks shown below the measurements.
    """

    measurements: Sequence[Measurement]
    table: pd.DataFrame | None = None
    figure: Callable[[Axes], Any] | None = None
    notes: str = ""

    def __post_init__(self) -> None:
        measurements = tuple(self.measurements)
        if not measurements:
            raise ValueError("measurements must not be empty: a claim that measures nothing shows nothing")
        if not all(isinstance(measurement, Measurement) for measurement in measurements):
            raise TypeError("measurements must all be Measurement objects")
        object.__setattr__(self, "measurements", measurements)

    @property
    def holds(self) -> bool:
        """Whether every measurement holds."""
        return all(measurement.holds for measurement in self.measurements)


@dataclass(frozen=True, eq=False)
class Claim:
    """A statement of a paper and the experiment that checks it.

    Attributes
    ----------
    id : str
        ``<paper key>/<claim>``.
    statement : str
        The claim in words.
    source : str
        Where the paper makes it (theorem, table, figure).
    function : callable
        ``function(scale, seed) -> Evidence``.
    requires : tuple of str
        Optional parts it needs ("cuda", "cxx", "package:NAME" ...); where one is missing it does not run.
    timed : bool
        It asserts speed, so it runs alone.
    known_miss : str or None
        Why it honestly does not hold, with the measured value.
    shares : str or None
        Claims with the same word use the same expensive inputs and run one after another in one worker.
    """

    id: str
    statement: str
    source: str
    function: Callable[[Scale, int], Evidence]
    requires: tuple[str, ...] = ()
    timed: bool = False
    known_miss: str | None = None
    shares: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(f"{_PAPER_KEY}/{_CLAIM_NAME}", self.id):
            raise ValueError(f"id must be '<paper key>/<claim>' in lower case; got {self.id!r}")

    @property
    def key(self) -> str:
        """The paper's key."""
        return self.id.partition("/")[0]

    @property
    def name(self) -> str:
        """The claim's part of the id."""
        return self.id.partition("/")[2]

    @property
    def module(self) -> str:
        """The module that defines the experiment."""
        return self.function.__module__

    def missing(self) -> str | None:
        """Return why the claim cannot run here, or None."""
        reasons = (missing_requirement(name) for name in self.requires)
        return "; ".join(reason for reason in reasons if reason) or None

    def run(self, scale: Scale = "quick", seed: int = 0) -> Evidence:
        """Run the experiment and return its Evidence; TypeError where it returns anything else."""
        check_choice("scale", scale, SCALES)
        evidence = self.function(scale, seed)
        if not isinstance(evidence, Evidence):
            raise TypeError(f"claim {self.id} must return Evidence; got {type(evidence).__name__}")
        return evidence


@dataclass(frozen=True, eq=False)
class Paper:
    """A paper, its citation, and the registry of its claims.

    Claims live in ``<package>.claims`` (a module, or a package with one module per paper) and are registered
    with :meth:`claim`; they are imported when :attr:`claims` is first read.
    """

    key: str
    title: str
    authors: Sequence[str]
    year: int
    venue: str
    package: str
    summary: str
    arxiv: str | None = None
    doi: str | None = None
    _claims: dict[str, Claim] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(_PAPER_KEY, self.key):
            raise ValueError(f"key must be lower-case words joined by hyphens; got {self.key!r}")
        if isinstance(self.authors, str):
            raise TypeError("authors must be a sequence of names, not one string")
        object.__setattr__(self, "authors", tuple(self.authors))

    def claim(
        self,
        name: str,
        statement: str,
        *,
        source: str,
        requires: Sequence[str] = (),
        timed: bool = False,
        known_miss: str | None = None,
        shares: str | None = None,
    ) -> Callable[[Callable[[Scale, int], Evidence]], Callable[[Scale, int], Evidence]]:
        """Register the decorated function ``(scale, seed) -> Evidence`` as the claim ``<key>/<name>``."""
        if not re.fullmatch(_CLAIM_NAME, name):
            raise ValueError(f"name must be lower-case letters and digits joined by - . _; got {name!r}")
        if isinstance(requires, str):
            raise TypeError("requires must be a sequence of names, not one string")
        if known_miss is not None and not known_miss.strip():
            raise ValueError("known_miss must say why the claim misses, with the measured value")
        for requirement in requires:
            check_requirement_name(requirement)

        def register(function: Callable[[Scale, int], Evidence]) -> Callable[[Scale, int], Evidence]:
            known = self._claims.get(name)
            # The same function again is a module that was reloaded; any other would hide a claim.
            if known is not None and _origin(known.function) != _origin(function):
                raise ValueError(
                    f"claim {self.key}/{name} is already registered by {_origin(known.function)}"
                )
            self._claims[name] = Claim(
                id=f"{self.key}/{name}",
                statement=statement,
                source=source,
                function=function,
                requires=tuple(requires),
                timed=timed,
                known_miss=known_miss,
                shares=shares,
            )
            return function

        return register

    @property
    def claims(self) -> tuple[Claim, ...]:
        """All claims, in the natural order of their names (p1-2 before p1-10)."""
        importlib.import_module(f"{self.package}.claims")
        return tuple(self._claims[name] for name in sorted(self._claims, key=_natural_order))

    def bibtex(self) -> str:
        """Return a BibTeX entry for the paper."""
        entries = {
            "title": f"{{{self.title}}}",
            "author": " and ".join(self.authors),
            "year": str(self.year),
            "journal": self.venue,
            "eprint": self.arxiv,
            "archivePrefix": "arXiv" if self.arxiv else None,
            "doi": self.doi,
        }
        lines = [f"  {name} = {{{value}}}," for name, value in entries.items() if value]
        return "\n".join([f"@article{{{self.key},", *lines, "}"])


def papers() -> tuple[Paper, ...]:
    """Return every known paper, ordered by package and key.

    Papers are found in ``mlpapers/*/papers.py`` and through the entry-point group ``mlpapers.papers``, whose
    entries name a module with Paper objects, a Paper, or a sequence of them.
    """
    import mlpapers

    found: dict[str, Paper] = {}
    for package in pkgutil.iter_modules(mlpapers.__path__, "mlpapers."):
        if package.ispkg and importlib.util.find_spec(f"{package.name}.papers") is not None:
            _add(found, _papers_in(importlib.import_module(f"{package.name}.papers")))
    for entry in importlib.metadata.entry_points(group=_ENTRY_POINT_GROUP):
        _add(found, _papers_in(entry.load()))
    return tuple(sorted(found.values(), key=lambda paper: (paper.package, paper.key)))


def find_paper(key: str) -> Paper:
    """Return the paper with this key; ValueError lists the known ones."""
    known = {paper.key: paper for paper in papers()}
    if key not in known:
        raise ValueError(f"no paper has the key {key!r}; known: {', '.join(known)}")
    return known[key]


def find_claims(names: str | Iterable[str] | None = None) -> tuple[Claim, ...]:
    """Return the claims that `names` select, in registry order, each once.

    Parameters
    ----------
    names : str, iterable of str or None
        Paper keys, package names (``"valuation"``) or claim ids (``"asymmetric-shapley/p1-1"``);
        None means all.

    Raises
    ------
    ValueError
        For a name that is none of these.
    """
    known = papers()
    if names is None:
        return tuple(claim for paper in known for claim in paper.claims)
    selected: set[str] = set()
    for name in [names] if isinstance(names, str) else names:
        chosen: set[str] = set()
        for paper in known:
            # Only papers that the name can mean are asked for their claims: that imports their experiments.
            if name in (paper.key, paper.package, paper.package.rpartition(".")[2]):
                chosen |= {claim.id for claim in paper.claims}
            elif name.partition("/")[0] == paper.key:
                chosen |= {claim.id for claim in paper.claims if claim.id == name}
        if not chosen:
            raise ValueError(
                f"claims names no paper, package or claim: {name!r}; "
                f"papers: {', '.join(paper.key for paper in known)}"
            )
        selected |= chosen
    keys = {claim_id.partition("/")[0] for claim_id in selected}
    return tuple(
        claim for paper in known if paper.key in keys for claim in paper.claims if claim.id in selected
    )


def _origin(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _natural_order(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _add(found: dict[str, Paper], new: Iterable[Paper]) -> None:
    for paper in new:
        if found.setdefault(paper.key, paper) is not paper:
            raise ValueError(
                f"two papers share the key {paper.key!r}: {found[paper.key].package}, {paper.package}"
            )


def _papers_in(source: Any) -> list[Paper]:
    if isinstance(source, Paper):
        return [source]
    items = source if isinstance(source, (list, tuple)) else vars(source).values()
    return list(dict.fromkeys(item for item in items if isinstance(item, Paper)))
