"""A claim on its way to a worker: how it is pickled so that it arrives anywhere."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from typing import Any, NoReturn

from mlpapers.core._evidence import EvidenceKey
from mlpapers.core.paper import Claim, find_paper


@dataclass(frozen=True, eq=False)
class ClaimTask:
    """A claim to be run, its package and the key of its evidence.

    A registered claim travels without its function, which the worker takes from its own registry. Any other
    travels whole, behind the module that defines it: a test module or a script's neighbour need not be
    importable by its name in the worker, so its file is named too.
    """

    claim: Claim
    package: str
    key: EvidenceKey
    registered: bool

    def __reduce__(self) -> tuple[Any, ...]:
        if self.registered:
            shell = dataclasses.replace(self.claim, function=_Unavailable("not looked up yet"))
            return _find_registered, (shell, self.package, self.key)
        module = _module_file(self.claim.module)
        return _restore, (module, self.claim, self.package, self.key)


@dataclass(frozen=True)
class _Unavailable:
    """Stands for an experiment that this process does not have; running it says so."""

    reason: str

    def __call__(self, *_: Any) -> NoReturn:
        raise RuntimeError(f"the claim's experiment is not available in this worker: {self.reason}")


def _find_registered(shell: Claim, package: str, key: EvidenceKey) -> ClaimTask:
    # An error in here would break the pool and with it the whole run; this way it is the claim's own.
    try:
        found = {claim.id: claim.function for claim in find_paper(shell.key).claims}
        claim = dataclasses.replace(shell, function=found[shell.id])
    except Exception as error:  # noqa: BLE001
        claim = dataclasses.replace(shell, function=_Unavailable(f"{type(error).__name__}: {error}"))
    return ClaimTask(claim, package, key, registered=True)


@dataclass(frozen=True)
class _ModuleFile:
    """Unpickling it makes the module importable."""

    name: str
    file: str

    def __reduce__(self) -> tuple[Any, ...]:
        return _load_module, (self.name, self.file)


def _module_file(name: str) -> _ModuleFile | None:
    file = getattr(sys.modules.get(name), "__file__", None)
    # What __main__ defines is pickled by value.
    return None if file is None or name == "__main__" else _ModuleFile(name, str(file))


def _restore(_module: None, claim: Claim, package: str, key: EvidenceKey) -> ClaimTask:
    # Arguments are unpickled from left to right: the module was there when the claim asked for it.
    return ClaimTask(claim, package, key, registered=False)


def _load_module(name: str, file: str) -> None:
    """Import a module by name or, where the name is not found, from its file."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        spec = importlib.util.spec_from_file_location(name, file)
        # A module that is found but lacks one of its own imports is an error that the user must see.
        if not f"{name}.".startswith(f"{error.name}.") or spec is None or spec.loader is None:
            raise
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
