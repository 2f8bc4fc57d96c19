"""Paired timing in a worker: eager and candidate in turns, on rotating inputs, with fresh outputs."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import pickle
import random
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch

from mlpapers.kernels.verify import _guard, _harness
from mlpapers.kernels.verify._stopwatch import Stopwatch

_clock = time.perf_counter
_WARM_UPS = 3
# One sample lasts at least this long: below, the clock and the interpreter would be measured.
_SAMPLE_SECONDS = 2e-4
_MAX_REPEATS = 64
_ENOUGH_SECONDS = 0.4
_FEWEST_PAIRS = 5
_BLOCKS = 3
_SLICE = 4096


def time_pairs(bench: _harness.Bench) -> dict[str, Any]:
    """Time the reference against the candidate (or torch.compile) and save a checked call and a last one."""
    job = bench.job
    guard = _guard.Guard()
    reference = _reference(bench)
    copies = [bench.load(name)["inputs"] for name in job["copies"]]
    fresh = bench.load(job["fresh"], mapped=True)["inputs"]
    state = bench.load(job["state"])
    chance = random.Random(job["seed"])
    watch = Stopwatch(job.get("device", "cpu"), cold=bool(job.get("cold")))
    with torch.no_grad():
        repeats = _repeats(reference, copies, watch, job)
        alone = [watch.time(reference, _private(x, job), repeats)[0] for x in copies[:2] for _ in range(3)]
        if job.get("candidate") == "compile":
            model: Any = torch.compile(reference)
        else:
            bench.lock()
            kind = _harness.load_candidate(bench)
            model = _harness.construct(bench, kind, state)
            bench.seal()
        bench.stage("timing")
        with _harness.candidate_errors("launch"):
            for x in copies[:_WARM_UPS]:
                model(*_private(x, job))
        gc.collect()
        gc.disable()
        try:
            result = _run_pairs(bench, reference, model, copies, chance, watch, repeats)
        finally:
            gc.enable()
        bench.stage("after timing")
        result["alone"] = alone
        result["repeats"] = repeats
        with _harness.candidate_errors("launch"):
            # What torch.compile returns has the state of the module that it wraps, under other names.
            (reference if job.get("candidate") == "compile" else model).load_state_dict(state)
            torch.manual_seed(job["call_seed"])
            output = model(*_private(fresh, job))
        result["after"] = bench.save(_plain(output), "after.pt")
    changes = guard.changes()
    result["patched"] = [name for name in changes if name != "gc"]
    return result


def race(bench: _harness.Bench) -> dict[str, Any]:
    """Time candidates of the same task in turns, forwards and backwards; None for one that fails."""
    job = bench.job
    bench.lock()
    copies = [bench.load(name)["inputs"] for name in job["copies"]]
    state = bench.load(job["state"])
    watch = Stopwatch(job.get("device", "cpu"), cold=bool(job.get("cold")))
    models: list[Any] = []
    for name in job["racers"]:
        try:
            model = _harness.construct(bench, _harness.load_candidate(bench, name), state)
            with _harness.candidate_errors("launch"), torch.no_grad():
                for x in copies[:2]:
                    model(*_private(x, job))
        except _harness.CandidateError:
            model = None
        models.append(model)
    bench.seal()
    bench.stage("race")
    times: list[list[float]] = [[] for _ in models]
    lanes = [k for k, model in enumerate(models) if model is not None]
    gc.collect()
    gc.disable()
    begun = _clock()
    with torch.no_grad():
        first = [watch.time(models[k], _private(copies[0], job))[0] for k in lanes]
        calls = _SAMPLE_SECONDS / max(min(first, default=1.0), 1e-9)
        repeats = 1 if job.get("mutates") or watch.on_gpu else max(1, min(_MAX_REPEATS, round(calls)))
        for turn in range(job["runs"]):
            x = copies[turn % len(copies)]
            for k in lanes if turn % 2 == 0 else reversed(lanes):
                seconds, _, output = watch.time(models[k], _private(x, job), repeats)
                times[k].append(seconds)
                del output
            if turn >= 2 and _clock() - begun > job["max_seconds"]:
                break
    gc.enable()
    return {"times": [None if model is None else found for model, found in zip(models, times)]}


def _run_pairs(
    bench: _harness.Bench, reference: Any, model: Any, copies: list[Any], chance: random.Random,
    watch: Stopwatch, repeats: int,
) -> dict[str, Any]:  # fmt: skip
    job = bench.job
    eager: list[float] = []
    kernel: list[float] = []
    host: list[float] = []
    checked = chance.randrange(_FEWEST_PAIRS)
    result: dict[str, Any] = {}
    begun = _clock()
    while True:
        elapsed, n = _clock() - begun, len(eager)
        if n >= _FEWEST_PAIRS and (
            elapsed >= job["max_seconds"] or (n >= job["n_pairs"] and elapsed >= _ENOUGH_SECONDS)
        ):
            break
        x = copies[n % len(copies)]
        _change(x, copies[(n + 1) % len(copies)], chance)
        order = ((reference, eager), (model, kernel)) if n % 2 == 0 else ((model, kernel), (reference, eager))
        for function, times in order:
            given = _private(x, job)
            with _harness.candidate_errors("launch"):
                seconds, here, output = watch.time(function, given, repeats)
            times.append(seconds)
            if function is model and watch.on_gpu:
                host.append(here)
            if n == checked and function is model:
                # Kept as they are now: contents change between calls.
                kept = [_guard.clone(value) for value in x]
                result["checked"] = bench.save({"inputs": kept, "outputs": _plain(output)}, "checked.pt")
            del output
    with _harness.candidate_errors("launch"):
        result["blocks"] = [_block(bench, model, copies, job, watch) for _ in range(_BLOCKS)]
    return {**result, "eager": eager, "kernel": kernel, "host": host}


def _block(
    bench: _harness.Bench, model: Any, copies: list[Any], job: dict[str, Any], watch: Stopwatch
) -> dict[str, float]:
    """Make a number of calls that only the parent knew, between two marks that the parent timed itself."""
    count = job["block"]
    given = [_private(copies[k % len(copies)], job) for k in range(count)]
    watch.synchronize()
    bench.mark()
    start = _clock()
    for x in given:
        model(*x)
    watch.synchronize()
    seconds = _clock() - start
    bench.mark()
    return {"calls": count, "seconds": seconds}


def _repeats(reference: Any, copies: list[Any], watch: Stopwatch, job: dict[str, Any]) -> int:
    """Return how many calls make one sample, after the warm-up of the reference.

    On a GPU one is enough: events do not measure the interpreter, and a second call would find what the
    first has left in the cache.
    """
    if job.get("mutates"):
        return 1
    times = [watch.time(reference, copies[k % len(copies)])[0] for k in range(_WARM_UPS + 2)]
    if watch.on_gpu:
        return 1
    call = statistics.median(times[_WARM_UPS:])
    return max(1, min(_MAX_REPEATS, round(_SAMPLE_SECONDS / max(call, 1e-9))))


def _change(x: list[Any], other: list[Any], chance: random.Random) -> None:
    """Overwrite a stretch of each float input in place, so that the same pointer holds other values."""
    for old, new in zip(x, other):
        if isinstance(old, torch.Tensor) and old.is_floating_point() and old.is_contiguous() and old.numel():
            length = min(_SLICE, old.numel())
            start = chance.randrange(old.numel() - length + 1)
            source = new.reshape(-1)[start : start + length]
            old.view(-1)[start : start + length].copy_(source)


def _private(x: list[Any], job: dict[str, Any]) -> list[Any]:
    """Return inputs that may be written to, where the reference writes to them; else the inputs."""
    return [_guard.clone(value) for value in x] if job.get("mutates") else x


def _plain(output: Any) -> list[Any]:
    found = _guard.leaves(output)
    if found is None or any(isinstance(x, torch.Tensor) and type(x) is not torch.Tensor for x in found):
        raise _harness.CandidateError("hack", "lazy_output")
    return [torch.as_tensor(x).detach().clone() for x in found]


def _reference(bench: _harness.Bench) -> Any:
    """Make the reference from its file, and remove the file before the candidate can look for it."""
    with _harness.candidate_errors("reference"):
        return _loaded_reference(bench)


def _loaded_reference(bench: _harness.Bench) -> Any:
    job = bench.job
    source, pickled = bench.folder / "reference.py", bench.folder / "reference.pkl"
    if source.exists():
        spec = importlib.util.spec_from_file_location("reference", source)
        if spec is None or spec.loader is None:
            raise ImportError(f"{source} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        torch.manual_seed(job["init_seed"])
        model = module.Model(*bench.load("init.pt"))
        source.unlink()
    else:
        with _search_path(job.get("path", [])):
            model = pickle.loads(pickled.read_bytes())  # noqa: S301 - written by the parent
        pickled.unlink()
    model.load_state_dict(bench.load(job["state"]))
    return model.to(job.get("device", "cpu"))


@contextlib.contextmanager
def _search_path(path: list[str]) -> Iterator[None]:
    """Import from further folders for a while; the candidate finds them gone."""
    before = list(sys.path)
    sys.path += [entry for entry in path if entry not in before]
    try:
        yield
    finally:
        sys.path[:] = before
