"""What runs in a worker: the procedures that load a candidate, call it, and write down what happened.

Everything that a candidate could replace (clocks, ``torch.equal`` …) is bound before its code is imported.
The worker never sees the reference's outputs or the seeds of the inputs; in the correctness procedure it
does not see the reference at all.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import random
import sys
import sysconfig
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mlpapers.kernels.verify import _guard, _lockdown

# Bound here: the harness's own, whatever happens to the modules later.
_write, _sleep, _listdir, _clock = os.write, time.sleep, os.listdir, time.perf_counter
# How long after a call work behind the caller's back has to show in the output.
_LATE_SECONDS = 0.02


class CandidateError(Exception):
    """A candidate failed; `kind` is its error class."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Bench:
    """One job: its folder, its description, and the marks it leaves.

    Parameters
    ----------
    request : dict
    beacon : int or None
        Descriptor on which the parent notes when a byte arrives.
    """

    def __init__(self, request: dict[str, Any], beacon: int | None) -> None:
        self.folder = Path(request["folder"])
        if "job" not in request:
            request = json.loads((self.folder / "request.json").read_text(encoding="utf-8"))
        self.job: dict[str, Any] = request["job"]
        self.isolate: bool = request.get("isolate", True)
        self._beacon = beacon
        self._progress = os.open(self.folder / "progress", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.disclosures: list[str] = []
        self.watch: _lockdown.Watch | None = None
        self._compilers: frozenset[str] = frozenset()

    def stage(self, text: str) -> None:
        """Note what comes next, so that a crash can be placed."""
        _write(self._progress, f"{text}\n".encode())

    def mark(self) -> None:
        """Tell the parent that this moment has come."""
        if self._beacon is not None:
            _write(self._beacon, b".")

    @property
    def device(self) -> str:
        """Where the candidate runs."""
        return str(self.job.get("device", "cpu"))

    def load(self, name: str, device: str | None = None, *, mapped: bool = False) -> Any:
        """Read a file that the parent wrote, onto the job's device or another.

        With `mapped` a processor's tensors are pages of the file until they are written to, which never
        reaches the file.
        """
        import torch

        where = device or self.device
        mapped = mapped and where == "cpu"
        return torch.load(self.folder / name, weights_only=False, map_location=where, mmap=mapped)

    def save(self, value: Any, name: str) -> str:
        """Write tensors for the parent and return the file's name."""
        import torch

        torch.save(_on_host(value), self.folder / name)
        return name

    def lock(self) -> None:
        """Give up network, files and, unless compilers are needed, processes."""
        if not self.isolate:
            self.disclosures.append("isolation: left to the sandbox")
            return
        roots = {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values(), *filter(None, sys.path)}
        system = (
            "/proc",
            "/sys",
            "/dev/null",
            "/dev/urandom",
            "/usr/lib",
            "/lib",
            "/lib64",
            "/usr/local/lib",
        )
        extra, own = self.job.get("readable", []), [self.folder, *self.job.get("writable", [])]
        loadable = [*roots, *system, *extra, *own]
        # Output that a compiler is not to show goes to the null device.
        self.watch = _lockdown.Watch([*roots, *system, *extra], [*own, "/dev/null"], loadable)
        self._compilers = _lockdown.compilers()
        self.watch.arm()
        if not self.job.get("programs"):
            self.seal()

    def seal(self) -> None:
        """Refuse new processes, programs and sockets from now on."""
        if not self.isolate or self.watch is None or self.watch.strict:
            return
        if self.device != "cpu" or self.job.get("compilers"):
            # Languages for devices compile when they are launched.
            self.watch.programs = self._compilers
            said = "processes: compilers may be started, the language compiles at the first launch"
            self.disclosures += [] if said in self.disclosures else [said]
            return
        self.watch.strict = True
        if not _lockdown.refuse_syscalls():
            self.disclosures.append("processes: limited by number, the call filter is not available")


def _on_host(value: Any) -> Any:
    """Return a value with its tensors in the processor's memory."""
    if hasattr(value, "cpu"):
        return value.cpu()
    if isinstance(value, dict):
        return {key: _on_host(item) for key, item in value.items()}
    return [_on_host(item) for item in value] if isinstance(value, list | tuple) else value


def run(request: dict[str, Any], beacon: int | None) -> None:
    """Run the job of `request` and write ``result.json``."""
    import torch

    bench = Bench(request, beacon)
    job = bench.job
    if bench.isolate and job.get("candidate") != "compile":
        if job.get("network"):
            bench.disclosures.append("network: blocked by the audit hook only, the device's driver needs it")
        elif not _lockdown.leave_network():
            bench.disclosures.append("network: blocked by the audit hook and the call filter only")
    # The namespaces first: a process with several threads may not change them.
    torch.set_num_threads(job.get("threads", 1))
    procedures: dict[str, Callable[[Bench], dict[str, Any]]] = {
        "correct": _correct,
        "time": _time,
        "race": _race,
    }
    try:
        _start_device(bench.device)
        result = {"ok": True, **procedures[job["procedure"]](bench)}
    except CandidateError as error:
        kind = error.kind
        status = kind if kind in ("oom", "timeout", "device", "reference") else "error"
        result = {"ok": False, "status": status, "error_class": kind, "error": str(error)}
    result["disclosures"] = bench.disclosures
    result["forbidden"] = bench.watch.found if bench.watch is not None else []
    text = json.dumps(result)
    (bench.folder / "result.part").write_text(text, encoding="utf-8")
    (bench.folder / "result.part").rename(bench.folder / "result.json")


def _start_device(device: str) -> None:
    """Start a device's driver while no candidate is there to be blamed for what it does."""
    import torch

    if device != "cpu":
        try:
            torch.zeros(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise CandidateError("device", f"{device} does not start in a worker: {error}") from error


def _time(bench: Bench) -> dict[str, Any]:
    from mlpapers.kernels.verify._harness_time import time_pairs

    return time_pairs(bench)


def _race(bench: Bench) -> dict[str, Any]:
    from mlpapers.kernels.verify._harness_time import race

    return race(bench)


@contextlib.contextmanager
def candidate_errors(kind: str) -> Iterator[None]:
    """Turn whatever candidate code raises into a CandidateError of this class."""
    try:
        yield
    except CandidateError:
        raise
    except MemoryError as error:
        raise CandidateError("oom", f"MemoryError: {error}") from error
    except BaseException as error:
        text = str(error)
        found = kind
        if isinstance(error, SyntaxError):
            found = "syntax"
        elif "not enough memory" in text or "out of memory" in text or "can't allocate" in text:
            found = "oom"
        elif "Error building extension" in text or "CompilationError" in type(error).__name__:
            found = "compile"
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__)[-6:])
        raise CandidateError(found, trace) from error


