"""Resolve the library with all its extras and print the result as a constraints file.

    python tools/lock.py [-c PINS] > constraints.txt

pip resolves without installing anything. ``-c PINS`` holds versions at those of an existing file: pass the
present ``constraints.txt`` to add a package without moving the others. Run it on Linux, for some extras
exist only there.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

HEADER = """\
# The versions this release is tested with, for the library and all its extras. `make` installs with them;
# they bind nobody who installs mlpapers as a dependency. Made by tools/lock.py on Linux, Python {python}.
#
# torch has no local version, so that a CPU build satisfies it too; triton is the one that the CUDA build of
# this torch requires. litellm is the newest that goes with huggingface-hub 2, which transformers requires.
"""


def local(version: str) -> str:
    """Drop the local part of a version ("2.13.0+cpu" -> "2.13.0"), which names a build and not a release."""
    return version.partition("+")[0]


def resolve(pins: Path | None) -> dict[str, str]:
    """Return name -> version of all that the library and its extras need; CalledProcessError on conflict."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = ",".join(project["optional-dependencies"])
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += ["--report", str(report), f"{ROOT}[{extras}]"]
        command += ["-c", str(pins)] if pins else []
        subprocess.run(command, check=True, stdout=sys.stderr)
        installs = json.loads(report.read_text(encoding="utf-8"))["install"]
    found = {item["metadata"]["name"]: local(item["metadata"]["version"]) for item in installs}
    found.pop(project["name"])
    return found


def main() -> None:
    """Print the constraints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-c", dest="pins", type=Path, help="a constraints file whose versions are kept")
    versions = resolve(parser.parse_args().pins)
    print(HEADER.format(python=".".join(map(str, sys.version_info[:2]))), end="")
    for name in sorted(versions, key=str.lower):
        print(f"{name}=={versions[name]}")


if __name__ == "__main__":
    main()
