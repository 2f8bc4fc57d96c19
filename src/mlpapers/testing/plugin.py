"""pytest plugin: ``pytest --mlpapers-claims[=quick|full]`` runs the papers' claims as tests, in any project.

Each claim is one test item whose id is the claim's id. A claim that needs what is not there is skipped with
the reason; a declared known miss is a strict xfail; a claim about speed must yield finite measurements.

Nothing but pytest is imported here until the option is used: the plugin is loaded by every pytest run of
every project in the same environment.
"""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from mlpapers.core.paper import Claim, Paper, Scale

__all__ = ["claim_marks", "run_claim"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options."""
    group = parser.getgroup("mlpapers", "claims of papers")
    group.addoption(
        "--mlpapers-claims",
        nargs="?",
        const="quick",
        type=_scale,
        metavar="quick|full",
        help="also run the claims of mlpapers' papers as tests, at this scale (quick where none is given)",
    )
    group.addoption(
        "--mlpapers-paper",
        action="append",
        default=[],
        metavar="KEY",
        help="with --mlpapers-claims: only this paper's claims; may be repeated",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the collection of claims where it was asked for; UsageError for an unknown paper."""
    scale, keys = config.getoption("mlpapers_claims"), config.getoption("mlpapers_paper")
    if scale is None:
        if keys:
            raise pytest.UsageError("--mlpapers-paper selects among claims: give --mlpapers-claims too")
        return

    from mlpapers.core.paper import papers

    known = {paper.key: paper for paper in papers()}
    unknown = [key for key in keys if key not in known]
    if unknown:
        raise pytest.UsageError(
            f"--mlpapers-paper: no paper has the key {unknown[0]!r}; known: {', '.join(known) or 'none'}"
        )
    chosen = [paper for key, paper in known.items() if not keys or key in keys]
    config.pluginmanager.register(_ClaimCollection(chosen, scale), "mlpapers-claim-collection")


def claim_marks(claim: Claim) -> list[pytest.MarkDecorator]:
    """Return the marks of a test of `claim`: a strict xfail where it is a declared known miss."""
    from mlpapers.testing.claims import ClaimFailure

    # A timed claim is not held to its targets here, so it cannot miss them either.
    if claim.known_miss is None or claim.timed:
        return []
    return [pytest.mark.xfail(reason=claim.known_miss, raises=ClaimFailure, strict=True)]


def run_claim(claim: Claim, scale: Scale) -> None:
    """Run `claim` as a test: skip it where a requirement or its data are missing, else ``check_claim`` it."""
    from mlpapers.datasets import DataUnavailableError
    from mlpapers.testing.claims import check_claim

    reason = claim.missing()
    if reason is not None:
        pytest.skip(reason)
    try:
        check_claim(claim, scale)
    except DataUnavailableError as error:
        pytest.skip(str(error))


class _ClaimCollection:
    """Adds the claims to what the session collects, after the project's own tests."""

    def __init__(self, papers: Sequence[Paper], scale: Scale) -> None:
        self._papers = papers
        self._scale = scale

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        if isinstance(collector, pytest.Session) and report.passed:
            report.result = [
                *(report.result or []),
                *(
                    _PaperCollector.from_parent(
                        collector, name=paper.key, nodeid=paper.key, paper=paper, scale=self._scale
                    )
                    for paper in self._papers
                ),
            ]
        return report


class _PaperCollector(pytest.Collector):
    """One paper; its claims are imported when it is collected."""

    def __init__(self, *, paper: Paper, scale: Scale, **node: Any) -> None:
        super().__init__(**node)
        self._paper = paper
        self._scale = scale

    def collect(self) -> Iterator[_ClaimItem]:
        for claim in self._paper.claims:
            yield _ClaimItem.from_parent(self, name=claim.id, nodeid=claim.id, claim=claim, scale=self._scale)


class _ClaimItem(pytest.Item):
    """One claim as a test."""

    def __init__(self, *, claim: Claim, scale: Scale, **node: Any) -> None:
        super().__init__(**node)
        self._claim = claim
        self._scale = scale
        for mark in claim_marks(claim):
            self.add_marker(mark)

    def runtest(self) -> None:
        run_claim(self._claim, self._scale)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        from mlpapers.testing.claims import ClaimFailure

        if isinstance(excinfo.value, ClaimFailure):
            return str(excinfo.value)
        # What lies between pytest and the experiment tells nothing about the experiment.
        excinfo.traceback = excinfo.traceback.cut(path=inspect.getsourcefile(self._claim.function))
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"claim {self.name}"


def _scale(text: str) -> str:
    if text not in ("quick", "full"):
        # `--mlpapers-claims tests/` reads the path as the scale; the message says how to write it.
        raise argparse.ArgumentTypeError(
            f"the scale must be quick or full; got {text!r} (for a path write --mlpapers-claims=quick PATH)"
        )
    return text
