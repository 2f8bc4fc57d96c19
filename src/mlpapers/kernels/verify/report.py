"""What verification found: issues in the text, a report on correctness, and the verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

# Lines of an error that a verdict shows of its start, and as many of its end.
_SHOWN = 4
# The order in which a candidate is judged; a stage that fails ends the examination.
STAGES = ("static", "build", "correct", "hack", "time")

# What went wrong, in the words that the routing of the conductor knows.
ERROR_CLASSES = (
    "syntax",
    "import",
    "static_policy",
    "compile",
    "launch",
    "timeout",
    "oom",
    "wrong_result",
    "hack",
    "slow",
)


@dataclass(frozen=True)
class StaticIssue:
    """A place in the source of a candidate that the policy does not allow.

    Attributes
    ----------
    rule : str
        The rule's name, e.g. ``"torch_op"``.
    line : int
        Line in the source, from 1; 0 where the whole text is meant.
    message : str
    """

    rule: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.message} [{self.rule}]"


@dataclass(frozen=True)
class CorrectnessReport:
    """Whether a candidate computes what the reference computes, and whether it does so honestly.

    Attributes
    ----------
    ok : bool
        No stage before the timing failed.
    tol_ok, oracle_ok, kernelbench_ok : bool
        The elementwise rule, the rule against the float64 oracle, and KernelBench's own ``allclose``, each
        over all trials. A trial passes by the first or the second.
    max_abs_err, max_rel_err : float
        Largest difference from the eager output, absolute and relative to ``|r| + s``.
    err_ratio_to_eager : float
        Largest over trials of ``||o - q|| / max(||r - q||, eps ||q||)``: 1 is as accurate as eager.
    n_trials : int
        Trials that were compared.
    inputs_mutated : bool
        The candidate wrote to its inputs although the reference does not.
    static : tuple of StaticIssue
    hacks : tuple of str
        Names of the rules of ``mlpapers.kernels.verify.hacks.CATALOGUE`` that fired.
    error : str
        The reason for a failure, as it goes to the author of the candidate; never holds expected values.
    error_class : str
        One of ``ERROR_CLASSES``, or "" where nothing failed.
    stage : str
        The last stage that was reached.
    disclosures : tuple of str
        What a reader of the result must know, e.g. ``"network: audit hook only"``.
    trials : tuple of str
        What each trial was, in words.
    """

    ok: bool = False
    tol_ok: bool = False
    oracle_ok: bool = False
    kernelbench_ok: bool = False
    max_abs_err: float = math.nan
    max_rel_err: float = math.nan
    err_ratio_to_eager: float = math.nan
    n_trials: int = 0
    inputs_mutated: bool = False
    static: tuple[StaticIssue, ...] = ()
    hacks: tuple[str, ...] = ()
    error: str = ""
    error_class: str = ""
    stage: str = "static"
    disclosures: tuple[str, ...] = ()
    trials: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The outcome of :func:`mlpapers.kernels.verify`.

    Attributes
    ----------
    ok : bool
        Every stage that was asked for passed.
    stage : str
        The stage that failed, or the last one: static, build, correct, hack, time.
    report : CorrectnessReport
    eager_ms, kernel_ms : float
        Medians; nan where nothing was timed.
    speedup : float
        Median of the paired ratios eager / kernel; nan where nothing was timed.
    speedup_ci : tuple of (float, float)
        95 % bootstrap interval of `speedup`.
    degenerate : bool
        The task's output hardly depends on its input: the speed-up means nothing.
    timing_mode : {"measured", "interpreted", None}
    """

    ok: bool
    stage: str
    report: CorrectnessReport = field(default_factory=CorrectnessReport)
    eager_ms: float = math.nan
    kernel_ms: float = math.nan
    speedup: float = math.nan
    speedup_ci: tuple[float, float] = (math.nan, math.nan)
    degenerate: bool = False
    timing_mode: str | None = None

    def __str__(self) -> str:
        state = "passed" if self.ok else f"failed at {self.stage}"
        lines = [f"{state}; {self.report.n_trials} trials compared"]
        lines += [f"  {issue}" for issue in self.report.static]
        lines += [f"  hack: {name}" for name in self.report.hacks]
        lines += [f"  {line}" for line in _ends(self.report.error.splitlines())]
        if math.isfinite(self.speedup):
            low, high = self.speedup_ci
            lines.append(
                f"  eager {self.eager_ms:.4g} ms, kernel {self.kernel_ms:.4g} ms, "
                f"speed-up {self.speedup:.3g} [{low:.3g}, {high:.3g}]"
            )
        lines += [f"  disclosed: {text}" for text in self.report.disclosures]
        return "\n".join(lines)


def _ends(lines: list[str]) -> list[str]:
    """Return the first lines of an error, where compilers say what is wrong, the exception, and the last."""
    if len(lines) <= 2 * _SHOWN:
        return lines
    first, last, said = lines[:_SHOWN], lines[-_SHOWN:], headline("\n".join(lines))
    return [*first, "...", *([] if said in first + last else [said, "..."]), *last]


def headline(error: str) -> str:
    """Return the line of an error that says most: the exception after a traceback, else the first.

    Parameters
    ----------
    error : str
        Not empty.

    Returns
    -------
    line : str
    """
    lines = error.splitlines()
    frames = [number for number, line in enumerate(lines) if line.startswith("  File ")]
    after = lines[frames[-1] + 1 :] if frames else lines
    return next((line for line in after if not line.startswith(" ")), lines[0])
