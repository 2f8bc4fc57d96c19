"""The catalogue of reward hacks: ways to pass or to look fast without doing the work, and how each shows.

What the text betrays is found by :mod:`mlpapers.kernels.verify.static`. Here is what running it betrays; the
worker reports what it saw, the parent compares and decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpapers.kernels.verify.oracle import Comparison, compare

if TYPE_CHECKING:
    from mlpapers.kernels.verify.inputs import Trial
    from mlpapers.kernels.verify.isolation import Outcome

CATALOGUE: dict[str, str] = {
    "async_work": "threads go on after the call has returned, or the output changes by itself",
    "cached_by_pointer": "the same tensors with other contents give the old answer",
    "changes_weights": "the call changes parameters or buffers that the reference leaves alone",
    "clock": "the time that passed here is not the time that the worker measured",
    "constant_output": "the output does not depend on the input although the reference's does",
    "forbidden_access": "files, network, processes or other programs are touched",
    "lazy_output": "the output is no plain tensor: the work is done when somebody looks",
    "mutates_inputs": "the call writes to its inputs although the reference does not",
    "overwrites_outputs": "a later call changes the output of an earlier one",
    "patches_harness": "functions or settings of torch, time or the interpreter were replaced",
    "precision": "the output has the error of a narrower number format",
    "roofline": "faster than the memory and the arithmetic of the device allow",
    "seeding": "the call changes the global random state",
    "shape_specialised": "right at the task's own sizes only",
    "slows_reference": "eager became slower when the candidate was loaded",
    "state_drift": "right at first, wrong after many calls",
    "torch_ops": "torch does the work that the kernel claims",
    "unwritten_memory": "the output holds memory that was never written",
}

# Bytes of 0x7f, with which fresh memory is filled, as they read in each dtype.
_FILL = {4: 0x7F7F7F7F, 8: 0x7F7F7F7F7F7F7F7F, 2: 0x7F7F, 1: 0x7F}
_BLOCK_SLACK = 5e-3
# Seconds that a GPU's events and the clock may differ by: the wait for the device takes some of it.
_EVENT_SLACK = 2e-4
# Pools of threads start once each; who starts threads in more calls than there are pools starts them per
# call.
_POOLS = 3


def load_tensors(path: Path) -> Any:
    """Read tensors that a worker wrote, as pages of the file; nothing in it is executed."""
    import torch

    return torch.load(path, weights_only=True, mmap=True)


def judge_trials(
    folder: Path,
    outcome: Outcome,
    trials: Sequence[Trial],
    *,
    rtol: float | None,
    random: bool,
    library_ops: str,
) -> tuple[list[Comparison], list[str], str]:
    """Compare what a worker returned with the oracle and collect the hacks that show.

    Parameters
    ----------
    folder : Path
        Of the job.
    outcome : Outcome
    trials : sequence of Trial
    rtol : float or None
    random : bool
        The task draws random numbers in ``forward``.
    library_ops : str

    Returns
    -------
    comparisons : list of Comparison, one per trial
    hacks : list of str
        Names in ``CATALOGUE``.
    error : str
        The first thing that is wrong, or "".
    """
    result = outcome.result
    hacks = set(result.get("hacks", ()))
    outputs = [load_tensors(folder / row["outputs"]) for row in result["trials"]]
    comparisons = _judged(trials, outputs, rtol)
    errors: list[str] = []
    rows = zip(trials, result["trials"], outputs, comparisons)
    for number, (trial, row, values, comparison) in enumerate(rows, start=1):
        if not comparison.ok:
            errors.append(f"trial {number} ({trial.label}): {comparison.error}")
            hacks |= _why_wrong(trial, values, comparison)
        found, error = _state_hacks(folder, trial, row)
        hacks |= found
        errors += error
        hacks |= _row_hacks(trial, row, random)
    hacks |= _constant(trials, outputs, comparisons)
    if sum(row["new_threads"] > 0 for row in result["trials"]) > _POOLS:
        hacks.add("async_work")
    refused = result["trials"][0].get("ops", {}) if result["trials"] else {}
    if refused:
        hacks.add("torch_ops")
        errors.append(f"torch does the work (library_ops={library_ops!r}): {_count(refused)}")
    if result.get("forbidden"):
        hacks.add("forbidden_access")
        errors.append("refused: " + "; ".join(dict.fromkeys(result["forbidden"][:5])))
    if result.get("patched"):
        hacks.add("patches_harness")
        errors.append("replaced or changed: " + ", ".join(result["patched"][:8]))
    replay = result.get("replay")
    if replay is not None and comparisons[replay["trial"]].ok:
        trial = trials[replay["trial"]]
        again = trial.judge(load_tensors(folder / replay["outputs"]), rtol)
        if not again.ok:
            hacks.add("cached_by_pointer")
            errors.append(f"the same tensors with other contents: {again.error}")
    return comparisons, sorted(hacks), "\n".join(errors)


def _judged(
    trials: Sequence[Trial], outputs: Sequence[Sequence[Any]], rtol: float | None
) -> list[Comparison]:
    """Compare the outputs of all trials, side by side: a comparison is a row of small steps on one core."""
    import torch

    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(lambda trial, values: trial.judge(values, rtol), trials, outputs))


def _why_wrong(trial: Trial, values: Sequence[Any], comparison: Comparison) -> set[str]:
    import torch

    found: set[str] = set()
    for value in values:
        if isinstance(value, torch.Tensor) and value.element_size() in _FILL and value.numel():
            bits = value.contiguous().view(
                {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[value.element_size()]
            )
            if bool((bits == _FILL[value.element_size()]).any()):
                found.add("unwritten_memory")
    if comparison.low_precision and not found:
        found.add("precision")
    if trial.label.startswith("size"):
        found.add("shape_specialised")
    return found


def _row_hacks(trial: Trial, row: Mapping[str, Any], random: bool) -> set[str]:
    found: set[str] = set()
    if row["mutated"] and not trial.mutates:
        found.add("mutates_inputs")
    if row["rng"] and not random:
        found.add("seeding")
    if row.get("late"):
        found.add("async_work")
    return found


def _state_hacks(folder: Path, trial: Trial, row: Mapping[str, Any]) -> tuple[set[str], list[str]]:
    """Compare parameters and buffers after the call with those of the reference after its call."""
    from mlpapers.kernels.verify.reference import same_bits

    changed = load_tensors(folder / row["state"]) if "state" in row else {}
    found: set[str] = set()
    errors: list[str] = []
    for key, before in trial.state.items():
        after = trial.state_after[key]
        kept = same_bits(before, after)
        if kept and key not in changed:
            continue
        value = changed.get(key, before)
        if kept:
            found.add("changes_weights")
            errors.append(f"{key} was changed by the call")
        elif not compare([after], [after], [value]).ok:
            errors.append(f"{key} differs from the reference's after the call")
    return found, errors


def _constant(trials: Sequence[Trial], outputs: Sequence[Any], comparisons: Sequence[Comparison]) -> set[str]:
    """Return "constant_output" where wrong outputs of different trials agree and the reference's do not."""
    import torch

    for a in range(len(trials)):
        for b in range(a + 1, len(trials)):
            if comparisons[a].ok and comparisons[b].ok:
                continue
            pairs = list(zip(outputs[a], outputs[b]))
            alike = all(torch.equal(torch.as_tensor(x), torch.as_tensor(y)) for x, y in pairs)
            if alike and not all(
                torch.equal(torch.as_tensor(x), torch.as_tensor(y))
                for x, y in zip(trials[a].eager, trials[b].eager)
            ):
                return {"constant_output"}
    return set()


