"""The claims of the paper, as experiments."""

from mlpapers.kernels.claims import agents, frontier, generation, integration, portability, speed, tuning

__all__ = ["agents", "frontier", "generation", "integration", "portability", "speed", "tuning"]
