from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from result_cases import Box, Changeable, Colour, Plotting, Point, Trained

from mlpapers.core import Result, transient
from mlpapers.testing import check_result, same


@dataclass(frozen=True, kw_only=True, eq=False)
class Good(Plotting):
    value: Any


@dataclass(kw_only=True, eq=False)
class NotFrozen:
    value: Any


@dataclass(frozen=True, kw_only=True)
class ComparesByField(Plotting):
    value: Any


@dataclass(frozen=True, eq=False)
class Positional(Plotting):
    value: Any


class NotDecorated(Good):
    pass


@dataclass(frozen=True, kw_only=True, eq=False)
class EmptySummary(Good):
    def summary(self):
        return " "


@dataclass(frozen=True, kw_only=True, eq=False)
class OtherText(Good):
    def __str__(self):
        return "a box"


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameOfLists(Good):
    def to_frame(self):
        return {"value": [1]}


@dataclass(frozen=True, kw_only=True, eq=False)
class HandsOutItsFrame(Good):
    def to_frame(self):
        return self.value


@dataclass(frozen=True, kw_only=True, eq=False)
class PlotsElsewhere(Good):
    def plot(self, ax=None, **options):
        return super().plot(None)


@dataclass(frozen=True, kw_only=True, eq=False)
class OpensAFigure(Good):
    def plot(self, ax=None, **options):
        from matplotlib import pyplot as plt

        plt.figure()
        return super().plot(ax)


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawsNothing(Good):
    def plot(self, ax=None, **options):
        return ax or super().plot(ax)


@dataclass(frozen=True, kw_only=True, eq=False)
class ChangesOnLoad(Good):
    def __post_init__(self):
        object.__setattr__(self, "value", self.value + 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class TellsTheModel(Trained):
    def summary(self):
        return f"model {self.model}"


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        None,
        "text",
        np.arange(3.0),
        {"a": (1, [2.0, np.nan])},
        pd.DataFrame({"a": [1, 2]}),
        Colour.RED,
        Point(3, 4),
    ],
    ids=repr,
)
def test_good_results_pass(value):
    check_result(Good(value=value))


def test_results_with_a_live_model_pass():
    check_result(Trained(value=1.0, model=object()))


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (NotFrozen(value=1), "does not derive from mlpapers.core.Result"),
        (ComparesByField(value=1), "eq=False"),
        (Positional(1), "by position"),
        (NotDecorated(value=1), "not itself decorated"),
        (EmptySummary(value=1), "summary"),
        (OtherText(value=1), "str"),
        (FrameOfLists(value=1), "not a DataFrame"),
        (HandsOutItsFrame(value=pd.DataFrame({"a": [1]})), "hands out the field"),
        (PlotsElsewhere(value=1), "must return ax"),
        (OpensAFigure(value=1), "opens a figure"),
        (DrawsNothing(value=1), "draws nothing"),
        (ChangesOnLoad(value=1), "comes back changed"),
        (TellsTheModel(value=1, model="m"), "summary.* differs after load"),
    ],
    ids=lambda item: type(item).__name__ if not isinstance(item, str) else "",
)
def test_broken_results_are_caught(result, message):
    try:
        with pytest.raises(AssertionError, match=message):
            check_result(result)
    finally:
        from matplotlib import pyplot as plt

        plt.close("all")


def test_what_cannot_be_saved_is_named():
    with pytest.raises(TypeError, match=r"Good\.value.*Changeable"):
        check_result(Good(value=Changeable(1.0)))


EQUAL = [
    (np.array([1.0, np.nan]), np.array([1.0, np.nan])),
    (np.array(["NaT", "2020-01-01"], dtype="M8[ns]"), np.array(["NaT", "2020-01-01"], dtype="M8[ns]")),
    (float("nan"), float("nan")),
    (complex(0, float("nan")), complex(0, float("nan"))),
    ({"a": [1, (2.0, {3})]}, {"a": [1, (2.0, {3})]}),
    (pd.DataFrame({"a": [1.0, np.nan]}), pd.DataFrame({"a": [1.0, np.nan]})),
    (
        np.array([(1, np.nan)], dtype=[("i", int), ("x", float)]),
        np.array([(1, np.nan)], dtype=[("i", int), ("x", float)]),
    ),
    (np.array([None, np.nan, "a"], dtype=object), np.array([None, np.nan, "a"], dtype=object)),
    (Box(value=[np.nan]), Box(value=[np.nan])),
    (np.random.default_rng(0), np.random.default_rng(0)),
    (np.random.RandomState(0), np.random.RandomState(0)),
]


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_same_values_are_the_same(a, b):
    assert same(a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (1, 1.0),
        (True, 1),
        ((1,), [1]),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1}, {"b": 1}),
        (np.zeros(2), np.zeros(2, dtype=np.float32)),
        (np.zeros(2), np.zeros(2, dtype=">f8")),
        (np.zeros(2), np.zeros((2, 1))),
        (np.zeros(2), np.array([0.0, 1e-300])),
        (np.float64(1.0), 1.0),
        (np.zeros(1, dtype="M8[s]"), np.zeros(1, dtype="M8[ns]")),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1.0]})),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [1]}, index=["r"])),
        (pd.Series([1], name="a"), pd.Series([1], name="b")),
        (pd.Series(["a"], dtype="category"), pd.Series(["a"])),
        (pd.Index([1], name="a"), pd.Index([1])),
        (Box(value=1), Good(value=1)),
        (Colour.RED, Colour.GREEN),
        (Point(0.0, 1.0), Point(1.0, 0.0)),
        (np.random.default_rng(0), np.random.default_rng(1)),
        (test_results_with_a_live_model_pass, test_good_results_pass),
        (int, float),
    ],
)
def test_different_values_are_not(a, b):
    assert not same(a, b)
    assert not same(b, a)


def test_tensors_count_as_arrays():
    torch = pytest.importorskip("torch")
    assert same(torch.arange(3, dtype=torch.float32), np.arange(3, dtype=np.float32))
    assert not same(torch.arange(3, dtype=torch.float32), np.arange(3.0))


def test_names_can_be_ignored():
    a = {"seconds": 1.0, "rows": Box(value={"seconds": 1}), "frame": pd.DataFrame({"seconds": [1], "x": [2]})}
    b = {"seconds": 2.0, "rows": Box(value={"seconds": 2}), "frame": pd.DataFrame({"seconds": [3], "x": [2]})}
    assert not same(a, b)
    assert same(a, b, ignore=["seconds"])


def test_objects_that_hold_themselves_end():
    loops = []
    for value in (1, 1, 2):
        loop = Trained(value=value)
        object.__setattr__(loop, "model", loop)
        loops.append(loop)
    assert same(loops[0], loops[1])
    assert not same(loops[0], loops[2])


def test_a_copy_with_another_field_differs():
    result = Trained(value=np.arange(3))
    assert same(replace(result), result)
    assert not same(replace(result, value=np.arange(4)), result)
    assert isinstance(result, Result)
    assert transient().metadata["transient"]