def timing_hacks(outcome: Outcome) -> list[str]:
    """Return the hacks that a timing job shows by its numbers.

    Parameters
    ----------
    outcome : Outcome

    Returns
    -------
    hacks : list of str
    """
    result = outcome.result
    found: set[str] = set()
    if result.get("forbidden"):
        found.add("forbidden_access")
    if result.get("patched"):
        found.add("patches_harness")
    if _clock_disagrees(result, outcome.beacons):
        found.add("clock")
    if result.get("host"):
        here, shown = float(np.median(result["host"])), float(np.median(result["kernel"]))
        if here > 1.2 * shown + _EVENT_SLACK:
            # The stream was idle while the device was not: the work goes on elsewhere.
            found.add("async_work")
    alone, eager = np.asarray(result["alone"]), np.asarray(result["eager"])
    if alone.size and np.min(eager) > 1.5 * np.max(alone) and np.min(eager) > 2e-5:
        found.add("slows_reference")
    return sorted(found)


def _clock_disagrees(result: Mapping[str, Any], beacons: Sequence[float]) -> bool:
    """Return whether in no block of calls the time that passed here, and per call, is what was measured.

    One block that agrees is enough: a busy machine may stop a worker at any moment, but never speeds it up.
    """
    median = float(np.median(result["kernel"]))
    agrees = []
    for number, block in enumerate(result["blocks"]):
        seconds, calls = block["seconds"], block["calls"]
        right = seconds / calls <= 3.0 * median + _BLOCK_SLACK / calls
        if len(beacons) >= 2 * len(result["blocks"]):
            here = beacons[2 * number + 1] - beacons[2 * number]
            right &= abs(here - seconds) <= 0.2 * max(here, seconds) + _BLOCK_SLACK
        agrees.append(right)
    return not any(agrees)


def roofline_exceeded(
    seconds: float, *, bytes_min: float, flops: float, bandwidth: float, peak_flops: float, cache_bytes: float
) -> bool:
    r"""Return whether a time is below 0.9 of what the device allows.

    .. math:: t_\text{floor} = \max\left(\frac{\text{bytes}}{\text{bandwidth}},
    \frac{\text{flops}}{\text{peak}}\right)

    Bytes count only where they exceed the caches four times over: what stays in a cache is not read from
    memory.

    Parameters
    ----------
    seconds : float
    bytes_min, flops : float
        Of the task.
    bandwidth, peak_flops : float
        Measured, per second.
    cache_bytes : float
        Size of the last cache.

    Returns
    -------
    exceeded : bool
    """
    moving = bytes_min / bandwidth if bytes_min > 4 * cache_bytes else 0.0
    floor = max(moving, flops / peak_flops)
    return math.isfinite(floor) and seconds < 0.9 * floor


def processor_peak(cores: int, vector_bytes: int) -> float:
    """Return float32 operations per second that no processor exceeds: two fused products a cycle at 6 GHz.

    What was measured is a lower bound: the machine may have been busy.

    Parameters
    ----------
    cores : int
    vector_bytes : int

    Returns
    -------
    peak : float
    """
    return cores * 6e9 * (vector_bytes / 4) * 4


def cache_bytes(device: str = "cpu") -> float:
    """Return the size of the largest cache of a device, 64 MiB where the system does not say.

    Parameters
    ----------
    device : str

    Returns
    -------
    size : float
    """
    if device.startswith("cuda"):
        import torch

        return float(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0) or 64 << 20)
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text(encoding="ascii").strip()
        unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
        digits = text.rstrip("KMG")
        sizes.append(int(digits) * unit if digits.isdigit() else 0)
    return float(max(sizes, default=64 << 20))


def _count(ops: Mapping[str, int]) -> str:
    return ", ".join(f"{name} x{count}" for name, count in sorted(ops.items())[:8])
