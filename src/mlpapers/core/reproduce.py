"""Running claims: in parallel, one failure apart from the others, resumable after a kill."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpapers.core import paper
from mlpapers.core._evidence import EvidenceKey, EvidenceStore, cache_directory, claim_package, source_hash
from mlpapers.core._figure import draw_svg
from mlpapers.core._lock import only_process
from mlpapers.core._table import ClaimTable
from mlpapers.core._task import ClaimTask
from mlpapers.core.environment import count_cores, describe_environment
from mlpapers.core.paper import SCALES, Claim, Scale, find_claims, papers
from mlpapers.core.parallel import count_workers, parallel_map
from mlpapers.core.report import ClaimOutcome, PaperInfo, Report
from mlpapers.core.validation import check_bool, check_choice, check_int

ClaimNames = str | Claim | Iterable[str | Claim] | None
ProgressHook = Callable[[ClaimOutcome, int, int, bool], object]


def reproduce(
    claims: ClaimNames = None,
    scale: Scale = "quick",
    n_jobs: int | None = None,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    resume: bool = True,
    *,
    on_outcome: ProgressHook | None = None,
) -> Report:
    """Run claims and report which of them hold.

    Parameters
    ----------
    claims : str, Claim, iterable of them, or None
        Paper keys, package names or claim ids (:func:`mlpapers.core.paper.find_claims`), or Claim objects,
        registered or not. None means every claim of every paper.
    scale : {"quick", "full"}
        "full" takes the sizes of the papers, and hours.
    n_jobs : int or None
        Workers, as in joblib: None means 1, or what an enclosing ``joblib.parallel_config`` says; -1 means
        all cores.
    seed : int
        Handed to every claim.
    out : path, optional
        Folder that gets the page ``index.html`` and the evidence, in ``claims/``. Without it evidence is kept
        in ``$MLPAPERS_CACHE/claims``, else in ``mlpapers/claims`` of the user's cache folder.
    resume : bool
        Take evidence that is on disk for the same claim, scale, seed, library version and source. False
        discards it and runs every claim.
    on_outcome : callable, optional
        ``on_outcome(outcome, done, total, found)`` is called in this process after each claim; at once for
        those whose evidence an earlier run has left, with `found` true.

    Returns
    -------
    report : Report
        Outcomes in the order of selection.

    Raises
    ------
    ValueError
        For an unknown claim or scale, a negative seed, or two claims with one id.
    BlockingIOError
        Where another process runs claims in the folder `out`.
    OSError
        Where the folder cannot be written; finished claims stay.

    Notes
    -----
    The evidence of a claim is on disk before the worker starts the next, so a run that was killed goes on
    where it stopped, and its report is the one that it would have made. A claim that raises, or lacks
    something it requires, is reported and not stored: it is tried again. A claim whose data or weights are
    nowhere to be had (:class:`mlpapers.datasets.DataUnavailableError`) did not run; that is no error. A timed
    claim that was missed is measured again, since a busy machine may have slowed it. Timed claims run after
    the others, alone, in this process.

    Claims that share inputs (`Claim.shares`) run one after another in one worker.
    """
    check_choice("scale", scale, SCALES)
    seed = check_int("seed", seed, minimum=0)
    resume = check_bool("resume", resume)
    selected = _select(claims)
    if out is None:
        return _reproduce(selected, scale, n_jobs, seed, cache_directory(), resume, on_outcome)
    evidence = Path(out, "claims")
    evidence.mkdir(parents=True, exist_ok=True)
    with only_process(evidence):
        report = _reproduce(selected, scale, n_jobs, seed, evidence, resume, on_outcome)
        report.write_html(Path(out, "index.html"))
    return report


def _reproduce(
    selected: list[Claim],
    scale: Scale,
    n_jobs: int | None,
    seed: int,
    evidence: Path,
    resume: bool,
    on_outcome: ProgressHook | None,
) -> Report:
    store = EvidenceStore.open(evidence)
    tasks = _make_tasks(selected, scale, seed)
    outcomes: dict[str, ClaimOutcome] = {}

    def record(task: ClaimTask, outcome: ClaimOutcome, *, found: bool = False) -> None:
        outcomes[task.key.claim] = outcome
        if on_outcome is not None:
            on_outcome(outcome, len(outcomes), len(tasks), found)

    for task in tasks:
        stored = _load(store, task) if resume else None
        if stored is not None:
            record(task, stored, found=True)
    pending = [task for task in tasks if task.key.claim not in outcomes]
    workers = count_workers(n_jobs)
    groups = _group([task for task in pending if not task.claim.timed], store, workers)
    if not resume:
        for task in pending:
            store.discard(task.key)

    def record_group(index: int, found: list[ClaimOutcome]) -> None:
        for task, outcome in zip(groups[index], found, strict=True):
            _keep(store, task, outcome)
            record(task, outcome)

    worker = _Worker(store, max(1, count_cores() // workers), os.getpid())
    parallel_map(worker, groups, n_jobs=n_jobs, on_result=record_group)
    for task in pending:
        if task.claim.timed:
            record(task, worker([task])[0])

    return Report(
        outcomes=tuple(outcomes[claim.id] for claim in selected),
        scale=scale,
        seed=seed,
        environment=describe_environment(),
        papers=_describe_papers(selected),
    )


@dataclass(frozen=True)
class _Worker:
    """Runs a group of claims; `parent` is the process that called :func:`reproduce`."""

    store: EvidenceStore
    n_threads: int
    parent: int

    def __call__(self, tasks: Sequence[ClaimTask]) -> list[ClaimOutcome]:
        if os.getpid() != self.parent:
            _limit_threads(self.n_threads)
        return [self._run(task) for task in tasks]

    def _run(self, task: ClaimTask) -> ClaimOutcome:
        reachable = self.store.is_reachable()
        # A group whose worker died is handed out again; what it had finished is there.
        stored = _load(self.store, task) if reachable else None
        if stored is not None:
            return stored
        outcome = _run_claim(task)
        # Written here, before the next claim of the group starts, where the parent's folder can be seen. From
        # a machine that does not share it the outcome travels to the parent, which writes it on arrival.
        if reachable:
            _keep(self.store, task, outcome)
        return outcome


def _run_claim(task: ClaimTask) -> ClaimOutcome:
    claim, scale, seed = task.claim, task.key.scale, task.key.seed

    def outcome(**fields: Any) -> ClaimOutcome:
        return ClaimOutcome.of(claim, task.package, scale, seed, **fields)

    start = time.perf_counter()
    try:
        missing = claim.missing()
        if missing is not None:
            return outcome(missing=missing)
        start = time.perf_counter()
        evidence = claim.run(scale, seed)
        seconds = time.perf_counter() - start
        return outcome(
            seconds=seconds,
            measurements=tuple(evidence.measurements),
            table=None if evidence.table is None else ClaimTable.from_frame(evidence.table),
            figure=None if evidence.figure is None else draw_svg(evidence.figure, claim.id),
            notes=evidence.notes,
        )
    # Whatever an experiment raises, sys.exit included, is its own failure and none of the other claims'.
    except (Exception, SystemExit) as error:  # noqa: BLE001
        if _is_lack_of_data(error):
            return outcome(missing=str(error))
        return outcome(
            seconds=time.perf_counter() - start,
            error=f"{type(error).__name__}: {error}",
            traceback=_format_traceback(error),
        )


def _is_lack_of_data(error: BaseException) -> bool:
    # The data sets stand above the core, which must not import them; what raised this has loaded them.
    datasets = sys.modules.get("mlpapers.datasets")
    return datasets is not None and isinstance(error, datasets.DataUnavailableError)


def _format_traceback(error: BaseException) -> str:
    """Return the traceback from the experiment's own frame on."""
    ours = {__file__, paper.__file__}
    frames = error.__traceback__
    while frames is not None and frames.tb_next is not None and frames.tb_frame.f_code.co_filename in ours:
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames))


