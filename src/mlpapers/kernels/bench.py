"""Benchmarks: KernelBench from a clone, our own tasks, and the table of results."""

from __future__ import annotations

import importlib
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpapers.core._axes import new_axes
from mlpapers.core.parallel import parallel_map
from mlpapers.core.result import Result
from mlpapers.core.validation import check_choice, check_int
from mlpapers.datasets import DataUnavailableError
from mlpapers.kernels.metrics import fast_p, geometric_mean, pass_at_k
from mlpapers.kernels.task import Task

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from mlpapers.kernels.agent import KernelAgent

BASELINES = ("eager", "compile")
SOURCES = ("auto", "clone", "hub")
_HUB = "ScalingIntelligence/KernelBench"
_FILE = re.compile(r"(\d+)_(.+)\.py")
_COLUMNS = (
    "level", "id", "name", "ok", "speedup", "ci_low", "ci_high", "eager_ms", "kernel_ms", "compile_ms",
    "roofline",
    "disclosures", "degenerate", "stage", "error",
)  # fmt: skip


class KernelBench:
    """KernelBench's problems of one level, by their numbers.

    Parameters
    ----------
    path : path-like, optional
        A clone of the repository, or its folder ``KernelBench``.
    level : {1, 2, 3, 4}
    problems : sequence of int, optional
        Only these numbers.
    source : {"auto", "clone", "hub"}
        Where the problems come from; "auto" takes `path` where it is given, else the Hugging Face hub.

    Raises
    ------
    DataUnavailableError
        If the problems cannot be had; the message names both ways.
    ValueError
        For an unknown level or number.

    References
    ----------
    [1] Ouyang et al., "KernelBench: Can LLMs write efficient GPU kernels?", arXiv:2502.10517.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        level: int = 1,
        problems: Sequence[int] | None = None,
        source: str = "auto",
    ) -> None:
        check_int("level", level, minimum=1, maximum=4)
        check_choice("source", source, SOURCES)
        self.level = level
        use_clone = source == "clone" or (source == "auto" and path is not None)
        texts = _from_clone(path, level) if use_clone else _from_hub(level)
        if problems is not None:
            missing = sorted(set(problems) - set(texts))
            if missing:
                raise ValueError(f"problems must be numbers of level {level}; it does not have {missing[:5]}")
            texts = {number: texts[number] for number in problems}
        self._tasks = {
            number: Task(name, text, level=level, problem_id=number)
            for number, (name, text) in sorted(texts.items())
        }

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks.values())

    def __getitem__(self, number: int) -> Task:
        if number not in self._tasks:
            raise KeyError(f"level {self.level} has no problem {number}")
        return self._tasks[number]

    def evaluate(
        self,
        agent: KernelAgent,
        *,
        overrides: Mapping[int, Mapping[str, Any]] | None = None,
        n_jobs: int | None = None,
        baseline: Sequence[str] = ("eager", "compile"),
    ) -> BenchmarkResult:
        """Let an agent write a kernel for every problem.

        Parameters
        ----------
        agent : KernelAgent
        overrides : mapping of int to mapping, optional
            Number of a problem -> its constants, to shrink it.
        n_jobs : int or None
            Problems at the same time; timings take turns.
        baseline : sequence of {"eager", "compile"}
            What kernels are timed against besides eager.

        Returns
        -------
        result : BenchmarkResult
        """
        overrides = overrides or {}
        tasks = [task.with_overrides(**dict(overrides.get(task.problem_id or 0, {}))) for task in self]
        return evaluate(agent, tasks, n_jobs=n_jobs, baseline=baseline)


@dataclass(frozen=True, kw_only=True, eq=False)
class BenchmarkResult(Result):
    """What an agent achieved on a list of tasks.

    Degenerate tasks, whose output hardly depends on the input, count for correctness but not for speed.

    Attributes
    ----------
    table : DataFrame
        One row per task: level, id, name, ok, speedup, ci_low, ci_high, eager_ms, kernel_ms, compile_ms,
        roofline, disclosures, degenerate, stage, error.
    n_samples : int
        Independent attempts per task behind `ok`.
    """

    table: pd.DataFrame
    n_samples: int = 1

    @property
    def correctness(self) -> float:
        """Share of tasks that were solved."""
        return float(self.table["ok"].mean())

    @property
    def gm(self) -> float:
        """Geometric mean of the speed-up over solved tasks that are not degenerate."""
        return geometric_mean(self._speedups())

    @property
    def am(self) -> float:
        """Arithmetic mean of the same."""
        values = self._speedups()
        return float(values.mean()) if len(values) else math.nan

    @property
    def gm_all(self) -> float:
        """Geometric mean over all tasks that are not degenerate; one that was not solved counts 1."""
        fair = self.table[~self.table["degenerate"]]
        values = np.where(fair["ok"] & fair["speedup"].notna(), fair["speedup"], 1.0)
        return geometric_mean(values)

    @property
    def gm_compile(self) -> float:
        """Geometric mean of torch.compile's speed-up over the same tasks; nan where it was not timed."""
        fair = self.table[self.table["ok"] & ~self.table["degenerate"] & self.table["compile_ms"].notna()]
        return geometric_mean(fair["eager_ms"] / fair["compile_ms"])

    def fast(self, p: float = 1.0, *, strict: bool = True) -> float:
        """Return fast_p over all tasks.

        Parameters
        ----------
        p : float
        strict : bool

        Returns
        -------
        share : float
        """
        timed = self.table["ok"] & self.table["speedup"].notna() & ~self.table["degenerate"]
        if p == 0:
            return self.correctness
        return fast_p(timed, self.table["speedup"], p, strict=strict)

    def pass_at(self, k: int) -> float:
        """Return the mean of pass@k over tasks.

        Parameters
        ----------
        k : int
            At most ``n_samples``.

        Returns
        -------
        probability : float
        """
        solved = self.table["ok"].astype(int) * self.n_samples
        return float(np.mean([pass_at_k(self.n_samples, int(c), k) for c in solved]))

    def by_class(self, classes: Mapping[str, str]) -> pd.DataFrame:
        """Return the figures per class of task.

        Parameters
        ----------
        classes : mapping of str to str
            Name of a task -> its class.

        Returns
        -------
        table : DataFrame
            Indexed by class: n, correct, fast_0, fast_1, gm, gm_compile.
        """
        import pandas as pd

        rows = {}
        labels = self.table["name"].map(lambda name: classes[name])
        for label in sorted(labels.unique()):
            part = BenchmarkResult(table=self.table[labels == label])
            rows[label] = {
                "n": len(part.table),
                "correct": int(part.table["ok"].sum()),
                "fast_0": part.fast(0.0),
                "fast_1": part.fast(1.0),
                "gm": part.gm,
                "gm_compile": part.gm_compile,
            }
        return pd.DataFrame.from_dict(rows, orient="index")

    def summary(self) -> str:
        """Return the figures in a few lines; a mean never comes without its number of tasks."""
        solved = int(self.table["ok"].sum())
        timed = len(self._speedups())
        lines = [
            f"BenchmarkResult: {solved} of {len(self.table)} tasks solved, {timed} timed",
            f"  fast_1     {self.fast(1.0):.3f}",
            f"  GM, AM     {self.gm:.3f}, {self.am:.3f} over {timed} tasks",
            f"  GM_all     {self.gm_all:.3f} (unsolved counts 1)",
        ]
        if not math.isnan(self.gm_compile):
            lines.append(f"  torch.compile {self.gm_compile:.3f}")
        if self.table["degenerate"].any():
            lines.append(f"  degenerate: {', '.join(self.table.loc[self.table['degenerate'], 'name'])}")
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Return the table, one row per task."""
        return self.table.copy()

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the speed-ups in ascending order on a logarithmic axis.

        Parameters
        ----------
        ax : Axes, optional
        **options
            For ``Axes.plot``.

        Returns
        -------
        ax : Axes
        """
        ax = new_axes(ax)
        values = np.sort(self._speedups())
        ax.plot(np.arange(1, len(values) + 1), values, **{"marker": "o", "linewidth": 0, **options})
        ax.axhline(1.0, color="0.5", linewidth=1)
        ax.set(xlabel="task, by speed-up", ylabel="speed-up over eager", yscale="log")
        return ax

    def _speedups(self) -> Any:
        table = self.table
        chosen = table["ok"] & table["speedup"].notna() & ~table["degenerate"]
        return table.loc[chosen, "speedup"].to_numpy(dtype=np.float64)


