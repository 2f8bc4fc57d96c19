"""The claims of the paper, as experiments."""

from mlpapers.unlearning.claims import ascent, certified, comparison, guarantees, noisy, speed

__all__ = ["ascent", "certified", "comparison", "guarantees", "noisy", "speed"]
