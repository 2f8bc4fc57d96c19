"""What the claims share: agents, and tasks of the mini benchmark by name."""

from __future__ import annotations

from typing import Any

from mlpapers.kernels.agent import KernelAgent
from mlpapers.kernels.bench_tasks import mini_bench
from mlpapers.kernels.task import Task

# Over before anything is timed: what is asked is whether kernels are right.
UNTIMED = 1e-6


def rule_agent(seed: int, **params: Any) -> KernelAgent:
    """Return an agent that writes C++ by rules, looks for nothing faster and remembers nothing."""
    defaults: dict[str, Any] = {"dsl": "cpp", "backend": "cpu", "search": "none", "store": ":memory:"}
    return KernelAgent(**{**defaults, **params, "random_state": seed})


def tasks_named(names: tuple[str, ...]) -> list[Task]:
    """Return tasks of the mini benchmark in the order of `names`."""
    known = {task.name: task for task in mini_bench()}
    return [known[name] for name in names]
