"""KernelAgent: from a task to a verified, measured kernel."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from sklearn.base import BaseEstimator

from mlpapers.core.validation import (
    check_bool,
    check_choice,
    check_int,
    check_path,
    check_real,
    check_rng,
    check_workers,
)
from mlpapers.kernels._session import Session
from mlpapers.kernels.agents.conductor import WORKFLOWS, Workflow
from mlpapers.kernels.agents.messages import from_json, to_json
from mlpapers.kernels.dsl.base import DSLUnavailable, get_dsl, resolve
from mlpapers.kernels.kernel import Kernel, check_kernel
from mlpapers.kernels.llm.budget import Budget
from mlpapers.kernels.llm.client import as_client
from mlpapers.kernels.result import KernelResult
from mlpapers.kernels.store import Store
from mlpapers.kernels.task import Task, check_task
from mlpapers.kernels.verify.devices import check_devices
from mlpapers.kernels.verify.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

STRATEGIES = ("auto", "rules", "llm", "both")
SEARCHES = ("none", "autotune", "evolve", "ucb")
PRECISIONS = ("reference", "tf32x3", "tf32", "bf16")
# What a run needs to go on with the same decisions; the rest may differ between machines.
_STORED = (
    "strategy", "workflow", "search", "n_candidates", "time_budget", "target_speedup", "library_ops",
    "precision", "algebra", "shape_policy", "n_correct", "rtol", "max_steps", "max_coder_retries",
    "timeout",
)  # fmt: skip


class KernelAgent(BaseEstimator):
    """Writes kernels for PyTorch modules, verifies them and measures them.

    A designer captures the module's graph and writes a sketch, a coder renders it in a kernel language, a
    verifier judges it, and a conductor decides who works next. By default all of them follow rules and need
    no network.

    Parameters
    ----------
    llm : ChatClient, callable or None
        A language model: :class:`OpenAIClient`, :class:`LiteLLMClient`, :class:`Cassette`, anything with
        their ``complete``, or a function from messages to text. None needs no network.
    dsl, backend : str
        The kernel language and the device; "auto" takes what is usable here.
    strategy : {"auto", "rules", "llm", "both"}
        Who designs and codes: the rules; the model, and the rules where it fails; or both, and the faster
        kernel wins. "auto" is "both" with a model, else "rules". Without a right kernel of the model, the
        rules' is returned.
    workflow : str or Workflow
        ``"default"``, ``"paper"``, ``"coder_only"``, ``"verifier_only"``, ``"evolve"``, ``"ucb"``,
        ``"connected"``, or one of your own: which agent may follow which.
    search : {"autotune", "evolve", "ucb", "none"}
        How settings of the knobs are looked for: neighbours of the default raced against each other,
        evolution on islands, the setting of the greatest upper confidence bound, or not at all.
    n_candidates : int
        Candidates of a race.
    time_budget : float
        Seconds after which nothing new is begun.
    target_speedup : float, optional
        A right kernel below it counts as slow.
    library_ops : {"contractions", "none", "any"}
        What may be left to torch.
    precision : {"reference", "tf32x3", "tf32", "bf16"}
        Of contractions.
    algebra : bool
        Allow rewrites that change rounding; they are disclosed.
    shape_policy : {"batch", "static", "dynamic"}
        Which sizes a kernel must be right at.
    n_correct : int
        Trials at the task's own sizes.
    rtol : float, optional
        Replaces the tolerance of the dtype.
    max_steps, max_coder_retries : int
        Limits of the conductor.
    ucb_c : float
    num_islands : int
    migration_interval : int
    elite_size : int
    parent_prob : float
        Settings of evolutionary search.
    store : path-like, Store or None
        Where runs are kept; None is a file in the folder of compiled kernels.
    sandbox : "process", "docker" or callable
        Where candidates run.
    timeout : float
        Seconds that a worker may take.
    docs : path-like, optional
        A folder with further documents of the languages, see :func:`retrieve`.
    devices : list of str, optional
        Devices that share the work, such as ``["cuda:0", "cuda:1"]``: candidates are compiled side by side
        and measured one at a time on each device. By default the first device of the backend.
    budget : Budget, optional
        What a language model may spend in one run.
    n_jobs : int or None
        Candidates that are compiled at the same time.
    random_state : int, Generator, RandomState or None
    verbose : int

    Attributes
    ----------
    run_id_ : str
        The run that was begun or gone on with last; after an interruption :meth:`resume` goes on with it.

    Examples
    --------
    >>> from mlpapers.kernels import KernelAgent, Task
    >>> agent = KernelAgent(search="none", time_budget=10)
    >>> agent.get_params()["library_ops"]
    'contractions'
    """

    def __init__(
        self,
        llm: Any = None,
        dsl: str = "auto",
        backend: str = "auto",
        *,
        strategy: str = "auto",
        workflow: str | Workflow = "default",
        search: str = "autotune",
        n_candidates: int = 16,
        time_budget: float = 120.0,
        target_speedup: float | None = None,
        library_ops: str = "contractions",
        precision: str = "reference",
        algebra: bool = False,
        shape_policy: str = "batch",
        n_correct: int = 5,
        rtol: float | None = None,
        max_steps: int = 20,
        max_coder_retries: int = 3,
        ucb_c: float = 0.3,
        num_islands: int = 2,
        migration_interval: int = 2,
        elite_size: int = 5,
        parent_prob: float = 0.5,
        store: Any = None,
        sandbox: Any = "process",
        timeout: float = 60.0,
        docs: Any = None,
        devices: Any = None,
        budget: Any = None,
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.llm = llm
        self.dsl = dsl
        self.backend = backend
        self.strategy = strategy
        self.workflow = workflow
        self.search = search
        self.n_candidates = n_candidates
        self.time_budget = time_budget
        self.target_speedup = target_speedup
        self.library_ops = library_ops
        self.precision = precision
        self.algebra = algebra
        self.shape_policy = shape_policy
        self.n_correct = n_correct
        self.rtol = rtol
        self.max_steps = max_steps
        self.max_coder_retries = max_coder_retries
        self.ucb_c = ucb_c
        self.num_islands = num_islands
        self.migration_interval = migration_interval
        self.elite_size = elite_size
        self.parent_prob = parent_prob
        self.store = store
        self.sandbox = sandbox
        self.timeout = timeout
        self.docs = docs
        self.devices = devices
        self.budget = budget
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def generate(self, task: Task) -> KernelResult:
        """Find a kernel for a task.

        Parameters
        ----------
        task : Task

        Returns
        -------
        result : KernelResult
            ``success`` is False where no candidate passed; the reason is in ``report``.

        Raises
        ------
        DSLUnavailable
            If the kernel language cannot be used here; the message says what to install.
        TaskError
            If the task cannot be run.
        """
        dsl, backend = self._checked(task)
        with self._opened() as store:
            self.run_id_ = store.start_run(
                task_fp=task.fingerprint,
                task_name=task.name,
                task=None if task.live is not None else to_json(task),
                dsl=dsl,
                backend=backend,
                config=self._config(),
            )
            return Session(self, task, dsl, backend, store, self.run_id_).run()

    def tune(self, kernel: Kernel, task: Task | None = None) -> KernelResult:
        """Find better settings of a kernel's knobs.

        Parameters
        ----------
        kernel : Kernel
            With the sketch that it was rendered from.
        task : Task, optional
            By default the kernel's.

        Returns
        -------
        result : KernelResult
            Never slower than `kernel`: where nothing wins clearly, it is `kernel` itself.

        Raises
        ------
        ValueError
            If there is no task, or the kernel has no sketch.
        """
        check_kernel(kernel)
        task = task if task is not None else kernel.task
        if task is None:
            raise ValueError("task must be given for a kernel that carries none")
        if kernel.sketch is None:
            raise ValueError("kernel has no sketch, so its knobs are not known; generate one instead")
        self._checked(task)
        with self._opened() as store:
            config = self._config()
            self.run_id_ = store.start_run(
                task_fp=task.fingerprint,
                task_name=task.name,
                task=None if task.live is not None else to_json(task),
                dsl=kernel.dsl,
                backend=kernel.backend,
                config={**config, "kernel": None if task.live else to_json(kernel)},
            )
            return Session(self, task, kernel.dsl, kernel.backend, store, self.run_id_).tune(kernel)

    def migrate(
        self, kernel: Kernel, to_dsl: str, to_backend: str | None = None, task: Task | None = None
    ) -> KernelResult:
        """Render a kernel in another language, from its sketch or else from the task's graph, and examine it.

        Parameters
        ----------
        kernel : Kernel
        to_dsl : str
        to_backend : str, optional
            By default the first device of the language that is there.
        task : Task, optional
            By default the kernel's.

        Returns
        -------
        result : KernelResult
            With the source in any case; where the language cannot be used here, ``success`` is False and
            ``report.error`` says why.

        Raises
        ------
        ValueError
            If there is no task, or the language or device is not known.
        """
        from mlpapers.kernels.migration import migrate

        return migrate(
            kernel,
            to_dsl,
            to_backend or "auto",
            task=task,
            settings=self.settings(),
            random_state=self._seed(),
            devices=self.devices,
        )

    def resume(self, run_id: str) -> KernelResult:
        """Go on with a run that was interrupted, or return the result of one that ended.

        What had been decided, verified and timed is taken from the store and not done again.

        Parameters
        ----------
        run_id : str

        Returns
        -------
        result : KernelResult

        Raises
        ------
        ValueError
            If there is no such run, or its task was a module in memory.
        """
        with self._opened() as store:
            run = store.run(run_id)
            self.run_id_ = run_id
            if run.task is None:
                raise ValueError(f"run {run_id} is of a module in memory, which is gone; start a new one")
            task = from_json(run.task)
            config = dict(run.config)
            seed, kernel = config.pop("seed"), config.pop("kernel", None)
            if config["workflow"].startswith("{"):
                config["workflow"] = from_json(config["workflow"])
            agent = type(self)(**{**self.get_params(deep=False), **config, "random_state": seed})
            agent._checked(task)
            session = Session(agent, task, run.dsl, run.backend, store, run_id)
            return session.run() if kernel is None else session.tune(from_json(kernel))

    def runs(self) -> pd.DataFrame:
        """Return the runs that the store knows, latest first."""
        self._check_places()
        with self._opened() as store:
            return store.runs()

    @property
    def who(self) -> str:
        """Who designs and codes: "rules", "llm" or "both"."""
        if self.strategy != "auto":
            return self.strategy
        return "rules" if self.llm is None else "both"

    def settings(self) -> Settings:
        """Return how candidates are examined."""
        return Settings(
            library_ops=self.library_ops,
            shape_policy=self.shape_policy,
            n_correct=self.n_correct,
            rtol=self.rtol,
            sandbox=self.sandbox,
            timeout=self.timeout,
        )

    def _checked(self, task: Any) -> tuple[str, str]:
        """Check all parameters and return the language and the device."""
        check_task(task)
        check_choice("strategy", self.strategy, STRATEGIES)
        if self.strategy in ("llm", "both") and self.llm is None:
            raise ValueError(f"strategy={self.strategy!r} needs llm, a chat client; got llm=None")
        if self.llm is not None:
            as_client(self.llm)
        if not isinstance(self.workflow, Workflow):
            check_choice("workflow", self.workflow, tuple(WORKFLOWS))
        check_choice("search", self.search, SEARCHES)
        check_choice("precision", self.precision, PRECISIONS)
        check_int("n_candidates", self.n_candidates, minimum=1)
        check_real("time_budget", self.time_budget, low=0.0, closed="neither")
        if self.target_speedup is not None:
            check_real("target_speedup", self.target_speedup, low=0.0, closed="neither")
        check_int("max_steps", self.max_steps, minimum=1)
        check_int("max_coder_retries", self.max_coder_retries, minimum=1)
        check_real("ucb_c", self.ucb_c, low=0.0)
        check_int("num_islands", self.num_islands, minimum=1)
        check_int("migration_interval", self.migration_interval, minimum=1)
        check_int("elite_size", self.elite_size, minimum=0)
        check_real("parent_prob", self.parent_prob, low=0.0, high=1.0)
        check_bool("algebra", self.algebra)
        check_workers(self.n_jobs, self.verbose)
        self._check_places()
        self.settings()
        dsl, backend = resolve(self.dsl, self.backend)
        check_devices(self.devices, backend)
        usable, reason = get_dsl(dsl).available(backend)
        if not usable:
            raise DSLUnavailable(f"dsl {dsl!r} cannot be used on {backend!r}: {reason}")
        return dsl, backend

    def _check_places(self) -> None:
        """Check where things are kept and run."""
        if self.store is not None and not isinstance(self.store, str | os.PathLike | Store):
            raise TypeError(f"store must be a path, a Store or None; got {self.store!r}")
        docs = check_path("docs", self.docs)
        if docs is not None and not docs.is_dir():
            raise FileNotFoundError(f"docs names no folder: {docs}")
        if self.budget is not None and not isinstance(self.budget, Budget):
            raise TypeError(f"budget must be a Budget or None; got {self.budget!r}")

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Store]:
        """Open the store, and close it unless it was given open."""
        if isinstance(self.store, Store):
            yield self.store
            return
        with Store(self.store) as store:
            yield store

    def _config(self) -> dict[str, Any]:
        """Return what a run is filed with, so that it goes on with the same decisions."""
        config = {name: getattr(self, name) for name in _STORED}
        if isinstance(self.workflow, Workflow):
            config["workflow"] = to_json(self.workflow)
        # Whether there is a model may differ where the run goes on.
        return {**config, "strategy": self.who, "seed": self._seed()}

    def _seed(self) -> int:
        return int(check_rng(self.random_state).integers(2**31))

    @classmethod
    def __mlpapers_example__(cls) -> dict[str, Any]:
        source = (
            "import torch\n"
            "class Model(torch.nn.Module):\n"
            "    def forward(self, x):\n"
            "        return torch.relu(x) * 2\n"
            "def get_inputs():\n"
            "    return [torch.rand(16, 8)]\n"
        )
        # The budget is over before anything is timed: times differ between runs that are otherwise the same.
        params = {"search": "none", "time_budget": 1e-6, "n_correct": 1, "store": ":memory:"}
        return {"params": params, "method": "generate", "arguments": {"task": Task.from_source(source)}}
