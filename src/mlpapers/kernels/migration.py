"""``migrate``: a kernel of one language becomes a kernel of another, from the sketch that both share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlpapers.kernels.designs import Design
from mlpapers.kernels.dsl.base import BuildError, get_backend, get_dsl, resolve
from mlpapers.kernels.kernel import Kernel
from mlpapers.kernels.result import KernelResult
from mlpapers.kernels.sketch import Sketch
from mlpapers.kernels.task import check_task
from mlpapers.kernels.verify._room import check_room
from mlpapers.kernels.verify.examiner import Examiner
from mlpapers.kernels.verify.report import CorrectnessReport
from mlpapers.kernels.verify.settings import Settings, kernel_cache

if TYPE_CHECKING:
    from mlpapers.kernels.task import Task


def migrate(
    kernel: Kernel | str,
    to: str,
    backend: str = "auto",
    *,
    task: Task | None = None,
    settings: Settings | None = None,
    timing: bool = True,
    random_state: Any = None,
    devices: Sequence[str] | None = None,
) -> KernelResult:
    """Render a kernel in another language and examine it.

    A kernel that carries a sketch is rendered from it again, with the knobs that the languages share. Of
    anybody else's source only the task is used: its graph is captured, and the kernel is written anew.

    Parameters
    ----------
    kernel : Kernel or str
        A kernel, or the source of one.
    to : str
        The language to come to.
    backend : str
        Its device; "auto" takes the first that is there, else the first that the language serves.
    task : Task, optional
        By default the kernel's.
    settings : Settings, optional
        How the new kernel is examined.
    timing : bool
        Whether it is timed where it is right.
    random_state : int, Generator or None
    devices : list of str, optional
        Devices that share the examination.

    Returns
    -------
    result : KernelResult
        Where the language cannot be used here, the source is rendered all the same: ``success`` is False,
        ``report.stage`` is "build" and ``report.error`` says why, and whether the source compiles.

    Raises
    ------
    ValueError
        If there is no task, or the language or device is not known.
    UnsupportedOp
        If the task has operations without a template.

    Examples
    --------
    >>> from mlpapers.kernels import Task, migrate
    >>> source = '''
    ... import torch
    ... class Model(torch.nn.Module):
    ...     def forward(self, x):
    ...         return torch.softmax(x, -1)
    ... def get_inputs():
    ...     return [torch.rand(16, 70)]
    ... '''
    >>> result = migrate("class ModelNew: pass", "cuda", task=Task.from_source(source), timing=False)
    >>> "__global__ void" in result.code
    True
    """
    if not isinstance(kernel, Kernel | str):
        raise TypeError(f"kernel must be a Kernel or the source of one; got {type(kernel).__name__}")
    given = kernel if isinstance(kernel, Kernel) else None
    task = task if task is not None else (given.task if given is not None else None)
    if task is None:
        raise ValueError("task must be given for a kernel that carries none")
    check_task(task)
    language = get_dsl(to)
    if backend == "auto":
        there = [name for name in language.backends if language.available(name)[0]]
        backend = (there or list(language.backends))[0]
    resolve(to, backend)
    design = _design(given, task, to, backend)
    params = _shared(given, language.space(design.sketch, backend))
    from mlpapers.kernels.synthesis.synthesise import candidate

    made = candidate(design, to, backend, params)
    result = KernelResult(
        success=False,
        kernel=None,
        code=made.code,
        origin=made.origin,
        disclosures=tuple(dict.fromkeys((*made.disclosures, *design.disclosures))),
        device=backend,
    )
    usable, reason = language.available(backend)
    if not usable:
        return replace(result, report=_built(made.code, to, backend, reason))
    settings = settings or Settings()
    with Examiner(
        task, dsl=to, backend=backend, settings=settings, random_state=random_state, devices=devices
    ) as examiner:
        verdict = examiner.examine(made.code, timing=timing)
    found = Kernel(made.code, to, backend, task, dict(made.params), design.sketch.to_text(), made.origin)
    return replace(
        result,
        success=verdict.ok,
        kernel=found if verdict.ok else None,
        speedup=verdict.speedup,
        speedup_ci=verdict.speedup_ci,
        eager_ms=verdict.eager_ms,
        kernel_ms=verdict.kernel_ms,
        report=verdict.report,
        timing_mode=verdict.timing_mode,
        degenerate=verdict.degenerate,
        disclosures=tuple(dict.fromkeys((*result.disclosures, *verdict.report.disclosures))),
        roofline_fraction=_fraction(design, verdict.kernel_ms, backend),
    )


def _design(kernel: Kernel | None, task: Task, dsl: str, backend: str) -> Design:
    """Return the kernel's own design, or that of the task."""
    if kernel is not None and kernel.sketch is not None:
        return Design(Sketch.parse(kernel.sketch), name="migrated")
    from mlpapers.kernels.synthesis.synthesise import synthesise

    return synthesise(task, dsl=dsl, backend=backend)[0]


def _shared(kernel: Kernel | None, space: dict[str, tuple[Any, ...]]) -> dict[str, Any]:
    """Return the knobs of a kernel that mean something in another language, at values that it admits."""
    if kernel is None:
        return {}
    # A tile is a block of registers here and a stretch of cache there: only its admissible values carry over.
    return {
        name: value
        for name, value in kernel.params.items()
        if name.startswith("COLS") and value in space.get(name, ())
    }


def _built(code: str, dsl: str, backend: str, reason: str) -> CorrectnessReport:
    """Return the report on a source that cannot run here."""
    try:
        path = get_dsl(dsl).build(code, kernel_cache(), backend)
    except BuildError as error:
        check_room(kernel_cache())
        return CorrectnessReport(stage="build", error=f"not run: {reason}\n{error}", error_class="compile")
    said = "the source was built" if path is not None else "the source was rendered and parsed"
    return CorrectnessReport(stage="build", error=f"not run: {reason}; {said}", error_class="launch")


def _fraction(design: Design, kernel_ms: float, backend: str) -> float:
    from mlpapers.kernels.graph.floor import floor_seconds

    if not math.isfinite(design.floor_bytes + design.floor_flops + kernel_ms):
        return math.nan
    hardware = get_backend(backend).hardware()
    return float(floor_seconds(design.floor_bytes, design.floor_flops, hardware)) / (1e-3 * kernel_ms)
