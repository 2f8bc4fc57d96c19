"""The table behind a claim's measurements, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import pandas as pd

Cell: TypeAlias = "str | int | float | bool | None"


@dataclass(frozen=True)
class ClaimTable:
    """The rows behind the measurements: plain values, so that they can be written as JSON.

    Parameters
    ----------
    columns : tuple of str
    rows : tuple of tuples, each as long as `columns`
        Cells are str, int, float, bool or None.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @classmethod
    def from_frame(cls, frame: pd.DataFrame) -> ClaimTable:
        """Take the cells of a DataFrame; its index becomes columns unless it only counts the rows.

        Raises
        ------
        TypeError
            If `frame` is no DataFrame.
        """
        import pandas as pd

        if not isinstance(frame, pd.DataFrame):
            raise TypeError(f"table must be a pandas DataFrame; got {type(frame).__name__}")
        columns = [_label(name) for name in frame.columns]
        rows = [list(row) for row in frame.itertuples(index=False, name=None)]
        if not (isinstance(frame.index, pd.RangeIndex) and frame.index.name is None):
            columns = [_label(name) if name is not None else "" for name in frame.index.names] + columns
            labels = [item if isinstance(item, tuple) else (item,) for item in frame.index]
            rows = [[*label, *row] for label, row in zip(labels, rows)]
        return cls(tuple(columns), tuple(tuple(_cell(value) for value in row) for row in rows))

    def to_frame(self) -> pd.DataFrame:
        """Return the table as a DataFrame."""
        import pandas as pd

        return pd.DataFrame([list(row) for row in self.rows], columns=list(self.columns))


def _label(name: Any) -> str:
    return " / ".join(map(str, name)) if isinstance(name, tuple) else str(name)


def _cell(value: Any) -> Cell:
    """Return the plain value behind a cell; what is no number, truth value or text becomes its text."""
    import pandas as pd

    value = value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, bool | int | float | str):
        return value
    return str(value)
