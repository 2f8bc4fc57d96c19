"""Triton and CUDA kernels on a GPU: correctness on our own tasks, speed beside eager and torch.compile.

    python benchmarks/kernels_gpu.py correct [--dsl triton cuda] [--jobs 8] [--out FOLDER]
    python benchmarks/kernels_gpu.py speed --path CLONE [--ids 1/40,1/88] [--compile] [--out FOLDER]

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
from mlpapers.kernels.claims._gpu import excess, leaves, measure_problem, on_gpu
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


def speed(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time problems of a clone, one after the other."""
    wanted = (
        [tuple(map(int, item.split("/"))) for item in options.ids.split(",")] if options.ids else PROBLEMS
    )
    rows = []
    for level, number in wanted:
        task = KernelBench(options.path, level=level, problems=[number])[number]
        rows.append(measure_problem(task, dsl=options.dsl[0], compiled=options.compile))
        print(
            json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in rows[-1].items()}),
            flush=True,
        )
    for name in ("ours", "compile"):
        ratios = [row[name] for row in rows if name in row]
        if ratios:
            print(
                name,
                "geometric mean",
                round(statistics.geometric_mean(ratios), 3),
                "of",
                len(ratios),
                flush=True,
            )
    return rows


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("correct", "speed"))
    parser.add_argument("--dsl", nargs="+", default=["triton", "cuda"])
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--path")
    parser.add_argument("--ids")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = correct(options) if options.what == "correct" else speed(options)
    if options.out is not None:
        (options.out / f"{options.what}_{'_'.join(options.dsl)}.json").write_text(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
