"""How a candidate is examined, and the places that examinations share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mlpapers.core.validation import check_bool, check_choice, check_int, check_real
from mlpapers.kernels.verify.inputs import SHAPE_POLICIES
from mlpapers.kernels.verify.isolation import Sandbox
from mlpapers.kernels.verify.policy import LIBRARY_OPS


@dataclass(frozen=True)
class Settings:
    """How strictly and how long a candidate is examined; see :func:`mlpapers.kernels.verify`.

    Raises
    ------
    TypeError, ValueError
        For a value of the wrong type or out of range; the message names it.
    """

    library_ops: str = "contractions"
    shape_policy: str = "batch"
    n_correct: int = 5
    rtol: float | None = None
    sandbox: Sandbox = "process"
    timeout: float = 60.0
    n_pairs: int = 20
    max_seconds: float = 2.0
    cold: bool = False
    roofline: bool = True

    def __post_init__(self) -> None:
        check_choice("library_ops", self.library_ops, LIBRARY_OPS)
        check_choice("shape_policy", self.shape_policy, SHAPE_POLICIES)
        check_int("n_correct", self.n_correct, minimum=1)
        check_real("timeout", self.timeout, low=0.0, closed="neither")
        check_int("n_pairs", self.n_pairs, minimum=1)
        check_real("max_seconds", self.max_seconds, low=0.0, closed="neither")
        check_bool("cold", self.cold)
        check_bool("roofline", self.roofline)
        if self.rtol is not None:
            check_real("rtol", self.rtol, low=0.0, closed="neither")
        if not callable(self.sandbox) and self.sandbox not in ("process", "docker"):
            raise ValueError(f"sandbox must be 'process', 'docker' or a callable; got {self.sandbox!r}")


def kernel_cache() -> Path:
    """Return the folder of compiled kernels, MLPAPERS_KERNEL_CACHE or ``~/.cache/mlpapers/kernels``."""
    folder = Path(os.environ.get("MLPAPERS_KERNEL_CACHE") or Path.home() / ".cache" / "mlpapers" / "kernels")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()
