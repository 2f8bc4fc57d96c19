import contextlib
import dataclasses
import datetime as dt
import os
import pickle
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from result_cases import Box, Changeable, Colour, Level, OtherBox, Permission, Point, Trained

from mlpapers.core import Result, ResultFormatError
from mlpapers.testing import check_result, same


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("results")


def through_file(value, folder):
    return Box.load(Box(value=value).save(folder / "box")).value


def as_object_array(items):
    array = np.empty(len(items), dtype=object)
    for position, item in enumerate(items):
        array[position] = item
    return array


# Every dtype that npy can hold, both byte orders, structured ones included.
scalar_dtypes = st.one_of(
    hnp.boolean_dtypes(),
    hnp.integer_dtypes(endianness="?"),
    hnp.unsigned_integer_dtypes(endianness="?"),
    hnp.floating_dtypes(endianness="?"),
    hnp.complex_number_dtypes(endianness="?"),
    hnp.datetime64_dtypes(endianness="?"),
    hnp.timedelta64_dtypes(endianness="?"),
    hnp.unicode_string_dtypes(endianness="?"),
    hnp.byte_string_dtypes(),
)
dtypes = st.one_of(scalar_dtypes, hnp.array_dtypes(scalar_dtypes, allow_subarrays=False, max_size=3))
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
arrays = hnp.arrays(dtypes, shapes)


@given(array=arrays, layout=st.sampled_from("CFS"))
def test_arrays_come_back(array, layout, folder):
    if layout == "F":
        array = np.asfortranarray(array)
    elif layout == "S" and array.ndim:
        array = array[::-1]
    assert same(through_file(array, folder), array)


@given(scalar=hnp.arrays(scalar_dtypes, ()).map(lambda array: array[()]))
def test_numpy_scalars_come_back(scalar, folder):
    assert same(through_file(scalar, folder), scalar)


keys = st.one_of(
    st.text(),
    st.integers(),
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False),
    st.binary(),
    st.sampled_from([*Colour, Level.LOW]),
    st.tuples(st.integers(), st.text()),
)
leaves = st.one_of(
    keys,
    st.floats(),
    st.complex_numbers(),
    st.dates(),
    st.datetimes(timezones=st.one_of(st.none(), st.just(dt.UTC))),
    st.timedeltas(),
    st.just(Path("some/file")),
    st.builds(Point, st.floats(-1e3, 1e3)),
    st.frozensets(st.integers(), max_size=3),
    arrays,
)
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
        st.sets(st.integers(), max_size=3),
        st.builds(Box, value=inner),
        st.lists(inner, max_size=3).map(as_object_array),
    ),
    max_leaves=6,
)


@given(value=values)
def test_nested_values_come_back(value, folder):
    back = through_file(value, folder)
    assert same(back, value)
    assert str(Box(value=value))
    assert Box(value=value)._repr_html_()


