"""Testing a design before any code exists: the sketch is interpreted and compared with the module."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlpapers.kernels.sketch import Sketch, SketchError

if TYPE_CHECKING:
    from mlpapers.kernels.task import Task

# Larger tasks would keep the interpreter busy for minutes; their code is what is tested then.
_MAX_ELEMENTS = 1 << 18
_SECONDS = 30.0
_PASSED_ON = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "HOME", "SYSTEMROOT")


@dataclass(frozen=True)
class SketchVerdict:
    """Whether a sketch computes what the task's module computes.

    Attributes
    ----------
    outcome : {"right", "wrong", "unchecked"}
    detail : str
        What is wrong, without expected values, or why it was not checked.
    """

    outcome: str
    detail: str = ""


def judge_sketch(sketch: Sketch, task: Task, *, random_state: int = 0) -> SketchVerdict:
    """Interpret a sketch on inputs of the task, in a process of its own, and compare the results.

    Parameters
    ----------
    sketch : Sketch
    task : Task
    random_state : int

    Returns
    -------
    verdict : SketchVerdict
    """
    from mlpapers.kernels.verify.oracle import compare
    from mlpapers.kernels.verify.policy import is_contraction
    from mlpapers.kernels.verify.reference import Reference, same_bits

    try:
        sketch.validate()
    except SketchError as error:
        return SketchVerdict("wrong", str(error))
    strange = [name for name in sketch.library if not is_contraction(name.removeprefix("aten."))]
    if strange:
        return SketchVerdict("unchecked", f"it calls {', '.join(strange)}")
    reference = Reference(task, random_state)
    state, inputs = reference.state(), list(reference.inputs)
    arrays = _arrays(inputs, state)
    if isinstance(arrays, str):
        return SketchVerdict("unchecked", arrays)
    eager, _ = reference.run(inputs, state, 1)
    again, _ = reference.run(inputs, state, 2)
    if not all(same_bits(a, b) for a, b in zip(eager, again)):
        return SketchVerdict("unchecked", "the module draws random numbers")
    found = _interpreted(sketch, arrays)
    if isinstance(found, SketchVerdict):
        return found
    oracle = reference.run_double(inputs, state, 1)
    comparison = compare(eager, eager if oracle is None else oracle, found, inputs=inputs)
    return SketchVerdict("right") if comparison.ok else SketchVerdict("wrong", comparison.error)


def _arrays(inputs: list[Any], state: dict[str, Any]) -> dict[str, np.ndarray] | str:
    """Return what the interpreter is given, or why it cannot be."""
    import torch

    arrays = {}
    values = {
        **{f"input{k}": x for k, x in enumerate(inputs)},
        **{f"state:{key}": x for key, x in state.items()},
    }
    if sum(x.numel() for x in values.values() if isinstance(x, torch.Tensor)) > _MAX_ELEMENTS:
        return "the task is too large to be interpreted"
    for name, value in values.items():
        tensor = torch.as_tensor(value)
        if tensor.dtype in (torch.bfloat16, torch.float16):
            return f"{tensor.dtype} has no counterpart in NumPy"
        arrays[name] = tensor.detach().cpu().numpy()
    return arrays


def _interpreted(sketch: Sketch, arrays: dict[str, np.ndarray]) -> list[Any] | SketchVerdict:
    import torch

    with tempfile.TemporaryDirectory(prefix="mlpapers-sketch-") as name:
        folder = Path(name)
        (folder / "sketch.txt").write_text(sketch.to_text(), encoding="utf-8")
        np.savez(folder / "given.npz", **arrays)  # type: ignore[arg-type]
        environment = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
        try:
            run = subprocess.run(
                [sys.executable, "-m", "mlpapers.kernels._sketch_judge", name],
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
                env=environment,
            )
        except subprocess.TimeoutExpired:
            return SketchVerdict("unchecked", f"not interpreted within {_SECONDS:g} s")
        if run.returncode:
            last = (run.stderr.strip().splitlines() or [f"the interpreter died ({run.returncode})"])[-1]
            return SketchVerdict("wrong", f"it cannot be interpreted: {last[:300]}")
        with np.load(folder / "found.npz", allow_pickle=False) as found:
            return [torch.from_numpy(np.array(found[f"result{k}"])) for k in range(len(found.files))]