def _limit_threads(n_threads: int) -> None:
    """Lower the thread pools of libraries that are loaded.

    joblib's workers start with the limit in their environment, which libraries loaded later obey; this is for
    workers of other backends, and for what such a worker has loaded already. It never raises a limit.
    """
    from threadpoolctl import ThreadpoolController

    for pool in ThreadpoolController().lib_controllers:
        if pool.num_threads > n_threads:
            pool.set_num_threads(n_threads)
    torch = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() > n_threads:
        torch.set_num_threads(n_threads)
    numba = sys.modules.get("numba")
    if numba is not None and numba.get_num_threads() > n_threads:
        numba.set_num_threads(n_threads)


def _select(claims: ClaimNames) -> list[Claim]:
    if claims is None or isinstance(claims, str):
        return list(find_claims(claims))
    items = [claims] if isinstance(claims, Claim) else list(claims)
    names = [item for item in items if isinstance(item, str)]
    objects = [item for item in items if isinstance(item, Claim)]
    if len(names) + len(objects) != len(items):
        raise TypeError(f"claims must be names or Claim objects; got {items!r}")
    selected: dict[str, Claim] = {}
    for claim in [*(find_claims(names) if names else ()), *objects]:
        if selected.setdefault(claim.id, claim) is not claim:
            raise ValueError(f"claims holds two different claims with the id {claim.id!r}")
    return list(selected.values())


