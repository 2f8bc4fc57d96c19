"""Claims about generation: kernels that are right, at the sizes they were made for and at others."""

from __future__ import annotations

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.kernels.bench import evaluate
from mlpapers.kernels.bench_tasks import category, mini_bench
from mlpapers.kernels.claims._inputs import UNTIMED, rule_agent, tasks_named
from mlpapers.kernels.papers import AKG_KERNEL_AGENT as PAPER

_QUICK = (
    "elementwise_gelu_tanh", "reduction_argmax", "norm_softmax", "norm_batch_train", "loss_cross_entropy",
    "scan_masked", "pool_max2d", "matmul_transposed", "conv_relu_hardswish", "fused_silu_and_mul",
)  # fmt: skip
QUICK_DYNAMIC = (
    "elementwise_swish", "elementwise_masked", "reduction_mean_last", "norm_rms", "norm_layer",
    "matmul_plain",
    "fused_silu_and_mul", "fused_gelu_and_mul",
)  # fmt: skip


@PAPER.claim(
    "k1",
    "Kernels are generated without a person or a language model: for at least 95 % of our own tasks a C++ "
    "kernel "
    "is found that passes the float64 oracle, and no kernel plays a reward hack.",
    source="abstract (automates kernel generation)",
    requires=("cxx",),
)
def generation(scale: Scale, seed: int) -> Evidence:
    tasks = tasks_named(_QUICK) if scale == "quick" else mini_bench()
    agent = rule_agent(seed, time_budget=UNTIMED if scale == "quick" else 60.0)
    result = evaluate(agent, tasks)
    table = result.table[["name", "ok", "stage", "error", "disclosures"]]
    flagged = int((table["stage"].eq("hack") & ~table["ok"]).sum())
    return Evidence(
        measurements=[
            Measurement(
                "share of tasks with a right kernel",
                result.correctness,
                ">=",
                1.0 if scale == "quick" else 0.95,
                paper="CPP on CPU 0.91, Triton on CUDA 1.00, Triton on Ascend 0.75 (KernelBench level 1, "
                "pass@4)",
            ),
            Measurement("kernels flagged for a hack", flagged, "<=", 0),
        ],
        table=table,
        notes="Figures of the paper are of other tasks and of a language model; they are not comparable.",
    )


@PAPER.claim(
    "k11",
    "Kernels of dynamic shape: made at one size, the same source is right at sizes 1, odd and twice as "
    "large of "
    "every free dimension.",
    source="evaluation on the authors' own benchmark (dynamic shapes)",
    requires=("cxx",),
)
def dynamic_shapes(scale: Scale, seed: int) -> Evidence:
    tasks = tasks_named(QUICK_DYNAMIC) if scale == "quick" else mini_bench()
    agent = rule_agent(
        seed, time_budget=UNTIMED, shape_policy="dynamic", n_correct=2 if scale == "quick" else 3
    )
    result = evaluate(agent, tasks)
    classes = {task.name: category(task) for task in tasks}
    table = result.table[["name", "ok", "stage", "error"]].copy()
    table.insert(1, "category", [classes[name] for name in table["name"]])
    fused = table[table["category"] == "fused"]
    return Evidence(
        measurements=[
            Measurement(
                "share of tasks right at unseen sizes",
                result.correctness,
                ">=",
                0.909,
                paper="Triton on CUDA 0.909, on Ascend 0.854 (own benchmark, pass@4)",
            ),
            Measurement(
                "share of fused tasks right at unseen sizes",
                float(fused["ok"].mean()),
                ">=",
                0.714,
                paper="Triton on CUDA 0.714, on Ascend 0.571",
            ),
        ],
        table=table,
    )
