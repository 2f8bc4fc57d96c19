"""Check the sdist and the wheel: what is in them, and that the wheel works in an empty environment.

    python tools/check_dist.py dist [PIP OPTION]...

The wheel must hold exactly the files of ``src/mlpapers`` that git tracks. It is installed, with the versions
of ``constraints.txt``, into an environment that has nothing else; there every public name is imported and
``mlpapers list`` is run.
"""

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SDIST_NEEDS = ("LICENSE", "README.md", "CHANGELOG.md", "constraints.txt", "pyproject.toml", "PKG-INFO")

# Runs in the empty environment, away from the sources.
SMOKE = """
import importlib, pkgutil
import mlpapers
packages = ["mlpapers", *(f"mlpapers.{m.name}" for m in pkgutil.iter_modules(mlpapers.__path__) if m.ispkg)]
names = 0
for package in map(importlib.import_module, packages):
    for name in getattr(package, "__all__", ()):
        getattr(package, name)
        names += 1
print(f"mlpapers {mlpapers.__version__}: {names} public names in {len(packages)} packages")
"""


def tracked(folder: str) -> set[str]:
    """Return the paths of the files below `folder` that git tracks, relative to the repository."""
    listing = subprocess.run(["git", "ls-files", "-z", folder], cwd=ROOT, check=True, capture_output=True)
    return set(listing.stdout.decode().split("\0")) - {""}


def one(folder: Path, pattern: str) -> Path:
    """Return the one file of `folder` that fits; SystemExit where there is not exactly one."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        sys.exit(f"{folder} must hold one {pattern}; found {[path.name for path in found]}")
    return found[0]


def check_wheel(wheel: Path) -> None:
    """Compare the files of the wheel with the tracked sources; SystemExit on any difference."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    package = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    expected = {name.removeprefix("src/") for name in tracked("src")}
    if package != expected:
        lacking, extra = sorted(expected - package), sorted(package - expected)
        sys.exit(f"{wheel.name} lacks {lacking} and should not hold {extra}")
    if not any(name.endswith("/licenses/LICENSE") for name in names):
        sys.exit(f"{wheel.name} carries no licence")
    print(f"{wheel.name}: {len(package)} files, {wheel.stat().st_size / 1024:.0f} KiB")


def check_sdist(sdist: Path) -> None:
    """Check that one can build and test from the sdist; SystemExit naming what it lacks."""
    with tarfile.open(sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    expected = {*SDIST_NEEDS, *tracked("src"), *tracked("tests")}
    if missing := expected - names:
        sys.exit(f"{sdist.name} lacks {sorted(missing)}")
    print(f"{sdist.name}: {len(names)} files, {sdist.stat().st_size / 1024:.0f} KiB")


def smoke_test(wheel: Path, pip_options: list[str]) -> None:
    """Install the wheel into an empty environment and use it; CalledProcessError where that fails."""
    with tempfile.TemporaryDirectory() as folder:
        environment = Path(folder, "env")
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        python = environment / "bin" / "python"
        install = [python, "-m", "pip", "install", "--disable-pip-version-check", *pip_options]
        constraints = ["--constraint", ROOT / "constraints.txt"]
        subprocess.run([*map(str, [*install, *constraints, wheel.resolve()])], check=True, cwd=folder)
        subprocess.run([str(python), "-I", "-W", "error", "-c", SMOKE], check=True, cwd=folder)
        subprocess.run([str(environment / "bin" / "mlpapers"), "list"], check=True, cwd=folder)


def main() -> None:
    """Check the folder given on the command line."""
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder, pip_options = Path(sys.argv[1]), sys.argv[2:]
    wheel = one(folder, "*.whl")
    check_wheel(wheel)
    check_sdist(one(folder, "*.tar.gz"))
    smoke_test(wheel, pip_options)


if __name__ == "__main__":
    main()
