"""The claims of the paper, as experiments."""

from mlpapers.attention.claims import conversion, tasks, theory, training

__all__ = ["conversion", "tasks", "theory", "training"]
