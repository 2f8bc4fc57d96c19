"""The file that holds MiniPFN's weights: half-precision arrays and the recipe of their training."""

from __future__ import annotations

import json
import os
import zipfile
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core._files import atomic_write

__all__ = ["bundled_checkpoint", "read_checkpoint", "write_checkpoint"]

_RECIPE = "recipe"


def bundled_checkpoint() -> Path:
    """Return the path of the checkpoint that the library ships."""
    return Path(str(resources.files("mlpapers.icl") / "_data" / "minipfn.npz"))


def write_checkpoint(
    path: str | os.PathLike[str], weights: dict[str, NDArray[Any]], recipe: dict[str, Any]
) -> Path:
    """Write weights (as float16) and recipe to one ``.npz`` file, atomically.

    Raises
    ------
    ValueError
        Where a weight is not finite in half precision.
    """
    arrays = {}
    for name, value in weights.items():
        arrays[name] = value.astype(np.float16)
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"weights must be finite in half precision; {name} is not")
    arrays[_RECIPE] = np.array(json.dumps(recipe, sort_keys=True))
    target = Path(path)
    with atomic_write(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in arrays.items():
            # A fixed date makes equal weights equal files.
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w") as handle:
                np.lib.format.write_array(handle, value, allow_pickle=False)
    return target


def read_checkpoint(
    path: str | os.PathLike[str] | None,
) -> tuple[dict[str, NDArray[np.float32]], dict[str, Any]]:
    """Return weights as float32 and the recipe; None stands for the checkpoint that the library ships.

    Raises
    ------
    FileNotFoundError
        Where there is no such file.
    ValueError
        Where the file is not a checkpoint; it names `checkpoint`.
    """
    source = bundled_checkpoint() if path is None else Path(path)
    if not source.is_file():
        raise FileNotFoundError(
            f"checkpoint {source} does not exist; python -m mlpapers.icl.pretrain --out FILE makes one"
        )
    try:
        with np.load(source, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        recipe = json.loads(str(arrays.pop(_RECIPE)))
        weights = {name: value.astype(np.float32) for name, value in arrays.items()}
    except (KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"checkpoint {source} is damaged or not a MiniPFN checkpoint: {error}") from error
    return weights, recipe
