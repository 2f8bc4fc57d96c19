"""What a checkpoint keeps of the parts of a run."""

from __future__ import annotations

from typing import Any

__all__ = ["Stateful"]


class Stateful:
    """Base of parts whose attributes named in `kept` are all that a checkpoint must hold."""

    kept: tuple[str, ...] = ()

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {name: getattr(self, name) for name in self.kept}

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to a state."""
        for name in self.kept:
            setattr(self, name, state[name])
