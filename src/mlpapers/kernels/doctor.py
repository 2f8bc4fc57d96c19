"""``doctor``: what is installed, what each kernel language can do here, and why not."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpapers.core._axes import new_axes
from mlpapers.core._files import check_writable
from mlpapers.core.result import Result

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from mlpapers.kernels.dsl.base import Backend

_PACKAGES = ("torch", "triton", "tilelang", "openai")


@dataclass(frozen=True, kw_only=True, eq=False)
class DoctorResult(Result):
    """What :func:`doctor` found.

    Attributes
    ----------
    checks : DataFrame
        Columns what, ok, detail.
    """

    checks: pd.DataFrame

    def summary(self) -> str:
        """Return one line per check."""
        width = max(len(name) for name in self.checks["what"])
        lines = [
            f"{'yes' if row.ok else 'no ':<3}  {row.what:<{width}}  {row.detail}"
            for row in self.checks.itertuples(index=False)
        ]
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Return the checks, one row each."""
        return self.checks.copy()

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the checks as bars of length 1 (there) and 0 (missing).

        Parameters
        ----------
        ax : Axes, optional
        **options
            For ``Axes.barh``.

        Returns
        -------
        ax : Axes
        """
        ax = new_axes(ax)
        ax.barh(self.checks["what"], self.checks["ok"].astype(int), **options)
        ax.set_xlim(0, 1)
        return ax


def doctor() -> DoctorResult:
    """Say what is installed, which languages and devices can be used, and how far workers are isolated.

    Returns
    -------
    result : DoctorResult

    Examples
    --------
    >>> from mlpapers.kernels import doctor
    >>> frame = doctor().to_frame()
    >>> frame.columns.tolist()
    ['what', 'ok', 'detail']
    """
    import pandas as pd

    from mlpapers.kernels.dsl.base import get_backend, list_backends, list_dsls

    rows: list[tuple[str, bool, str]] = [_compiler()]
    for name in _PACKAGES:
        there = importlib.util.find_spec(name) is not None
        rows.append(
            (f"package {name}", there, importlib.metadata.version(name) if there else "not installed")
        )
    for row in list_backends().itertuples(index=False):
        detail = row.reason
        if row.available:
            detail = _measured(get_backend(row.name))
        rows.append((f"backend {row.name}", bool(row.available), detail))
    for row in list_dsls().itertuples(index=False):
        detail = row.reason or "builds and runs"
        rows.append((f"language {row.name} on {row.backend}", bool(row.available), detail))
    rows += _isolation()
    rows.append(_cache())
    return DoctorResult(checks=pd.DataFrame(rows, columns=["what", "ok", "detail"]))


def _measured(backend: Backend) -> str:
    """Say what a device can do, or why that cannot be measured and kept."""
    try:
        hardware = backend.hardware()
    except OSError as error:
        return f"not measured: {error}"
    cores = "1 core" if hardware.cores == 1 else f"{hardware.cores} cores"
    return (
        f"{hardware.name}, {cores}, {hardware.peak_flops / 1e9:.0f} GFLOP/s, "
        f"{hardware.bandwidth_dram / 1e9:.1f} GB/s from memory"
    )


def _cache() -> tuple[str, bool, str]:
    """Try whether kernels can be kept."""
    from mlpapers.kernels.verify._room import check_room
    from mlpapers.kernels.verify.settings import kernel_cache

    try:
        folder = kernel_cache()
        check_writable(folder / "kernel.so")
        check_room(folder)
    except OSError as error:
        return "kernel cache", False, str(error)
    return "kernel cache", True, str(folder)


def _compiler() -> tuple[str, bool, str]:
    name = os.environ.get("CXX", "g++").split()[0]
    path = shutil.which(name)
    if path is None:
        return "C++ compiler", False, f"{name} is not on the PATH"
    done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
    return "C++ compiler", done.returncode == 0, (done.stdout.splitlines() or [path])[0]


def _isolation() -> list[tuple[str, bool, str]]:
    """Try in a child what a worker does to itself."""
    from mlpapers.kernels.verify import _lockdown

    found = []
    for what, step, otherwise in (
        (
            "workers without network",
            _lockdown.leave_network,
            "sockets are refused by call filter and audit hook",
        ),
        ("workers without processes", _lockdown.refuse_syscalls, "limited by number and by the audit hook"),
    ):
        works = _in_child(step.__name__)
        found.append((what, works, "by the kernel" if works else otherwise))
    return found


def _in_child(name: str) -> bool:
    import sys

    code = (
        f"import sys; from mlpapers.kernels.verify import _lockdown; sys.exit(0 if _lockdown.{name}() else 1)"
    )
    from mlpapers.kernels.verify.isolation import worker_environment

    done = subprocess.run(
        [sys.executable, "-c", code], env=worker_environment(), capture_output=True, check=False
    )
    return done.returncode == 0
