"""The examination of candidates of one task, stage by stage."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mlpapers.kernels.task import TaskError
from mlpapers.kernels.verify import hacks as catalogue
from mlpapers.kernels.verify._failures import failed, failed_run
from mlpapers.kernels.verify._prepared import Prepared, builds_itself
from mlpapers.kernels.verify._room import check_room
from mlpapers.kernels.verify.devices import check_devices, on_host, put_together, share_out, take_device
from mlpapers.kernels.verify.inputs import Trial
from mlpapers.kernels.verify.isolation import Limits, Outcome, job_folder, run_job, start_workers
from mlpapers.kernels.verify.report import CorrectnessReport, Verdict
from mlpapers.kernels.verify.settings import Settings, kernel_cache
from mlpapers.kernels.verify.static import static_check
from mlpapers.kernels.verify.timing import paired_speedup

if TYPE_CHECKING:
    from mlpapers.kernels.task import Task

# What the numbers of one timing suspect must show again in the next: machines are busy now and then.
_TIMING_RETRIES = 3
# What only numbers show, and a busy machine may show too; the rest is seen in values.
_BY_THE_CLOCK = frozenset({"async_work", "clock", "roofline", "slows_reference"})
_COMPILE_SECONDS = 240.0
# Races of so many runs and more compare pair by pair: all that take part run on one device.
_PAIRED_RUNS = 31


class Examiner:
    """Verifies many candidates of one task: trials and the reference's answers are computed once.

    Parameters
    ----------
    task : Task
    dsl, backend : str
    settings : Settings, optional
    random_state : int, Generator or None
    devices : list of str, optional
        The devices that share the work, by default the first of the backend.
    """

    # Whether a device's driver refuses to start in a network namespace of its own; learnt from the first try.
    _needs_network = False

    def __init__(
        self,
        task: Task,
        *,
        dsl: str,
        backend: str = "auto",
        settings: Settings | None = None,
        random_state: Any = None,
        devices: Sequence[str] | None = None,
    ) -> None:
        from mlpapers.kernels.dsl import get_dsl, resolve

        self.task = task
        self.dsl, self.backend = resolve(dsl, backend)
        self.settings = settings or Settings()
        self._language = get_dsl(self.dsl)
        self.devices = check_devices(devices, self.backend)
        self._on_host = on_host(self.devices[0])
        self._prepared = Prepared(task, self.settings, random_state, self.devices[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the files of the trials."""
        self._prepared.close()

    @property
    def trials(self) -> list[Trial]:
        """The trials, with the reference's answers."""
        return self._prepared.trials

    @property
    def degenerate(self) -> bool:
        """Whether the task's output hardly depends on its input."""
        return self._prepared.degenerate

    @property
    def nondeterministic(self) -> bool:
        """Whether the task draws random numbers in ``forward``."""
        return self._prepared.random

    def examine(self, code: str, *, timing: bool = True) -> Verdict:
        """Take one candidate through all stages.

        Parameters
        ----------
        code : str
        timing : bool

        Returns
        -------
        verdict : Verdict
        """
        failure = self.check(code)
        if failure is not None:
            return failure
        # The process that workers are forked from starts while the candidate is built and trials are drawn.
        if self.settings.sandbox == "process":
            start_workers(self._environment)
        failure = self.build(code)
        if failure is not None:
            return failure
        report = self._correct(code, timing=timing)
        if not report.ok:
            return failed(report.stage, report)
        if not timing:
            return Verdict(True, report.stage, report, degenerate=self.degenerate)
        return self._timed(code, report)

    def check(self, code: str) -> Verdict | None:
        """Return the verdict of the static stage where it fails, else None."""
        issues = tuple(static_check(code, dsl=self.dsl, library_ops=self.settings.library_ops))
        if not issues:
            return None
        kind = "syntax" if {issue.rule for issue in issues} & {"syntax", "empty"} else "static_policy"
        error = "\n".join(str(issue) for issue in issues)
        return failed("static", CorrectnessReport(static=issues, error=error, error_class=kind))

    def build(self, code: str) -> Verdict | None:
        """Return the verdict of the build stage where it fails, else None."""
        from mlpapers.kernels.dsl import BuildError, DSLUnavailable

        loader = getattr(self._language, "loader", "")
        # Somebody else's source has a loader of its own, or needs none.
        if builds_itself(code) or (loader and loader not in code):
            return None
        try:
            self._language.build(code, kernel_cache(), self.backend)
        except (BuildError, DSLUnavailable) as error:
            check_room(kernel_cache())
            return failed("build", CorrectnessReport(error=str(error), error_class="compile"))
        return None

    @contextlib.contextmanager
    def _meanwhile(self, timing: bool) -> Iterator[None]:
        """Compute what the next stages need of the task, while a worker calls the candidate."""
        if not self._on_host:
            # The device is the worker's until it ends.
            yield
            return
        with ThreadPoolExecutor(1) as pool:
            task = pool.submit(self._prepared.complete, timing=timing and not self._interpreted)
            yield
        task.result()

    @property
    def _interpreted(self) -> bool:
        """Whether kernels run in an interpreter, whose times say nothing."""
        return self._environment.get("TRITON_INTERPRET") == "1"

    @property
    def _environment(self) -> dict[str, str]:
        found = {**self._language.environment(self.backend), "MLPAPERS_KERNEL_CACHE": str(kernel_cache())}
        # What one candidate of a task compiled the next need not compile; other tasks do not see it.
        return found if self._on_host else {**found, "TRITON_CACHE_DIR": str(self._prepared.compiled)}

    def _job(self, code: str, folder: Path, procedure: str) -> dict[str, Any]:
        """Return a job; the device comes when one is free."""
        job = self._prepared.job(code, folder, procedure)
        if not self._on_host:
            job |= {"compilers": True, "writable": [str(self._prepared.compiled)]}
        return job

    def _limits(self, extra: float = 0.0) -> Limits:
        """Return the limits of a worker; a device's driver maps more memory than there is."""
        limits = self._prepared.limits(extra)
        return limits if self._on_host else replace(limits, memory=0, processes=4096, open_files=4096)

    def _run(self, folder: Path, job: dict[str, Any], limits: Limits, *, alone: bool = True) -> Outcome:
        """Run a job on the first device that is free; `alone` is how everything runs on a GPU."""
        with (
            take_device(self.devices)
            if alone or not self._on_host
            else contextlib.nullcontext("cpu") as device
        ):
            job = {**job, "device": "cpu" if self._on_host else device, "network": Examiner._needs_network}

            def run(job: dict[str, Any]) -> Outcome:
                return run_job(
                    folder,
                    job,
                    limits=limits,
                    environment=self._environment,
                    sandbox=self.settings.sandbox,
                )

            outcome = run(job)
            if outcome.status == "device" and not job["network"]:
                outcome = run({**job, "network": True})
                Examiner._needs_network = outcome.status != "device"
        if outcome.status == "reference":
            raise TaskError(
                f"task {self.task.name!r}: its module cannot be made in another process, so it cannot be "
                f"timed; use Task.from_source\n{outcome.result['error']}"
            )
        return outcome

    def _correct(self, code: str, *, timing: bool) -> CorrectnessReport:
        prepared, trials = self._prepared, self.trials
        with job_folder() as folder:
            job = self._job(code, folder, "correct")
            job["trials"] = [
                {"file": str(prepared.trial_file(k)), "call_seed": trial.call_seed}
                for k, trial in enumerate(trials)
            ]
            job["replay"] = prepared.replay_pair()
            limits = self._limits()
            with self._meanwhile(timing):
                outcome = self._run(folder, job, limits, alone=False)
            if outcome.status != "ok":
                return failed_run(outcome, trials)
            comparisons, hacks, error = catalogue.judge_trials(
                folder,
                outcome,
                trials,
                rtol=self.settings.rtol,
                random=prepared.random,
                library_ops=self.settings.library_ops,
            )
        right = all(comparison.ok for comparison in comparisons)
        wrong = not right or bool(error and not hacks)
        return CorrectnessReport(
            ok=right and not hacks and not error,
            tol_ok=all(comparison.tol_ok for comparison in comparisons),
            oracle_ok=all(comparison.oracle_ok for comparison in comparisons),
            kernelbench_ok=all(comparison.kernelbench_ok for comparison in comparisons),
            max_abs_err=max(comparison.max_abs_err for comparison in comparisons),
            max_rel_err=max(comparison.max_rel_err for comparison in comparisons),
            err_ratio_to_eager=max(comparison.err_ratio for comparison in comparisons),
            n_trials=len(comparisons),
            inputs_mutated="mutates_inputs" in hacks,
            hacks=tuple(hacks),
            error=error or "\n".join(f"{name}: {catalogue.CATALOGUE[name]}" for name in hacks),
            error_class="wrong_result" if wrong else ("hack" if hacks else ""),
            stage="correct" if wrong else "hack",
            disclosures=tuple(self._disclosures(outcome)),
            trials=tuple(trial.label for trial in trials),
        )

    def _disclosures(self, outcome: Outcome) -> list[str]:
        library = outcome.result["trials"][0].get("library", {})
        found = [*outcome.result["disclosures"], *(f"library: aten.{name}" for name in sorted(library))]
        if self.settings.shape_policy == "static":
            found.append("shape-specialised")
        if self._prepared.random:
            found.append("nondeterministic task: compared at the same state of the generator")
        return found

    def _timed(self, code: str, report: CorrectnessReport) -> Verdict:
        if self._interpreted:
            return Verdict(True, "time", report, degenerate=self.degenerate, timing_mode="interpreted")
        suspected: set[str] = set(catalogue.CATALOGUE)
        for _ in range(1 + _TIMING_RETRIES):
            outcome, hacks, error = self.time(code)
            if outcome.status != "ok":
                described = failed_run(outcome, self.trials)
                return failed(
                    "time",
                    replace(
                        report,
                        error=described.error,
                        hacks=described.hacks,
                        error_class=described.error_class,
                    ),
                )
            suspected &= set(hacks)
            if not suspected:
                return self._verdict(outcome, report)
            if suspected - _BY_THE_CLOCK:
                break
        names = tuple(sorted(suspected))
        text = error or "\n".join(f"{name}: {catalogue.CATALOGUE[name]}" for name in names)
        return failed("hack", replace(report, hacks=names, error=text, error_class="hack"))

    def _verdict(self, outcome: Outcome, report: CorrectnessReport) -> Verdict:
        eager, kernel = outcome.result["eager"], outcome.result["kernel"]
        speedup, interval = paired_speedup(eager, kernel)
        return Verdict(
            ok=True,
            stage="time",
            report=replace(report, stage="time"),
            eager_ms=1e3 * float(np.median(eager)),
            kernel_ms=1e3 * float(np.median(kernel)),
            speedup=speedup,
            speedup_ci=interval,
            degenerate=self.degenerate,
            timing_mode="measured",
        )

    def time(self, code: str, *, compiled: bool = False) -> tuple[Outcome, list[str], str]:
        """Time a candidate, or torch.compile of the reference, against eager.

        Parameters
        ----------
        code : str
        compiled : bool
            Time torch.compile instead of `code`.

        Returns
        -------
        outcome : Outcome
            ``outcome.result["eager"]`` and ``["kernel"]`` hold the paired seconds.
        hacks : list of str
        error : str
        """
        prepared, settings = self._prepared, self.settings
        _, trial = prepared.fresh, self.trials[0]
        with job_folder() as folder:
            job = self._job(code, folder, "time")
            prepared.write_reference(folder)
            job |= {
                "candidate": "compile" if compiled else "code",
                "copies": prepared.copies,
                "fresh": str(prepared.folder / "fresh.pt"),
                "state": str(prepared.folder / "state.pt"),
                "seed": prepared.seed(),
                "block": int(prepared.rng.integers(5, 13)),
                "call_seed": trial.call_seed,
                "mutates": trial.mutates,
                "n_pairs": settings.n_pairs,
                "max_seconds": settings.max_seconds,
                # A device's cache holds whole tasks: unless it is overwritten, its bandwidth is measured.
                "cold": settings.cold or not self._on_host,
            }
            limits = self._limits(settings.max_seconds + (_COMPILE_SECONDS if compiled else 0.0))
            if compiled:
                # The compiler is trusted; it maps much and starts many processes.
                limits = replace(limits, memory=0, processes=4096)
            outcome = self._run(folder, job, limits)
            if outcome.status != "ok" or compiled:
                return outcome, [], ""
            found = set(catalogue.timing_hacks(outcome))
            last = catalogue.load_tensors(folder / outcome.result["after"])
            checked = catalogue.load_tensors(folder / outcome.result["checked"])
        problems = []
        if not prepared.last.judge(last, settings.rtol).ok:
            found.add("state_drift")
            problems.append("a call after the timing loop is wrong")
        # Where calls change state or draw numbers, one in the middle of many cannot be repeated.
        repeatable = not prepared.random and not prepared.stateful
        if repeatable and not prepared.is_right(checked["inputs"], checked["outputs"]):
            found.add("cached_by_pointer")
            problems.append("the output of a timed call is wrong")
        if settings.roofline and not self.degenerate and self._too_fast(outcome.result):
            found.add("roofline")
        return outcome, sorted(found), "\n".join(problems)

    def race(self, codes: Sequence[str], runs: int, *, max_seconds: float = 20.0) -> list[list[float] | None]:
        """Time candidates in turns, unverified, in one worker on each device.

        Parameters
        ----------
        codes : sequence of str
            With several devices, times on another one are scaled by those of the first of `codes`, which
            runs on all of them.
        runs : int
            Samples of each.
        max_seconds : float
            After which the rest of the turns is left out.

        Returns
        -------
        times : list
            Seconds per candidate, None for one that does not run.
        """
        groups = share_out(len(codes), 1 if runs >= _PAIRED_RUNS else len(self.devices))
        prepared = self._prepared
        # Written once, before several threads read them.
        _ = prepared.copies, prepared.mutates, prepared.random
        if len(groups) == 1:
            return self._raced(codes, runs, max_seconds)
        # Devices of this machine: threads wait for the workers, nothing is to be sent anywhere.
        with ThreadPoolExecutor(len(groups)) as pool:
            parts = list(
                pool.map(lambda group: self._raced([codes[k] for k in group], runs, max_seconds), groups)
            )
        return put_together(groups, parts, len(codes))

    def _raced(self, codes: Sequence[str], runs: int, max_seconds: float) -> list[list[float] | None]:
        prepared = self._prepared
        with job_folder() as folder:
            job = self._job("", folder, "race")
            for k, code in enumerate(codes):
                (folder / f"racer{k}.py").write_text(code, encoding="utf-8")
            job |= {
                "racers": [f"racer{k}" for k in range(len(codes))],
                "programs": False,
                "copies": prepared.copies,
                "state": str(prepared.folder / "state.pt"),
                "cold": not self._on_host,
                "mutates": prepared.mutates,
                "runs": runs,
                "max_seconds": max_seconds,
            }
            outcome = self._run(folder, job, self._limits(max_seconds))
        return outcome.result["times"] if outcome.status == "ok" else [None] * len(codes)

    def _too_fast(self, result: Mapping[str, Any]) -> bool:
        import torch

        from mlpapers.kernels.dsl import get_backend

        hardware = get_backend(self.backend).hardware()
        bytes_min, flops = self._prepared.work
        peak = hardware.peak_flops
        if not self._on_host and any(
            isinstance(x, torch.Tensor) and x.is_floating_point() and x.element_size() < 4
            for x in self.trials[0].inputs
        ):
            # Tensor cores do numbers of half the width twice as fast.
            peak *= 2
        if self.backend == "cpu":
            peak = max(peak, catalogue.processor_peak(hardware.cores, hardware.vector_bytes))
        return catalogue.roofline_exceeded(
            float(np.median(result["kernel"])),
            bytes_min=bytes_min,
            flops=flops,
            bandwidth=hardware.bandwidth,
            peak_flops=peak,
            cache_bytes=catalogue.cache_bytes(self.devices[0]),
        )