COLUMNS = {
    "float32": pd.array([1.5, np.nan, -np.inf], dtype="float32"),
    "int8": np.array([1, 2, 3], dtype=np.int8),
    "bool": [True, False, True],
    "Int64": pd.array([1, None, 2**62], dtype="Int64"),
    "UInt8": pd.array([1, None, 255], dtype="UInt8"),
    "Float32": pd.array([0.5, None, 1.5], dtype="Float32"),
    "boolean": pd.array([True, None, False], dtype="boolean"),
    "str": pd.array(["a", None, "ü"], dtype="str"),
    "string": pd.array(["a", None, "ü"], dtype="string"),
    "object": pd.Series(["a", None, 2.5], dtype=object),
    "lists": pd.Series([[1, 2], [3, 4], []], dtype=object),
    "category": pd.Categorical(["a", None, "b"], categories=["b", "a", "c"]),
    "ordered": pd.Categorical([1, 2, 1], categories=[2, 1], ordered=True),
    "datetime": pd.to_datetime([1_577_836_800_000_000_001, None, 0]),
    "seconds": np.array([0, 1, "NaT"], dtype="M8[s]"),
    "timedelta": pd.to_timedelta([1, None, 3], unit="s"),
    "zone": pd.to_datetime([1_593_561_600_123_456_789, None, 0], utc=True).tz_convert("Europe/Berlin"),
    "days": pd.PeriodIndex(["2020-07-01", None, "2021-01-31"], freq="D"),
    "quarters": pd.period_range("2020Q1", periods=3, freq="Q-NOV"),
    "spans": pd.arrays.IntervalArray.from_tuples([(0, 1), None, (1.5, 2)], closed="left"),
    "whole": pd.interval_range(0, 3),
    "hours": pd.interval_range(pd.Timestamp("2020-07-01", tz="Europe/Berlin"), periods=3, freq="h"),
    "binned": pd.cut([0.5, 2.5, 0.1], [0, 1, 2, 3]),
    "offset": pd.to_datetime(["2020-07-01", "2020-07-02", None]).tz_localize("+05:30"),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_every_kind_of_column_comes_back(name, folder):
    frame = pd.DataFrame({name: COLUMNS[name]}, index=["r", "s", "t"])
    for value in (frame, frame[name], frame.iloc[:0], frame.set_index(name), pd.Index(frame[name])):
        assert same(through_file(value, folder), value)


def test_frames_come_back_whole(folder):
    frame = pd.DataFrame(dict.fromkeys(COLUMNS, 0), index=range(3)).assign(**COLUMNS)
    indexed = frame[["float32", "zone"]].set_index(
        pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)], names=["letter", None])
    )
    duplicated = pd.DataFrame([[1, 2.0, "x"]] * 3, columns=["a", "a", "b"], index=[0, 0, 1])
    two_level_columns = pd.DataFrame(np.eye(2), columns=pd.MultiIndex.from_product([["a"], [1, 2]]))
    numbered = pd.DataFrame(np.eye(2), index=pd.RangeIndex(4, 0, -2, name="row"))
    empty = [
        pd.DataFrame(),
        pd.DataFrame(index=["a"]),
        pd.DataFrame({"a": []}),
        pd.DataFrame(columns=["a", 1]),
    ]
    for value in (frame, indexed, indexed.iloc[:0], duplicated, two_level_columns, numbered, *empty):
        assert same(through_file(value, folder), value)


@given(
    frame=st.integers(0, 4).flatmap(
        lambda n: st.lists(
            hnp.arrays(st.sampled_from(["f8", "i8", "?", "f4", "M8[ns]", "m8[ns]"]), n), max_size=3
        ).map(lambda columns: pd.DataFrame(dict(enumerate(columns)), index=range(n)))
    )
)
def test_random_frames_come_back(frame, folder):
    assert same(through_file(frame, folder), frame)


def test_tensors_come_back_as_arrays(folder):
    torch = pytest.importorskip("torch")
    weights = torch.nn.Linear(2, 3).state_dict()
    assert same(through_file(weights, folder), {name: tensor.numpy() for name, tensor in weights.items()})
    half = torch.tensor([1.0, 0.1], dtype=torch.bfloat16, requires_grad=True)
    assert same(through_file(half, folder), half.detach().float().numpy())
    turned = torch.tensor([1 + 2j]).conj()
    assert same(through_file(turned, folder), np.array([1 - 2j], dtype=np.complex64))
    with pytest.raises(TypeError, match=r"Box\.value.*sparse"):
        Box(value=torch.eye(2).to_sparse()).save(folder / "sparse")


def test_nested_results_check_out():
    check_result(Box(value=Box(value={"point": Point(3.0, 4.0), "colour": Colour.GREEN})))
    back = pickle.loads(pickle.dumps(Box(value=Point(3.0, 4.0))))
    assert back.value.norm == 5.0


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (object(), "object"),
        (Changeable(1.0), "Changeable"),
        (Permission.READ | Permission.WRITE, "combination of flags"),
        (np.ma.masked_array([1.0], mask=[True]), "MaskedArray"),
        (np.zeros((1, 1)).view(np.matrix), "matrix"),
        (np.array(["a"], dtype=np.dtypes.StringDType()), "StringDType"),
        (np.array([(object(),)], dtype=[("a", object)]), "object fields"),
        (as_object_array([object()]), r"\[0\].*object"),
        (pd.DataFrame({"span": [slice(0, 1)]}), r"\['span'\]\[0\].*slice"),
        ({"a": [1, lambda: 0]}, r"\['a'\]\[1\].*function"),
    ],
    ids=lambda item: item if isinstance(item, str) else "",
)
def test_what_cannot_be_saved_is_refused_by_name(value, named, tmp_path):
    with pytest.raises(TypeError, match=rf"Box\.value.*{named}"):
        Box(value=value).save(tmp_path / "box")
    assert list(tmp_path.iterdir()) == []


