"""Evidence on disk: one JSON file per claim, scale and seed, valid for the source that made it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlpapers.core._files import write_text
from mlpapers.core._table import ClaimTable
from mlpapers.core.paper import Claim, Measurement, Scale
from mlpapers.core.report import ClaimOutcome

CACHE_VARIABLE = "MLPAPERS_CACHE"
_FORMAT = "mlpapers-evidence-1"
_IDENTITY_FILE = "store.json"

# Code, and the documents that code reads as input; not stylesheets, which change no measurement.
_SOURCE_SUFFIXES = frozenset({".py", ".md", ".txt", ".json", ".toml", ".yaml", ".cpp", ".cu", ".cuh"})

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvidenceKey:
    """What evidence depends on; `source` is None where the claim's source cannot be read (a notebook)."""

    claim: str
    scale: Scale
    seed: int
    version: str
    source: str | None


@dataclass(frozen=True)
class EvidenceStore:
    """A folder of evidence files, written atomically.

    A worker on another machine may not see the folder, or see another folder of that name: `identity`, which
    is also written in the folder, tells. Worker and parent may both save the same outcome; the second save
    finds the file as it should be.
    """

    directory: Path
    identity: str

    @classmethod
    def open(cls, directory: str | os.PathLike[str]) -> EvidenceStore:
        """Return the store in `directory`, which is made where it does not exist."""
        path = Path(directory).absolute()
        path.mkdir(parents=True, exist_ok=True)
        identity = _read_json(path / _IDENTITY_FILE).get("identity")
        if not isinstance(identity, str):
            # Two runs may start here at the same time: whichever file stays, both go by it.
            write_text(path / _IDENTITY_FILE, json.dumps({"identity": uuid.uuid4().hex}) + "\n")
            identity = str(_read_json(path / _IDENTITY_FILE)["identity"])
        return cls(path, identity)

    def is_reachable(self) -> bool:
        """Whether this process sees the folder that the parent opened."""
        return _read_json(self.directory / _IDENTITY_FILE).get("identity") == self.identity

    def path(self, key: EvidenceKey) -> Path:
        """Return the file for a key; evidence of older sources is overwritten."""
        paper, _, name = key.claim.partition("/")
        return self.directory / paper / f"{name}.{key.scale}.{key.seed}.json"

    def load(self, key: EvidenceKey, claim: Claim, package: str) -> ClaimOutcome | None:
        """Return the stored outcome of `claim`, or None where there is none for this key."""
        stored = self._read(key)
        if key.source is None or stored.get("key") != _encode_key(key):
            return None
        try:
            return ClaimOutcome.of(claim, package, key.scale, key.seed, **_decode(stored["evidence"]))
        except (KeyError, TypeError, ValueError) as error:
            _LOGGER.warning("%s is damaged (%r); the claim runs again", self.path(key), error)
            return None

    def save(self, key: EvidenceKey, outcome: ClaimOutcome) -> None:
        """Write an outcome that has measurements, unless its file already says the same."""
        content = {"format": _FORMAT, "key": _encode_key(key), "evidence": _encode(outcome)}
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        path = self.path(key)
        with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
            if path.read_text(encoding="utf-8") == text:
                return
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)

    def discard(self, key: EvidenceKey) -> None:
        """Remove what is stored for the claim, scale and seed."""
        self.path(key).unlink(missing_ok=True)

    def seconds(self, key: EvidenceKey) -> float | None:
        """Return how long the claim took when it last ran here, whatever its source was then."""
        try:
            return float(self._read(key)["evidence"]["seconds"])
        except (KeyError, TypeError, ValueError):
            return None

    def _read(self, key: EvidenceKey) -> dict[str, Any]:
        stored = _read_json(self.path(key))
        return stored if stored.get("format") == _FORMAT else {}


