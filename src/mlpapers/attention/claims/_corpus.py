"""English text by the byte: docstrings of installed packages and the King James Bible."""

from __future__ import annotations

import ast
import functools
import sys
import sysconfig
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlpapers.datasets import load_text

# The scientific stack; those that are not installed are passed over.
_PACKAGES = (
    "numpy", "scipy", "pandas", "sklearn", "matplotlib", "torch", "transformers", "networkx", "sympy",
    "statsmodels", "numba", "cvxpy", "dask", "distributed", "jax", "flax", "optax", "seaborn", "skimage",
    "PIL", "IPython", "sphinx", "docutils", "hypothesis", "pytest", "_pytest", "joblib", "cupy", "xarray",
    "botorch", "gpytorch", "equinox", "torchvision", "torchaudio", "torch_geometric", "lightning", "peft",
    "accelerate", "huggingface_hub", "tokenizers", "sentence_transformers", "timm", "optimistix", "numpyro",
)  # fmt: skip
# Tests, and packages that are installed below the standard library's folder.
_LEFT_OUT = frozenset({"tests", "test", "site-packages", "dist-packages"})
_LEAST_BYTES = 40
# One module in twenty is held out.
_HELD_OUT_SHARE = 20
_KJV_HELD_OUT = 400_000
_MAX_BYTES = 27_200_000


@dataclass(frozen=True, eq=False)
class ByteCorpus:
    """Bytes to train on, and two texts held out.

    Attributes
    ----------
    train, docs, kjv : ndarray of uint8
        Training; docstrings of modules that are not in it; the end of the Bible.
    sources : DataFrame with columns source, bytes
        Where the training bytes came from.
    """

    train: NDArray[np.uint8]
    docs: NDArray[np.uint8]
    kjv: NDArray[np.uint8]
    sources: pd.DataFrame


@functools.cache
def byte_corpus() -> ByteCorpus:
    """Collect the text: modules are held out by a checksum of their names, repeats left out."""
    bible = load_text("kjv").text.encode("utf-8", "ignore")
    seen: set[int] = set()
    train, docs, sources = [], [], [{"source": "King James Bible", "bytes": len(bible) - _KJV_HELD_OUT}]
    room = _MAX_BYTES
    for package, folder in _folders():
        taken = 0
        for path in sorted(folder.rglob("*.py")):
            if _LEFT_OUT & set(path.relative_to(folder).parts):
                continue
            text = "\n\n".join(_docstrings(path, seen)).encode("utf-8", "ignore")
            if len(text) < _LEAST_BYTES:
                continue
            name = f"{package}/{path.relative_to(folder).as_posix()}"
            if zlib.crc32(name.encode()) % _HELD_OUT_SHARE == 0:
                docs.append(text)
            elif room > len(text):
                train.append(text)
                room -= len(text)
                taken += len(text)
        if taken:
            sources.append({"source": package, "bytes": taken})
    return ByteCorpus(
        train=_bytes([bible[:-_KJV_HELD_OUT], *train]),
        docs=_bytes(docs),
        kjv=np.frombuffer(bible[-_KJV_HELD_OUT:], dtype=np.uint8),
        sources=pd.DataFrame(sources),
    )


def _folders() -> Iterator[tuple[str, Path]]:
    yield "standard library", Path(sysconfig.get_paths()["stdlib"])
    for package in _PACKAGES:
        for entry in sys.path:
            folder = Path(entry) / package
            if entry and (folder / "__init__.py").is_file():
                yield package, folder
                break


def _docstrings(path: Path, seen: set[int]) -> Iterator[str]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    # Templates and files for other versions of Python lie among modules.
    except (SyntaxError, UnicodeDecodeError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if not text or len(text) < _LEAST_BYTES:
                continue
            mark = zlib.crc32(text.encode("utf-8", "ignore")) << 32 | len(text)
            if mark not in seen:
                seen.add(mark)
                yield text


def _bytes(texts: list[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"\n\n".join(texts), dtype=np.uint8)
