"""A process that interprets one sketch: ``python -m mlpapers.kernels._sketch_judge FOLDER``.

The folder holds ``sketch.txt`` and ``given.npz`` (input0, input1, ..., state:KEY); ``found.npz`` is written.
Sketches that somebody else wrote may loop for ever or reach beyond an array, so they are never interpreted in
the process that asks.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import numpy as np

from mlpapers.kernels.sketch import Sketch

_MEMORY = 4 << 30


def main(folder: str) -> None:
    """Interpret the sketch in a folder and write its results beside it.

    Parameters
    ----------
    folder : str
    """
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    place = Path(folder)
    sketch = Sketch.parse((place / "sketch.txt").read_text(encoding="utf-8"))
    with np.load(place / "given.npz", allow_pickle=False) as given:
        n_inputs = sum(name.startswith("input") for name in given.files)
        inputs = [given[f"input{k}"] for k in range(n_inputs)]
        state = {name.partition(":")[2]: given[name] for name in given.files if name.startswith("state:")}
    results = sketch.interpret(inputs, state)
    found = {f"result{k}": value for k, value in enumerate(results)}
    np.savez(place / "found.npz", **found)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(sys.argv[1])
