"""Collect what runs of ``mlpapers reproduce --scale full`` measured, for the page of the documentation.

    python tools/full_scale.py REPORT_FOLDER...

Reads the evidence in the folders' ``claims`` and merges it into ``docs/full_scale.json``; the newest run of a
claim stays. Run it on the machine of the runs: what it says of the machine is read here.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlpapers.core._files import write_text
from mlpapers.core.environment import describe_environment

PAGE_DATA = Path(__file__).resolve().parents[1] / "docs" / "full_scale.json"
_MACHINE = ("cpu", "cores", "memory", "gpu", "python", "numpy", "torch")


def read_runs(folder: Path) -> dict[str, dict[str, Any]]:
    """Return claim -> run of a report's folder, for the claims that ran at full scale."""
    runs: dict[str, dict[str, Any]] = {}
    for path in sorted((folder / "claims").glob("*/*.full.*.json")):
        stored = json.loads(path.read_text(encoding="utf-8"))
        if not stored["evidence"]["measurements"]:
            continue
        run = {
            "date": datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat(),
            "seed": stored["key"]["seed"],
            "seconds": round(stored["evidence"]["seconds"], 1),
            "measurements": [
                {name: value for name, value in item.items() if value not in (None, "")}
                for item in stored["evidence"]["measurements"]
            ],
        }
        claim = stored["key"]["claim"]
        # Of several seeds the first: one that is chosen after seeing the results would say nothing.
        if claim not in runs or run["seed"] < runs[claim]["seed"]:
            runs[claim] = run
    return runs


def main(folders: list[str]) -> int:
    """Merge the folders' runs into the page's data."""
    if not folders:
        print(__doc__, file=sys.stderr)
        return 2
    content: dict[str, Any] = {"machine": {}, "claims": {}}
    if PAGE_DATA.exists():
        content = json.loads(PAGE_DATA.read_text(encoding="utf-8"))
    facts = describe_environment()
    content["machine"] = {name: facts[name] for name in _MACHINE if name in facts}
    claims: dict[str, Any] = content["claims"]
    for folder in folders:
        for claim, run in read_runs(Path(folder)).items():
            if claim not in claims or claims[claim]["date"] <= run["date"]:
                claims[claim] = run
    content["claims"] = dict(sorted(claims.items()))
    write_text(PAGE_DATA, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    print(f"{PAGE_DATA.name}: {len(claims)} claims")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