def cache_directory() -> Path:
    """Return the user's folder for evidence: $MLPAPERS_CACHE/claims, else in the XDG cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen) / "claims"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlpapers" / "claims"


def claim_package(claim: Claim) -> str:
    """Return the package a claim belongs to: that of its ``claims`` module, else the module itself."""
    return claim.module.partition(".claims")[0]


def source_hash(claim: Claim) -> str | None:
    """Return a SHA-256 over the sources that can change the claim's evidence.

    These are mlpapers.core, mlpapers.datasets and the claim's own package (of mlpapers the sub-package, of
    another distribution its top-level package or module). None where the claim has no source file.
    """
    import mlpapers

    roots = _source_roots(claim.module)
    if not roots:
        return None
    library = Path(mlpapers.__file__).parent
    digest = hashlib.sha256()
    for root in [library / "core", library / "datasets", *roots]:
        for path in _source_files(root):
            # Names are relative, so that the same source in another folder is the same source.
            name = path.relative_to(root).as_posix() if path != root else path.name
            digest.update(f"{root.name}/{name}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def source_root(module: str) -> str:
    """Return the package whose sources a module's claims depend on."""
    parts = module.split(".")
    return ".".join(parts[: 2 if parts[0] == "mlpapers" else 1])


def _source_roots(module: str) -> list[Path]:
    package = sys.modules.get(source_root(module))
    folders = [Path(folder) for folder in getattr(package, "__path__", [])]
    if folders:
        return folders
    file = getattr(sys.modules.get(module), "__file__", None)
    return [Path(file)] if file and Path(file).is_file() else []


def _source_files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for path in sorted(root.rglob("*")):
        if path.suffix in _SOURCE_SUFFIXES and "__pycache__" not in path.parts and path.is_file():
            yield path


def _encode_key(key: EvidenceKey) -> dict[str, Any]:
    return {
        "claim": key.claim, "scale": key.scale, "seed": key.seed, "version": key.version, "source": key.source
    }  # fmt: skip


def _encode(outcome: ClaimOutcome) -> dict[str, Any]:
    table = outcome.table
    return {
        "seconds": _number(outcome.seconds),
        "measurements": [
            {
                "name": item.name,
                "value": _number(item.value),
                "relation": item.relation,
                "target": [_number(end) for end in item.target]
                if isinstance(item.target, tuple)
                else _number(item.target),
                "unit": item.unit,
                "paper": _number(item.paper),
            }
            for item in outcome.measurements
        ],
        "notes": outcome.notes,
        "table": table
        and {"columns": list(table.columns), "rows": [[_number(cell) for cell in row] for row in table.rows]},
        "figure": outcome.figure,
    }


def _decode(evidence: dict[str, Any]) -> dict[str, Any]:
    table = evidence["table"]
    measurements = tuple(
        Measurement(
            name=item["name"],
            value=_from_number(item["value"]),
            relation=item["relation"],
            target=tuple(map(_from_number, item["target"]))
            if isinstance(item["target"], list)
            else _from_number(item["target"]),
            unit=item["unit"],
            paper=_from_number(item["paper"]),
        )
        for item in evidence["measurements"]
    )
    if not measurements:
        raise ValueError("no measurements")
    return {
        "seconds": float(evidence["seconds"]),
        "measurements": measurements,
        "notes": evidence["notes"],
        "table": table
        and ClaimTable(
            tuple(table["columns"]), tuple(tuple(_from_number(cell) for cell in row) for row in table["rows"])
        ),
        "figure": evidence["figure"],
    }


def _number(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become ``{"float": "nan"}``."""
    return {"float": repr(value)} if isinstance(value, float) and not math.isfinite(value) else value


def _from_number(value: Any) -> Any:
    return float(value["float"]) if isinstance(value, dict) else value


def _read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file; an empty one where there is no file, or none that can be understood."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        _LOGGER.warning("%s cannot be read (%s); it counts as missing", path, error)
        return {}
    return content if isinstance(content, dict) else {}
