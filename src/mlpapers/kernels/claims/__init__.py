"""The claims of the paper, as experiments."""

from mlpapers.kernels.claims import frontier, generation, integration, portability, speed, tuning

__all__ = ["frontier", "generation", "integration", "portability", "speed", "tuning"]