def evaluate(
    agent: KernelAgent,
    tasks: Sequence[Task],
    *,
    n_jobs: int | None = None,
    baseline: Sequence[str] = ("eager",),
) -> BenchmarkResult:
    """Let an agent write a kernel for every task and tabulate what came of it.

    Parameters
    ----------
    agent : KernelAgent
    tasks : sequence of Task
    n_jobs : int or None
    baseline : sequence of {"eager", "compile"}

    Returns
    -------
    result : BenchmarkResult
    """
    import pandas as pd

    for name in baseline:
        check_choice("baseline", name, BASELINES)
    rows = parallel_map(
        _evaluate_one,
        list(tasks),
        n_jobs=n_jobs,
        shared=(agent, "compile" in baseline),
        verbose=agent.verbose,
    )
    return BenchmarkResult(table=pd.DataFrame(rows, columns=list(_COLUMNS)))


def compile_ms(agent: KernelAgent, task: Task, eager_ms: float = math.nan) -> float:
    """Return the milliseconds of torch.compile's version of a task, nan where it fails.

    Parameters
    ----------
    agent : KernelAgent
    task : Task
    eager_ms : float
        Eager's time in the run that the result stands beside: torch.compile and eager run in turns, and
        their paired ratio is applied to it, so that the load of the machine cancels. Where it is nan, the
        median of torch.compile's own times is returned.

    Returns
    -------
    ms : float
    """
    from mlpapers.kernels.verify.examiner import Examiner

    with Examiner(
        task, dsl=agent.dsl, backend=agent.backend, settings=agent.settings(), devices=agent.devices
    ) as examiner:
        outcome, _, _ = examiner.time("", compiled=True)
    if outcome.status != "ok":
        return math.nan
    compiled, eager = (np.asarray(outcome.result[key]) for key in ("kernel", "eager"))
    if math.isfinite(eager_ms):
        return eager_ms * float(np.median(compiled / eager))
    return 1e3 * float(np.median(compiled))


