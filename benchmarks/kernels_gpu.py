"""Triton and CUDA kernels on a GPU: correctness on our own tasks, speed beside eager and torch.compile.

    python benchmarks/kernels_gpu.py correct [--dsl triton cuda] [--jobs 8] [--out FOLDER]
    python benchmarks/kernels_gpu.py dynamic [--dsl triton] [--jobs 8] [--out FOLDER]
    python benchmarks/kernels_gpu.py speed --path CLONE [--ids 1/40,1/88] [--compile] [--out FOLDER]
    python benchmarks/kernels_gpu.py speed --path CLONE --level 2 --part 1/6 --compile --warm 12 --out FOLDER
    python benchmarks/kernels_gpu.py table FOLDER/speed_triton.jsonl ...

Speed: eager, torch.compile and our kernel take turns on the same inputs, the second-level cache is
overwritten before each call, times are those of events on the stream; printed are medians of paired ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from mlpapers.kernels.bench import KernelBench
from mlpapers.kernels.bench_tasks import mini_bench
from mlpapers.kernels.claims._gpu import PRECISION, excess, leaves, measure_problem, on_gpu, source_for
from mlpapers.kernels.claims.dynamic_gpu import table_of
from mlpapers.kernels.claims.speed_gpu import PROBLEMS


def check(job: tuple[str, str]) -> dict[str, Any]:
    """Compare one kernel with the reference in float64."""
    import copy

    import torch

    task = next(task for task in mini_bench() if task.name == job[1])
    started = time.perf_counter()
    row: dict[str, Any] = {"dsl": job[0], "task": job[1], "ok": False}
    try:
        with torch.no_grad():
            module, ours, inputs = on_gpu(job[0], task)
            exact = copy.deepcopy(module).double()
            double = [
                x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in inputs
            ]
            outputs = zip(leaves(module(*inputs)), leaves(ours(*inputs)), leaves(exact(*double)), strict=True)
            row["error"] = max(excess(*triple) for triple in outputs)
        row["ok"] = row["error"] <= 1
    except Exception as error:  # noqa: BLE001 - one line of the table
        row["error"] = "".join(traceback.format_exception_only(type(error), error))[-700:]
    return {**row, "seconds": time.perf_counter() - started}


def correct(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Check all languages on all own tasks, several processes on one GPU."""
    jobs = [(dsl, task.name) for dsl in options.dsl for task in mini_bench()]
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        rows = list(pool.map(check, jobs))
    for row in rows:
        if not row["ok"]:
            print("WRONG", row["dsl"], row["task"], row["error"], flush=True)
    for dsl in options.dsl:
        mine = [row for row in rows if row["dsl"] == dsl]
        print(dsl, sum(row["ok"] for row in mine), "of", len(mine), "right", flush=True)
    return rows


