"""GGUF files: the header, the metadata and the weights, read in one pass.

The format is a list of key-value pairs and of tensor descriptions, then the tensors. Readers that look at
every string through a memory map take half a minute for a tokenizer's lists; this one takes a second. Blocks
of quantised weights are decoded by the package ``gguf``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class GGUFFile:
    """What stands in a GGUF file.

    Attributes
    ----------
    metadata : dict
    tensors : dict of str to ndarray
        float32, with torch's order of dimensions.
    """

    metadata: dict[str, Any]
    tensors: dict[str, NDArray[np.float32]]


class _Cursor:
    def __init__(self, content: memoryview) -> None:
        self.content, self.place = content, 0

    def take(self, n: int) -> memoryview:
        if self.place + n > len(self.content):
            raise ValueError("the file ends too early")
        part = self.content[self.place : self.place + n]
        self.place += n
        return part

    def number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def string(self) -> str:
        return str(self.take(self.number("Q")), "utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            inner, count = self.number("I"), self.number("Q")
            if inner in _SCALARS:
                code = f"<{count}{_SCALARS[inner]}"
                return list(struct.unpack(code, self.take(struct.calcsize(code))))
            return [self.value(inner) for _ in range(count)]
        if kind not in _SCALARS:
            raise ValueError(f"unknown type {kind} of a metadata value")
        return self.number(_SCALARS[kind])


def read_gguf(path: Path) -> GGUFFile:
    """Read a GGUF file (versions 2 and 3, little endian).

    Raises
    ------
    ValueError
        If the file is damaged or of another kind.
    """
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    cursor = _Cursor(memoryview(path.read_bytes()))
    try:
        if bytes(cursor.take(4)) != b"GGUF" or cursor.number("I") not in (2, 3):
            raise ValueError("it does not begin as one")
        n_tensors, n_pairs = cursor.number("Q"), cursor.number("Q")
        metadata = {}
        for _ in range(n_pairs):
            name = cursor.string()
            metadata[name] = cursor.value(cursor.number("I"))
        described = []
        for _ in range(n_tensors):
            name = cursor.string()
            shape = [cursor.number("Q") for _ in range(cursor.number("I"))][::-1]
            described.append((name, shape, GGMLQuantizationType(cursor.number("I")), cursor.number("Q")))
        alignment = int(metadata.get("general.alignment", 32))
        start = -(-cursor.place // alignment) * alignment
        tensors = {}
        for name, shape, kind, offset in described:
            cursor.place = start + offset
            block, size = GGML_QUANT_SIZES[kind]
            n_bytes = int(np.prod(shape)) // block * size
            rows = np.frombuffer(cursor.take(n_bytes), dtype=np.uint8).reshape(*shape[:-1], -1)
            if kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
                dtype = np.float32 if kind == GGMLQuantizationType.F32 else np.float16
                tensors[name] = rows.view(dtype).astype(np.float32)
            else:
                tensors[name] = dequantize(rows, kind)
    except (ValueError, struct.error, KeyError) as error:
        raise ValueError(f"path must be a GGUF file: {path}: {error}") from error
    return GGUFFile(metadata, tensors)