def _evaluate_one(agent: KernelAgent, compiled: bool, task: Task) -> dict[str, Any]:
    row: dict[str, Any] = {"level": task.level, "id": task.problem_id, "name": task.name, "ok": False}
    row |= dict.fromkeys(("speedup", "ci_low", "ci_high", "eager_ms", "kernel_ms", "compile_ms"), math.nan)
    row |= {"roofline": math.nan, "disclosures": "", "degenerate": False, "stage": "task", "error": ""}
    try:
        result = agent.generate(task)
    except (ValueError, RuntimeError, NotImplementedError) as error:
        return row | {"error": f"{type(error).__name__}: {error}"}
    row |= {
        "ok": result.success,
        "speedup": result.speedup,
        "ci_low": result.speedup_ci[0],
        "ci_high": result.speedup_ci[1],
        "eager_ms": result.eager_ms,
        "kernel_ms": result.kernel_ms,
        "roofline": result.roofline_fraction,
        "disclosures": "; ".join(result.disclosures),
        "degenerate": result.degenerate,
        "stage": result.report.stage,
        "error": result.report.error,
    }
    if compiled and result.success:
        row["compile_ms"] = compile_ms(agent, task, result.eager_ms)
    return row


def _from_clone(path: str | os.PathLike[str] | None, level: int) -> dict[int, tuple[str, str]]:
    ways = "pass path= of a clone of github.com/ScalingIntelligence/KernelBench, or use source='hub'"
    if path is None:
        raise DataUnavailableError(f"KernelBench from a clone needs path; {ways}")
    root = Path(path)
    folders = [root / f"level{level}", root / "KernelBench" / f"level{level}"]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        raise DataUnavailableError(f"{root} holds no folder level{level} or KernelBench/level{level}; {ways}")
    found = {}
    for file in folder.iterdir():
        match = _FILE.fullmatch(file.name)
        if match:
            found[int(match.group(1))] = (file.stem, file.read_text(encoding="utf-8"))
    if not found:
        raise DataUnavailableError(f"{folder} holds no problems <number>_<name>.py; {ways}")
    return found


def _from_hub(level: int) -> dict[int, tuple[str, str]]:
    ways = (
        "pass path= of a clone of github.com/ScalingIntelligence/KernelBench, or go online with the package "
        "datasets installed (pip install datasets)"
    )
    try:
        hub = importlib.import_module("datasets")
    except ImportError as error:
        raise DataUnavailableError(f"KernelBench from the hub needs the package datasets; {ways}") from error
    try:
        rows = hub.load_dataset(_HUB, split=f"level_{level}")
    except Exception as error:
        # Whatever the hub's client raises, the problems are not there.
        raise DataUnavailableError(f"KernelBench cannot be read from the hub: {error}; {ways}") from error
    return {int(row["problem_id"]): (row["name"], row["code"]) for row in rows}
