"""Result: what a procedure returns."""

from __future__ import annotations

import dataclasses
import html
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mlpapers.core._archive import ResultFormatError as ResultFormatError
from mlpapers.core._archive import read_archive, write_archive

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def transient(default: Any = None) -> Any:
    """Declare a field of a Result that is not saved (a live model, say): after ``load`` it is None.

    Examples
    --------
    >>> from dataclasses import dataclass, fields
    >>> from typing import Any
    >>> from mlpapers.core import Result
    >>> @dataclass(frozen=True, kw_only=True, eq=False)
    ... class FitResult(Result):
    ...     score: float
    ...     model: Any = transient()
    >>> [field.name for field in fields(FitResult) if not field.metadata.get("transient")]  # what is saved
    ['score']
    """
    return dataclasses.field(default=default, metadata={"transient": True}, repr=False)


# A summary shows so many numbers as they are, and says of more what they are like.
_FEW = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class Result(ABC):
    """Base of every result: a frozen record that prints, tabulates, plots, and saves itself.

    Subclasses are frozen dataclasses (``@dataclass(frozen=True, kw_only=True, eq=False)``) whose fields are
    arrays, numbers, strings, None, tuples, lists, sets, dicts, enums, DataFrames, Series, torch tensors
    (which come back as arrays), other Results and frozen dataclasses. They define :meth:`to_frame` and
    :meth:`plot`.
    """

    @abstractmethod
    def to_frame(self) -> pd.DataFrame:
        """Return a tidy table, one row per item."""

    @abstractmethod
    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw on `ax` (a new one where None) and return it."""

    def summary(self) -> str:
        """Return a short text table of the fields; what ``print`` shows."""
        rows = [(name, _describe(value)) for name, value in self._visible_fields()]
        width = max((len(name) for name, _ in rows), default=0)
        lines = [type(self).__name__, *(f"  {name:<{width}}  {text}" for name, text in rows)]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        if type(self).summary is not Result.summary:
            return f"<pre>{html.escape(self.summary())}</pre>"
        left = "style='text-align:left'"
        rows = "".join(
            f"<tr><th {left}>{html.escape(name)}</th><td {left}>{html.escape(_describe(value))}</td></tr>"
            for name, value in self._visible_fields()
        )
        return f"<strong>{html.escape(type(self).__name__)}</strong><table><tbody>{rows}</tbody></table>"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the result to one file (JSON and arrays in a zip, no pickle) and return its path.

        The file is written beside `path` and renamed when it is complete: a save that is interrupted leaves
        what was there before.

        Raises
        ------
        TypeError
            If a field holds something that cannot be saved; the message names it.
        """
        return write_archive(self, Path(path))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a result that :meth:`save` wrote; no code from the file is run.

        Raises
        ------
        ResultFormatError
            If the file is damaged, is no result, or holds a result of another class.
        FileNotFoundError
            If there is no such file.
        """
        return read_archive(Path(path), cls)

    def require(self, name: str) -> Any:
        """Return the transient field `name`; ResultFormatError where it was lost by saving."""
        value = getattr(self, name)
        if value is None:
            raise ResultFormatError(
                f"{type(self).__name__}.{name} is not part of a saved result; it exists only on the result "
                "that the procedure returned"
            )
        return value

    def _visible_fields(self) -> Iterator[tuple[str, Any]]:
        for field in dataclasses.fields(self):
            if not field.metadata.get("transient"):
                yield field.name, getattr(self, field.name)


def _describe(value: Any) -> str:
    """One line that says what a field holds."""
    if isinstance(value, np.ndarray):
        if value.ndim == 0:
            return str(value[()])
        if value.dtype.names is not None:
            return f"array{value.shape} of records: {', '.join(value.dtype.names)}"
        if value.ndim == 1 and 0 < value.size <= _FEW and value.dtype.kind in "fiu":
            return f"[{', '.join(f'{number:.4g}' for number in value)}]"
        text = f"array{value.shape} {value.dtype}"
        if value.size and value.dtype.kind in "fiu":
            # Infinities have no mean and half precision soon overflows; the line then says nan or inf.
            with np.errstate(all="ignore"):
                mean = np.nan if np.isnan(value).all() else np.nanmean(value)
            text += f", mean {mean:.4g}, range [{np.min(value):.4g}, {np.max(value):.4g}]"
        return text
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    if isinstance(value, Result):
        return type(value).__name__
    if type(value).__name__ == "DataFrame":
        return f"DataFrame {value.shape[0]} rows: {', '.join(map(str, value.columns))}"
    text = str(value)
    return text if len(text) <= 72 else text[:69] + "..."
