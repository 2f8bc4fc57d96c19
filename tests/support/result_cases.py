"""Results of every kind of field, in a module that other processes can import."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mlpapers.core import Result, transient


class Plotting(Result):
    """The two methods that every result defines, on a field `value`."""

    def to_frame(self):
        return pd.DataFrame({"value": [str(self.value)]})

    def plot(self, ax=None, **options):
        if ax is None:
            from matplotlib.figure import Figure

            ax = Figure().subplots()
        ax.plot([0.0, 1.0], **options)
        return ax


@dataclass(frozen=True, kw_only=True, eq=False)
class Box(Plotting):
    """Holds anything."""

    value: Any


@dataclass(frozen=True, kw_only=True, eq=False)
class OtherBox(Plotting):
    value: Any


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained(Plotting):
    """Holds what is not saved, with and without a default of its own."""

    value: Any
    model: Any = transient()
    state: Any = transient(default="fresh")

    def predict(self):
        return self.require("model")


@dataclass(frozen=True)
class Point:
    x: float
    y: float = 0.0
    norm: float = field(init=False, default=np.nan)

    def __post_init__(self):
        object.__setattr__(self, "norm", float(np.hypot(self.x, self.y)))


@dataclass
class Changeable:
    x: float


class Colour(enum.Enum):
    RED = 1
    GREEN = "g"


class Level(enum.IntEnum):
    LOW = 1


class Permission(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()
