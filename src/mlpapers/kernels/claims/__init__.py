"""The claims of the paper, as experiments."""

from mlpapers.kernels.claims import (
    agents,
    dynamic_gpu,
    frontier,
    generation,
    integration,
    migration,
    portability,
    search,
    speed,
    speed_gpu,
    tuning,
)

__all__ = [
    "agents", "dynamic_gpu", "frontier", "generation", "integration", "migration", "portability", "search",
    "speed", "speed_gpu", "tuning",
]  # fmt: skip
