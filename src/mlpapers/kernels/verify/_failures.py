"""What a verdict says of a candidate that failed, or of a worker that did not come to its end."""

from __future__ import annotations

from dataclasses import replace

from mlpapers.kernels.verify import hacks as catalogue
from mlpapers.kernels.verify.inputs import Trial
from mlpapers.kernels.verify.isolation import Outcome
from mlpapers.kernels.verify.report import CorrectnessReport, Verdict

__all__ = ["failed", "failed_run"]


def failed(stage: str, report: CorrectnessReport) -> Verdict:
    """Return the verdict of a candidate that does not pass a stage."""
    return Verdict(False, stage, replace(report, ok=False, stage=stage))


def failed_run(outcome: Outcome, trials: list[Trial]) -> CorrectnessReport:
    """Describe a worker that did not come to its end."""
    result = outcome.result
    by_status = {"timeout": "timeout", "oom": "oom"}
    kind = result.get("error_class") or by_status.get(outcome.status, "launch")
    where, label = outcome.stage, ""
    if where.startswith("trial "):
        number = int(where.split()[1])
        label = trials[number].label
        where = f"trial {number + 1} ({label})"
    if result.get("error"):
        error = f"in {where}:\n{result['error']}"
    else:
        reason = {
            "timeout": f"no answer after {outcome.seconds:.1f} s",
            "oom": "out of memory",
        }.get(outcome.status, f"the process died (signal {outcome.signal})")
        error = f"{reason} in {where or 'the worker'}\n{outcome.output[-2000:]}".strip()
    hacks: tuple[str, ...] = ()
    if kind == "hack":
        hacks = tuple(name for name in catalogue.CATALOGUE if name in result.get("error", ""))
    elif result.get("forbidden"):
        hacks = ("forbidden_access",)
    elif label.startswith("size"):
        hacks = ("shape_specialised",)
    return CorrectnessReport(
        error=error,
        error_class="hack" if hacks else kind,
        hacks=hacks,
        stage="correct",
        disclosures=tuple(result.get("disclosures", ())),
    )