def _make_tasks(claims: Sequence[Claim], scale: Scale, seed: int) -> list[ClaimTask]:
    import mlpapers

    registered = {paper.key: paper for paper in papers()}
    hashes: dict[str, str | None] = {}
    tasks = []
    for claim in claims:
        if claim.module not in hashes:
            hashes[claim.module] = source_hash(claim)
        key = EvidenceKey(claim.id, scale, seed, mlpapers.__version__, hashes[claim.module])
        known = claim.key in registered and claim in registered[claim.key].claims
        tasks.append(ClaimTask(claim, claim_package(claim), key, known))
    return tasks


def _group(tasks: Sequence[ClaimTask], store: EvidenceStore, workers: int) -> list[list[ClaimTask]]:
    """Put tasks that share inputs together and, with several workers, the longest first."""
    groups: dict[Any, list[ClaimTask]] = {}
    for task in tasks:
        shares = task.claim.shares
        groups.setdefault((task.package, shares) if shares else task.key.claim, []).append(task)
    if workers == 1:
        # One worker runs everything in this order anyway; tasks of their own report their outcomes sooner.
        return [[task] for group in groups.values() for task in group]

    def seconds(group: list[ClaimTask]) -> float:
        # A claim that never ran here may be long: it starts early.
        known = [store.seconds(task.key) for task in group]
        return float("inf") if None in known else sum(filter(None, known))

    return sorted(groups.values(), key=seconds, reverse=True)


def _load(store: EvidenceStore, task: ClaimTask) -> ClaimOutcome | None:
    """Return what is stored, but no speed that was missed: perhaps by chance, so it is measured again."""
    found = store.load(task.key, task.claim, task.package)
    return None if found is not None and found.timed and not found.holds else found


def _keep(store: EvidenceStore, task: ClaimTask, outcome: ClaimOutcome) -> None:
    """Save an outcome that was measured."""
    if outcome.holds is not None:
        store.save(task.key, outcome)


def _describe_papers(claims: Sequence[Claim]) -> tuple[PaperInfo, ...]:
    registered = {paper.key: paper for paper in papers()}
    packages = {claim.key: claim_package(claim) for claim in claims}
    return tuple(
        PaperInfo.of(registered[key]) if key in registered else PaperInfo(key, key, package=package)
        for key, package in packages.items()
    )
