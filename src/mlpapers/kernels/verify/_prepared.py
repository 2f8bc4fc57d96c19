"""A task made ready for examination: trials with the reference's answers, and the files that workers read."""

from __future__ import annotations

import contextlib
import functools
import pickle
import sys
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlpapers.core._files import naming
from mlpapers.core.parallel import pickled
from mlpapers.core.validation import check_rng
from mlpapers.kernels.task import TaskError
from mlpapers.kernels.verify._room import save_tensors
from mlpapers.kernels.verify.devices import on_host, take_device
from mlpapers.kernels.verify.inputs import Trial, answered, draw_trials
from mlpapers.kernels.verify.isolation import Limits, job_folder
from mlpapers.kernels.verify.reference import Reference, same_bits, varies
from mlpapers.kernels.verify.settings import Settings, kernel_cache

if TYPE_CHECKING:
    from mlpapers.kernels.task import Task

_N_COPIES = 4
# Outputs on so many inputs are compared before a task is called degenerate.
_N_DRAWS = 3
# Of inputs larger than this fewer copies are enough: no cache holds what a second call reads.
_LARGE = 1 << 30
# A candidate with one of these words compiles itself when it is imported.
_BUILDS_ITSELF = ("load_inline", "cpp_extension")


def builds_itself(code: str) -> bool:
    """Return whether a candidate starts a compiler when it is imported."""
    return any(word in code for word in _BUILDS_ITSELF)


