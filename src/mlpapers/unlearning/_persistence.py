"""The state file: one npz with a JSON manifest, from which no code is ever run."""

from __future__ import annotations

import dataclasses
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlpapers.core._files import atomic_write
from mlpapers.core.result import ResultFormatError
from mlpapers.unlearning._engine import Model
from mlpapers.unlearning._factor import Factor
from mlpapers.unlearning._removal import Solution
from mlpapers.unlearning._rows import Rows
from mlpapers.unlearning._settings import Settings
from mlpapers.unlearning.log import sync_folder
from mlpapers.unlearning.result import UnlearningResult

FORMAT = "mlpapers-unlearning"
VERSION = 1
_ROWS = ("X", "y", "w", "sample_weight", "values", "multipliers", "ids")
_SOLUTION = ("theta", "theta_ref", "hessian", "b")


def write_state(
    path: str | os.PathLike[str], manifest: dict[str, Any], arrays: dict[str, NDArray[Any]]
) -> None:
    """Write a state file durably: temporary file, fsync, rename, fsync of the folder."""
    target = Path(path)
    text = json.dumps({"format": FORMAT, "version": VERSION, **manifest})
    # What an interrupted save left behind may hold rows that are forgotten by now.
    for orphan in target.parent.glob(f".{target.name}.*.part"):
        orphan.unlink(missing_ok=True)
    with atomic_write(target) as file:
        np.savez(file, allow_pickle=False, manifest=np.frombuffer(text.encode(), dtype=np.uint8), **arrays)
    sync_folder(target.parent)


def read_state(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what `write_state` wrote; ResultFormatError where it is damaged or something else."""
    with Path(path).open("rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            manifest = json.loads(arrays.pop("manifest").tobytes())
        except (ValueError, KeyError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise ResultFormatError(f"{path} is damaged or not a saved estimator: {error}") from error
    if manifest.get("format") != FORMAT or manifest.get("version") != VERSION:
        raise ResultFormatError(
            f"{path} must be a saved estimator of format {FORMAT} {VERSION}; "
            f"it says {manifest.get('format')!r} {manifest.get('version')!r}"
        )
    return manifest, arrays


def check_saveable(params: dict[str, Any]) -> dict[str, Any]:
    """Return constructor parameters as JSON values; TypeError for one that a file cannot hold."""
    saved = {}
    for name, value in params.items():
        if name == "random_state" and not isinstance(value, int | np.integer | None):
            # What was drawn from a generator is kept as entropy; the generator itself belongs to the caller.
            value = None
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if callable(value):
            raise TypeError(
                f"{name} must be a name to be saved; got {value!r} "
                "(register_value_function gives a value function a name)"
            )
        if not isinstance(value, str | int | float | bool | None):
            raise TypeError(f"{name} must be a number, string, bool or None to be saved; got {value!r}")
        saved[name] = value
    return saved


def pack_rows(rows: Rows) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the rows as a manifest entry and arrays."""
    arrays = {f"rows.{name}": getattr(rows, name) for name in _ROWS if getattr(rows, name) is not None}
    return {"n_original": rows.n_original, "n_alive": rows.n_alive}, arrays


def unpack_rows(entry: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Rows:
    """Return the rows that `pack_rows` packed."""
    parts = {name: arrays.get(f"rows.{name}") for name in _ROWS}
    return Rows(**parts, **entry)  # type: ignore[arg-type]


def pack_model(model: Model) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return a Model as a manifest entry and arrays."""
    arrays = {"gram": model.gram}
    problems = []
    for number, solution in enumerate(model.solutions):
        for name in _SOLUTION:
            array = getattr(solution, name)
            if array is not None:
                arrays[f"solution{number}.{name}"] = array
        arrays[f"solution{number}.lower"] = solution.factor.lower
        numbers = ("residual", "slack", "mu", "n_updates", "dual")
        problems.append({name: getattr(solution, name) for name in numbers})
    names = ("weight_total", "n_since_anchor", "exact", "fresh", "reweighted", "event")
    return {"solutions": problems, **{name: getattr(model, name) for name in names}}, arrays


def unpack_model(entry: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Model:
    """Return the Model that `pack_model` packed."""
    solutions = []
    for number, numbers in enumerate(entry["solutions"]):
        parts: dict[str, Any] = {name: arrays.get(f"solution{number}.{name}") for name in _SOLUTION}
        factor = Factor(np.asfortranarray(arrays[f"solution{number}.lower"]))
        solutions.append(Solution(**parts, factor=factor, **numbers))
    flags = {name: value for name, value in entry.items() if name != "solutions"}
    return Model(tuple(solutions), arrays["gram"], **flags)


def pack_settings(settings: Settings) -> dict[str, Any]:
    """Return Settings as a manifest entry."""
    return dataclasses.asdict(settings)


def pack_result(result: UnlearningResult) -> dict[str, Any]:
    """Return a result as a manifest entry."""
    entry = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    return {**entry, "indices": result.indices.tolist()}


def unpack_result(entry: dict[str, Any]) -> UnlearningResult:
    """Return the result that `pack_result` packed."""
    return UnlearningResult(**{**entry, "indices": np.array(entry["indices"], dtype=np.int64)})


def pack_labels(labels: NDArray[Any]) -> Any:
    """Return labels of any type as JSON: a list, with the dtype to restore."""
    return {"dtype": labels.dtype.str, "items": labels.tolist()}


def unpack_labels(entry: Any) -> NDArray[Any]:
    """Return the labels that `pack_labels` packed."""
    return np.array(entry["items"], dtype=np.dtype(entry["dtype"]))