def test_local_classes_are_refused(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Local:
        x: int = 0

    with pytest.raises(TypeError, match="local to a function"):
        Box(value=Local()).save(tmp_path / "box")


def test_transient_fields_are_lost_by_saving(tmp_path):
    trained = Trained(value=1, model="a model", state="warm")
    assert trained.predict() == "a model"
    loaded = Trained.load(trained.save(tmp_path / "box"))
    assert (loaded.value, loaded.model, loaded.state) == (1, None, None)
    with pytest.raises(ResultFormatError, match=r"Trained\.model is not part of a saved result"):
        loaded.predict()
    assert "model" not in trained.summary()
    assert "a model" not in repr(trained)


def test_a_result_is_frozen_and_compares_by_identity():
    box = Box(value=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        box.value = 2
    assert box == box
    assert box != Box(value=1)
    assert len({box, Box(value=1)}) == 2


def test_a_result_must_define_its_views():
    @dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
    class Bare(Result):
        value: int

    with pytest.raises(TypeError, match=r"abstract.*plot"):
        Bare(value=1)


def test_summary_says_what_the_fields_hold():
    text = Box(value=np.array([[1.0, 2.0, np.nan]])).summary()
    assert text == "Box\n  value  array(1, 3) float64, mean 1.5, range [nan, nan]"
    assert str(Box(value=np.array([[np.inf, -np.inf]]))).endswith("mean nan, range [-inf, inf]")
    assert str(Box(value=np.full((3, 3), 6e4, dtype=np.float16))).endswith("range [6e+04, 6e+04]")
    assert str(Box(value=np.array([0.5, np.nan, 1e6]))).endswith("value  [0.5, nan, 1e+06]")
    assert str(Box(value=np.arange(7))).endswith("array(7,) int64, mean 3, range [0, 6]")
    assert str(Box(value=np.zeros(2, dtype=[("a", "f8"), ("b", "i8")]))).endswith("of records: a, b")
    assert "<b>" not in Box(value="<b>")._repr_html_()
    assert len(str(Box(value="x" * 1000)).splitlines()[1]) < 90


def test_a_notebook_shows_the_summary_of_a_class_that_has_its_own():
    class Told(Box):
        def summary(self):
            return "one <line>"

    assert Told(value=1)._repr_html_() == "<pre>one &lt;line&gt;</pre>"
    assert "<pre>" not in Box(value=1)._repr_html_()


@pytest.fixture(scope="module")
def saved(folder):
    value = {"values": np.arange(40.0), "labels": ["a", "b"], "frame": pd.DataFrame({"x": [1.0, np.nan]})}
    result = Box(value=value)
    return result, result.save(folder / "saved").read_bytes()


@given(data=st.data())
def test_a_flipped_byte_is_noticed_or_harmless(data, saved, folder):
    result, content = saved
    position = data.draw(st.integers(0, len(content) - 1))
    flip = data.draw(st.integers(1, 255))
    path = folder / "flipped"
    path.write_bytes(content[:position] + bytes([content[position] ^ flip]) + content[position + 1 :])
    assert_refused_or_equal(path, result)


@given(data=st.data())
def test_a_truncated_file_is_refused(data, saved, folder):
    _, content = saved
    path = folder / "short"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ResultFormatError):
        Box.load(path)


@given(data=st.data())
def test_lost_and_added_bytes_are_noticed_or_harmless(data, saved, folder):
    result, content = saved
    start = data.draw(st.integers(0, len(content)))
    length = data.draw(st.integers(0, 30))
    path = folder / "patched"
    path.write_bytes(content[:start] + data.draw(st.binary(max_size=30)) + content[start + length :])
    assert_refused_or_equal(path, result)


def assert_refused_or_equal(path, result):
    loaded = None
    with contextlib.suppress(ResultFormatError):
        loaded = Box.load(path)
    assert loaded is None or same(loaded, result)


@given(content=st.binary(max_size=300))
def test_any_bytes_are_refused(content, folder):
    path = folder / "noise"
    path.write_bytes(content)
    with pytest.raises(ResultFormatError):
        Box.load(path)


def index(root):
    return f'{{"format": "mlpapers-result", "version": 1, "root": {root}}}'


BOX = '{"type": "dataclass", "class": "result_cases:Box", "fields": {"value": %s}}'
ARRAY = index(BOX % '{"type": "array", "number": 0}')


def instance(name, fields="{}"):
    return index(f'{{"type": "dataclass", "class": "{name}", "fields": {fields}}}')


@pytest.mark.parametrize(
    ("root", "members", "message"),
    [
        (None, {"readme.txt": "hello"}, "unexpected members"),
        (index(BOX % "1"), {"../evil": "x"}, "unexpected members"),
        (index(BOX % "1"), {"/etc/evil": "x"}, "unexpected members"),
        (index(BOX % "1"), {"arrays/../../evil.npy": "x"}, "unexpected members"),
        (index(BOX % "1"), {"arrays/00.npy": "x"}, "unexpected members"),
        ("[]", {}, "format mark is missing"),
        ('{"format": "something else"}', {}, "format mark is missing"),
        ("{", {}, "damaged or not a saved result"),
        ('{"format": "mlpapers-result", "version": 99, "root": 1}', {}, "format version 99"),
        (index("[1]"), {}, "bare list"),
        (index('{"type": "lambda"}'), {}, "unknown value type 'lambda'"),
        (index("[" * 100_000 + "]" * 100_000), {}, "damaged"),
        (ARRAY, {}, "damaged"),
        (ARRAY, {"arrays/0.npy": "no npy"}, "damaged"),
        (instance("result_cases:Box"), {}, "damaged"),
        (instance("no_such:Box"), {}, "unknown here"),
        (instance("os:system"), {}, "unknown here"),
        (instance("result_cases:Colour"), {}, "unknown here"),
        (instance("result_cases:Changeable", '{"x": 1}'), {}, "unknown here"),
        (instance("contract_cases:Good"), {}, "unknown here"),
        (index('{"type": "enum", "class": "subprocess:Popen", "name": "x"}'), {}, "unknown here"),
    ],
)
def test_foreign_and_forged_files_are_refused(root, members, message, tmp_path):
    path = tmp_path / "forged"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items() if root is None else {"result.json": root, **members}.items():
            archive.writestr(name, content)
    with pytest.raises(ResultFormatError, match=message):
        Box.load(path)
    assert [item.name for item in tmp_path.iterdir()] == ["forged"]


class Bomb:
    def __reduce__(self):
        return (os._exit, (3,))


def test_pickled_arrays_are_refused_and_not_run(tmp_path):
    path = tmp_path / "forged"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("result.json", ARRAY)
        with archive.open("arrays/0.npy", "w") as member:
            np.lib.format.write_array(member, as_object_array([Bomb()]), allow_pickle=True)
    with pytest.raises(ResultFormatError, match="pickle"):
        Box.load(path)


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "arrays.npz", a=np.zeros(2))
    (tmp_path / "notes.txt").write_text("just text")
    (tmp_path / "empty").touch()
    for name in ("arrays.npz", "notes.txt", "empty"):
        with pytest.raises(ResultFormatError, match=name):
            Box.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        Box.load(tmp_path / "nothing")


