"""The file format of results: a zip with ``result.json`` and ``arrays/N.npy``; neither holds code.

Every value is JSON as it is (str, bool, None, finite numbers) or a tagged object ``{"type": tag, ...}``.
Classes (Results, dataclasses, enums) are stored by name and looked up among classes that exist already or
that mlpapers itself defines; a file can therefore name a class, never bring one.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import importlib
import json
import math
import re
import sys
import zipfile
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mlpapers.core._files import atomic_write
from mlpapers.core._tensors import is_tensor

FORMAT = "mlpapers-result"
VERSION = 1
_INDEX = "result.json"
_MEMBER = re.compile(r"arrays/(0|[1-9][0-9]*)\.npy")

Loaded = TypeVar("Loaded")


class ResultFormatError(ValueError):
    """A file is not a saved result of the expected class, or a result lacks what was not saved."""


def write_archive(result: Any, path: Path) -> Path:
    """Write the dataclass instance `result` to `path`, atomically."""
    arrays: list[NDArray[Any]] = []
    root = _encode(result, type(result).__name__, arrays)
    index = json.dumps({"format": FORMAT, "version": VERSION, "root": root}, allow_nan=False)
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_INDEX, index)
        for number, array in enumerate(arrays):
            with archive.open(f"arrays/{number}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return path


def read_archive(path: Path, expected: type[Loaded]) -> Loaded:
    """Read `path` and check that it holds an `expected`; every defect is a ResultFormatError."""
    with path.open("rb") as file:
        try:
            result = _read(file)
        except ResultFormatError as error:
            raise ResultFormatError(f"{path}: {error}") from error
        # Whatever a damaged file makes zipfile, zlib, json or numpy raise, the user is told the same thing.
        except Exception as error:
            raise ResultFormatError(f"{path} is damaged or not a saved result: {error}") from error
    if not isinstance(result, expected):
        raise ResultFormatError(f"{path} holds a {type(result).__name__}, not a {expected.__name__}")
    return result


def _read(file: IO[bytes]) -> Any:
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        foreign = [name for name in names if name != _INDEX and not _MEMBER.fullmatch(name)]
        if foreign or len(set(names)) != len(names) or _INDEX not in names:
            raise ResultFormatError(f"not a saved result: unexpected members {foreign[:3] or names[:3]}")
        index = json.loads(archive.read(_INDEX))
        if not isinstance(index, dict) or index.get("format") != FORMAT:
            raise ResultFormatError("not a saved result: the format mark is missing")
        if index.get("version") != VERSION:
            raise ResultFormatError(
                f"written in format version {index.get('version')!r}; this library reads {VERSION}"
            )
        return _decode(index["root"], _ArrayMembers(archive))


class _ArrayMembers:
    """The arrays of an open archive, read in full so that zipfile checks their checksums."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive

    def __getitem__(self, number: int) -> NDArray[Any]:
        with self._archive.open(f"arrays/{int(number)}.npy") as member:
            array: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
            if member.read(1):
                raise ResultFormatError(f"array {number} has bytes beyond its end")
        return array


def _encode(value: Any, where: str, arrays: list[NDArray[Any]]) -> Any:
    """Return the JSON form of `value`; big data goes to `arrays`. `where` names it in errors."""

    def inner(item: Any, name: str) -> Any:
        return _encode(item, f"{where}{name}", arrays)

    if value is None or type(value) in (bool, str, int):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"type": "float", "value": repr(value)}
    if isinstance(value, enum.Enum):
        if value.name not in type(value).__members__:
            raise TypeError(f"{where} cannot be saved: {value!r} is a combination of flags")
        return {"type": "enum", "class": _class_name(value, where), "name": value.name}
    if isinstance(value, np.ndarray):
        return _encode_array(value, where, arrays)
    if isinstance(value, np.generic):
        return {"type": "scalar", "array": inner(np.asarray(value), "")}
    if _is_frozen(type(value)):
        fields = {
            field.name: inner(getattr(value, field.name), f".{field.name}")
            for field in dataclasses.fields(value)
            if field.init and not field.metadata.get("transient")
        }
        return {"type": "dataclass", "class": _class_name(value, where), "fields": fields}
    if type(value) in (tuple, list, set, frozenset):
        items = [inner(item, f"[{position}]") for position, item in enumerate(value)]
        return {"type": type(value).__name__, "items": items}
    if isinstance(value, dict):
        pairs = [[inner(key, " key"), inner(item, f"[{key!r}]")] for key, item in value.items()]
        return {"type": "dict", "items": pairs}
    if type(value) is complex:
        return {"type": "complex", "real": inner(value.real, ""), "imag": inner(value.imag, "")}
    if type(value) is bytes:
        return {"type": "bytes", "hex": value.hex()}
    if isinstance(value, Path):
        return {"type": "path", "value": str(value)}
    if type(value) in (dt.datetime, dt.date, dt.timedelta):
        return _encode_time(value)
    if is_tensor(value):
        return _encode_array(_tensor_array(value, where), where, arrays)
    pd = sys.modules.get("pandas")
    if pd is not None and isinstance(value, pd.DataFrame | pd.Series | pd.Index):
        return _encode_pandas(value, where, arrays)
    raise TypeError(
        f"{where} cannot be saved: {type(value).__name__}; declare the field transient() or convert it"
    )


