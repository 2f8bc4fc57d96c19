"""Checks of results: what every Result must be able to do."""

from __future__ import annotations

import dataclasses
import pickle
import sys
import tempfile
from pathlib import Path
from typing import Any

from mlpapers.core.result import Result, ResultFormatError
from mlpapers.testing._equality import same
from mlpapers.testing._require import require

__all__ = ["check_result", "same"]


def check_result(result: Result) -> None:
    """Raise an AssertionError unless `result` keeps every promise of :class:`mlpapers.core.Result`.

    It is a frozen keyword-only dataclass; it prints, tabulates and draws itself (on the axes it is given,
    without touching pyplot's figures); it comes back from a file and from a pickle with the same fields; what
    was not saved is None and another class refuses the file.

    Parameters
    ----------
    result : Result

    Raises
    ------
    AssertionError
        With the promise that is broken.

    Examples
    --------
    >>> from mlpapers.testing import check_result
    >>> from mlpapers.valuation import KNNShapley
    >>> valuer = KNNShapley(n_neighbors=1).fit([[0.0], [1.0]], [0, 1], [[0.1]], [0])
    >>> check_result(valuer.result_)
    """
    require(isinstance(result, Result), f"{type(result).__name__} does not derive from mlpapers.core.Result")
    _check_declaration(result)
    _check_text(result)
    _check_frame(result)
    _check_plot(result)
    loaded = _check_file(result)
    copy = pickle.loads(pickle.dumps(loaded))  # noqa: S301 - written on the same line
    require(same(_fields(copy), _fields(loaded)), "pickling changes the fields")


def _check_declaration(result: Result) -> None:
    kind = type(result)
    require("__dataclass_params__" in vars(kind), f"{kind.__name__} is not itself decorated with @dataclass")
    declaration = vars(kind)["__dataclass_params__"]
    require(declaration.frozen and not declaration.eq, f"{kind.__name__} must have frozen=True, eq=False")
    positional = [field.name for field in dataclasses.fields(result) if field.init and not field.kw_only]
    require(not positional, f"{kind.__name__} takes {positional} by position; declare kw_only=True")


def _check_text(result: Result) -> None:
    texts: dict[str, Any] = {
        "summary()": result.summary(),
        "str()": str(result),
        "_repr_html_()": result._repr_html_(),
    }
    for name, text in texts.items():
        require(isinstance(text, str) and bool(text.strip()), f"{name} must be a text; got {text!r}")
    require(str(result) == result.summary(), "str() must be what summary() returns")


def _check_frame(result: Result) -> None:
    import pandas as pd

    frame = result.to_frame()
    require(isinstance(frame, pd.DataFrame), f"to_frame() returned a {type(frame).__name__}, not a DataFrame")
    own = [name for name, value in _fields(result).items() if value is frame]
    require(not own, f"to_frame() hands out the field {own}, which callers could change; return a copy")


def _check_plot(result: Result) -> None:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    before = _open_figures()
    canvas = FigureCanvasAgg(Figure())
    ax = canvas.figure.subplots()
    require(result.plot(ax=ax) is ax, "plot(ax=ax) must return ax")
    canvas.draw()  # type: ignore[no-untyped-call]
    require(_open_figures() == before, "plot(ax=ax) opens a figure of pyplot")
    require(ax.has_data(), "plot(ax=ax) draws nothing on ax")

    own = result.plot()
    require(isinstance(own, Axes), f"plot() returned a {type(own).__name__}, not an Axes")
    if _open_figures() != before:
        sys.modules["matplotlib.pyplot"].close(own.figure)


def _check_file(result: Result) -> Result:
    kind = type(result)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a name without suffix"
        require(result.save(path) == path and path.is_file(), "save(path) must write `path` and return it")
        loaded = kind.load(path)
        general = Result.load(path)
        try:
            _Other.load(path)
        except ResultFormatError:
            pass
        else:
            raise AssertionError("another class loads the file")
    for copy in (loaded, general):
        require(type(copy) is kind, f"load returned a {type(copy).__name__}, not a {kind.__name__}")
        for name, value in _fields(result).items():
            require(same(getattr(copy, name), value), f"field {name!r} comes back changed")
        for name in _transient_names(result):
            require(getattr(copy, name) is None, f"transient field {name!r} must be None after load")
    require(loaded.summary() == result.summary(), "summary() differs after load")
    if not _transient_names(result):
        require(same(loaded.to_frame(), result.to_frame()), "to_frame() differs after load")
    return loaded


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Other(Result):
    """A result that no file holds."""

    def to_frame(self) -> Any:
        raise NotImplementedError

    def plot(self, ax: Any = None, **options: Any) -> Any:
        raise NotImplementedError


def _fields(result: Result) -> dict[str, Any]:
    return {
        field.name: getattr(result, field.name)
        for field in dataclasses.fields(result)
        if not field.metadata.get("transient")
    }


def _transient_names(result: Result) -> list[str]:
    return [field.name for field in dataclasses.fields(result) if field.metadata.get("transient")]


def _open_figures() -> list[int]:
    pyplot = sys.modules.get("matplotlib.pyplot")
    return list(pyplot.get_fignums()) if pyplot is not None else []
