"""The claims of the paper, as experiments."""

from mlpapers.kernels.claims import (
    agents,
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
    "agents", "frontier", "generation", "integration", "migration", "portability", "search", "speed",
    "speed_gpu", "tuning",
]  # fmt: skip