def load_candidate(bench: Bench, name: str = "candidate") -> Any:
    """Import a candidate's file and return its class ModelNew."""
    bench.stage("import")
    path = bench.folder / f"{name}.py"
    with candidate_errors("import"):
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module.ModelNew


def construct(bench: Bench, kind: Any, state: dict[str, Any]) -> Any:
    """Make the module as KernelBench does, then give it the reference's weights."""
    import torch

    bench.stage("init")
    arguments = bench.load("init.pt", "cpu")
    with candidate_errors("launch"):
        torch.manual_seed(bench.job["init_seed"])
        model = kind(*arguments)
        own = set(model.state_dict())
        if own != set(state):
            missing, extra = sorted(set(state) - own), sorted(own - set(state))
            raise CandidateError(
                "wrong_result", f"state_dict keys differ: missing {missing[:5]}, unexpected {extra[:5]}"
            )
        model.load_state_dict(state)
        return model.to(bench.device)


def _correct(bench: Bench) -> dict[str, Any]:
    """Call the candidate on every trial and on changed contents; save what it returned."""
    import torch

    guard = _guard.Guard()
    bench.lock()
    kind = load_candidate(bench)
    first = bench.load(bench.job["trials"][0]["file"], mapped=True)
    model = construct(bench, kind, first["state"])
    bench.seal()
    guard.settle()
    rows: list[dict[str, Any]] = []
    held: tuple[Any, Any] | None = None
    hacks: list[str] = []
    for number, trial in enumerate(bench.job["trials"]):
        bench.stage(f"trial {number}")
        data = first if number == 0 else bench.load(trial["file"], mapped=True)
        inputs, state = data["inputs"], data["state"]
        on_host = bench.device == "cpu"
        given = (
            bench.load(trial["file"], mapped=True)["inputs"] if on_host else [_guard.clone(x) for x in inputs]
        )
        # The setting of a worker must not differ between calls in anything but what the trial says.
        with candidate_errors("launch"):
            model.load_state_dict(state)
        _guard.fill_device(bench.device, [*inputs, *(held[0] if held is not None else ())])
        row, outputs, copied = call(bench, model, inputs, given, state, number)
        if held is not None and not _guard.same_all(*held):
            hacks.append("overwrites_outputs")
        held = (outputs, copied)
        rows.append(row)
    replay = _replay(bench, model, hacks)
    _lockdown.perturb_memory(False)
    return {"trials": rows, "replay": replay, "patched": guard.changes(), "hacks": sorted(set(hacks)),
            "torch": torch.__version__}  # fmt: skip


