"""One run of an agent: what each phase does, with every event on disk before it takes effect."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlpapers.core.parallel import parallel_map
from mlpapers.kernels._race import Entry, race
from mlpapers.kernels.agents.author import LanguageAuthor
from mlpapers.kernels.agents.conductor import WORKFLOWS, Event, State, Workflow, replay, transition
from mlpapers.kernels.agents.messages import TaskSpec, TraceEvent
from mlpapers.kernels.agents.rules import Coder, Designer, Verifier
from mlpapers.kernels.designs import Candidate
from mlpapers.kernels.dsl.base import BuildError, get_backend, get_dsl
from mlpapers.kernels.llm.budget import Budget, Meter
from mlpapers.kernels.llm.client import as_client
from mlpapers.kernels.result import KernelResult
from mlpapers.kernels.search.space import Params, candidates
from mlpapers.kernels.store import Store, code_sha
from mlpapers.kernels.verify._room import check_room
from mlpapers.kernels.verify.examiner import Examiner
from mlpapers.kernels.verify.report import CorrectnessReport, Verdict
from mlpapers.kernels.verify.settings import kernel_cache

if TYPE_CHECKING:
    from mlpapers.kernels.agent import KernelAgent
    from mlpapers.kernels.designs import Design
    from mlpapers.kernels.kernel import Kernel
    from mlpapers.kernels.task import Task


class Session:
    """A run; made anew after a kill, it goes on where the store says that it stopped.

    Parameters
    ----------
    agent : KernelAgent
        Checked.
    task : Task
    dsl, backend : str
    store : Store
    run_id : str
    clock : callable
        Seconds, for the time budget.
    """

    def __init__(
        self,
        agent: KernelAgent,
        task: Task,
        dsl: str,
        backend: str,
        store: Store,
        run_id: str,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.agent, self.task, self.dsl, self.backend = agent, task, dsl, backend
        self.store, self.run_id = store, run_id
        seed = store.run(run_id).config["seed"]
        self._clock, self._deadline = clock, clock() + agent.time_budget
        chosen = agent.workflow if isinstance(agent.workflow, Workflow) else WORKFLOWS[agent.workflow]
        self._workflow = replace(
            chosen,
            max_steps=agent.max_steps,
            max_coder_retries=agent.max_coder_retries,
            author="rules" if agent.who == "rules" else "llm",
        )
        self._coder = Coder(dsl, backend)
        self._examiner = Examiner(
            task,
            dsl=dsl,
            backend=backend,
            settings=agent.settings(),
            random_state=seed,
            devices=agent.devices,
        )
        self.verifier = Verifier(self._examiner, store, run_id, self.arch)
        self._given: tuple[Design, ...] | None = None
        self._problem = ""
        self._seed = seed
        self.search_notes: list[str] = []

    @functools.cached_property
    def _spec(self) -> TaskSpec:
        agent = self.agent
        return TaskSpec(
            self.task, self.dsl, self.backend, agent.library_ops, agent.precision, agent.shape_policy,
            agent.algebra,
        )  # fmt: skip

    @functools.cached_property
    def _model(self) -> LanguageAuthor:
        """The language model's part of the run."""
        agent = self.agent
        # Beside the rules the model has half of the time: what they write is to be verified and timed too.
        share = 0.5 if agent.who == "both" else 1.0
        until = self._deadline - (1.0 - share) * agent.time_budget
        meter = Meter(
            as_client(agent.llm), self.store, self.run_id, agent.budget or Budget(),
            lambda: until - self._clock(), self._seed,
        )  # fmt: skip
        return LanguageAuthor(meter, self._spec, lambda: self.designs, agent.docs, self._seed)

    @property
    def author(self) -> LanguageAuthor | None:
        """The language model's part of the run; None where the rules work alone."""
        return None if self.agent.who == "rules" else self._model

    @staticmethod
    def entry_of(code: str) -> Entry:
        """Return the entry of a kernel that the language model wrote."""
        return Entry(-1, {}, code)

    @functools.cached_property
    def arch(self) -> str:
        """What a time was measured on."""
        hardware = get_backend(self.backend).hardware()
        return f"{self.backend}:{hardware.arch}:{hardware.name}:{hardware.cores}"

    @functools.cached_property
    def designs(self) -> tuple[Design, ...]:
        """The designs of the task; none where it has operations without a template."""
        from mlpapers.kernels.graph.ir import UnsupportedOp

        if self._given is not None:
            return self._given
        try:
            return Designer().run(self._spec)
        except UnsupportedOp as error:
            self._problem = f"{type(error).__name__}: {error}"
            return ()

    def run(self) -> KernelResult:
        """Go from the stored events to the end and return the result."""
        try:
            state = replay(self.task.fingerprint, self.store.events(self.run_id), self._workflow)
            while not state.done:
                event = self._perform(state)
                self.store.append(self.run_id, state.step, event)
                state = transition(state, event, self._workflow)
            result = self._result(state)
            self.store.finish_run(self.run_id)
            return result
        finally:
            self._examiner.close()

    def tune(self, kernel: Kernel) -> KernelResult:
        """Race settings of a given kernel's knobs against it."""
        from mlpapers.kernels.designs import Design
        from mlpapers.kernels.sketch import Sketch

        assert kernel.sketch is not None
        self._given = (Design(Sketch.parse(kernel.sketch)),)
        try:
            start = Entry(0, dict(kernel.params))
            given = replace(self.candidate(start), code=kernel.code)
            events = self.store.events(self.run_id)
            if not events:
                # The race comes first: judging the start would use up a short budget.
                events = [race(self, start, kernel.code)]
                self.store.append(self.run_id, 0, events[0])
            won = events[0].subject != code_sha(kernel.code)
            chosen = self.candidate(Entry.from_json(events[0].detail)) if won else given
            found = self.verifier.run(chosen)
            self.store.finish_run(self.run_id)
            made = kernel if chosen is given else self._kernel(chosen)
            return self._described(chosen, found, made, ())
        finally:
            self._examiner.close()

    def candidate(self, entry: Entry) -> Candidate:
        """Render a design at a setting of its knobs, or return what a language model wrote."""
        if entry.code:
            said = (f"written by a language model: {self._written_by}",)
            return Candidate(entry.code, self.dsl, self.backend, {}, "llm", None, said)
        return self._coder.run(self.designs[entry.design], entry.params)

    def time_left(self) -> bool:
        """Return whether the time budget is not spent."""
        return self._clock() < self._deadline

    def _perform(self, state: State) -> Event:
        """Do the work of a phase and say what came of it."""
        return {
            "designer": self._design,
            "coder": self._code,
            "verifier": self._verify,
            "tuner": self._tune,
        }[state.phase](state)

    def _design(self, state: State) -> Event:
        if state.author == "llm":
            return self._model.design(state)
        number = sum(event.kind == "designed" for event in state.own_history)
        if number >= len(self.designs):
            return Event("exhausted", detail=self._problem or "no further design")
        return Event("designed", detail=self.designs[number].name, subject=str(number))

    def _code(self, state: State) -> Event:
        if state.author == "llm":
            return self._model.code(state)
        design, tried = 0, 0
        for event in state.own_history:
            if event.kind == "designed":
                design, tried = int(event.subject), 0
            elif event.kind == "coded":
                tried += 1
        if not self.designs:
            return Event("exhausted", detail=self._problem)
        settings = self.settings(design, self.agent.n_candidates)
        if tried >= len(settings):
            return Event("exhausted", detail="every setting of the knobs was tried")
        entry = Entry(design, settings[tried])
        return Event("coded", detail=entry.to_json(), subject=code_sha(self.candidate(entry).code))

    def _verify(self, state: State) -> Event:
        entry = self._last_entry(state) or Entry(0, self.settings(0, 1)[0])
        candidate = self.candidate(entry)
        verdict = self.verifier.run(candidate, timing=self.time_left())
        sha = code_sha(candidate.code)
        if not verdict.ok:
            failed = Event("failed", verdict.report.error_class, verdict.report.error, sha)
            if state.author == "llm" and self._workflow.analysis:
                return self._model.analysed(failed, state, candidate.code)
            return failed
        target = self.agent.target_speedup
        slow = target is not None and not verdict.speedup >= target
        return Event("passed", "slow" if slow else "", entry.to_json(), sha)

    def _tune(self, state: State) -> Event:
        entry = self._last_entry(state)
        assert entry is not None
        return race(self, entry, self.candidate(entry).code)

    @property
    def seed(self) -> int:
        """What the run's randomness is drawn from."""
        return int(self._seed)

    def built(self, codes: Sequence[str]) -> list[bool]:
        """Compile sources side by side; return which of them compile."""
        folder = kernel_cache()
        return parallel_map(
            _build, codes, n_jobs=self.agent.n_jobs, shared=(self.dsl, self.backend, folder), prefer="threads"
        )

    def measured(self, number: int, codes: Sequence[str], runs: int) -> list[list[float] | None]:
        """Return times from the store, and from one race of those that it does not have."""
        times = {code: self.store.timing(self.run_id, number, code) for code in codes}
        missing = [code for code in codes if times[code] is None]
        if missing:
            for code, seconds in zip(missing, self._examiner.race(missing, runs)):
                self.store.add_timing(self.run_id, number, code, seconds or [])
                times[code] = seconds
        return [times[code] or None for code in codes]

    def settings(self, design: int, n: int) -> list[Params]:
        """Return settings of a design's knobs in the order in which they are tried."""
        language, sketch = get_dsl(self.dsl), self.designs[design].sketch
        return candidates(
            language.space(sketch, self.backend),
            language.defaults(sketch, self.backend),
            n=n,
            known=self.store.knobs(self.bucket(design), self.arch),
            rng=np.random.default_rng([self._seed, design]),
        )

    def bucket(self, design: int) -> str:
        """Return the key under which the knobs of a design are remembered."""
        from mlpapers.kernels.synthesis.synthesise import bucket

        return f"{self.dsl}:{bucket(self.designs[design].sketch)}"

    def _last_entry(self, state: State) -> Entry | None:
        for event in reversed(state.history):
            if event.kind in ("coded", "passed", "tuned"):
                return Entry.from_json(event.detail)
        return None

    def _result(self, state: State) -> KernelResult:
        trace = self._trace(state)
        entry = self._last_entry(state)
        if entry is None:
            detail = next((event.detail for event in reversed(state.history) if event.detail), "no design")
            report = CorrectnessReport(error=detail, stage="static")
            return KernelResult(
                success=False, kernel=None, code="", report=report, trace=trace, run_id=self.run_id,
                device=self.arch,
            )  # fmt: skip
        candidate = self.candidate(entry)
        verdict = self.verifier.run(candidate, timing=self._was_timed(candidate.code))
        return self._described(candidate, verdict, self._kernel(candidate), trace)

    def _was_timed(self, code: str) -> bool:
        """Return whether there is time to time it, or the run did so before."""
        frame = self.store.attempts(self.run_id)
        mine = frame[(frame["code_sha"] == code_sha(code)) & frame["speedup"].notna()]
        return self.time_left() or not mine.empty

    def _kernel(self, candidate: Candidate) -> Kernel:
        from mlpapers.kernels.kernel import Kernel

        # A kernel that a model wrote is not what its sketch would be rendered as.
        sketch = candidate.design.sketch.to_text() if candidate.design is not None else None
        return Kernel(
            code=candidate.code, dsl=candidate.dsl, backend=candidate.backend, task=self.task,
            params=dict(candidate.params), sketch=sketch, origin=candidate.origin,
        )  # fmt: skip

    def _described(
        self, candidate: Candidate, verdict: Verdict, kernel: Kernel, trace: tuple[TraceEvent, ...]
    ) -> KernelResult:
        design = candidate.design
        said = (*candidate.disclosures, *(design.disclosures if design is not None else ()))
        return KernelResult(
            success=verdict.ok,
            kernel=kernel if verdict.ok else None,
            code=candidate.code,
            speedup=verdict.speedup,
            speedup_ci=verdict.speedup_ci,
            eager_ms=verdict.eager_ms,
            kernel_ms=verdict.kernel_ms,
            report=verdict.report,
            origin=kernel.origin,
            disclosures=tuple(dict.fromkeys((*said, *verdict.report.disclosures))),
            roofline_fraction=self._floor(design or self._default) / (1e-3 * verdict.kernel_ms),
            attempts=self.store.attempts(self.run_id),
            trace=trace,
            run_id=self.run_id,
            timing_mode=verdict.timing_mode,
            degenerate=verdict.degenerate,
            device=self.arch,
        )

    @property
    def _default(self) -> Design | None:
        return self.designs[0] if self.designs else None

    @property
    def _written_by(self) -> str:
        return str(getattr(self.agent.llm, "model", None) or type(self.agent.llm).__name__)

    def _floor(self, design: Design | None) -> float:
        from mlpapers.kernels.graph.floor import floor_seconds

        if design is None or not math.isfinite(design.floor_bytes + design.floor_flops):
            return math.nan
        hardware = get_backend(self.backend).hardware()
        return float(floor_seconds(design.floor_bytes, design.floor_flops, hardware))

    def _trace(self, state: State) -> tuple[TraceEvent, ...]:
        rows = []
        done: list[Event] = []
        before = replay(self.task.fingerprint, (), self._workflow)
        for event in state.history:
            done.append(event)
            after = replay(self.task.fingerprint, done, self._workflow)
            kind = f"{event.kind} ({event.error_class})" if event.error_class else event.kind
            why = after.action.reason
            if after.action.overruled:
                why += f" (proposed: {after.action.overruled}; overruled)"
            rows.append(
                TraceEvent(
                    before.step,
                    before.phase,
                    kind,
                    event.detail[:2000],
                    after.phase,
                    before.author,
                    event.answer,
                    why,
                    event.notes,
                )
            )
            before = after
        return tuple(rows)


def _build(dsl: str, backend: str, folder: Path, code: str) -> bool:
    try:
        get_dsl(dsl).build(code, folder, backend)
    except BuildError:
        check_room(folder)
        return False
    return True