def dynamic(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Check all own tasks at sizes for which their kernels were not made (claim k11b)."""
    rows = []
    for dsl in options.dsl:
        table = table_of(mini_bench(), dsl=dsl, n_jobs=options.jobs)
        for row in table[~table["ok"]].itertuples():
            print("WRONG", dsl, row.name, row.error, flush=True)
        shares = table.groupby("category")["ok"].mean().round(3).to_dict()
        print(dsl, int(table["ok"].sum()), "of", len(table), "right at unseen sizes", shares, flush=True)
        rows += table.assign(dsl=dsl).to_dict("records")
    return rows


def warm(job: tuple[str, int, int, str, bool]) -> str | None:
    """Let the compilers fill their caches for one problem; return the source, None if there is none."""
    path, level, number, dsl, compiled = job
    task = KernelBench(path, level=level, problems=[number])[number]
    try:
        code = source_for(dsl, task, precision=PRECISION)
    except Exception:  # noqa: BLE001 - the measurement says what it is
        return None
    measure_problem(task, dsl=dsl, compiled=compiled, pairs=1, code=code)
    return code


def _wanted(options: argparse.Namespace) -> list[tuple[int, ...]]:
    """Return the problems to be timed, as (level, number)."""
    if options.ids:
        return [tuple(map(int, item.split("/"))) for item in options.ids.split(",")]
    if options.level is None:
        return [*PROBLEMS]
    part, parts = map(int, options.part.split("/"))
    numbers = [task.problem_id or 0 for task in KernelBench(options.path, level=options.level)]
    # Neighbours are alike: every part has some of each kind.
    return [(options.level, number) for number in numbers[part - 1 :: parts]]


def table(paths: list[Path]) -> None:
    """Print the figures of rows that several runs wrote, by level."""
    rows = {}
    for path in paths:
        for line in path.read_text().splitlines():
            row = json.loads(line)
            rows[row["id"]] = row
    for level in sorted({name.split("/")[0] for name in rows}):
        mine = [row for name, row in rows.items() if name.startswith(f"{level}/")]
        right = [row for row in mine if row["ok"]]
        print(f"level {level}: {len(right)} of {len(mine)} right")
        for name in ("ours", "compile"):
            values = [row[name] for row in right if name in row]
            if values:
                fast = sum(value >= 1 for value in values) / len(mine)
                mean = statistics.geometric_mean(values)
                print(f"  {name:8s} geometric mean {mean:.3f} of {len(values)}, as fast as eager {fast:.2f}")
        for row in sorted(right, key=lambda row: row["ours"])[:10]:
            print(f"  slowest {row['id']:6s} {row['ours']:.3f} ({row['eager_ms']:.3f} ms eager)")
        for row in mine:
            if not row["ok"]:
                print(f"  wrong {row['id']} {row.get('gap', '')} {row['error'][-200:]}")


def speed(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time problems of a clone, one after the other, until the time is over; rows are written at once."""
    started = time.perf_counter()
    wanted = _wanted(options)
    dsl = options.dsl[0]
    sources: dict[tuple[int, ...], str | None] = {}
    if options.warm:
        jobs = [(options.path, *problem, dsl, options.compile) for problem in wanted]
        with ProcessPoolExecutor(options.warm, mp_context=get_context("spawn")) as pool:
            sources = dict(zip(wanted, pool.map(warm, jobs), strict=True))
        print("caches warm after", round(time.perf_counter() - started), "s", flush=True)
    chosen = [(*problem, options.compile) for problem in wanted]
    if options.rest:
        numbers = [task.problem_id for task in KernelBench(options.path, level=1)]
        chosen += [(1, number, False) for number in numbers if (1, number) not in wanted]
    rows = []
    for level, number, compiled in chosen:
        if time.perf_counter() - started > options.limit:
            print("the time is over at", f"{level}/{number}", flush=True)
            break
        task = KernelBench(options.path, level=level, problems=[number])[number]
        row = measure_problem(
            task, dsl=dsl, compiled=compiled, pairs=options.pairs, code=sources.get((level, number))
        )
        rows.append(row)
        if options.out is not None:
            with (options.out / f"speed_{dsl}.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
        short = {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items() if v != ""}
        print(json.dumps(short)[:300], flush=True)
    first = {f"{level}/{number}" for level, number in wanted}
    for name in ("ours", "compile"):
        ratios = [row[name] for row in rows if name in row and row["id"] in first and row["ok"]]
        if ratios:
            print(
                name,
                "geometric mean",
                round(statistics.geometric_mean(ratios), 3),
                "of",
                len(ratios),
                flush=True,
            )
    level_one = [row["ours"] for row in rows if row["id"].startswith("1/") and row["ok"]]
    if level_one:
        mean = statistics.geometric_mean(level_one)
        print("level 1 so far: geometric mean", round(mean, 3), "of", len(level_one), flush=True)
    return rows


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("correct", "dynamic", "speed", "table"))
    parser.add_argument("rows", nargs="*", type=Path, help="files that table reads")
    parser.add_argument("--dsl", nargs="+", default=["triton", "cuda"])
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--path")
    parser.add_argument("--ids")
    parser.add_argument("--level", type=int, help="a whole level instead of claim k7b's problems")
    parser.add_argument("--part", default="1/1", help="of the level, e.g. 2/6")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--warm", type=int, default=0, help="processes that fill the compilers' caches first")
    parser.add_argument("--rest", action="store_true", help="go on with the rest of level 1, without compile")
    parser.add_argument("--limit", type=float, default=1e9, help="seconds after which no problem is begun")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.what == "table":
        table(options.rows)
        return 0
    rows = {"correct": correct, "dynamic": dynamic, "speed": speed}[options.what](options)
    if options.out is not None:
        (options.out / f"{options.what}_{'_'.join(options.dsl)}.json").write_text(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