class Prepared:
    """Trials, timing inputs and the properties of a task, computed when first asked for.

    Parameters
    ----------
    task : Task
    settings : Settings
    random_state : int, Generator or None
    device : str
        Where the reference runs: eager on a GPU rounds otherwise than on a processor.
    """

    def __init__(self, task: Task, settings: Settings, random_state: Any = None, device: str = "cpu") -> None:
        self.task, self.settings = task, settings
        self.device = "cpu" if on_host(device) else device
        self.rng = check_rng(random_state)
        self._stack = stack = contextlib.ExitStack()
        self.folder = stack.enter_context(job_folder())
        self.close = weakref.finalize(self, stack.close)
        self.init_seed = self.seed()
        self._reference: Reference | None = None
        self._state: dict[str, Any] = {}
        self._mutates: bool | None = None
        self._trials: list[Trial] | None = None
        self._fresh: list[Any] | None = None
        self._last: Trial | None = None
        self._copies: list[Path] = []
        self._random: bool | None = None
        self._degenerate: bool | None = None
        self._work: tuple[float, float] | None = None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the device while the reference runs on it, and leave its memory to the workers."""
        if self.device == "cpu":
            yield
            return
        import torch

        with take_device([self.device]):
            yield
            torch.cuda.empty_cache()

    def seed(self) -> int:
        """Draw a seed."""
        return int(self.rng.integers(2**31))

    @functools.cached_property
    def compiled(self) -> Path:
        """A folder for what workers compile; not in shared memory, from where code may not be run."""
        return Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="mlpapers-compiled-")))

    @property
    def reference(self) -> Reference:
        """The task's module."""
        if self._reference is None:
            self._reference = Reference(self.task, self.init_seed, self.device)
            self._state = self._reference.state()
            save_tensors(self.task.init_inputs(), self.folder / "init.pt")
        return self._reference

    @property
    def state(self) -> dict[str, Any]:
        """The weights with which the reference was made."""
        _ = self.reference
        return self._state

    @property
    def trials(self) -> list[Trial]:
        """The trials; their inputs and weights are on disk for the workers, the answers are not."""
        if self._trials is None:
            # Calls before now may have changed buffers.
            self.reference.module.load_state_dict(self.state)
            with self._alone():
                self._trials = draw_trials(
                    self.task,
                    self.reference,
                    n_correct=self.settings.n_correct,
                    shape_policy=self.settings.shape_policy,
                    rng=self.rng,
                )
            for number, trial in enumerate(self._trials):
                save_tensors({"inputs": trial.inputs, "state": trial.state}, self.trial_file(number))
        return self._trials

    def trial_file(self, number: int) -> Path:
        """Return where the inputs and weights of a trial are."""
        return self.folder / f"trial{number}.pt"

    @property
    def random(self) -> bool:
        """Whether the reference draws random numbers in ``forward``."""
        if self._random is None:
            # The task's own inputs: a race needs the answer before any trial is drawn.
            reference, state = self.reference, self.state
            with self._alone():
                self._random = reference.draws(reference.inputs, state)
        return self._random

    @property
    def mutates(self) -> bool:
        """Whether the reference writes to its inputs."""
        if self._mutates is None:
            reference, state = self.reference, self.state
            with self._alone():
                self._mutates = reference.mutates(reference.inputs, state, 0)
        return self._mutates

    @property
    def stateful(self) -> bool:
        """Whether the reference changes its buffers."""
        trial = self.trials[0]
        return not all(same_bits(trial.state[key], trial.state_after[key]) for key in trial.state)

    @property
    def degenerate(self) -> bool:
        """Whether the task's output hardly depends on its input."""
        if self._degenerate is None:
            reference, first = self.reference, self.trials[0]

            def outputs() -> Iterator[list[Any]]:
                yield first.oracle
                for seed in range(1, _N_DRAWS):
                    yield reference.answer(self.task.draw_inputs(seed), first.state, first.call_seed)

            with self._alone():
                self._degenerate = not varies(outputs())
        return self._degenerate

    @property
    def work(self) -> tuple[float, float]:
        """Least bytes moved and operations; zeros where the task cannot be captured."""
        if self._work is None:
            from mlpapers.kernels.graph.capture import capture

            try:
                graph = capture(self.task)
            except (ValueError, RuntimeError, NotImplementedError):
                self._work = (0.0, 0.0)
            else:
                self._work = (float(graph.bytes_min), float(graph.flops))
        return self._work

    @property
    def fresh(self) -> list[Any]:
        """Inputs for the call after the timing; the first use writes all files that timing needs."""
        if self._fresh is None:
            import torch

            self._fresh = self.task.draw_inputs(self.seed())
            size = sum(x.numel() * x.element_size() for x in self._fresh if isinstance(x, torch.Tensor))
            self._copies = [
                self.folder / f"copy{k}.pt" for k in range(_N_COPIES if size <= _LARGE else _N_COPIES // 2)
            ]
            for path in self._copies:
                save_tensors({"inputs": self.task.draw_inputs(self.seed())}, path)
            save_tensors({"inputs": self._fresh}, self.folder / "fresh.pt")
            save_tensors(self.state, self.folder / "state.pt")
        return self._fresh

    @property
    def last(self) -> Trial:
        """The call after the timing, with the reference's answers."""
        if self._last is None:
            first, fresh = self.trials[0], self.fresh
            with self._alone():
                self._last = answered(self.reference, "after the timing", fresh, first.state, first.call_seed)
        return self._last

    def complete(self, *, timing: bool) -> None:
        """Compute what is asked of the task once a candidate is right; with `timing`, what that needs too."""
        _ = self.degenerate
        if timing:
            _ = self.last, self.work

    @property
    def copies(self) -> list[str]:
        """The files of the inputs between which timed calls rotate."""
        _ = self.fresh
        return [str(path) for path in self._copies]

    def job(self, code: str, folder: Path, procedure: str) -> dict[str, Any]:
        """Write the candidate to a job's folder and return the part of the job that all procedures share."""
        import torch

        random = self.random  # makes the reference, and with it writes the constructor's arguments
        with naming(folder):
            (folder / "candidate.py").write_text(code, encoding="utf-8")
            (folder / "init.pt").write_bytes((self.folder / "init.pt").read_bytes())
        return {
            "procedure": procedure,
            "threads": torch.get_num_threads(),
            "device": "cpu",
            "init_seed": self.init_seed,
            "library_ops": self.settings.library_ops,
            "random": random,
            "programs": builds_itself(code),
            "readable": [str(self.folder), str(kernel_cache())],
            # Where this process finds the classes of a module in memory.
            "path": [] if self.task.live is None else [entry or str(Path.cwd()) for entry in sys.path],
        }

    def write_reference(self, folder: Path) -> None:
        """Write the reference where a timing worker finds, and removes, it.

        Raises
        ------
        ValueError
            For a module in memory that cannot be pickled.
        """
        if self.task.live is None:
            (folder / "reference.py").write_text(self.task.resolved_source, encoding="utf-8")
            return
        try:
            data = pickled(self.reference.module)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise TaskError(
                f"task {self.task.name!r}: the module cannot be sent to the process that times it: {error}; "
                "use Task.from_source"
            ) from error
        with naming(folder):
            (folder / "reference.pkl").write_bytes(data)

    def limits(self, extra: float = 0.0) -> Limits:
        """Return the limits of a worker: the timeout and `extra` seconds, memory as the data need it."""
        size = sum(path.stat().st_size for path in self.folder.iterdir())
        return Limits(
            wall=self.settings.timeout + extra,
            memory=max(8192, 16 * size >> 20),
            file_size=max(4096, size >> 20),
        )

    def is_right(self, inputs: list[Any], outputs: list[Any]) -> bool:
        """Return whether outputs on other inputs than the trials' are right, at the first trial's weights."""
        with self._alone():
            trial = answered(self.reference, "timed", inputs, self.trials[0].state, 0)
        return trial.judge(outputs, self.settings.rtol).ok

    def replay_pair(self) -> list[int] | None:
        """Return two trials of the same sizes whose inputs can be overwritten."""
        import torch

        plain = [
            k
            for k, trial in enumerate(self.trials)
            if not trial.mutates
            and not trial.label.startswith("size")
            and all(x.is_contiguous() for x in trial.inputs if isinstance(x, torch.Tensor))
        ]
        return [plain[1], plain[0]] if len(plain) > 1 else None
