"""KernelResult: the kernel that was found, the proof that it is right, and how fast it is."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpapers.core._axes import new_axes
from mlpapers.core._files import write_text
from mlpapers.core.result import Result
from mlpapers.kernels.agents.messages import TraceEvent
from mlpapers.kernels.verify.report import CorrectnessReport, headline

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from mlpapers.kernels.kernel import Kernel


@dataclass(frozen=True, kw_only=True, eq=False)
class KernelResult(Result):
    """What ``KernelAgent.generate`` and ``tune`` return.

    Attributes
    ----------
    success : bool
        A kernel was found that passed every stage.
    kernel : Kernel or None
    code : str
        The kernel's source; also of one that failed, as far as there is one.
    speedup : float
        Median of paired ratios eager / kernel; nan where nothing was measured.
    speedup_ci : tuple of (float, float)
        95 % bootstrap interval.
    eager_ms, kernel_ms : float
    report : CorrectnessReport
    origin : str
        Who wrote the kernel: ``"rules"``, ``"llm"``, ``"user"``.
    disclosures : tuple of str
        What a reader must know: library calls, shapes it is bound to, isolation that was not available.
    roofline_fraction : float
        The least time that the device's memory and arithmetic allow, over the kernel's time.
    attempts : DataFrame
        The candidates of this run, one row each.
    trace : tuple of TraceEvent
    run_id : str
    timing_mode : {"measured", "interpreted", None}
    degenerate : bool
        The task's output hardly depends on its input: the speed-up means nothing.
    device : str
    """

    success: bool
    kernel: Kernel | None
    code: str
    speedup: float = math.nan
    speedup_ci: tuple[float, float] = (math.nan, math.nan)
    eager_ms: float = math.nan
    kernel_ms: float = math.nan
    report: CorrectnessReport = field(default_factory=CorrectnessReport)
    origin: str = "rules"
    disclosures: tuple[str, ...] = ()
    roofline_fraction: float = math.nan
    attempts: pd.DataFrame | None = None
    trace: tuple[TraceEvent, ...] = ()
    run_id: str = ""
    timing_mode: str | None = None
    degenerate: bool = False
    device: str = ""

    def summary(self) -> str:
        """Return a short text: found or not, speed-up with its interval, errors, disclosures."""
        name = self.kernel.task.name if self.kernel is not None and self.kernel.task is not None else "task"
        lines = [f"KernelResult: {name}, {'a kernel was found' if self.success else 'no kernel'}"]
        if math.isfinite(self.speedup):
            low, high = self.speedup_ci
            lines.append(f"  speed-up over eager  {self.speedup:.3g} [{low:.3g}, {high:.3g}]")
            lines.append(f"  eager, kernel        {self.eager_ms:.4g} ms, {self.kernel_ms:.4g} ms")
        elif self.success:
            lines.append("  speed-up over eager  not measured")
        if math.isfinite(self.roofline_fraction):
            lines.append(f"  of the floor         {self.roofline_fraction:.0%}")
        report = self.report
        if report.n_trials:
            lines.append(
                f"  error (float64)      {report.err_ratio_to_eager:.3g} of eager's; {report.n_trials} trials"
            )
        if report.error:
            lines.append(f"  failed at {report.stage}: {headline(report.error)}")
        if self.degenerate:
            lines.append("  degenerate task: the output hardly depends on the input")
        lines += [f"  disclosed: {text}" for text in self.disclosures]
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Return the attempts, one row each."""
        import pandas as pd

        return pd.DataFrame() if self.attempts is None else self.attempts.copy()

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the times of eager and kernel as bars.

        Parameters
        ----------
        ax : Axes, optional
        **options
            For ``Axes.bar``.

        Returns
        -------
        ax : Axes
        """
        ax = new_axes(ax)
        ax.bar(["eager", "kernel"], [self.eager_ms, self.kernel_ms], **options)
        ax.set_ylabel("ms per call")
        if math.isfinite(self.speedup):
            low, high = self.speedup_ci
            ax.set_title(f"{self.speedup:.2f} times as fast [{low:.2f}, {high:.2f}]")
        return ax

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result to one file.

        Parameters
        ----------
        path : path-like
            A name that ends in ``.py`` gives the kernel alone: a source that needs torch and a compiler but
            not this library, with its provenance on top. Any other name gives the whole result, for ``load``.

        Returns
        -------
        path : Path

        Raises
        ------
        ValueError
            If a source is asked for and there is none.
        """
        if Path(path).suffix != ".py":
            return super().save(path)
        if not self.code:
            raise ValueError(f"path {os.fspath(path)!r} asks for a source, but no kernel was found")
        return write_text(path, f"{self.provenance()}\n{self.code}")

    def provenance(self) -> str:
        """Return where the kernel comes from and what was measured, as comment lines."""
        import mlpapers

        low, high = self.speedup_ci
        task = self.kernel.task if self.kernel is not None else None
        name, digest = (task.name, task.fingerprint) if task is not None else ("unknown", "unknown")
        lines = [
            f"Made by mlpapers {mlpapers.__version__}, run {self.run_id or 'unknown'}, origin {self.origin}.",
            f"Task: {name}, sha256 {digest}",
            f"Device: {self.device or 'unknown'}",
        ]
        if math.isfinite(self.speedup):
            lines.append(
                f"Speed-up over eager: {self.speedup:.3f} [{low:.3f}, {high:.3f}], 95 % of paired runs"
            )
        else:
            lines.append("Speed-up over eager: not measured")
        lines.append(f"Verified: {'yes' if self.success else 'no'}, {self.report.n_trials} trials")
        lines.append("Forward only: gradients are not computed, results do not require them")
        if task is not None and task.live is not None:
            lines.append("Weights: none; load_state_dict those of the module that the task was made from")
        lines += [f"Disclosed: {text}" for text in self.disclosures]
        return "\n".join(f"# {' '.join(line.split())}" for line in lines)
