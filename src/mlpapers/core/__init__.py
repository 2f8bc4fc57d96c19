"""The common room: results, papers and their claims, reproduction, reports, parallel loops, checks.

Nothing in here knows a paper; every paper package builds on it.
"""

from typing import TYPE_CHECKING

from mlpapers.core._lazy import attach

if TYPE_CHECKING:
    from mlpapers.core.paper import Claim as Claim
    from mlpapers.core.paper import Evidence as Evidence
    from mlpapers.core.paper import Measurement as Measurement
    from mlpapers.core.paper import Paper as Paper
    from mlpapers.core.paper import Scale as Scale
    from mlpapers.core.paper import papers as papers
    from mlpapers.core.parallel import parallel_map as parallel_map
    from mlpapers.core.parallel import spawn_seeds as spawn_seeds
    from mlpapers.core.report import ClaimOutcome as ClaimOutcome
    from mlpapers.core.report import Report as Report
    from mlpapers.core.reproduce import reproduce as reproduce
    from mlpapers.core.result import Result as Result
    from mlpapers.core.result import ResultFormatError as ResultFormatError
    from mlpapers.core.result import transient as transient

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Claim": "paper",
        "ClaimOutcome": "report",
        "Evidence": "paper",
        "Measurement": "paper",
        "Paper": "paper",
        "Report": "report",
        "Result": "result",
        "ResultFormatError": "result",
        "Scale": "paper",
        "papers": "paper",
        "parallel_map": "parallel",
        "reproduce": "reproduce",
        "spawn_seeds": "parallel",
        "transient": "result",
    },
)
