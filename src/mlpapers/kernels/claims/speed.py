"""Claims about the speed of generated kernels on the processor."""

from __future__ import annotations

import pandas as pd

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.kernels.backends import cpu_flags
from mlpapers.kernels.claims._suite import NAMES, QUICK, speed_task
from mlpapers.kernels.claims._timing import measure_all
from mlpapers.kernels.metrics import fast_p, geometric_mean
from mlpapers.kernels.papers import AKG_KERNEL_AGENT as PAPER


def vector_flags() -> str:
    """Return the processor's vector instruction sets, on which speed depends."""
    return "vector instructions: " + " ".join(
        flag for flag in cpu_flags() if flag.startswith(("avx", "fma", "asimd", "sve"))
    )


@PAPER.claim(
    "k7a",
    "Generated C++ kernels are faster than PyTorch eager: the geometric mean of the speed-ups over eight "
    "tasks is at least 2.0, over all 24 at least 2.5 with none below 0.9 and at least three in four above 1.",
    source="abstract (speed-up over eager)",
    requires=("cxx",),
    timed=True,
)
def speed_over_eager(scale: Scale, seed: int) -> Evidence:
    names = QUICK if scale == "quick" else NAMES
    full = scale == "full"
    tasks = [speed_task(name) for name in names]
    passes, pairs = (3, 11) if full else (1, 9)
    table = pd.DataFrame(measure_all(tasks, pairs, passes=passes, compiled=full, seed=seed))
    speedups = table["speedup"].tolist()
    measurements = [
        Measurement(
            "geometric mean of speed-ups over eager",
            geometric_mean(speedups),
            ">=",
            2.5 if full else 2.0,
            paper="C++ on CPU, other tasks: 1.04",
        )
    ]
    if full:
        measurements += [
            Measurement("smallest speed-up", min(speedups), ">=", 0.9),
            Measurement(
                "share of tasks faster than eager",
                fast_p([True] * len(names), speedups),
                ">=",
                0.75,
                paper=0.549,
            ),
            Measurement(
                "geometric mean relative to torch.compile",
                geometric_mean(speedups) / geometric_mean(table["compile_speedup"].tolist()),
                ">=",
                1.0,
            ),
        ]
    return Evidence(measurements=measurements, table=table, notes=vector_flags())
