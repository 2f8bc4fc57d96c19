"""Run every benchmark beside its peers, each script in a process of its own, and keep the rows in one file.

    python benchmarks/run.py [SCRIPT]... [--again] [--shared] [--out FILE] [--timeout SECONDS]

A script that has its rows in the file is not run again unless ``--again`` says so, and what is finished is on
disk before the next one starts: after an interruption the same command goes on. The documentation shows the
file ``benchmarks/results.json`` as a page.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mlpapers.core._files import write_text

sys.path.insert(0, str(Path(__file__).parent))
from _rows import Record, read_records, records_text, without_paths

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"


def scripts(folder: Path = HERE) -> dict[str, Path]:
    """Return name -> file of the benchmarks in a folder: the scripts that give rows."""
    return {
        path.stem: path
        for path in sorted(folder.glob("*.py"))
        if not path.name.startswith("_")
        and path.name != Path(__file__).name
        and re.search(r"^from _(harness|rows) import ", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


def run_script(path: Path, timeout: float) -> Record:
    """Run one script and return what it measured; a record with the reason where there is nothing."""
    with tempfile.TemporaryDirectory() as folder:
        answer, errors = Path(folder, f"{path.stem}.json"), Path(folder, "errors")
        command = [sys.executable, str(path), "--peers", "--json", str(answer)]
        started = time.perf_counter()
        with errors.open("wb") as stream:
            # In a group of its own, so that its workers end with it.
            process = subprocess.Popen(command, stderr=stream, start_new_session=True)
            try:
                status: int | None = process.wait(timeout)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                _end_group(process)
        found = read_records(answer).get(path.stem)
        if found is not None:
            return found
        last = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        reason = f"stopped after {timeout:g} s" if status is None else f"ended with status {status}"
        error = without_paths(": ".join([reason, *last]))
        seconds = round(time.perf_counter() - started, 1)
        return Record(script=path.stem, environment={}, seconds=seconds, error=error)


def _end_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def keep(out: Path, record: Record) -> None:
    """Put a record into the file, which another run may have changed meanwhile."""
    write_text(out, records_text({**read_records(out), record.script: record}))


def summary(record: Record) -> str:
    """Return one line that says how the rows of a script stand."""
    if record.error:
        return f"{record.script}: {record.error}"
    counts = Counter(row.verdict or "no target" for row in record.rows)
    parts = [f"{counts[verdict]} {verdict}" for verdict in ("met", "missed", "not run", "no target")]
    return f"{record.script}: {len(record.rows)} rows, {', '.join(parts)}, {record.seconds:.0f} s"


def main(argv: Sequence[str] | None = None, folder: Path = HERE) -> int:
    """Run the command; 1 where a script has no rows, 2 on wrong usage, 130 after Ctrl-C."""
    known = scripts(folder)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="SCRIPT", help=f"of {', '.join(known)}; all by default")
    parser.add_argument("--again", action="store_true", help="run finished scripts too")
    parser.add_argument("--shared", action="store_true", help="note that other work runs on the machine")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="where the rows are kept")
    parser.add_argument("--timeout", type=float, default=3600.0, metavar="SECONDS", help="for each script")
    options = parser.parse_args(argv)
    if unknown := sorted(set(options.names) - set(known)):
        parser.error(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(known)}")
    try:
        finished = read_records(options.out)
        # Before hours of work, not after them: can the file be written?
        write_text(options.out, records_text(finished))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    failed = False
    for name in options.names or known:
        before = finished.get(name)
        if before is not None and not before.error and not options.again:
            print(f"{summary(before)} (of {before.date}; --again runs it again)")
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            record = replace(run_script(known[name], options.timeout), shared=options.shared)
        except KeyboardInterrupt:
            print(f"Interrupted. Finished scripts are kept in {options.out}.", file=sys.stderr)
            return 130
        if not (record.error and before is not None and not before.error):
            keep(options.out, record)  # a failure does not take the place of an earlier success
        failed |= bool(record.error)
        print(summary(record), flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