def _encode_array(array: NDArray[Any], where: str, arrays: list[NDArray[Any]]) -> Any:
    # A mask, or a matrix's own arithmetic, would be lost in silence, and npy has no name for other dtypes.
    if isinstance(array, np.ma.MaskedArray | np.matrix) or array.dtype.kind not in "biufcmMSUVO":
        raise TypeError(f"{where} cannot be saved: {type(array).__name__} of dtype {array.dtype}")
    if array.dtype.hasobject:
        if array.dtype != np.dtype(object):
            raise TypeError(f"{where} cannot be saved: structured array with object fields")
        items = [
            _encode(item, f"{where}[{position}]", arrays)
            for position, item in enumerate(array.ravel().tolist())
        ]
        return {"type": "objects", "shape": list(array.shape), "items": items}
    arrays.append(np.asarray(array))
    return {"type": "array", "number": len(arrays) - 1}


def _encode_time(value: dt.date | dt.timedelta) -> Any:
    if isinstance(value, dt.timedelta):
        return {"type": "timedelta", "parts": [value.days, value.seconds, value.microseconds]}
    return {"type": type(value).__name__, "value": value.isoformat()}


def _encode_pandas(value: Any, where: str, arrays: list[NDArray[Any]]) -> Any:
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        return {
            "type": "frame",
            "index": _encode_pandas(value.index, f"{where}.index", arrays),
            "columns": _encode_pandas(value.columns, f"{where}.columns", arrays),
            "values": [
                _encode_column(value.iloc[:, position], f"{where}[{name!r}]", arrays)
                for position, name in enumerate(value.columns)
            ],
        }
    if isinstance(value, pd.Series):
        return {
            "type": "series",
            "name": _encode(value.name, f"{where}.name", arrays),
            "index": _encode_pandas(value.index, f"{where}.index", arrays),
            "values": _encode_column(value, where, arrays),
        }
    names = [_encode(name, f"{where}.names", arrays) for name in value.names]
    if isinstance(value, pd.RangeIndex):
        return {"type": "range", "bounds": [value.start, value.stop, value.step], "names": names}
    levels = (
        [value.get_level_values(level) for level in range(value.nlevels)]
        if isinstance(value, pd.MultiIndex)
        else [value]
    )
    return {
        "type": "index",
        "multi": isinstance(value, pd.MultiIndex),
        "names": names,
        "levels": [_encode_column(level, where, arrays) for level in levels],
    }


def _encode_column(column: Any, where: str, arrays: list[NDArray[Any]]) -> Any:
    import pandas as pd

    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        codes = column.cat.codes if isinstance(column, pd.Series) else column.codes
        return {
            "dtype": "category",
            "ordered": bool(dtype.ordered),
            "categories": _encode_column(dtype.categories, where, arrays),
            "data": _encode_array(np.asarray(codes), where, arrays),
        }
    if isinstance(dtype, pd.PeriodDtype):
        return {"dtype": str(dtype), "data": _encode_array(column.array.asi8, where, arrays)}
    if isinstance(dtype, pd.IntervalDtype):
        ends = {
            side: _encode_column(getattr(column.array, side), where, arrays) for side in ("left", "right")
        }
        return {"dtype": "interval", "closed": dtype.closed, **ends}
    if isinstance(dtype, np.dtype) and dtype != np.dtype(object):
        return {"dtype": dtype.str, "data": _encode_array(np.asarray(column), where, arrays)}
    if isinstance(dtype, pd.DatetimeTZDtype):
        instants = pd.Series(column.array).dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()
        return {"dtype": str(dtype), "data": _encode_array(instants, where, arrays)}
    items = list(column)
    # Other extension dtypes (strings, nullable numbers): plain Python items, with missing ones as None.
    if dtype != np.dtype(object):
        items = [None if pd.isna(item) is True else _plain(item) for item in items]
    objects = np.empty(len(items), dtype=object)
    for position, item in enumerate(items):  # one by one: numpy would unpack items that are sequences
        objects[position] = item
    return {"dtype": str(dtype), "data": _encode_array(objects, where, arrays)}