def call(
    bench: Bench,
    model: Any,
    inputs: list[Any],
    given: list[Any],
    state: dict[str, Any],
    number: int,
) -> tuple[dict[str, Any], list[Any], list[Any]]:
    """Call `model` in a trial, watched; return what was seen, the flat outputs, and a copy made at once.

    `given` are the same inputs, which the candidate does not hold.
    """
    import torch

    record = number == 0
    torch.manual_seed(bench.job["trials"][number]["call_seed"])
    states = (_guard.generators(bench.device), *_others())
    recorder = _guard.Recorder(bench.job["library_ops"], bench.job.get("random", False)) if record else None
    threads = _threads()
    # The first call may start the pool of threads; recording it writes no output into fresh memory.
    _lockdown.perturb_memory(not record)
    with candidate_errors("launch"), torch.no_grad(), recorder or contextlib.nullcontext():
        begun = _clock()
        output = model(*inputs)
        seconds = _clock() - begun
    _lockdown.perturb_memory(False)
    leaves = _guard.leaves(output)
    if leaves is None:
        raise CandidateError("wrong_result", f"the output is a {type(output).__name__}, not tensors")
    if any(isinstance(x, torch.Tensor) and type(x) is not torch.Tensor for x in leaves):
        raise CandidateError("hack", "lazy_output: a subclass of Tensor was returned")
    elsewhere = {str(x.device) for x in leaves if isinstance(x, torch.Tensor)} - {bench.device}
    if elsewhere and bench.device != "cpu":
        raise CandidateError("wrong_result", f"an output is on {elsewhere.pop()}; expected {bench.device}")
    plain = [torch.as_tensor(x) for x in leaves]
    copied, returned = [_guard.clone(x) for x in plain], _clock()
    row: dict[str, Any] = {
        "mutated": not _guard.same_all(given, inputs),
        "rng": not (_guard.same_all(states[0], _guard.generators(bench.device)) and states[1:] == _others()),
        "new_threads": 0,
        "seconds": seconds,
    }
    now = model.state_dict()
    changed = {key: now[key].detach().clone() for key in state if not _guard.same(state[key], now[key])}
    if changed:
        row["state"] = bench.save(changed, f"state{number}.pt")
    row["outputs"] = bench.save(copied, f"out{number}.pt")
    if not record:
        # Work that goes on behind the caller's back shows as an output that changes by itself.
        _sleep(max(0.0, _LATE_SECONDS - (_clock() - returned)))
        row["late"] = not _guard.same_all(copied, plain)
        row["new_threads"] = max(_threads() - threads, 0)
    if recorder is not None:
        row["ops"] = recorder.refused
        row["library"] = recorder.library
    return row, plain, copied


def _others() -> tuple[Any, ...]:
    """Return the states of the generators of Python and numpy."""
    import numpy as np

    found = np.random.get_state(legacy=False)  # noqa: NPY002 - it is watched
    numbers = [x.tobytes() if isinstance(x, np.ndarray) else x for x in found.pop("state").values()]
    return random.getstate(), numbers, found


def _replay(bench: Bench, model: Any, hacks: list[str]) -> dict[str, Any] | None:
    """Give the tensors of one trial the contents of another and call again: same pointers, other values."""
    import torch

    pair = bench.job.get("replay")
    if pair is None:
        return None
    bench.stage("replay")
    source, target = (bench.load(bench.job["trials"][k]["file"], mapped=True) for k in pair)
    inputs = target["inputs"]
    with candidate_errors("launch"), torch.no_grad():
        model.load_state_dict(source["state"])
        model(*inputs)
        model.load_state_dict(source["state"])
        for old, new in zip(inputs, source["inputs"]):
            if isinstance(old, torch.Tensor):
                old.copy_(new)
        torch.manual_seed(bench.job["trials"][pair[0]]["call_seed"])
        _lockdown.perturb_memory(True)
        output = model(*[new if not isinstance(new, torch.Tensor) else old
                         for old, new in zip(inputs, source["inputs"])])  # fmt: skip
        _lockdown.perturb_memory(False)
    leaves = _guard.leaves(output)
    if leaves is None or any(type(x) is not torch.Tensor for x in leaves):
        hacks.append("lazy_output")
        return None
    return {"trial": pair[0], "outputs": bench.save([x.detach().clone() for x in leaves], "replay.pt")}


def _threads() -> int:
    return len(_listdir("/proc/self/task"))