def test_another_class_is_refused_and_the_base_loads_any(tmp_path):
    path = Box(value=1).save(tmp_path / "box")
    with pytest.raises(ResultFormatError, match="holds a Box, not a OtherBox"):
        OtherBox.load(path)
    assert type(Result.load(path)) is Box


def test_a_class_that_is_not_imported_is_named(tmp_path):
    path = Box(value=1).save(tmp_path / "box")
    code = "import sys; from mlpapers.core import Result; Result.load(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert "ResultFormatError" in done.stderr
    assert "import the module that defines it first" in done.stderr


KILLED_SAVE = """
import sys, time
import numpy as np
from result_cases import Box
from mlpapers.core import _archive

target = sys.argv[1]

def stop(*arguments, **options):
    print("half-way", flush=True)
    time.sleep(600)

if sys.argv[2] == "arrays":  # the index is written, the first array is not
    np.lib.format.write_array = stop
else:  # everything is written, the new name is not given
    import os
    os.replace = stop
Box(value=np.zeros(1000)).save(target)
"""


@pytest.mark.parametrize("moment", ["arrays", "rename"])
def test_a_killed_save_leaves_the_old_file(moment, tmp_path):
    path = Box(value="old").save(tmp_path / "box")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_SAVE, path, moment], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout.readline() == "half-way\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert Box.load(path).value == "old"
    assert Box(value="new").save(path) == path
    assert Box.load(path).value == "new"


def test_a_save_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = Box(value="old").save(tmp_path / "box")
    with pytest.raises(TypeError, match="cannot be saved"):
        Box(value=object()).save(path)
    assert Box.load(path).value == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["box"]


def test_a_saved_file_has_ordinary_permissions(tmp_path):
    (tmp_path / "plain").touch()
    path = Box(value=1).save(tmp_path / "box")
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
