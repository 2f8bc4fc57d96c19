"""Where a run took place: machine, versions, commit. Nothing is imported to find out."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

_DISTRIBUTIONS = (
    "numpy", "scipy", "scikit-learn", "numba", "torch",
    "pandas", "cvxpy", "joblib", "matplotlib", "transformers",
)  # fmt: skip


def describe_environment() -> dict[str, str]:
    """Return what a reader needs in order to judge a run's numbers and times.

    Returns
    -------
    environment : dict of str to str
        ``mlpapers`` and, where the library runs from a git checkout, ``commit``; ``python``, ``platform``,
        ``cpu``, ``cores`` (those this process may use), ``memory`` and ``gpu`` where they can be read; then
        the versions of the libraries that are installed.
    """
    import mlpapers

    facts = {
        "mlpapers": mlpapers.__version__,
        "commit": _commit(Path(mlpapers.__file__).parent),
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
        "cpu": _cpu_model(),
        "cores": str(count_cores()),
        "memory": _memory(),
        "gpu": _gpu_models(),
    }
    facts |= {name: _version(name) for name in _DISTRIBUTIONS}
    return {name: fact for name, fact in facts.items() if fact}


def count_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _commit(package: Path) -> str:
    """Return the commit of the checkout that tracks `package`, with a mark where files differ from it."""
    # An installed copy may lie inside somebody else's repository (a virtual environment, say): only a
    # repository that tracks this very file has the commit we mean.
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return ""
    commit = _git(package, "rev-parse", "HEAD")
    if not commit:
        return ""
    return f"{commit} (modified)" if _git(package, "status", "--porcelain", "--", ".") else commit


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints, or None where there is no git, no repository or no answer."""
    # Without optional locks `git status` writes nothing, so it cannot disturb a commit under way.
    settings = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        answer = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True, text=True, timeout=10, env=settings, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _cpu_model() -> str:
    for line in _lines(Path("/proc/cpuinfo")):
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _memory() -> str:
    if not hasattr(os, "sysconf"):
        return ""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return ""
    return f"{total / 2**30:.0f} GiB"


def _gpu_models() -> str:
    models = [
        line.partition(":")[2].strip()
        for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        for line in _lines(path)
        if line.startswith("Model:")
    ]
    return ", ".join(models)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