def _decode(node: Any, arrays: _ArrayMembers) -> Any:
    if not isinstance(node, dict):
        if isinstance(node, list):
            raise ResultFormatError("a bare list is not part of the format")
        return node
    tag = node["type"]
    if tag == "float":
        return float(node["value"])
    if tag == "array":
        return arrays[node["number"]]
    if tag == "objects":
        items = np.empty(len(node["items"]), dtype=object)
        for position, item in enumerate(node["items"]):
            items[position] = _decode(item, arrays)
        return items.reshape(node["shape"])
    if tag == "scalar":
        return _decode(node["array"], arrays)[()]
    if tag in ("tuple", "list", "set", "frozenset"):
        kinds = {"tuple": tuple, "list": list, "set": set, "frozenset": frozenset}
        return kinds[tag](_decode(item, arrays) for item in node["items"])
    if tag == "dict":
        return {_decode(key, arrays): _decode(item, arrays) for key, item in node["items"]}
    if tag == "complex":
        return complex(_decode(node["real"], arrays), _decode(node["imag"], arrays))
    if tag == "bytes":
        return bytes.fromhex(node["hex"])
    if tag == "path":
        return Path(node["value"])
    if tag == "timedelta":
        days, seconds, microseconds = node["parts"]
        return dt.timedelta(days, seconds, microseconds)
    if tag in ("datetime", "date"):
        return {"datetime": dt.datetime, "date": dt.date}[tag].fromisoformat(node["value"])
    if tag == "enum":
        return _find_class(node["class"], enum.Enum)[node["name"]]
    if tag == "dataclass":
        found = _find_class(node["class"], None)
        lost = {field.name: None for field in dataclasses.fields(found) if field.metadata.get("transient")}
        return found(**lost, **{name: _decode(item, arrays) for name, item in node["fields"].items()})
    if tag in ("frame", "series", "index", "range"):
        return _decode_pandas(node, arrays)
    raise ResultFormatError(f"unknown value type {tag!r}")


def _decode_pandas(node: Any, arrays: _ArrayMembers) -> Any:
    import pandas as pd

    if node["type"] == "frame":
        index = _decode_pandas(node["index"], arrays)
        columns = _decode_pandas(node["columns"], arrays)
        values = {position: _decode_column(item, arrays) for position, item in enumerate(node["values"])}
        frame = pd.DataFrame({k: pd.Series(v, index=index) for k, v in values.items()}, index=index)
        frame.columns = columns
        return frame
    if node["type"] == "series":
        index = _decode_pandas(node["index"], arrays)
        return pd.Series(
            _decode_column(node["values"], arrays), index=index, name=_decode(node["name"], arrays)
        )
    names = [_decode(name, arrays) for name in node["names"]]
    if node["type"] == "range":
        start, stop, step = node["bounds"]
        return pd.RangeIndex(start, stop, step, name=names[0])
    levels = [_decode_column(level, arrays) for level in node["levels"]]
    if node["multi"]:
        return pd.MultiIndex.from_arrays(levels, names=names)
    return pd.Index(levels[0], name=names[0])


def _decode_column(node: Any, arrays: _ArrayMembers) -> Any:
    import pandas as pd

    if node["dtype"] == "interval":
        ends = [_decode_column(node[side], arrays) for side in ("left", "right")]
        return pd.arrays.IntervalArray.from_arrays(*ends, closed=node["closed"])
    data = _decode(node["data"], arrays)
    if node["dtype"].startswith("period["):
        return pd.arrays.PeriodArray(data, dtype=node["dtype"])
    if node["dtype"] == "category":
        categories = pd.Index(_decode_column(node["categories"], arrays))
        return pd.Categorical.from_codes(data, categories=categories, ordered=node["ordered"])
    if node["dtype"].startswith("datetime64["):
        return pd.Series(data).dt.tz_localize("UTC").astype(node["dtype"]).array
    if data.dtype != np.dtype(object):
        return data
    if node["dtype"] == "object":
        return pd.Series(data, dtype=object).array
    return pd.array(list(data), dtype=node["dtype"])


def _class_name(value: Any, where: str) -> str:
    kind = type(value)
    if "<locals>" in kind.__qualname__:
        raise TypeError(f"{where} cannot be saved: class {kind.__qualname__} is local to a function")
    return f"{kind.__module__}:{kind.__qualname__}"


def _find_class(name: str, base: type | None) -> Any:
    """Return the class ``module:qualname``: an Enum for base=Enum, else a frozen dataclass."""
    module_name, _, qualname = name.partition(":")
    if module_name not in sys.modules and module_name.startswith("mlpapers."):
        importlib.import_module(module_name)
    found: Any = sys.modules.get(module_name)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    known = isinstance(found, type) and found.__module__ == module_name and found.__qualname__ == qualname
    if not known or not (_is_frozen(found) if base is None else issubclass(found, base)):
        raise ResultFormatError(
            f"the class {name!r} is unknown here; import the module that defines it first"
        )
    return found


def _is_frozen(kind: type) -> bool:
    parameters = getattr(kind, "__dataclass_params__", None)
    return parameters is not None and bool(parameters.frozen)


def _tensor_array(tensor: Any, where: str) -> NDArray[Any]:
    """Return the tensor as an array; bfloat16, which numpy lacks, as float32, which holds it exactly."""
    import torch

    plain = tensor.detach().cpu()
    try:
        plain = plain.resolve_conj().resolve_neg()
        array: NDArray[Any] = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    except (RuntimeError, TypeError) as error:
        raise TypeError(f"{where} cannot be saved: {tensor.layout} tensor of {tensor.dtype}") from error
    return array


def _plain(item: Any) -> Any:
    return item.item() if isinstance(item, np.generic) else item
