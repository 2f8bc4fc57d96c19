"""``verify``: the examination of one candidate, usable on its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlpapers.kernels.verify.examiner import Examiner
from mlpapers.kernels.verify.isolation import Sandbox
from mlpapers.kernels.verify.report import Verdict
from mlpapers.kernels.verify.settings import Settings

if TYPE_CHECKING:
    from mlpapers.kernels.task import Task


def verify(
    task: Task,
    code: str,
    *,
    dsl: str,
    backend: str = "auto",
    timing: bool = True,
    library_ops: str = "contractions",
    shape_policy: str = "batch",
    n_correct: int = 5,
    rtol: float | None = None,
    sandbox: Sandbox = "process",
    timeout: float = 60.0,
    n_pairs: int = 20,
    max_seconds: float = 2.0,
    cold: bool = False,
    random_state: Any = None,
    devices: Sequence[str] | None = None,
) -> Verdict:
    """Examine a kernel, whoever wrote it: whether it is honest, right, and faster than eager.

    The text is judged first, then built; the candidate runs in workers with limits and without network, on
    inputs whose seeds it does not know, and is compared with eager and with float64. Then it is timed
    against eager in pairs.

    Parameters
    ----------
    task : Task
    code : str
        Python text that defines ``class ModelNew(nn.Module)`` with the constructor, the ``forward`` and the
        ``state_dict`` keys of the task's ``Model``.
    dsl : str
        The language of the kernel, e.g. ``"cpp"``.
    backend : str
    timing : bool
        Whether to time it when it is right.
    library_ops : {"contractions", "none", "any"}
        What may be left to torch.
    shape_policy : {"batch", "static", "dynamic"}
        Which other sizes it must be right at: of the leading dimension, none, of every dimension.
    n_correct : int
        Trials at the task's own sizes.
    rtol : float, optional
        Replaces the tolerance of the dtype (1e-4 for float32, 1e-2 for half precision).
    sandbox : "process", "docker" or callable
        Where workers run, see :func:`mlpapers.kernels.verify.isolation.run_job`.
    timeout : float
        Seconds that a worker may take.
    n_pairs : int
    max_seconds : float
        Fewest pairs that are timed, and seconds after which fewer do.
    cold : bool
        Sweep 256 MiB before each timed call.
    random_state : int, Generator or None
        None draws fresh seeds each time.
    devices : list of str, optional
        The devices that may be used, by default the first of the backend.

    Returns
    -------
    verdict : Verdict

    Raises
    ------
    ValueError
        For an unknown dsl, backend or option.
    TypeError
        If `task` is no Task or `code` no text.
    TaskError
        If the task itself cannot be run.
    """
    from mlpapers.kernels.task import Task

    given: tuple[Any, Any] = task, code
    if not (isinstance(given[0], Task) and isinstance(given[1], str)):
        kinds = " and ".join(type(value).__name__ for value in given)
        raise TypeError(f"task must be a Task and code its kernel's text; got {kinds}")
    settings = Settings(
        library_ops=library_ops,
        shape_policy=shape_policy,
        n_correct=n_correct,
        rtol=rtol,
        sandbox=sandbox,
        timeout=timeout,
        n_pairs=n_pairs,
        max_seconds=max_seconds,
        cold=cold,
    )
    with Examiner(
        task, dsl=dsl, backend=backend, settings=settings, random_state=random_state, devices=devices
    ) as examiner:
        return examiner.examine(code, timing=timing)
